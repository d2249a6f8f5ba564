//! Who may depend on whom, and that manifests take what the workspace gives.

use toml::{Table, Value};

use crate::{Finding, tree::Package};

/// The libraries from the bottom to the top. A library may use those of lower rows only, so that none ever needs
/// another of its own row.
///
/// ```text
///                     testkit
///        client                    server
///        layers                    store      limits
///        types
///        error
///        proto    config    telemetry    simulator
/// ```
const LIBRARIES: &[&[&str]] = &[
    &["proto", "config", "telemetry", "simulator"],
    &["error"],
    &["types"],
    &["layers", "store", "limits"],
    &["client", "server"],
    &["testkit"],
];

/// Libraries that only tests (and, for the simulator, `tutti up`) may build on.
const FOR_TESTS: &[&str] = &["testkit", "simulator"];

/// Names that say nothing.
const SHAPELESS: &[&str] = &["common", "util", "utils", "helpers", "misc", "shared"];

/// Keys of `[package]` that are the same for all.
const INHERITED: &[&str] = &["version", "edition", "rust-version", "license", "publish"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind<'a> {
    Library(&'a str),
    Service(&'a str),
    /// The binary `tutti`: all services in one process.
    Whole,
    Tests,
}

fn kind(folder: &str) -> Option<Kind<'_>> {
    let mut parts = folder.split('/');
    match (parts.next()?, parts.next()?) {
        ("libs", name) => Some(Kind::Library(name)),
        ("services", "tutti") => Some(Kind::Whole),
        ("services", name) => Some(Kind::Service(name)),
        ("tests", _) => Some(Kind::Tests),
        _ => None,
    }
}

fn row(library: &str) -> Option<usize> {
    LIBRARIES.iter().position(|row| row.contains(&library))
}

/// Services depend on libraries only, libraries on lower ones; `tutti` may depend on all, and nobody on it.
pub fn arrows(packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages {
        let path = manifest_of(package);
        let Some(from) = kind(&package.folder) else {
            findings.push(Finding::file(&path, "a package is in libs/, services/ or tests/"));
            continue;
        };
        if let Kind::Library(name) = from
            && row(name).is_none()
        {
            findings.push(Finding::file(&path, "this library has no row in tests/tidy/src/dependencies.rs"));
        }
        for (table, name, _) in dependencies(&package.manifest) {
            let Some(target) = packages.iter().find(|p| package_name(&p.manifest) == Some(&name)) else { continue };
            let Some(to) = kind(&target.folder) else { continue };
            if let Err(why) = allowed(from, to, table == "dev-dependencies") {
                findings.push(Finding::file(&path, format!("must not depend on {name}: {why}")));
            }
        }
    }
    findings
}

fn allowed(from: Kind<'_>, to: Kind<'_>, for_tests: bool) -> Result<(), &'static str> {
    match (from, to) {
        (Kind::Tests, _) => Ok(()),
        (_, Kind::Tests) => Err("nothing builds on tests"),
        (_, Kind::Library("testkit")) if for_tests => Ok(()),
        (_, Kind::Library("testkit")) => Err("it is for tests: make it a dev-dependency"),
        (Kind::Whole, _) => Ok(()),
        (Kind::Library(from), Kind::Library(to)) if from == to || row(to) < row(from) => Ok(()),
        (Kind::Library(_), Kind::Library(_)) => Err("it is not in a lower row of tests/tidy/src/dependencies.rs"),
        (Kind::Library(_), _) => Err("a library never depends on a service"),
        (Kind::Service(_), Kind::Library(name)) if FOR_TESTS.contains(&name) && !for_tests => {
            Err("it is for tests: make it a dev-dependency")
        }
        (Kind::Service(_), Kind::Library(_)) => Ok(()),
        (Kind::Service(from), Kind::Service(to)) if from == to => Ok(()),
        (Kind::Service(_), _) => Err("services meet over gRPC only, behind a trait in src/clients/"),
    }
}

/// Versions, package keys and lints come from the workspace; names say something.
pub fn manifests(packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages {
        let path = manifest_of(package);
        let mut say = |text: String| findings.push(Finding::file(&path, text));
        if package.manifest.get("lints").and_then(|lints| lints.get("workspace")) != Some(&Value::Boolean(true)) {
            say("has no `[lints] workspace = true`".to_owned());
        }
        for key in INHERITED {
            let value = package.manifest.get("package").and_then(|table| table.get(key));
            if !value.is_some_and(from_workspace) {
                say(format!("`{key}` must be `{key}.workspace = true`"));
            }
        }
        for (table, name, value) in dependencies(&package.manifest) {
            if !from_workspace(&value) {
                say(format!("[{table}] {name} must be `{name}.workspace = true`, its version in the root Cargo.toml"));
            }
        }
        let name = package_name(&package.manifest).unwrap_or_default();
        let folder = package.folder.rsplit('/').next().unwrap_or_default();
        if let Some(word) = name.split('-').chain([folder]).find(|word| SHAPELESS.contains(word)) {
            say(format!("\"{word}\" says nothing: name the crate after its one idea"));
        }
    }
    findings
}

