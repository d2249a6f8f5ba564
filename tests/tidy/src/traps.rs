//! The 20 faults found in other gateways, each with a test that carries its number: `trap_07_…`, `trap_05_and_06_…`.

use std::collections::BTreeSet;

use crate::{Finding, source::Source};

/// Where the tests are.
const FOLDER: &str = "services/provider-gateway/providers/tests/";
/// How many faults there are.
const TRAPS: u8 = 20;

/// Every trap has a test, and no test names one that does not exist.
pub fn proven(sources: &[Source]) -> Vec<Finding> {
    let mut seen = BTreeSet::new();
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.path.starts_with(FOLDER)) {
        for test in source.functions.iter().filter(|function| function.is_test) {
            let Some(name) = test.name.strip_prefix("trap_") else { continue };
            let numbers = numbers(name);
            if numbers.is_empty() || numbers.iter().any(|number| !(1..=TRAPS).contains(number)) {
                let text = format!("{} must begin with trap_01 to trap_{TRAPS}", test.name);
                findings.push(Finding::file(&source.path, text));
            }
            seen.extend(numbers);
        }
    }
    let missing = (1..=TRAPS).filter(|number| !seen.contains(number));
    findings.extend(missing.map(|number| Finding::file(FOLDER, format!("no test is named trap_{number:02}_…"))));
    findings
}

/// The numbers at the beginning of a name: two digits each, with `and` between them.
fn numbers(name: &str) -> Vec<u8> {
    let is_number = |word: &str| word.len() == 2 && word.bytes().all(|byte| byte.is_ascii_digit());
    let words = name.split('_').take_while(|word| is_number(word) || *word == "and");
    words.filter_map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tests: &str) -> String {
        let sources = [Source::parse(&format!("{FOLDER}x/main.rs"), tests).unwrap()];
        proven(&sources).iter().map(|finding| format!("{finding}\n")).collect()
    }

    fn all_but(left_out: u8) -> String {
        let rest = (1..=TRAPS).filter(|number| *number != left_out);
        rest.map(|number| format!("#[test] fn trap_{number:02}_x() {{}}\n")).collect()
    }

    #[test]
    fn all_of_them_are_there() {
        assert_eq!(check(&all_but(0)), "");
        assert_eq!(check(&(all_but(6) + "#[test] fn trap_05_and_06_y() {}")), "");
    }

    #[test]
    fn a_missing_or_unknown_one_is_noticed() {
        assert!(check(&all_but(17)).contains("no test is named trap_17_…"));
        let helper = all_but(17) + "fn trap_17_x() {}";
        assert!(check(&helper).contains("no test is named trap_17_…"), "a helper proves nothing");
        assert!(check(&(all_but(0) + "#[test] fn trap_21_x() {}")).contains("trap_21_x must begin with"));
        assert!(check(&(all_but(0) + "#[test] fn trap_x() {}")).contains("trap_x must begin with"));
    }
}
