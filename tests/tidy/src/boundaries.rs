//! What may be called where.

use crate::{
    Finding,
    source::{Path, Source},
};

/// What a `domain/` folder stays free of, so that it is tested without a network, a disk or a clock of its own.
const IO: &[&[&str]] = &[
    &["tonic"],
    &["sqlx"],
    &["redis"],
    &["reqwest"],
    &["hyper"],
    &["axum"],
    &["tokio", "net"],
    &["tokio", "fs"],
    &["tokio", "process"],
    &["std", "fs"],
    &["std", "process"],
];

/// The functions that build a `tonic::Status`.
const STATUS: &[&str] = &[
    "new",
    "ok",
    "cancelled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
    "with_details",
    "with_metadata",
    "with_details_and_metadata",
    "with_error_details",
    "with_error_details_vec",
    "from_error",
    "from_error_generic",
];

const ENVIRONMENT: &[&str] = &["var", "var_os", "vars", "vars_os", "set_var", "remove_var"];

/// `domain/` folders of services use no IO.
pub fn domains(source: &Source) -> Vec<Finding> {
    if !source.path.starts_with("services/") || !source.path.contains("/domain/") {
        return Vec::new();
    }
    find(source, |path| {
        // One segment alone may as well be a variable; the import that gives it a meaning is found by itself.
        let banned = IO.iter().find(|banned| path.segments.len() > 1 && path.starts_with(banned))?;
        Some(format!("{} in a domain folder: IO is behind a trait of clients/ or store/", banned.join("::")))
    })
}

/// A `Status` is built in `libs/error` only: the one table from reason to code.
pub fn statuses(source: &Source) -> Vec<Finding> {
    let own = source.sequences("struct Status").len() + source.sequences("enum Status").len() > 0;
    if source.path.starts_with("libs/error/") || own {
        return Vec::new();
    }
    find(source, |path| {
        let at = path.segments.iter().position(|segment| segment == "Status")?;
        let builder = path.segments.get(at + 1).filter(|next| STATUS.contains(&next.as_str()))?;
        // Another type of that name, imported from our own code.
        let foreign = at == 0 || path.starts_with(&["tonic"]);
        // The layer that types the transport's own refusals is tested with such refusals.
        let plays_transport = source.path.starts_with("libs/layers/") && source.is_test(path.line);
        (foreign && !plays_transport)
            .then(|| format!("Status::{builder}: build a tutti_error::Error, it becomes the status"))
    })
}

/// SQL is in `store/` folders only. Tests of whole services may spoil a store behind its back.
pub fn queries(source: &Source) -> Vec<Finding> {
    if source.path.starts_with("libs/store/") || source.path.contains("/store/") || source.path.contains("/tests/") {
        return Vec::new();
    }
    find(source, |path| {
        let item = path.segments.get(1).filter(|_| path.starts_with(&["sqlx"]))?;
        let is_sql = item.starts_with("query") || ["raw_sql", "QueryBuilder"].contains(&item.as_str());
        is_sql.then(|| format!("sqlx::{item}: SQL is in the store/ folder of its service, behind the store's trait"))
    })
}

/// The environment is read in `libs/config` only: every setting has one place, a test and a line in the dump.
pub fn environment(source: &Source) -> Vec<Finding> {
    // A build script is told its folders by Cargo in the environment.
    if source.path.starts_with("libs/config/") || source.path.ends_with("/build.rs") {
        return Vec::new();
    }
    let mut findings = find(source, |path| {
        let item = path.segments.get(2).filter(|_| path.starts_with(&["std", "env"]))?;
        let reads = ENVIRONMENT.contains(&item.as_str());
        reads.then(|| format!("std::env::{item}: the environment is read by tutti_config::Env"))
    });
    for name in ["arg", "clap", "command"] {
        for at in source.sequences(&format!("# [ {name} (")) {
            let arguments = source.tokens[at..].iter().take_while(|token| token.text != "]");
            let words: Vec<&str> = arguments.map(|token| token.text.as_str()).collect();
            if words.windows(2).any(|pair| ["(", ","].contains(&pair[0]) && pair[1] == "env") {
                let text = "a flag that reads the environment: TUTTI_SECTION__KEY already does, through tutti_config";
                findings.push(Finding::at(&source.path, source.tokens[at].line, text));
            }
        }
    }
    findings
}

