//! Tests notice what is absent: every RPC has a test that proves an error and one that proves the deadline.
//!
//! `rpcs.toml` names them. That a named test proves what it is named for is for reviewers to see; that it is there, runs
//! and calls the RPC is checked here.

use std::collections::BTreeMap;

use prost::Message as _;
use prost_types::FileDescriptorSet;
use serde::Deserialize;

use crate::{Finding, source::Source};

/// Where the table is.
pub const TABLE: &str = "tests/tidy/rpcs.toml";

/// Which service answers a package's RPCs.
const OWNERS: &[(&str, &str)] = &[
    ("tutti.router.v1", "services/router/"),
    ("tutti.gateway.v1", "services/provider-gateway/"),
    ("tutti.memory.v1", "services/context-memory/"),
    ("tutti.sandbox.v1", "services/tool-sandbox/"),
    ("tutti.ledger.v1", "services/usage-ledger/"),
];

/// The tests that may also prove something about any service.
const EVERYWHERE: &str = "tests/e2e/";

/// An RPC of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rpc {
    /// `tutti.router.v1`.
    pub package: String,
    /// `RouterService`.
    pub service: String,
    /// `ChatStream`.
    pub name: String,
}

/// The proofs of one RPC, each `<file>::<test function>`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Proofs {
    error: String,
    deadline: String,
}

type Table = BTreeMap<String, BTreeMap<String, Proofs>>;

/// All RPCs of the mesh's own services.
///
/// # Errors
/// The bytes are no descriptor set.
pub fn all(descriptors: &[u8]) -> Result<Vec<Rpc>, prost::DecodeError> {
    let mut rpcs = Vec::new();
    for file in FileDescriptorSet::decode(descriptors)?.file {
        let package = file.package().to_owned();
        let ours = file.service.iter().filter(|_| package.starts_with("tutti."));
        rpcs.extend(ours.flat_map(|service| {
            let methods = service.method.iter();
            methods.map(|method| Rpc {
                package: package.clone(),
                service: service.name().to_owned(),
                name: method.name().to_owned(),
            })
        }));
    }
    Ok(rpcs)
}

/// Checks the table against the RPCs and the tests.
///
/// # Errors
/// The table is not of its form.
pub fn proven(rpcs: &[Rpc], table: &str, sources: &[Source]) -> Result<Vec<Finding>, toml::de::Error> {
    let table: Table = toml::from_str(table)?;
    let mut findings = Vec::new();
    for rpc in rpcs {
        let service = format!("{}.{}", rpc.package, rpc.service);
        let Some(owner) = OWNERS.iter().find(|(package, _)| *package == rpc.package).map(|(_, folder)| *folder) else {
            findings.push(Finding::file("tests/tidy/src/rpcs.rs", format!("package {} has no owner", rpc.package)));
            continue;
        };
        let call = snake_case(&rpc.name);
        if !sources.iter().any(|source| source.path.starts_with(owner) && calls(source, &call)) {
            findings.push(Finding::file(owner, format!("no test here calls {call}() of {service}")));
        }
        match table.get(&service).and_then(|rpcs| rpcs.get(&rpc.name)) {
            None => findings.push(Finding::file(TABLE, format!("{service}/{} has no line", rpc.name))),
            Some(proofs) => findings.extend(check(rpc, proofs, owner, sources)),
        }
    }
    for (service, name) in table.iter().flat_map(|(service, rpcs)| rpcs.keys().map(move |name| (service, name))) {
        if !rpcs.iter().any(|rpc| format!("{}.{}", rpc.package, rpc.service) == *service && rpc.name == *name) {
            findings.push(Finding::file(TABLE, format!("{service}/{name} is no RPC")));
        }
    }
    Ok(findings)
}