fn from_workspace(value: &Value) -> bool {
    value.get("workspace") == Some(&Value::Boolean(true))
}

fn manifest_of(package: &Package) -> String {
    format!("{}/Cargo.toml", package.folder)
}

fn package_name(manifest: &Table) -> Option<&str> {
    manifest.get("package")?.get("name")?.as_str()
}

/// All dependencies: the kind of their table, the package they name, and their value.
fn dependencies(manifest: &Table) -> Vec<(&'static str, String, Value)> {
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    let tables = targets.filter_map(Value::as_table).chain([manifest]);
    let mut all = Vec::new();
    for table in tables {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, value) in table.get(kind).and_then(Value::as_table).into_iter().flatten() {
                let package = value.get("package").and_then(Value::as_str).unwrap_or(name);
                all.push((kind, package.to_owned(), value.clone()));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "version.workspace = true\nedition.workspace = true\nrust-version.workspace = true
        license.workspace = true\npublish.workspace = true\n[lints]\nworkspace = true\n";

    fn package(folder: &str, name: &str, rest: &str) -> Package {
        let manifest = format!("[package]\nname = \"{name}\"\n{HEAD}{rest}").parse().unwrap();
        Package { folder: folder.to_owned(), manifest }
    }

    fn texts(findings: impl IntoIterator<Item = Finding>) -> String {
        findings.into_iter().map(|finding| format!("{finding}\n")).collect()
    }

    fn needs(folder: &str, dependencies: &str) -> String {
        let packages = [
            package("libs/error", "tutti-error", ""),
            package("libs/server", "tutti-server", ""),
            package("libs/simulator", "tutti-simulator", ""),
            package("libs/testkit", "tutti-testkit", ""),
            package("services/router", "router", ""),
            package("services/router/projects", "router-projects", ""),
            package("services/tutti", "tutti", ""),
            package("tests/e2e", "e2e", ""),
            package(folder, "it", dependencies),
        ];
        texts(arrows(&packages))
    }

    #[test]
    fn allowed_arrows_pass() {
        assert_eq!(
            needs("services/ledger", "[dependencies]\ntutti-server.workspace = true\nserde.workspace = true"),
            ""
        );
        assert_eq!(needs("services/router/x", "[dependencies]\nrouter-projects.workspace = true"), "");
        assert_eq!(needs("services/ledger", "[dev-dependencies]\ntutti-testkit.workspace = true"), "");
        assert_eq!(needs("services/tutti", "[dependencies]\nrouter.workspace = true"), "");
        assert_eq!(needs("tests/load", "[dependencies]\nrouter.workspace = true"), "");
        assert_eq!(needs("libs/layers", "[dependencies]\ntutti-error.workspace = true"), "");
    }

    #[test]
    fn forbidden_arrows_are_found() {
        let service = needs("services/ledger", "[dependencies]\nrouter.workspace = true");
        assert!(service.contains("services/ledger/Cargo.toml: must not depend on router: services meet"), "{service}");
        let whole = needs("services/ledger", "[target.'cfg(unix)'.dependencies]\ntutti = { workspace = true }");
        assert!(whole.contains("must not depend on tutti"), "{whole}");
        let library = needs("libs/types", "[dependencies]\ntutti-server.workspace = true");
        assert!(library.contains("not in a lower row"), "{library}");
        let upward = needs("libs/types", "[dev-dependencies]\nrouter.workspace = true");
        assert!(upward.contains("a library never depends on a service"), "{upward}");
        for kept in ["tutti-testkit", "tutti-simulator"] {
            let shipped = needs("services/ledger", &format!("[dependencies]\n{kept}.workspace = true"));
            assert!(shipped.contains("make it a dev-dependency"), "{shipped}");
        }
        assert!(needs("services/tutti", "[dependencies]\ne2e.workspace = true").contains("nothing builds on tests"));
        assert!(needs("libs/novel", "").contains("has no row"));
        assert!(needs("apps/x", "").contains("a package is in libs/, services/ or tests/"));
    }

    #[test]
    fn manifests_that_go_their_own_way_are_found() {
        assert_eq!(texts(manifests(&[package("libs/x", "tutti-x", "[dependencies]\nserde.workspace = true")])), "");
        let versions =
            "[dependencies]\nserde = \"1\"\n[target.'cfg(unix)'.build-dependencies]\nnix = { version = \"1\" }";
        let findings = texts(manifests(&[package("libs/x", "tutti-x", versions)]));
        assert!(
            findings.contains("[dependencies] serde") && findings.contains("[build-dependencies] nix"),
            "{findings}"
        );
        let findings = texts(manifests(&[package("libs/x", "tutti-utils", "")]));
        assert!(findings.contains("\"utils\" says nothing"), "{findings}");
        let manifest = "[package]\nname = \"x\"\nversion = \"1.0.0\"\n[lints]\nworkspace = false".parse().unwrap();
        let findings = texts(manifests(&[Package { folder: "libs/common".to_owned(), manifest }]));
        for text in ["no `[lints]", "`version` must be", "`edition` must be", "\"common\" says nothing"] {
            assert!(findings.contains(text), "{text} not in {findings}");
        }
    }
}