/// One finding a line.
fn find(source: &Source, rule: impl Fn(&Path) -> Option<String>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = source
        .paths
        .iter()
        .filter(|path| !path.member)
        .filter_map(|path| Some(Finding::at(&source.path, path.line, rule(path)?)))
        .collect();
    findings.sort();
    findings.dedup_by_key(|finding| finding.line);
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rule = fn(&Source) -> Vec<Finding>;

    fn lines(rule: Rule, path: &str, text: &str) -> Vec<usize> {
        rule(&Source::parse(path, text).unwrap()).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn io_in_a_domain_is_found() {
        let path = "services/router/src/domain/turn.rs";
        let text = "use tokio::{\n sync::mpsc, net::TcpStream};\nuse tonic::Status;\nfn f() { select! { tokio::fs::read(x) } }\n#[tonic::async_trait]\ntrait T {}";
        assert_eq!(lines(domains, path, text), [1, 3, 4, 5]);
        assert_eq!(lines(domains, "services/router/src/grpc/chat.rs", text), [0; 0]);
        assert_eq!(lines(domains, path, "use tokio::sync::mpsc;\nfn f(redis: u8) { redis.net(); }"), [0; 0]);
    }

    #[test]
    fn statuses_built_by_hand_are_found() {
        let path = "services/router/src/grpc/chat.rs";
        for built in
            ["use tonic::Status;\nfn f() { Status::internal(\"x\"); }", "\nfn f() { tonic::Status::new(c, m); }"]
        {
            assert_eq!(lines(statuses, path, built), [2], "{built}");
        }
        let renamed = "use tonic::{Code, Status as Failure};\nfn f() { assert_eq!(a, Failure::not_found(\"x\")); }";
        assert_eq!(lines(statuses, path, renamed), [2]);
        assert_eq!(lines(statuses, "libs/error/src/status.rs", renamed), [0; 0]);
        assert_eq!(lines(statuses, "libs/layers/src/typed.rs", renamed), [2]);
        assert_eq!(lines(statuses, "libs/layers/tests/typed.rs", renamed), [0; 0]);
        let fine = "use tonic::{Code, Status};\nfn f(s: Status) -> bool { Status::code(&s) == Code::Ok }\nfn g() { e.map_err(Status::from) }";
        assert_eq!(lines(statuses, path, fine), [0; 0]);
        assert_eq!(lines(statuses, path, "enum Status { A }\nfn f() { Status::new() }"), [0; 0]);
        assert_eq!(lines(statuses, path, "use crate::http::Status;\nfn f() { Status::ok() }"), [0; 0]);
    }

    #[test]
    fn sql_outside_a_store_is_found() {
        let text = "use sqlx::query_as;\nfn f() { sqlx::query(\"x\"); }\nfn g() { sqlx::Row::get(r); }";
        assert_eq!(lines(queries, "services/ledger/src/grpc/usage.rs", text), [1, 2]);
        assert_eq!(lines(queries, "services/ledger/src/store/sqlite.rs", text), [0; 0]);
        assert_eq!(lines(queries, "libs/store/src/sqlite.rs", text), [0; 0]);
    }

    #[test]
    fn reading_the_environment_is_found() {
        let text = "use std::env;\nfn f() { env::var(\"X\"); }\nfn g() { env::args(); }\nstruct A {\n #[arg(long, env = \"X\")]\n a: u8,\n #[arg(long, value_name = \"env\")]\n b: u8 }";
        assert_eq!(lines(environment, "services/tutti/src/main.rs", text), [2, 5]);
        assert_eq!(lines(environment, "libs/config/src/env.rs", text), [0; 0]);
        assert_eq!(lines(environment, "services/x/build.rs", text), [0; 0]);
    }
}
