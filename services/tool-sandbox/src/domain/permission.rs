//! Whether a call may run: the mode, and the allow list.

use globset::{GlobBuilder, GlobMatcher};

use super::{Subject, shell};

/// How calls are decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Asks for tools that require approval, runs the rest.
    Manual,
    /// Runs what the allow list matches, refuses the rest.
    Auto,
    /// Runs what the allow list matches, asks for the rest.
    Trust,
    /// Refuses all.
    Deny,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It may run.
    Allowed,
    /// It may not.
    Denied,
    /// Somebody must say.
    NeedsApproval,
}

impl Decision {
    /// As the books call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::NeedsApproval => "needs_approval",
        }
    }

    /// The decision of that name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        [Self::Allowed, Self::Denied, Self::NeedsApproval].into_iter().find(|decision| decision.name() == name)
    }
}

/// A decision with its reason in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// What was decided.
    pub(crate) decision: Decision,
    /// Why.
    pub(crate) because: String,
}

impl Verdict {
    /// A decision and why.
    pub(crate) fn new(decision: Decision, because: impl Into<String>) -> Self {
        Self { decision, because: because.into() }
    }
}

/// What is asked of the permissions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    /// The tool's own name.
    pub(crate) tool: &'a str,
    /// Its other names.
    pub(crate) aliases: &'a [&'a str],
    /// Whether mode manual asks.
    pub(crate) requires_approval: bool,
    /// Which argument is looked at.
    pub(crate) subject: Subject,
    /// Its value.
    pub(crate) value: &'a str,
}

/// The rules in force.
#[derive(Debug, Clone)]
pub(crate) struct Permissions {
    mode: Mode,
    allow: AllowList,
}

impl Permissions {
    /// Rules of a mode and its allow list.
    pub(crate) fn new(mode: Mode, allow: AllowList) -> Self {
        Self { mode, allow }
    }

    /// Decides one call.
    pub(crate) fn decide(&self, question: &Question<'_>) -> Verdict {
        let tool = question.tool;
        match (self.mode, self.allow.matching(question)) {
            (Mode::Manual, _) if question.requires_approval => Verdict::new(
                Decision::NeedsApproval,
                format!("permission mode manual asks before every call of \"{tool}\""),
            ),
            (Mode::Manual, _) => Verdict::new(Decision::Allowed, format!("\"{tool}\" requires no approval")),
            (Mode::Auto | Mode::Trust, Some(pattern)) => {
                Verdict::new(Decision::Allowed, format!("tools.auto_approve has \"{pattern}\""))
            }
            (Mode::Auto, None) => Verdict::new(
                Decision::Denied,
                "permission mode auto: no pattern of tools.auto_approve matches this call",
            ),
            (Mode::Trust, None) => Verdict::new(
                Decision::NeedsApproval,
                "permission mode trust: no pattern of tools.auto_approve matches this call",
            ),
            (Mode::Deny, _) => Verdict::new(Decision::Denied, "permission mode deny refuses every call"),
        }
    }
}

/// Patterns `tool[:glob]`: a tool's name or alias, or `**` for all; without a glob any argument matches.
#[derive(Debug, Clone, Default)]
pub(crate) struct AllowList(Vec<Pattern>);

#[derive(Debug, Clone)]
struct Pattern {
    text: String,
    tool: String,
    glob: Option<Glob>,
}

#[derive(Debug, Clone)]
struct Glob {
    text: String,
    /// `*` stays within a folder.
    path: GlobMatcher,
    /// `*` is any text.
    command: GlobMatcher,
}

impl AllowList {
    /// Adds a pattern.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(crate) fn add(&mut self, pattern: &str) -> Result<(), String> {
        let (tool, glob) = match pattern.split_once(':') {
            Some((tool, glob)) => (tool, Some(glob)),
            None => (pattern, None),
        };
        let named = !tool.is_empty() && tool.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        if !named && tool != "**" {
            return Err(format!("expected \"tool\" or \"tool:glob\" with a tool's name or **, found {pattern:?}"));
        }
        let glob = glob.map(Glob::parse).transpose()?;
        self.0.push(Pattern { text: pattern.to_owned(), tool: tool.to_owned(), glob });
        Ok(())
    }

    /// The first pattern that matches.
    fn matching(&self, question: &Question<'_>) -> Option<&str> {
        self.0.iter().find(|pattern| pattern.matches(question)).map(|pattern| pattern.text.as_str())
    }
}

impl Pattern {
    fn matches(&self, question: &Question<'_>) -> bool {
        let tool = self.tool == "**" || self.tool == question.tool || question.aliases.contains(&self.tool.as_str());
        tool && self.glob.as_ref().is_none_or(|glob| glob.matches(question.subject, question.value))
    }
}

