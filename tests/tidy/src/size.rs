//! Budgets: what grows beyond them is split where its ideas part.

use crate::{Finding, source::Source};

const FILE: usize = 500;
const FUNCTION: usize = 60;
/// The `main.rs` of a service parses, loads and runs; the rest is its library's.
const MAIN: usize = 60;

/// A file has at most 500 lines, a service's `main.rs` at most 60.
pub fn file(path: &str, text: &str) -> Vec<Finding> {
    let lines = text.lines().count();
    let is_main = path.starts_with("services/") && path.ends_with("/src/main.rs");
    let most = if is_main { MAIN } else { FILE };
    (lines > most).then(|| Finding::file(path, format!("{lines} lines, at most {most}"))).into_iter().collect()
}

/// A function has at most 60 lines of code, tests too.
pub fn functions(source: &Source) -> Vec<Finding> {
    let large = source.functions.iter().filter(|function| function.size > FUNCTION);
    large
        .map(|function| {
            let text = format!("fn {}: {} lines of code, at most {FUNCTION}", function.name, function.size);
            Finding::at(&source.path, *function.lines.start(), text)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_files_are_found() {
        assert_eq!(file("libs/x/src/lib.rs", &"\n".repeat(500)), []);
        assert_eq!(file("libs/x/src/lib.rs", &"\n".repeat(501)).len(), 1);
        assert_eq!(file("services/x/src/main.rs", &"\n".repeat(60)), []);
        assert_eq!(file("services/x/src/main.rs", &"\n".repeat(61)).len(), 1);
    }

    #[test]
    fn large_functions_are_found() {
        let of = |lines: usize| {
            format!("impl A {{ fn a() {{\n{}}} }}\nfn b() {{}}", "    // why\n\n    b();\n".repeat(lines))
        };
        let found = |lines| functions(&Source::parse("libs/x/src/lib.rs", &of(lines)).unwrap());
        assert_eq!(found(60), []);
        let too_large = found(61);
        assert_eq!(too_large.len(), 1);
        assert!(too_large[0].text.contains("fn a: 61 lines"), "{}", too_large[0]);
    }
}
