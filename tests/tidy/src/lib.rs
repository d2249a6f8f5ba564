//! The repository's own rules, checked: who may depend on whom, what may be called where, how large things grow, and
//! that no RPC or error reason is without its tests and its page.
//!
//! Each rule is a function from sources to [`Finding`]s, with tests that it can fail; `tests/repository.rs` applies all
//! of them to this repository. A finding is fixed in the code it names; where a rule is wrong, the rule is changed here,
//! with its reason.

pub mod boundaries;
pub mod dependencies;
pub mod hygiene;
pub mod layout;
pub mod rpcs;
pub mod runbooks;
pub mod size;
pub mod source;
pub mod traps;
pub mod tree;

use std::fmt;

/// A place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, from the root of the repository.
    pub path: String,
    /// Its line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong and what to do instead.
    pub text: String,
}

impl Finding {
    /// A finding at a line.
    pub fn at(path: &str, line: usize, text: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, text: text.into() }
    }

    /// A finding about a file as a whole.
    pub fn file(path: &str, text: impl Into<String>) -> Self {
        Self::at(path, 0, text)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.text),
            line => write!(f, "{}:{line}: {}", self.path, self.text),
        }
    }
}
