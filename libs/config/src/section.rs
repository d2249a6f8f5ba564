//! One table of the configuration, read key by key.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use indexmap::IndexMap;
use secrecy::SecretString;
use serde::de::DeserializeOwned;

use crate::duration;
use crate::number::{Integer, at_least_at_most};
use crate::problem::{Problem, one_of, suggestion};
use crate::reader::{Reader, shown};
use crate::value::{Node, Origin, Source, Table, Value, to_toml};

/// A section, or a table in one.
///
/// Each reading method takes a key and what to use when the key is absent. A value of the
/// wrong kind is recorded as a problem, and the default stands in for it so that reading
/// goes on; [`Reader::finish`] then fails with all of them.
pub struct Section<'r> {
    reader: &'r Reader,
    table: Option<&'r Table>,
    path: Vec<String>,
}

impl<'r> Section<'r> {
    pub(crate) fn open(reader: &'r Reader, parent: &[String], name: &str, table: Option<&'r Table>) -> Self {
        let mut path = parent.to_vec();
        path.push(name.to_owned());
        let node = table.and_then(|table| table.get(name));
        let section = Self { reader, table: node.and_then(Node::as_table), path };
        if let Some(node) = node.filter(|node| node.as_table().is_none()) {
            let message = format!("expected a table, found {}", node.value.kind());
            reader.push(Problem::new(node.origin.clone(), shown(&section.path), message));
        }
        section
    }

    /// The table's own name.
    pub fn name(&self) -> &str {
        self.path.last().map_or("", String::as_str)
    }

    /// Whether the table stands in any layer.
    pub fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Whether the key has a value in any layer. Counts as knowing the key.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Whether the key's value was written by the user rather than built in.
    pub fn is_users(&self, key: &str) -> bool {
        self.get(key).is_some_and(|node| node.origin.is_users())
    }

    /// A string.
    pub fn string(&self, key: &str, default: &str) -> String {
        self.opt_string(key).unwrap_or_else(|| {
            self.note(key, Value::String(default.to_owned()));
            default.to_owned()
        })
    }

    /// A string, if given.
    pub fn opt_string(&self, key: &str) -> Option<String> {
        self.read(key, "a string", text)
    }

    /// A string that must be given and must not be empty; otherwise a problem and `""`.
    pub fn required_string(&self, key: &str) -> String {
        if !self.has(key) {
            self.problem(key, "missing key");
            return String::new();
        }
        let text = self.opt_string(key);
        if text.as_deref() == Some("") {
            self.problem(key, "must not be empty");
        }
        text.unwrap_or_default()
    }

    /// A string that is never shown, neither in a problem nor in a dump, if given.
    pub fn opt_secret(&self, key: &str) -> Option<SecretString> {
        let secret = self.opt_string(key).map(SecretString::from);
        if secret.is_some() {
            self.reader.config().hide(self.full(key));
        }
        secret
    }

    /// The path of a file, a relative one from the configuration folder.
    pub(crate) fn file(&self, key: &str) -> Option<PathBuf> {
        let path = self.opt_path(key)?;
        Some(self.reader.config().config_dir().map_or_else(|| path.clone(), |dir| dir.join(&path)))
    }

    /// The text of a mounted file that this key names, without the blanks around it, if given. A relative path starts
    /// at the global folder.
    pub fn secret_file(&self, key: &str) -> Option<SecretString> {
        let path = self.file(key)?;
        match std::fs::read_to_string(&path) {
            Ok(text) => Some(SecretString::from(text.trim())),
            Err(error) => {
                self.problem(key, &format!("{} cannot be read: {error}", path.display()));
                None
            }
        }
    }

    /// `true` or `false`.
    pub fn bool(&self, key: &str, default: bool) -> bool {
        let read = self.read(key, "true or false", |node| match node.value {
            Value::Boolean(boolean) => Some(boolean),
            _ => None,
        });
        read.unwrap_or_else(|| {
            self.note(key, Value::Boolean(default));
            default
        })
    }

    /// An integer in `range`.
    pub fn integer<T: Integer>(&self, key: &str, default: T, range: RangeInclusive<T>) -> T {
        self.opt_integer(key, range).unwrap_or_else(|| {
            self.note(key, Value::Integer(default.saturating()));
            default
        })
    }

    /// An integer in `range`, if given.
    pub fn opt_integer<T: Integer>(&self, key: &str, range: RangeInclusive<T>) -> Option<T> {
        let expected = T::describe(&range);
        let Value::Integer(found) = self.get(key)?.value else {
            return self.read(key, &expected, |_| None);
        };
        let read = T::from_i64(found).filter(|number| range.contains(number));
        if read.is_none() {
            self.problem(key, &format!("expected {expected}, found {found}"));
        }
        read
    }

    /// A number in `range`, written with or without a fraction.
    pub fn float(&self, key: &str, default: f64, range: RangeInclusive<f64>) -> f64 {
        self.opt_float(key, range).unwrap_or_else(|| {
            self.note(key, Value::Float(default));
            default
        })
    }

