//! From TOML text to the tree of values with their lines.

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::problem::Problem;
use crate::value::{Node, Origin, Source, Table, Value};

/// Reads a whole document; on failure every syntax problem of it.
///
/// Only the parser's own message is used, never its picture of the line: that line may
/// hold a secret.
pub(crate) fn document(text: &str, source: &Source) -> Result<Table, Vec<Problem>> {
    let lines = Lines::new(text);
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut builder = Builder { source, lines, problems: Vec::new() };
    for error in errors {
        let line = builder.lines.at(error.span().map_or(text.len(), |span| span.start));
        let origin = Origin::new(source.clone(), line);
        builder.problems.push(Problem::new(origin, "", error.message()));
    }
    if !builder.problems.is_empty() {
        return Err(builder.problems);
    }
    let table = builder.table(root.into_inner());
    if builder.problems.is_empty() { Ok(table) } else { Err(builder.problems) }
}

/// Reads the text of a variable or flag: a TOML scalar or array where it parses as one,
/// else the text itself.
pub(crate) fn scalar(text: &str, origin: Origin) -> Node {
    let lines = Lines::Always(origin.line);
    let mut builder = Builder { source: &origin.source, lines, problems: Vec::new() };
    let value = match DeValue::parse(text.trim()) {
        Ok(parsed) if !parsed.get_ref().is_table() => builder.value(parsed.into_inner()),
        _ => None,
    };
    let value = value.unwrap_or_else(|| Value::String(text.to_owned()));
    Node { value, origin, raw: Some(text.to_owned()) }
}

struct Builder<'s> {
    source: &'s Source,
    lines: Lines,
    problems: Vec<Problem>,
}

impl Builder<'_> {
    fn origin(&self, offset: usize) -> Origin {
        Origin::new(self.source.clone(), self.lines.at(offset))
    }

    fn table(&mut self, parsed: DeTable<'_>) -> Table {
        let mut entries: Vec<_> = parsed.into_iter().collect();
        // The parser sorts by name; people expect the order they wrote.
        entries.sort_by_key(|(key, _)| key.span().start);
        let mut table = Table::new();
        for (key, value) in entries {
            let origin = self.origin(key.span().start);
            if let Some(value) = self.value_or_problem(value, &origin) {
                table.insert(key.into_inner().into_owned(), Node::new(value, origin));
            }
        }
        table
    }

    fn array(&mut self, parsed: DeArray<'_>) -> Vec<Node> {
        let mut items = Vec::new();
        for item in parsed {
            let origin = self.origin(item.span().start);
            if let Some(value) = self.value_or_problem(item, &origin) {
                items.push(Node::new(value, origin));
            }
        }
        items
    }

    fn value_or_problem(&mut self, parsed: Spanned<DeValue<'_>>, origin: &Origin) -> Option<Value> {
        let value = self.value(parsed.into_inner());
        if value.is_none() {
            let message = "this number is too large";
            self.problems.push(Problem::new(origin.clone(), "", message));
        }
        value
    }

    /// `None` for a number that does not fit.
    fn value(&mut self, parsed: DeValue<'_>) -> Option<Value> {
        Some(match parsed {
            DeValue::String(text) => Value::String(text.into_owned()),
            DeValue::Integer(number) => Value::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok()?),
            DeValue::Float(number) => {
                let float: f64 = number.as_str().parse().ok()?;
                if float.is_infinite() && !number.as_str().contains("inf") {
                    return None;
                }
                Value::Float(float)
            }
            DeValue::Boolean(boolean) => Value::Boolean(boolean),
            DeValue::Datetime(datetime) => Value::Datetime(datetime.to_string()),
            DeValue::Array(array) => Value::Array(self.array(array)),
            DeValue::Table(table) => Value::Table(self.table(table)),
        })
    }
}

/// Line numbers of byte offsets.
enum Lines {
    /// The offsets of all line breaks, ascending.
    Breaks(Vec<usize>),
    /// Everything stands on this one line.
    Always(usize),
}

impl Lines {
    fn new(text: &str) -> Self {
        Self::Breaks(text.match_indices('\n').map(|(offset, _)| offset).collect())
    }

    /// From 1.
    fn at(&self, offset: usize) -> usize {
        match self {
            Self::Breaks(breaks) => breaks.partition_point(|at| *at < offset) + 1,
            Self::Always(line) => *line,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{document, scalar};
    use crate::value::{Origin, Source, Value, node_at};

    fn file() -> Source {
        Source::Global(Path::new("config.toml").into())
    }

    fn path(dotted: &str) -> Vec<String> {
        dotted.split('.').map(str::to_owned).collect()
    }

    #[test]
    fn every_value_knows_the_line_of_its_key() {
        let text = "a = 1\r\n\n[b.c]\nd = [\n  1,\n  2,\n]\ne.f = { g = 0x10 }\n";
        let root = document(text, &file()).unwrap();
        let line = |key: &str| node_at(&root, &path(key)).unwrap().origin.line;
        assert_eq!(line("a"), 1);
        assert_eq!(line("b"), 3);
        assert_eq!(line("b.c"), 3);
        assert_eq!(line("b.c.d"), 4);
        assert_eq!(line("b.c.e.f.g"), 8);
        let Value::Array(items) = &node_at(&root, &path("b.c.d")).unwrap().value else {
            panic!("an array");
        };
        assert_eq!(items[1].origin.line, 6);
        let gee = &node_at(&root, &path("b.c.e.f.g")).unwrap().value;
        assert!(matches!(gee, Value::Integer(16)));
    }

    #[test]
    fn tables_keep_the_order_of_the_file() {
        let root = document("[z]\n[m]\n[a]\n", &file()).unwrap();
        assert_eq!(root.keys().collect::<Vec<_>>(), ["z", "m", "a"]);
    }

    #[test]
    fn all_syntax_problems_come_at_once_and_show_no_content() {
        let problems = document("a = \nb = 1\nkey = \"sk-secret\nc = 99999999999999999999\n", &file()).unwrap_err();
        let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert!(text[0].starts_with("config.toml:1: "), "{text:?}");
        assert!(text.iter().any(|line| line.starts_with("config.toml:3: ")), "{text:?}");
        assert!(!text.concat().contains("sk-secret"));
        let problems = document("a = 1\nb = 99999999999999999999\n", &file()).unwrap_err();
        assert_eq!(problems[0].to_string(), "config.toml:2: this number is too large");
    }

    #[test]
    fn variables_read_as_toml_where_they_can() {
        let origin = Origin::new(Source::Variable("TUTTI_A__B".into()), 0);
        let value = |text: &str| scalar(text, origin.clone()).value;
        assert!(matches!(value("7"), Value::Integer(7)));
        assert!(matches!(value(" true "), Value::Boolean(true)));
        assert!(matches!(value("[1, 2]"), Value::Array(items) if items.len() == 2));
        assert!(matches!(value("\"7\""), Value::String(text) if text == "7"));
        assert!(matches!(value("a b"), Value::String(text) if text == "a b"));
        assert!(matches!(value("{ a = 1 }"), Value::String(_)));
        assert!(matches!(value(""), Value::String(text) if text.is_empty()));
    }
}
