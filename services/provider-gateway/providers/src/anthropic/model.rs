//! What a Claude model takes, told from its name: the API has no other way to know before asking.

/// How a model is told to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thinking {
    /// It can't.
    Never,
    /// With a budget of tokens (3.7 to 4.5).
    Budget,
    /// By its own judgement, steered with an effort; off unless asked for (4.6 to 4.8).
    Adaptive,
    /// As before, but on unless switched off (5 and later).
    AdaptiveByDefault,
    /// As before, and can't be switched off (Fable, Mythos).
    Always,
}

/// What a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Model {
    /// How it thinks.
    pub(super) thinking: Thinking,
    /// `temperature`, `top_p` and `top_k`, on API version 2023-06-01.
    pub(super) sampling: bool,
    /// `temperature` and `top_p` at once.
    pub(super) temperature_with_top_p: bool,
    /// An assistant turn at the end, to be gone on with.
    pub(super) prefill: bool,
    /// A JSON Schema for the answer and strict tools.
    pub(super) schema: bool,
}

impl Model {
    /// A name without a version is taken for the newest model.
    pub(super) fn of(name: &str) -> Self {
        let version = version(name).unwrap_or((u32::MAX, 0));
        let always = name.contains("fable") || name.contains("mythos");
        let thinking = match version {
            _ if always => Thinking::Always,
            v if v < (3, 7) => Thinking::Never,
            v if v < (4, 6) => Thinking::Budget,
            v if v < (5, 0) => Thinking::Adaptive,
            _ => Thinking::AdaptiveByDefault,
        };
        Self {
            thinking,
            sampling: version <= (4, 6) && !always,
            temperature_with_top_p: version < (4, 1),
            prefill: version < (4, 6) && !always,
            schema: version >= (4, 5) || always || name.contains("opus-4-1"),
        }
    }
}

/// `claude-opus-4-6` and `claude-3.5-sonnet` have versions; eight digits are a date.
fn version(name: &str) -> Option<(u32, u32)> {
    let small = |part: &str| if part.len() <= 2 { part.parse::<u32>().ok() } else { None };
    let mut parts = name.split(['-', '.', '@', ':', '/']).skip_while(|part| small(part).is_none());
    let major = small(parts.next()?)?;
    Some((major, parts.next().and_then(small).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_every_form_of_name() {
        for (name, expected) in [
            ("claude-opus-4-6", Some((4, 6))),
            ("claude-opus-4-20250514", Some((4, 0))),
            ("claude-sonnet-4-5-20250929", Some((4, 5))),
            ("claude-3-5-sonnet-20241022", Some((3, 5))),
            ("claude-3.7-sonnet", Some((3, 7))),
            ("claude-sonnet-5", Some((5, 0))),
            ("claude-haiku-5-5", Some((5, 5))),
            ("house-claude", None),
        ] {
            assert_eq!(version(name), expected, "{name}");
        }
    }

    #[test]
    fn generations_think_differently() {
        for (name, expected) in [
            ("claude-3-5-haiku-20241022", Thinking::Never),
            ("claude-3-7-sonnet-20250219", Thinking::Budget),
            ("claude-opus-4-5", Thinking::Budget),
            ("claude-sonnet-4-6", Thinking::Adaptive),
            ("claude-opus-4-8", Thinking::Adaptive),
            ("claude-opus-5-5", Thinking::AdaptiveByDefault),
            ("claude-fable-5-1", Thinking::Always),
            ("house-claude", Thinking::AdaptiveByDefault),
        ] {
            assert_eq!(Model::of(name).thinking, expected, "{name}");
        }
    }
}
