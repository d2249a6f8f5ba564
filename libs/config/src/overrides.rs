//! Single values laid over the tree: variables and flags.

use crate::loader::KNOWN_SECTIONS;
use crate::problem::Problem;
use crate::reader::unknown_section;
use crate::value::{Node, Origin, Table, Value};

/// No key of ours is deeper; a bound keeps a hostile name from exhausting the stack.
const MAX_DEPTH: usize = 8;

/// Sets values by path, collecting what is wrong with the paths.
pub(crate) struct Overrides<'t> {
    root: &'t mut Table,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl<'t> Overrides<'t> {
    pub(crate) fn new(root: &'t mut Table) -> Self {
        Self { root, problems: Vec::new(), warnings: Vec::new() }
    }

    pub(crate) fn into_findings(self) -> (Vec<Problem>, Vec<String>) {
        (self.problems, self.warnings)
    }

    pub(crate) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// Sets a dotted key as flags name it.
    pub(crate) fn set_dotted(&mut self, key: &str, node: Node) {
        self.set(key.split('.').map(str::to_owned).collect(), node);
    }

    /// Sets a path in the spelling of variables, where no name has hyphens or capitals.
    pub(crate) fn set_loosely(&mut self, path: &[&str], node: Node) {
        let mut exact = Vec::new();
        let mut table = Some(&*self.root);
        for step in path {
            let step = known_spelling(table, step);
            table = table.and_then(|table| table.get(&step)?.as_table());
            exact.push(step);
        }
        self.set(exact, node);
    }

    /// The table at `credentials.<section>`, if some layer wrote it.
    pub(crate) fn credential(&mut self, section: &str) -> Option<&mut Table> {
        let credentials = table_of(self.root.get_mut("credentials")?)?;
        table_of(credentials.get_mut(section)?)
    }

    pub(crate) fn set(&mut self, path: Vec<String>, node: Node) {
        let sections = KNOWN_SECTIONS.iter().chain(&["personas", "credentials"]);
        let problem = match path.first() {
            Some(first) if sections.into_iter().any(|known| known == first) => None,
            first => {
                let first = first.map_or("", String::as_str);
                Some(unknown_section(first, node.origin.clone()))
            }
        };
        let message = if path.len() < 2 || path.iter().any(String::is_empty) {
            Some("this names no key; a section and a key are needed")
        } else if path.len() > MAX_DEPTH {
            Some("this names a key nested too deeply")
        } else {
            None
        };
        let in_form = message.map(|text| Problem::new(node.origin.clone(), "", text));
        match in_form.or(problem) {
            Some(problem) => self.problems.push(problem),
            None => insert(self.root, path, node),
        }
    }
}

/// Makes tables along the path as needed; what is no table gives way.
fn insert(root: &mut Table, mut path: Vec<String>, node: Node) {
    let Some(last) = path.pop() else {
        return;
    };
    let mut table = root;
    for step in path {
        let origin = node.origin.clone();
        let entry = table.entry(step).or_insert_with(|| empty_table(origin));
        if entry.as_table().is_none() {
            *entry = empty_table(node.origin.clone());
        }
        let Some(inner) = table_of(entry) else {
            return;
        };
        table = inner;
    }
    table.insert(last, node);
}

fn empty_table(origin: Origin) -> Node {
    Node::new(Value::Table(Table::new()), origin)
}

fn table_of(node: &mut Node) -> Option<&mut Table> {
    match &mut node.value {
        Value::Table(table) => Some(table),
        _ => None,
    }
}

/// The key of the table that a variable's step means, else the step in lower case.
fn known_spelling(table: Option<&Table>, step: &str) -> String {
    let loose = |name: &str| name.to_lowercase().replace('-', "_");
    let wanted = loose(step);
    let found = table.and_then(|table| table.keys().find(|key| loose(key) == wanted));
    found.cloned().unwrap_or_else(|| step.to_lowercase())
}
