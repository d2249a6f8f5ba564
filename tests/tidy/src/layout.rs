//! Where things are.

use crate::{Finding, source::Source};

/// All that the root may show. A newcomer reads it at one glance.
const TOP_LEVEL: &[&str] =
    &["Cargo.toml", "Cargo.lock", "LICENSE", "README.md", "deploy", "helm", "libs", "proto", "services", "tests"];

/// The root shows the fixed set and nothing else; tool files are dot-files.
pub fn top_level(names: &[String]) -> Vec<Finding> {
    let others = names.iter().filter(|name| !TOP_LEVEL.contains(&name.as_str()));
    others.map(|name| Finding::file(name, "not of the fixed set of the top level")).collect()
}

/// A crate says what it is in its first line.
pub fn introduced(source: &Source) -> Vec<Finding> {
    let is_root = source.path.ends_with("/src/lib.rs") || source.path.ends_with("/src/main.rs");
    let says = source.line(1).strip_prefix("//!").is_some_and(|text| text.trim().contains(' '));
    let missing = is_root && !says;
    missing
        .then(|| Finding::at(&source.path, 1, "begins with `//!` and a sentence on what it is"))
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_at_the_top_are_found() {
        let names = ["Cargo.toml", "docs", "libs"].map(str::to_owned);
        assert_eq!(top_level(&names).iter().map(|finding| finding.path.as_str()).collect::<Vec<_>>(), ["docs"]);
    }

    #[test]
    fn crates_without_an_introduction_are_found() {
        let introduced = |path: &str, text: &str| introduced(&Source::parse(path, text).unwrap()).len();
        assert_eq!(introduced("libs/x/src/lib.rs", "//! A thing.\n"), 0);
        assert_eq!(introduced("libs/x/src/lib.rs", "\n//! A thing.\n"), 1);
        assert_eq!(introduced("services/x/src/main.rs", "//! x\nfn main() {}"), 1);
        assert_eq!(introduced("libs/x/src/inner.rs", "fn f() {}"), 0);
    }
}