    /// A number in `range`, if given.
    pub fn opt_float(&self, key: &str, range: RangeInclusive<f64>) -> Option<f64> {
        let low = (*range.start() > f64::MIN).then(|| range.start().to_string());
        let high = (*range.end() < f64::MAX).then(|| range.end().to_string());
        let expected = at_least_at_most("a number", low, high);
        #[expect(clippy::cast_precision_loss, reason = "settings are far below 2^53")]
        let found = match self.get(key)?.value {
            Value::Integer(integer) => integer as f64,
            Value::Float(float) => float,
            _ => return self.read(key, &expected, |_| None),
        };
        if range.contains(&found) {
            return Some(found);
        }
        self.problem(key, &format!("expected {expected}, found {found}"));
        None
    }

    /// A duration: a number of seconds, or a string such as "500ms", "30s", "5m", "1h".
    pub fn duration(&self, key: &str, default: Duration) -> Duration {
        self.opt_duration(key).unwrap_or_else(|| {
            self.note(key, duration::write(default));
            default
        })
    }

    /// A duration, if given.
    pub fn opt_duration(&self, key: &str) -> Option<Duration> {
        let expected = "a duration such as 30 or \"500ms\"";
        self.read(key, expected, |node| duration::read(&node.value))
    }

    /// A duration above zero.
    pub fn positive_duration(&self, key: &str, default: Duration) -> Duration {
        let read = self.duration(key, default);
        if read.is_zero() {
            self.problem(key, "expected a duration above zero");
        }
        read
    }

    /// An array of strings.
    pub fn string_list(&self, key: &str, default: &[&str]) -> Vec<String> {
        self.opt_string_list(key).unwrap_or_else(|| {
            let place = Origin::new(Source::Default, 0);
            let item = |text: &&str| Node::new(Value::String((*text).to_owned()), place.clone());
            self.note(key, Value::Array(default.iter().map(item).collect()));
            default.iter().map(|text| (*text).to_owned()).collect()
        })
    }

    /// An array of strings, if given.
    pub fn opt_string_list(&self, key: &str) -> Option<Vec<String>> {
        let expected = "an array of strings such as [\"a\", \"b\"]";
        let Value::Array(items) = &self.get(key)?.value else {
            return self.read(key, expected, |_| None);
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match text(item) {
                Some(text) => texts.push(text),
                None => self.problem_at(
                    key,
                    &item.origin,
                    &format!("expected {expected}, found {} in it", item.value.kind()),
                ),
            }
        }
        Some(texts)
    }

    /// One of the given names, as the value beside it.
    pub fn choice<T: Clone + PartialEq>(&self, key: &str, names: &[(&str, T)], default: T) -> T {
        self.opt_choice(key, names).unwrap_or_else(|| {
            if let Some((name, _)) = names.iter().find(|(_, value)| *value == default) {
                self.note(key, Value::String((*name).to_owned()));
            }
            default
        })
    }

    /// One of the given names, if given.
    pub fn opt_choice<T: Clone>(&self, key: &str, names: &[(&str, T)]) -> Option<T> {
        let known = || names.iter().map(|(name, _)| *name);
        let found = self.read(key, &one_of(known()), text)?;
        let chosen = names.iter().find(|(name, _)| *name == found);
        if chosen.is_none() {
            let near = suggestion(&found, known());
            let near = if near.starts_with("; did") { near } else { String::new() };
            let expected = one_of(known());
            self.problem(key, &format!("expected {expected}, found {found:?}{near}"));
        }
        chosen.map(|(_, value)| value.clone())
    }

    /// A string that parses as `T`, if given; `expected` describes it ("an address such as …").
    pub fn opt_parsed<T: FromStr>(&self, key: &str, expected: &str) -> Option<T> {
        let found = self.read(key, expected, text)?;
        let parsed = found.parse().ok();
        if parsed.is_none() {
            self.problem(key, &format!("expected {expected}, found {found:?}"));
        }
        parsed
    }

    /// A string that parses as `T`.
    pub fn parsed<T: FromStr + fmt::Display>(&self, key: &str, default: T, expected: &str) -> T {
        self.opt_parsed(key, expected).unwrap_or_else(|| {
            self.note(key, Value::String(default.to_string()));
            default
        })
    }

    /// A path, if given; `~/` stands for the home folder.
    pub fn opt_path(&self, key: &str) -> Option<PathBuf> {
        let path = self.read(key, "a path", text)?;
        if path.is_empty() {
            self.problem(key, "must not be empty");
            return None;
        }
        Some(self.reader.config().env().expand_home(&path))
    }

    /// A table of strings by name, empty if absent.
    pub fn string_map(&self, key: &str) -> IndexMap<String, String> {
        let table = self.subsection(key);
        let names: Vec<&String> = table.table.iter().flat_map(|table| table.keys()).collect();
        let pair = |name: &&String| Some(((*name).clone(), table.opt_string(name)?));
        names.iter().filter_map(pair).collect()
    }

