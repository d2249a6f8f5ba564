//! The effective configuration as TOML.

use std::collections::HashSet;
use std::fmt::Write as _;

use crate::config::Learned;
use crate::value::{Node, Origin, Source, Table, Value, bare_or_quoted, dotted, quoted};

const MASK: &str = "\"<hidden>\"";

/// Renders the tree and the defaults learned for it, each line with its place.
pub(crate) fn render(root: &Table, learned: &Learned) -> String {
    let mut root = root.clone();
    for (path, value) in &learned.defaults {
        put_default(&mut root, path, value);
    }
    let hidden: HashSet<&[String]> = learned.secrets.iter().map(Vec::as_slice).collect();
    let mut dump = Dump { text: String::new(), hidden };
    dump.table(&root, &mut Vec::new());
    dump.text
}

/// Adds a default where no layer has a value, never replacing one.
fn put_default(root: &mut Table, path: &[String], value: &Value) {
    let Some((last, parents)) = path.split_last() else {
        return;
    };
    let origin = Origin::new(Source::Default, 0);
    let mut table = root;
    for step in parents {
        let empty = || Node::new(Value::Table(Table::new()), origin.clone());
        match &mut table.entry(step.clone()).or_insert_with(empty).value {
            Value::Table(inner) => table = inner,
            _ => return,
        }
    }
    table.entry(last.clone()).or_insert_with(|| Node::new(value.clone(), origin));
}

struct Dump<'l> {
    text: String,
    hidden: HashSet<&'l [String]>,
}

impl Dump<'_> {
    /// The plain values of a table under its header, then the tables in it.
    fn table(&mut self, table: &Table, path: &mut Vec<String>) {
        let is_table = |node: &&Node| node.as_table().is_some();
        let plain = table.values().filter(|node| !is_table(node)).count();
        if !path.is_empty() && (plain > 0 || table.is_empty()) {
            let gap = if self.text.is_empty() { "" } else { "\n" };
            let _ = writeln!(self.text, "{gap}[{}]", dotted(path));
        }
        for (key, node) in table.iter().filter(|(_, node)| !is_table(node)) {
            path.push(key.clone());
            let value = if self.is_hidden(key, path, node) { MASK.to_owned() } else { inline(&node.value) };
            path.pop();
            let key = bare_or_quoted(key);
            let _ = writeln!(self.text, "{key} = {value}  # {}", comment(&node.origin));
        }
        for (key, node) in table {
            if let Some(inner) = node.as_table() {
                path.push(key.clone());
                self.table(inner, path);
                path.pop();
            }
        }
    }

    fn is_hidden(&self, key: &str, path: &[String], node: &Node) -> bool {
        self.hidden.contains(path) || is_secret_name(key) || has_password(&node.value)
    }
}

/// Names that hold a secret wherever they stand, read or not, misspelt section or not.
fn is_secret_name(key: &str) -> bool {
    const NAMES: [&str; 8] = ["api_key", "api_keys", "secret", "password", "token", "authorization", "apikey", "pat"];
    const ENDS: [&str; 5] = ["_secret", "_password", "_token", "_api_key", "_api_keys"];
    let key = key.to_lowercase().replace('-', "_");
    // A timeout, not a token.
    if key == "first_token" {
        return false;
    }
    NAMES.contains(&key.as_str()) || ENDS.iter().any(|end| key.ends_with(end))
}

/// Whether a text (or one in an array or table) is an address with a password in it.
fn has_password(value: &Value) -> bool {
    match value {
        Value::String(text) => {
            let after = text.split_once("://").map_or("", |(_, after)| after);
            after.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
        }
        Value::Array(items) => items.iter().any(|item| has_password(&item.value)),
        Value::Table(table) => table.values().any(|node| has_password(&node.value)),
        _ => false,
    }
}

/// A place on one line, so that it can be a comment.
fn comment(origin: &Origin) -> String {
    origin.to_string().replace(|c: char| c.is_control(), "?")
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Integer(integer) => integer.to_string(),
        Value::Float(float) => toml::Value::Float(*float).to_string(),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::Datetime(datetime) => datetime.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| inline(&item.value)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Table(table) => {
            let pair = |(key, node): (&String, &Node)| {
                let value = if is_secret_name(key) { MASK.to_owned() } else { inline(&node.value) };
                format!("{} = {value}", bare_or_quoted(key))
            };
            let pairs: Vec<String> = table.iter().map(pair).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
    }
}
