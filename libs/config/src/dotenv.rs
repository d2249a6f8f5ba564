//! The `.env` file: `NAME=value` lines, shared with other programs.

use crate::problem::Problem;
use crate::value::{Origin, Source};

/// One assignment with the line of its name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) line: usize,
}

/// Reads all assignments: an optional `export`, then `NAME=value`, the value bare, in single
/// quotes (verbatim) or in double quotes (`\n`, `\"`, `\\`, may span lines).
///
/// Lines that are no assignment are other programs' business and skipped; a quote that never
/// ends is a problem, since it swallows what follows.
pub(crate) fn parse(text: &str, source: &Source) -> (Vec<Assignment>, Vec<Problem>) {
    let mut assignments = Vec::new();
    let mut problems = Vec::new();
    let mut rest = text.trim_start_matches('\u{feff}');
    let mut line = 1;
    while !rest.is_empty() {
        let here = line;
        let end_of_line = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let mut consumed = end_of_line;
        if let Some((name, value_at)) = name_of(&rest[..end_of_line]) {
            match value_of(&rest[value_at..]) {
                Some((value, length)) => {
                    // What follows a closing quote on its line is a comment.
                    let tail = &rest[value_at + length..];
                    consumed = value_at + length + tail.find('\n').map_or(tail.len(), |at| at + 1);
                    assignments.push(Assignment { name: name.to_owned(), value, line: here });
                }
                None => {
                    problems.push(Problem::new(Origin::new(source.clone(), here), name, "the quoted value never ends"));
                }
            }
        }
        line += rest[..consumed].matches('\n').count();
        rest = &rest[consumed..];
    }
    (assignments, problems)
}

/// The name a line assigns to and the offset of its value.
fn name_of(line: &str) -> Option<(&str, usize)> {
    let (left, _) = line.split_once('=')?;
    let name = left.trim();
    let name = name.strip_prefix("export ").unwrap_or(name).trim();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let valid = !name.is_empty() && name.chars().all(is_name);
    valid.then_some((name, left.len() + 1))
}

/// The value at the start of `text` and how many bytes it takes; `None` if its quote never ends.
fn value_of(text: &str) -> Option<(String, usize)> {
    let blanks = text.len() - text.trim_start_matches([' ', '\t']).len();
    let body = &text[blanks..];
    match body.chars().next() {
        Some('\'') => {
            let end = body[1..].find('\'')?;
            Some((body[1..=end].to_owned(), blanks + end + 2))
        }
        Some('"') => double_quoted(&body[1..]).map(|(value, end)| (value, blanks + end + 1)),
        _ => {
            let end = body.find('\n').unwrap_or(body.len());
            let bare = &body[..end];
            let comment = if bare.starts_with('#') { Some(0) } else { bare.find(" #") };
            let value = &bare[..comment.unwrap_or(end)];
            Some((value.trim().to_owned(), blanks + end))
        }
    }
}

/// The content up to the closing quote, and the offset behind that quote.
fn double_quoted(text: &str) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, at + 1)),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::parse;
    use crate::value::Source;

    fn read(text: &str) -> (Vec<(String, String, usize)>, Vec<String>) {
        let (assignments, problems) = parse(text, &Source::DotEnv(Path::new(".env").into()));
        let plain = assignments.into_iter().map(|a| (a.name, a.value, a.line)).collect();
        (plain, problems.iter().map(ToString::to_string).collect())
    }

    fn one(name: &str, value: &str, line: usize) -> (String, String, usize) {
        (name.to_owned(), value.to_owned(), line)
    }

    #[test]
    fn the_usual_forms_are_read() {
        let text = "# note\nA=1 # one\nexport B = 'x # y'\nC=\"l1\nl2\\n\\\"\" # c\nnot one\nD=\nE=a=b";
        let (found, problems) = read(text);
        let expected =
            [one("A", "1", 2), one("B", "x # y", 3), one("C", "l1\nl2\n\"", 4), one("D", "", 7), one("E", "a=b", 8)];
        assert_eq!(found, expected);
        assert!(problems.is_empty());
    }

    #[test]
    fn an_open_quote_is_named_without_its_content() {
        let (found, problems) = read("A=1\nKEY=\"sk-secret\nB=2");
        assert_eq!(found, [one("A", "1", 1), one("B", "2", 3)]);
        assert_eq!(problems, [".env:2: KEY: the quoted value never ends"]);
    }
}