fn check(rpc: &Rpc, proofs: &Proofs, owner: &str, sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut say = |text: String| findings.push(Finding::file(TABLE, format!("{}/{}: {text}", rpc.service, rpc.name)));
    for (what, proof) in [("error", &proofs.error), ("deadline", &proofs.deadline)] {
        let Some((file, test)) = proof.split_once("::") else {
            say(format!("{what} = \"{proof}\" is not <file>::<test>"));
            continue;
        };
        let Some(source) = sources.iter().find(|source| source.path == file) else {
            say(format!("{what}: there is no file {file}"));
            continue;
        };
        if !source.functions.iter().any(|function| function.is_test && function.name == test) {
            say(format!("{what}: there is no test {test} in {file}"));
        }
        // The deadline is a layer's work: one test there may go through all RPCs.
        if what == "error" && !(file.starts_with(owner) || file.starts_with(EVERYWHERE)) {
            say(format!("error: {file} is neither in {owner} nor in {EVERYWHERE}"));
        } else if what == "error" && !called_beside(source, &snake_case(&rpc.name), sources) {
            say(format!("error: neither {file} nor a helper beside it calls {}()", snake_case(&rpc.name)));
        }
    }
    findings
}

/// Whether a file of the same folder calls the method: the helpers of tests are beside them.
fn called_beside(source: &Source, method: &str, sources: &[Source]) -> bool {
    let folder = |source: &Source| source.path.rsplit_once('/').map(|(folder, _)| folder.to_owned());
    sources.iter().filter(|other| folder(other) == folder(source)).any(|other| calls(other, method))
}

/// Whether a test calls a method of that name.
fn calls(source: &Source, method: &str) -> bool {
    let mut methods = source.paths.iter().filter(|path| path.called && path.last() == method);
    methods.any(|path| (path.member || path.segments.len() > 1) && source.is_test(path.line))
}

/// The name of the generated method.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST: &str = "#[tokio::test]\nasync fn refused() { client.chat_stream(r).await; }\nfn helper() {}";
    const FILE: &str = "services/router/tests/chat.rs";

    fn check_table(table: &str, test: &str) -> String {
        let rpc = Rpc { package: "tutti.router.v1".into(), service: "RouterService".into(), name: "ChatStream".into() };
        let sources = [Source::parse(FILE, test).unwrap(), Source::parse("libs/layers/src/deadline.rs", TEST).unwrap()];
        let findings = proven(&[rpc], table, &sources).unwrap();
        findings.iter().map(|finding| format!("{finding}\n")).collect()
    }

    fn table(error: &str, deadline: &str) -> String {
        format!(
            "[\"tutti.router.v1.RouterService\"]\nChatStream = {{ error = \"{error}\", deadline = \"{deadline}\" }}\n"
        )
    }

    #[test]
    fn a_proven_rpc_passes() {
        let table = table(&format!("{FILE}::refused"), "libs/layers/src/deadline.rs::refused");
        assert_eq!(check_table(&table, TEST), "");
    }

    #[test]
    fn absence_is_noticed() {
        assert!(check_table("", TEST).contains("tutti.router.v1.RouterService/ChatStream has no line"));
        assert!(check_table("", "#[test] fn chat_stream() {}").contains("no test here calls chat_stream()"));
        let good = format!("{FILE}::refused");
        let with = |error: &str| check_table(&table(error, &good), TEST);
        assert!(with("refused").contains("is not <file>::<test>"));
        assert!(with("services/router/tests/x.rs::refused").contains("there is no file"));
        assert!(with(&format!("{FILE}::helper")).contains("there is no test helper"));
        assert!(with("libs/layers/src/deadline.rs::refused").contains("is neither in services/router/"));
        let elsewhere = check_table(&table(&good, &good), "#[test] fn refused() { client.chat(r); }");
        assert!(elsewhere.contains("calls chat_stream()"), "{elsewhere}");
        assert!(check_table(&table(&good, "x"), TEST).contains("deadline = \"x\""));
        let stale = table(&good, &good).replace("ChatStream", "Old");
        assert!(check_table(&stale, TEST).contains("RouterService/Old is no RPC"));
        let homeless = [Rpc { package: "tutti.new.v1".into(), service: "S".into(), name: "N".into() }];
        assert_eq!(proven(&homeless, "", &[]).unwrap()[0].text, "package tutti.new.v1 has no owner");
        assert!(proven(&[], "[x]\ny = { error = \"a\" }", &[]).is_err());
    }

    #[test]
    fn our_rpcs_are_read_from_the_descriptors() {
        let rpcs = all(tutti_proto::FILE_DESCRIPTOR_SET).unwrap();
        let chat = |rpc: &Rpc| (rpc.service.as_str(), rpc.name.as_str()) == ("RouterService", "Chat");
        assert_eq!(rpcs.iter().filter(|rpc| chat(rpc)).count(), 1);
    }
}