impl Glob {
    fn parse(text: &str) -> Result<Self, String> {
        let compile = |separated| {
            let glob = GlobBuilder::new(text).literal_separator(separated).backslash_escape(true).build();
            glob.map(|glob| glob.compile_matcher()).map_err(|error| error.to_string())
        };
        Ok(Self { text: text.to_owned(), path: compile(true)?, command: compile(false)? })
    }

    fn matches(&self, subject: Subject, value: &str) -> bool {
        match subject {
            // `src/../x` is not in `src`, whatever its text looks like.
            Subject::Path(_) => tidy_path(value).is_some_and(|path| self.path.is_match(path)),
            // `git *` is not meant for `git status; rm x`: more than one plain command must be written out, or anything be allowed.
            Subject::Command(_) if !shell::is_plain(value) => {
                self.text == value || matches!(self.text.as_str(), "*" | "**")
            }
            Subject::Command(_) => self.command.is_match(value),
        }
    }
}

/// A relative path without `.` and doubled slashes; `None` when it goes up or is absolute.
fn tidy_path(path: &str) -> Option<String> {
    let steps: Vec<&str> = path.split('/').filter(|step| !matches!(*step, "" | ".")).collect();
    let inside = !path.starts_with('/') && !steps.contains(&"..");
    inside.then(|| if steps.is_empty() { ".".to_owned() } else { steps.join("/") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(patterns: &[&str]) -> AllowList {
        let mut list = AllowList::default();
        for pattern in patterns {
            list.add(pattern).unwrap();
        }
        list
    }

    fn read(path: &str) -> Question<'_> {
        Question {
            tool: "read",
            aliases: &["read_file"],
            requires_approval: false,
            subject: Subject::Path("path"),
            value: path,
        }
    }

    fn write(path: &str) -> Question<'_> {
        Question { tool: "write", aliases: &["write_file"], requires_approval: true, ..read(path) }
    }

    fn bash(command: &str) -> Question<'_> {
        Question {
            tool: "bash",
            aliases: &[],
            requires_approval: true,
            subject: Subject::Command("command"),
            value: command,
        }
    }

    #[test]
    fn the_table_of_modes() {
        use Decision::{Allowed, Denied, NeedsApproval};
        let table = [
            (Mode::Manual, [Allowed, Allowed, NeedsApproval, NeedsApproval]),
            (Mode::Auto, [Allowed, Denied, Allowed, Denied]),
            (Mode::Trust, [Allowed, NeedsApproval, Allowed, NeedsApproval]),
            (Mode::Deny, [Denied, Denied, Denied, Denied]),
        ];
        for (mode, expected) in table {
            let permissions = Permissions::new(mode, list(&["read_file:src/**", "write:out/*"]));
            let questions = [read("src/a/b"), read("Cargo.toml"), write("out/a"), write("out/a/b")];
            let decided = questions.map(|question| permissions.decide(&question).decision);
            assert_eq!(decided, expected, "{mode:?}");
        }
    }

    #[test]
    fn patterns_match_names_aliases_and_arguments() {
        let matches = |pattern: &str, question: Question<'_>| list(&[pattern]).matching(&question).is_some();
        assert!(matches("read", read("any/thing")));
        assert!(matches("read_file", read("any/thing")));
        assert!(matches("**", bash("rm x")));
        assert!(matches("**:docs/**", read("docs/a")));
        assert!(matches("read:**", read(".")));
        assert!(matches("read:src/**", read("./src//a")));
        assert!(!matches("read:src/**", read("src/../secret")));
        assert!(!matches("read:**", read("/etc/passwd")));
        assert!(!matches("rea", read("a")));
        assert!(!matches("read:*", read("a/b")));
    }

    #[test]
    fn a_glob_for_commands_is_no_door_to_others() {
        let matches = |pattern: &str, command: &str| list(&[pattern]).matching(&bash(command)).is_some();
        assert!(matches("bash:git *", "git log a/b"));
        assert!(!matches("bash:git *", "git log; rm -r x"));
        assert!(!matches("bash:git *", "git log $(rm x)"));
        assert!(!matches("bash:git *", "git log\nrm x"));
        assert!(!matches("bash:git *", "git log > .bashrc"));
        assert!(matches("bash:git log | head", "git log | head"));
        assert!(matches("bash:**", "a; b"));
        assert!(matches("bash", "a; b"));
    }

    #[test]
    fn broken_patterns_say_why() {
        for pattern in ["", ":x", "a b", "read:[", "*:x"] {
            assert!(AllowList::default().add(pattern).is_err(), "{pattern}");
        }
    }
}
