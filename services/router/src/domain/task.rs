//! What kind of task a request is.

use std::fmt;

/// Where a task type came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskFrom {
    Request,
    Persona,
    Keywords,
    Default,
}

impl fmt::Display for TaskFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "request",
            Self::Persona => "persona",
            Self::Keywords => "keywords",
            Self::Default => "default",
        })
    }
}

/// Requirement S0 §5.2, tested in this order.
const KEYWORDS: [(&str, &[&str]); 3] = [
    (
        "architecture",
        &[
            "plan",
            "design",
            "architecture",
            "architect",
            "strategy",
            "approach",
            "structure",
            "organize",
            "roadmap",
            "blueprint",
            "system design",
        ],
    ),
    (
        "coding",
        &[
            "write code",
            "implement",
            "function",
            "class",
            "refactor",
            "fix bug",
            "debug",
            "code review",
            "add feature",
            "modify",
            "update code",
        ],
    ),
    ("parsing", &["parse", "extract", "analyze", "summarize", "convert to json", "format", "normalize"]),
];

/// The task type that a persona stands for.
fn of_persona(persona: &str) -> Option<&'static str> {
    match persona {
        "architect" | "reviewer" | "planner" => Some("architecture"),
        "code-specialist" | "local-coder" => Some("coding"),
        "fast-parser" | "context-distiller" => Some("parsing"),
        _ => None,
    }
}

/// The task type that the words of a text hint at.
fn of_text(text: &str) -> Option<&'static str> {
    let text = text.to_lowercase();
    let says = |keyword: &&str| {
        // At the beginning of a word: "planning" is about a plan, "explain" is not.
        text.match_indices(*keyword).any(|(at, _)| !text[..at].chars().next_back().is_some_and(char::is_alphanumeric))
    };
    KEYWORDS.iter().find(|(_, keywords)| keywords.iter().any(says)).map(|(task, _)| *task)
}

/// The task type: what the request says, else the persona's, else by keywords, else `general`.
pub(crate) fn classify(stated: &str, persona: &str, last_user_text: &str) -> (String, TaskFrom) {
    if !stated.is_empty() {
        return (stated.to_owned(), TaskFrom::Request);
    }
    if let Some(task) = of_persona(persona) {
        return (task.to_owned(), TaskFrom::Persona);
    }
    match of_text(last_user_text) {
        Some(task) => (task.to_owned(), TaskFrom::Keywords),
        None => ("general".to_owned(), TaskFrom::Default),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_beats_the_persona_beats_the_keywords() {
        let text = "Please DESIGN a parser";
        assert_eq!(classify("poems", "architect", text), ("poems".into(), TaskFrom::Request));
        assert_eq!(classify("", "fast-parser", text), ("parsing".into(), TaskFrom::Persona));
        assert_eq!(classify("", "general-assistant", text), ("architecture".into(), TaskFrom::Keywords));
        assert_eq!(classify("", "", "hi"), ("general".into(), TaskFrom::Default));
    }

    #[test]
    fn keywords_are_tested_in_the_order_planning_coding_parsing() {
        let task = |text: &str| classify("", "", text).0;
        assert_eq!(task("implement the plan"), "architecture");
        assert_eq!(task("implement a function that parses dates"), "coding");
        assert_eq!(task("summarize this"), "parsing");
    }

    #[test]
    fn a_keyword_inside_another_word_says_nothing() {
        assert_eq!(classify("", "", "explain the information").0, "general");
        assert_eq!(classify("", "", "we are planning").0, "architecture");
    }
}
