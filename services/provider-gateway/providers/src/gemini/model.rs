//! What a Gemini model takes, told from its name.

use serde_json::{Value, json};
use tutti_types::llm::Effort;

/// How a model is told to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thinking {
    /// It can't: before 2.5, and other families.
    Never,
    /// With a budget of tokens: 2.5.
    Budget,
    /// With a level: 3 and later.
    Level,
}

/// What a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Model {
    /// How it thinks.
    pub(super) thinking: Thinking,
    version: (u32, u32),
    is_pro: bool,
    is_lite: bool,
}

impl Model {
    /// A Gemini name without a version (`gemini-flash-latest`) is taken for the newest model.
    pub(super) fn of(name: &str) -> Self {
        let version = name.rsplit('/').next().unwrap_or(name).strip_prefix("gemini-").map(version).unwrap_or_default();
        let thinking = match version {
            v if v < (2, 5) => Thinking::Never,
            v if v < (3, 0) => Thinking::Budget,
            _ => Thinking::Level,
        };
        Self { thinking, version, is_pro: name.contains("-pro"), is_lite: name.contains("-lite") }
    }

    /// The API refuses a history whose calls lack their signature.
    pub(super) fn demands_signatures(self) -> bool {
        self.thinking == Thinking::Level
    }

    /// Files inside of function results, not beside them.
    pub(super) fn nests_files(self) -> bool {
        self.thinking == Thinking::Level
    }

    /// A JSON answer while there are tools.
    pub(super) fn json_with_tools(self) -> bool {
        self.thinking == Thinking::Level
    }

    /// `presencePenalty` and `frequencyPenalty`.
    pub(super) fn penalties(self) -> bool {
        self.version < (2, 5)
    }

    /// The `thinkingConfig` for an effort, and what about it had to be changed.
    pub(super) fn thinking_config(self, effort: Effort, max_tokens: u32) -> (Option<Value>, Option<&'static str>) {
        let off = effort == Effort::None;
        let pro_stays_on = (off && self.is_pro).then_some("this model always thinks; it was asked to do little of it");
        let mut config = match self.thinking {
            Thinking::Never if off => return (None, None),
            Thinking::Never => return (None, Some("this model does not think; the effort was dropped")),
            Thinking::Budget => json!({"thinkingBudget": self.budget(effort, max_tokens)}),
            Thinking::Level => json!({"thinkingLevel": self.level(effort)}),
        };
        if !off {
            config["includeThoughts"] = true.into();
        }
        (Some(config), pro_stays_on)
    }

    /// At most half of the output, so that an answer still fits, and at least what the model takes.
    fn budget(self, effort: Effort, max_tokens: u32) -> u32 {
        let least = match (self.is_pro, self.is_lite) {
            (true, _) => 128,
            (_, true) => 512,
            _ => 1,
        };
        let wanted = match effort {
            Effort::None if self.is_pro => 128,
            Effort::None => return 0,
            Effort::Minimal => 512,
            Effort::Low => 1024,
            Effort::Medium => 8192,
            Effort::Max if self.is_pro => 32_768,
            Effort::High | Effort::Max => 24_576,
        };
        wanted.min(max_tokens / 2).max(least)
    }

    fn level(self, effort: Effort) -> &'static str {
        match effort {
            Effort::None | Effort::Minimal if !self.is_pro => "MINIMAL",
            Effort::None | Effort::Minimal | Effort::Low => "LOW",
            // The first of the generation knows only two levels.
            Effort::Medium if self.is_pro && self.version == (3, 0) => "HIGH",
            Effort::Medium => "MEDIUM",
            Effort::High | Effort::Max => "HIGH",
        }
    }
}

/// `2.5-flash`, `3-pro-preview`.
fn version(name: &str) -> (u32, u32) {
    let number = name.split('-').next().unwrap_or_default();
    let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
    major.parse().map_or((u32::MAX, 0), |major| (major, minor.parse().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_think_differently() {
        for (name, expected) in [
            ("gemini-2.0-flash", Thinking::Never),
            ("gemma-3-27b-it", Thinking::Never),
            ("gemini-2.5-flash-lite", Thinking::Budget),
            ("gemini-3-pro-preview", Thinking::Level),
            ("models/gemini-3.8-flash", Thinking::Level),
            ("gemini-flash-latest", Thinking::Level),
        ] {
            assert_eq!(Model::of(name).thinking, expected, "{name}");
        }
    }

    #[test]
    fn each_model_gets_a_wish_it_takes() {
        let config = |name, effort, max| Model::of(name).thinking_config(effort, max).0.unwrap();
        assert_eq!(config("gemini-2.5-flash", Effort::None, 9000), json!({"thinkingBudget": 0}));
        assert_eq!(config("gemini-2.5-pro", Effort::None, 9000), json!({"thinkingBudget": 128}));
        let high = config("gemini-2.5-flash", Effort::High, 9000);
        assert_eq!(high, json!({"thinkingBudget": 4500, "includeThoughts": true}));
        let tight = config("gemini-2.5-flash-lite", Effort::Low, 100);
        assert_eq!(tight, json!({"thinkingBudget": 512, "includeThoughts": true}));
        assert_eq!(config("gemini-3.8-flash", Effort::None, 9000), json!({"thinkingLevel": "MINIMAL"}));
        let medium = config("gemini-3-pro-preview", Effort::Medium, 9000);
        assert_eq!(medium, json!({"thinkingLevel": "HIGH", "includeThoughts": true}));
        assert!(Model::of("gemini-2.5-pro").thinking_config(Effort::None, 9000).1.is_some());
    }
}
