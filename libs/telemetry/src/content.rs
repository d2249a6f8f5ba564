//! Prompts and answers in spans: off by default, and never without the redaction list.

use std::sync::OnceLock;

use regex::Regex;

/// A text in a span is cut here, in bytes.
const MAX_TEXT: usize = 16 * 1024;
/// What stands for what was taken out.
const REDACTED: &str = "[redacted]";

static REDACT: OnceLock<Vec<Regex>> = OnceLock::new();

/// Decides it for this process; only the first call counts.
pub(crate) fn capture(on: bool, redact: &[Regex]) {
    if on {
        let _ = REDACT.set(redact.to_vec());
    }
}

/// Whether prompts and answers may be put into spans.
pub fn captures_content() -> bool {
    REDACT.get().is_some()
}

/// A text as it may stand in a span: cut, and without what the redaction list matches. `None` when no text may.
pub fn redacted(text: &str) -> Option<String> {
    REDACT.get().map(|list| without(list, text))
}

/// Redacted first: what a cut leaves of a secret would not match any more.
fn without(list: &[Regex], text: &str) -> String {
    let mut text = text.to_owned();
    for pattern in list {
        if let std::borrow::Cow::Owned(changed) = pattern.replace_all(&text, REDACTED) {
            text = changed;
        }
    }
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_list_matches_is_gone_even_at_the_cut() {
        let list = [Regex::new("sk-[a-z0-9]+").unwrap(), Regex::new(r"(?i)\bsecret\b").unwrap()];
        assert_eq!(without(&list, "a Secret: sk-abc1."), "a [redacted]: [redacted].");
        let long = format!("{}sk-abcdef", "ä".repeat(MAX_TEXT / 2 - 2));
        let cut = without(&list, &long);
        assert!(!cut.contains("sk-") && cut.ends_with('…') && cut.len() <= MAX_TEXT + '…'.len_utf8(), "{}", cut.len());
    }

    #[test]
    fn nothing_is_captured_unless_it_was_asked_for() {
        assert_eq!((captures_content(), redacted("hello")), (false, None));
        capture(false, &[]);
        assert!(!captures_content());
    }
}
