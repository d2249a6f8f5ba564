//! The rules, applied to this repository.

#![cfg(test)]

use std::{fs, path::PathBuf, sync::LazyLock};

use tidy::{
    Finding, boundaries, dependencies, hygiene, layout, rpcs, runbooks, size, source::Source, traps, tree::Tree,
};
use tutti_proto::FILE_DESCRIPTOR_SET;

static TREE: LazyLock<Tree> = LazyLock::new(|| Tree::read(&root()).unwrap());

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[track_caller]
fn none(findings: impl IntoIterator<Item = Finding>) {
    let list: Vec<String> = findings.into_iter().map(|finding| format!("  {finding}\n")).collect();
    assert!(list.is_empty(), "{} finding(s):\n{}", list.len(), list.concat());
}

#[track_caller]
fn everywhere(rule: impl Fn(&Source) -> Vec<Finding>) {
    assert!(TREE.sources.len() > 50, "the sources are not read");
    none(TREE.sources.iter().flat_map(rule));
}

#[test]
fn dependencies_follow_the_arrows() {
    assert!(TREE.packages.len() > 15, "the manifests are not read");
    none(dependencies::arrows(&TREE.packages));
}

#[test]
fn manifests_take_what_the_workspace_gives() {
    none(dependencies::manifests(&TREE.packages));
}

#[test]
fn domains_do_no_io() {
    everywhere(boundaries::domains);
}

#[test]
fn statuses_are_built_in_one_place() {
    everywhere(boundaries::statuses);
}

#[test]
fn sql_is_in_stores() {
    everywhere(boundaries::queries);
}

#[test]
fn the_environment_is_read_in_one_place() {
    everywhere(boundaries::environment);
}

#[test]
fn the_top_level_is_fixed() {
    none(layout::top_level(&TREE.top_level));
}

#[test]
fn crates_say_what_they_are() {
    everywhere(layout::introduced);
}

#[test]
fn files_keep_to_their_budget() {
    everywhere(|source| size::file(&source.path, &source.text));
    none(TREE.others.iter().flat_map(|(path, text)| size::file(path, text)));
}

#[test]
fn functions_keep_to_their_budget() {
    everywhere(size::functions);
}

#[test]
fn tests_do_not_sleep() {
    everywhere(hygiene::sleeps);
    none(TREE.others.iter().flat_map(|(path, text)| hygiene::python_sleeps(path, text)));
}

#[test]
fn no_test_is_ignored() {
    everywhere(hygiene::ignored);
}

#[test]
fn silenced_lints_have_a_reason() {
    everywhere(hygiene::silenced);
}

#[test]
fn nothing_is_unfinished() {
    everywhere(hygiene::unfinished);
}

#[test]
fn every_rpc_has_its_tests() {
    let table = fs::read_to_string(root().join(rpcs::TABLE)).unwrap();
    let all = rpcs::all(FILE_DESCRIPTOR_SET).unwrap();
    assert!(all.len() > 20, "the descriptors are not read");
    none(rpcs::proven(&all, &table, &TREE.sources).unwrap());
}

#[test]
fn every_trap_has_its_test() {
    none(traps::proven(&TREE.sources));
}

#[test]
fn every_reason_has_its_page() {
    let reasons = runbooks::reasons(FILE_DESCRIPTOR_SET).unwrap();
    assert!(reasons.len() > 40, "the descriptors are not read");
    none(runbooks::pages(&reasons, &TREE.runbooks));
}