    /// The whole table as a type of serde's, which must refuse fields that it does not know. What is wrong is a problem
    /// at the table, in serde's words, which name the field.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Option<T> {
        let table = self.table?;
        for key in table.keys() {
            self.reader.ask(&self.path, key);
        }
        let read = to_toml(table).try_into();
        if let Err(error) = &read {
            let place = self.reader.place_of(&self.path);
            self.reader.push(Problem::new(place, shown(&self.path), error.message().replace('\n', " ")));
        }
        read.ok()
    }

    /// Opens a table in this one; an absent one reads as empty.
    pub fn subsection(&self, key: &str) -> Section<'r> {
        self.reader.ask(&self.path, key);
        Section::open(self.reader, &self.path, key, self.table)
    }

    /// The names of the tables in this one, built-in ones first, then as first written.
    ///
    /// The user chooses these names, so anything else in the section that is not a table
    /// is reported as such.
    pub fn entries(&self) -> Vec<String> {
        self.reader.ask_entries(&self.path);
        let tables = self.table.into_iter().flatten();
        let names = tables.filter(|(_, node)| node.as_table().is_some());
        names.map(|(name, _)| name.clone()).inspect(|name| self.reader.ask(&self.path, name)).collect()
    }

    /// Records a problem at the key's place, or the section's if the key is absent.
    pub fn problem(&self, key: &str, message: &str) {
        let origin = match self.get(key) {
            Some(node) => node.origin.clone(),
            None => self.reader.place_of(&self.path),
        };
        self.problem_at(key, &origin, message);
    }

    /// Accepts keys whose feature is not built yet: one warning a file that has any.
    pub fn not_built(&self, keys: &[&str]) {
        let mut by_file: IndexMap<Source, (Origin, Vec<&str>)> = IndexMap::new();
        for key in keys {
            let Some(node) = self.get(key).filter(|node| node.origin.is_users()) else {
                continue;
            };
            let source = node.origin.source.clone();
            let (first, names) = by_file.entry(source).or_insert_with(|| (node.origin.clone(), Vec::new()));
            if node.origin < *first {
                *first = node.origin.clone();
            }
            names.push(key);
        }
        for (first, names) in by_file.into_values() {
            let section = shown(&self.path);
            let verb = if names.len() == 1 { "is" } else { "are" };
            let has = if names.len() == 1 { "has" } else { "have" };
            self.reader
                .warn(format!("{first}: [{section}] {} {verb} accepted but {has} no effect yet", names.join(", ")));
        }
    }

    /// Ends the reading of this table and all tables in it: keys that no reader asked for
    /// become problems.
    pub fn finish(self) {
        self.reader.mark_finished(&self.path);
    }

    /// Records a problem about item `index` of the array at `key`, on that item's line.
    pub fn item_problem(&self, key: &str, index: usize, message: &str) {
        let item = match self.get(key).map(|node| &node.value) {
            Some(Value::Array(items)) => items.get(index),
            _ => None,
        };
        match item {
            Some(item) => self.problem_at(key, &item.origin, message),
            None => self.problem(key, message),
        }
    }

    pub(crate) fn origin(&self, key: &str) -> Option<&'r Origin> {
        self.get(key).map(|node| &node.origin)
    }

    /// The key with the tables it is in.
    pub(crate) fn shown(&self, key: &str) -> String {
        shown(&self.full(key))
    }

    fn problem_at(&self, key: &str, origin: &Origin, message: &str) {
        self.reader.push(Problem::new(origin.clone(), self.shown(key), message));
    }

    fn get(&self, key: &str) -> Option<&'r Node> {
        self.reader.ask(&self.path, key);
        self.table?.get(key)
    }

    /// The value if `convert` takes it; a problem naming what was `expected` if not.
    fn read<T>(&self, key: &str, expected: &str, convert: impl FnOnce(&Node) -> Option<T>) -> Option<T> {
        let node = self.get(key)?;
        let read = convert(node);
        if read.is_none() {
            self.problem(key, &format!("expected {expected}, found {}", node.value.kind()));
        }
        read
    }

    fn full(&self, key: &str) -> Vec<String> {
        let mut full = self.path.clone();
        full.push(key.to_owned());
        full
    }

    /// Keeps the default that stands for an absent key, for the dump.
    fn note(&self, key: &str, default: Value) {
        if !self.has(key) {
            self.reader.config().note_default(self.full(key), default);
        }
    }
}

impl fmt::Debug for Section<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Section").field(&shown(&self.path)).finish()
    }
}

/// A string; the text of a variable or flag is one even where it also reads as a number.
fn text(node: &Node) -> Option<String> {
    match (&node.value, &node.raw) {
        (Value::String(text), _) => Some(text.clone()),
        (Value::Array(_) | Value::Table(_), _) | (_, None) => None,
        (_, Some(raw)) => Some(raw.clone()),
    }
}
