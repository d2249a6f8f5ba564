//! The repository on disk.

use std::{fs, io, path::Path};

use toml::Table;
use walkdir::{DirEntry, WalkDir};

use crate::source::Source;

/// A package of the workspace.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its folder, from the root, with slashes.
    pub folder: String,
    /// Its `Cargo.toml`.
    pub manifest: Table,
}

/// What the rules look at.
#[derive(Debug)]
pub struct Tree {
    /// The visible entries of the root.
    pub top_level: Vec<String>,
    /// The manifest of the workspace.
    pub workspace: Table,
    /// All packages.
    pub packages: Vec<Package>,
    /// All Rust files but the generated ones.
    pub sources: Vec<Source>,
    /// The other files that people write code in, with their text: Python, protos.
    pub others: Vec<(String, String)>,
    /// The pages of `deploy/runbooks`, by file name, with their text.
    pub runbooks: Vec<(String, String)>,
}

impl Tree {
    /// Reads the repository.
    ///
    /// # Errors
    /// A file can't be read, or is not what its name says; the message names it.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut tree = Self {
            top_level: names(root)?,
            workspace: table(&root.join("Cargo.toml"))?,
            packages: Vec::new(),
            sources: Vec::new(),
            others: Vec::new(),
            runbooks: Vec::new(),
        };
        for entry in WalkDir::new(root).sort_by_file_name().into_iter().filter_entry(is_ours) {
            let entry = entry?;
            let path = relative(root, entry.path());
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
            if name == "Cargo.toml" && !folder.is_empty() {
                tree.packages.push(Package { folder: folder.to_owned(), manifest: table(entry.path())? });
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(entry.path())?;
                let source = Source::parse(&path, &text).map_err(|error| named(&path, error))?;
                tree.sources.push(source);
            } else if name.ends_with(".py") || name.ends_with(".proto") {
                tree.others.push((path.clone(), fs::read_to_string(entry.path())?));
            } else if folder == "deploy/runbooks" {
                tree.runbooks.push((name.to_owned(), fs::read_to_string(entry.path())?));
            }
        }
        mark_test_modules(&mut tree.sources);
        Ok(tree)
    }
}

/// Build output, generated code and hidden folders are not ours to judge.
fn is_ours(entry: &DirEntry) -> bool {
    let name = entry.file_name().to_string_lossy();
    let skipped = ["target", "gen", "node_modules", "__pycache__"].contains(&name.as_ref());
    entry.depth() == 0 || !(name.starts_with('.') || entry.file_type().is_dir() && skipped)
}

/// A module declared `#[cfg(test)] mod x;` is a test with everything below it.
fn mark_test_modules(sources: &mut [Source]) {
    let mut folders = Vec::new();
    for source in sources.iter() {
        let (folder, file) = source.path.rsplit_once('/').unwrap_or(("", &source.path));
        let stem = file.trim_end_matches(".rs");
        for module in &source.test_modules {
            let beside = ["lib", "main", "mod"].contains(&stem);
            folders.push(if beside { format!("{folder}/{module}") } else { format!("{folder}/{stem}/{module}") });
        }
    }
    for source in sources {
        let is_below = |module: &String| {
            source.path.strip_prefix(module.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        source.is_test_file |= folders.iter().any(is_below);
    }
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // Cargo's default output folder; ignored by git.
        if !name.starts_with('.') && name != "target" {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn table(path: &Path) -> io::Result<Table> {
    fs::read_to_string(path)?.parse().map_err(|error| named(&path.display().to_string(), error))
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

fn named(path: &str, error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_that_only_tests_have_are_tests_with_all_below() {
        let parse = |path: &str, text: &str| Source::parse(path, text).unwrap();
        let mut sources = vec![
            parse("libs/x/src/lib.rs", "#[cfg(test)] mod cases; mod a;"),
            parse("libs/x/src/a.rs", "#[cfg(test)] mod tests;"),
            parse("libs/x/src/a/tests.rs", ""),
            parse("libs/x/src/cases/one.rs", ""),
            parse("libs/x/src/casesuite.rs", ""),
        ];
        mark_test_modules(&mut sources);
        let tests: Vec<bool> = sources.iter().map(|source| source.is_test_file).collect();
        assert_eq!(tests, [false, false, true, true, false]);
    }
}
