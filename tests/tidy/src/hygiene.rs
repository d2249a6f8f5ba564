//! Habits that rot: sleeping and ignored tests, silenced lints, unfinished code.

use crate::{Finding, source::Source};

/// Tests wait for conditions; a sleep is either too short on a busy machine or too long on all others.
pub fn sleeps(source: &Source) -> Vec<Finding> {
    let paused: Vec<_> = source.functions.iter().filter(|f| f.is_paused).map(|f| f.lines.clone()).collect();
    let sleeps = source.paths.iter().filter(|path| path.called && ["sleep", "sleep_until"].contains(&path.last()));
    sleeps
        .filter(|path| source.is_test(path.line) && !paused.iter().any(|lines| lines.contains(&path.line)))
        .map(|path| {
            let text = "a sleep in a test: wait for the condition with tutti_testkit::wait_for, or pause the clock";
            Finding::at(&source.path, path.line, text)
        })
        .collect()
}

/// [`sleeps`] for tests in Python.
pub fn python_sleeps(path: &str, text: &str) -> Vec<Finding> {
    if !path.ends_with(".py") || !path.starts_with("tests/") {
        return Vec::new();
    }
    let lines = text.lines().enumerate().filter(|(_, line)| {
        let code = line.split('#').next().unwrap_or_default();
        code.contains("sleep(")
    });
    lines.map(|(index, _)| Finding::at(path, index + 1, "a sleep in a test: wait for the condition")).collect()
}

/// A test that is not run proves nothing.
pub fn ignored(source: &Source) -> Vec<Finding> {
    let places = source.sequences("# [ ignore");
    places
        .into_iter()
        .map(|at| Finding::at(&source.path, source.tokens[at].line, "an ignored test: mend it or remove it"))
        .collect()
}

/// A lint is silenced with a reason, in the attribute or in a comment on its line or the line above.
pub fn silenced(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for pattern in ["# [ allow (", "# ! [ allow (", "# [ expect (", "# ! [ expect ("] {
        for at in source.sequences(pattern) {
            let attribute = &source.tokens[at..];
            let end = attribute.iter().position(|token| token.text == "]").unwrap_or(attribute.len() - 1);
            let has_reason = attribute[..end].iter().any(|token| token.text == "reason");
            let (first, last) = (attribute[0].line, attribute[end].line);
            if !has_reason && !explained(source, first, last) {
                findings.push(Finding::at(&source.path, first, "a lint silenced without a reason"));
            }
        }
    }
    findings.sort();
    findings
}

fn explained(source: &Source, first: usize, last: usize) -> bool {
    let is_comment = |line: &str| line.starts_with("//") && !line.starts_with("///") && !line.starts_with("//!");
    let beside = source.line(last).rsplit_once(']').is_some_and(|(_, rest)| is_comment(rest.trim()));
    // Above other attributes of the same item too.
    let above = (1..first).rev().map(|line| source.line(line)).find(|line| !line.starts_with("#["));
    beside || above.is_some_and(is_comment)
}

/// Nothing half-made is merged.
pub fn unfinished(source: &Source) -> Vec<Finding> {
    let places = ["todo !", "unimplemented !"].into_iter().flat_map(|pattern| source.sequences(pattern));
    places.map(|at| Finding::at(&source.path, source.tokens[at].line, "unfinished code")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(rule: fn(&Source) -> Vec<Finding>, path: &str, text: &str) -> Vec<usize> {
        rule(&Source::parse(path, text).unwrap()).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn sleeps_are_found_in_tests_only() {
        let text = "use tokio::time::{self, sleep};\nasync fn f() { sleep(D).await; }\n#[cfg(test)]\nmod tests {\nasync fn g() { select! { _ = time::sleep(D) => {} } }\n#[tokio::test]\nasync fn h() { std::thread::sleep(D); }\n#[tokio::test(start_paused = true)]\nasync fn i() { sleep(D).await; tokio::time::advance(D).await; }\nfn sleep(x: u8) {}\n}";
        assert_eq!(lines(sleeps, "libs/x/src/lib.rs", text), [5, 7]);
        assert_eq!(lines(sleeps, "libs/x/tests/a.rs", text), [2, 5, 7]);
    }

    #[test]
    fn sleeps_are_found_in_python() {
        let text = "import time\ntime.sleep(1)  # why\n# time.sleep(1)\n";
        let found = python_sleeps("tests/clients/python/test_a.py", text);
        assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [2]);
        assert_eq!(python_sleeps("deploy/wait.py", text), []);
    }

    #[test]
    fn ignored_tests_are_found() {
        let text = "#[test]\n#[ignore]\nfn a() {}\n#[ignore = \"slow\"]\nfn b() {}\nfn ignore() {}";
        assert_eq!(lines(ignored, "libs/x/src/lib.rs", text), [2, 4]);
    }

    #[test]
    fn silenced_lints_need_a_reason() {
        let bad = "#![allow(dead_code)]\n/// Docs are no reason.\n#[allow(dead_code)]\nfn a() {}\n\n#[expect(dead_code)]\nfn b() {}\nm! { #[allow(x)] }";
        assert_eq!(lines(silenced, "libs/x/src/lib.rs", bad), [1, 3, 6, 8]);
        let good = "// Why.\n#![allow(dead_code)]\n#[allow(dead_code, reason = \"why\")]\nfn a() {}\n#[allow(\n  x\n)] // why\nfn b() {}\n// Why.\n#[test]\n#[allow(dead_code)]\nfn c() { x.expect(\"y\"); }";
        assert_eq!(lines(silenced, "libs/x/src/lib.rs", good), [0; 0]);
    }

    #[test]
    fn unfinished_code_is_found() {
        let text = "fn a() { todo!() }\nfn b() { unimplemented!(\"x\") }\nfn c() { let todo = \"todo!()\"; }";
        assert_eq!(lines(unfinished, "libs/x/src/lib.rs", text), [1, 2]);
    }
}
