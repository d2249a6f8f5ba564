//! The tree of values in which each value knows where it was written.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;

/// A table of the tree, in the order of its first appearance.
pub(crate) type Table = IndexMap<String, Node>;

/// Where values come from, in the order of precedence (the last wins).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Source {
    /// Built into the program.
    Default,
    /// A file of the global folder.
    Global(Arc<Path>),
    /// A file of the project folder.
    Project(Arc<Path>),
    /// The `.env` file of the project.
    DotEnv(Arc<Path>),
    /// An environment variable, by name.
    Variable(Arc<str>),
    /// A flag of the command line, by the dotted key it sets.
    Flag(Arc<str>),
}

/// The place one value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Origin {
    pub(crate) source: Source,
    /// From 1; 0 where lines mean nothing (variables, flags, a whole file).
    pub(crate) line: usize,
}

impl Origin {
    pub(crate) fn new(source: Source, line: usize) -> Self {
        Self { source, line }
    }

    /// Whether a person wrote this, as opposed to the built-in defaults.
    pub(crate) fn is_users(&self) -> bool {
        self.source != Source::Default
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Default => return f.write_str("default"),
            Source::Variable(name) => return write!(f, "environment variable {name}"),
            Source::Flag(key) => return write!(f, "flag for {key}"),
            Source::Global(path) | Source::Project(path) | Source::DotEnv(path) => {
                write!(f, "{}", path.display())?;
            }
        }
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        Ok(())
    }
}

/// A value with its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    /// For a key's value: where the key stands.
    pub(crate) origin: Origin,
    /// The text of a variable or flag before it was read as TOML: `7` is then a string as
    /// well as a number, whichever the key wants.
    pub(crate) raw: Option<String>,
}

impl Node {
    pub(crate) fn new(value: Value, origin: Origin) -> Self {
        Self { value, origin, raw: None }
    }

    pub(crate) fn as_table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }
}

/// A TOML value.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// Kept as text.
    Datetime(String),
    Array(Vec<Node>),
    Table(Table),
}

impl Value {
    /// The kind in words, with its article. Never the content, which may be a secret.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Boolean(_) => "a boolean",
            Self::Datetime(_) => "a date or time",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

/// Lays `over` onto `base`: tables merge key by key, anything else (arrays too) is replaced.
pub(crate) fn merge(base: &mut Table, over: Table) {
    for (key, node) in over {
        let Some(below) = base.get_mut(&key) else {
            base.insert(key, node);
            continue;
        };
        match (&mut below.value, node.value) {
            (Value::Table(below_table), Value::Table(table)) => {
                merge(below_table, table);
                below.origin = node.origin;
            }
            (_, value) => *below = Node { value, origin: node.origin, raw: node.raw },
        }
    }
}

/// The table without its places.
pub(crate) fn to_toml(table: &Table) -> toml::Value {
    fn plain(node: &Node) -> toml::Value {
        match &node.value {
            Value::String(text) => text.clone().into(),
            Value::Integer(integer) => (*integer).into(),
            Value::Float(float) => (*float).into(),
            Value::Boolean(boolean) => (*boolean).into(),
            // It came from the parser, so it is one.
            Value::Datetime(text) => text.parse().map_or_else(|_| text.clone().into(), toml::Value::Datetime),
            Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().into(),
            Value::Table(table) => to_toml(table),
        }
    }
    toml::Value::Table(table.iter().map(|(key, node)| (key.clone(), plain(node))).collect())
}

/// The table at `path`, if every step of it is a table.
pub(crate) fn table_at<'t>(root: &'t Table, path: &[String]) -> Option<&'t Table> {
    path.iter().try_fold(root, |table, step| table.get(step)?.as_table())
}

/// The value at `path`.
pub(crate) fn node_at<'t>(root: &'t Table, path: &[String]) -> Option<&'t Node> {
    let (last, parents) = path.split_last()?;
    table_at(root, parents)?.get(last)
}

/// `a.b."c d"`: the path as TOML writes it.
pub(crate) fn dotted(path: &[String]) -> String {
    path.iter().map(|step| bare_or_quoted(step)).collect::<Vec<_>>().join(".")
}

/// A key as TOML writes it.
pub(crate) fn bare_or_quoted(key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !key.is_empty() && key.chars().all(is_bare) { key.to_owned() } else { quoted(key) }
}

/// A string as TOML writes it on one line.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
