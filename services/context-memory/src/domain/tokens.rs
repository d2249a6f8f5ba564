//! Estimates of tokens: 4 characters a token, as the fallback of every tokenizer, plus what a message costs besides.

use tutti_proto::llm::v1::{Message, part::Kind};

/// What roles and separators cost in every provider's format, about.
const PER_MESSAGE: i64 = 4;
/// A picture, sound or document: the upper end of what a usual picture costs with the big vendors.
const PER_MEDIA: i64 = 1_600;

/// About how many tokens a model takes for a message.
pub(crate) fn estimate(message: &Message) -> i64 {
    let mut chars = message.text.chars().count();
    let mut media = 0;
    for part in &message.parts {
        match &part.kind {
            // Servers repeat text parts in `text`.
            Some(Kind::Text(text)) if message.text.is_empty() => chars += text.chars().count(),
            Some(Kind::Reasoning(reasoning)) => chars += reasoning.text.chars().count(),
            Some(Kind::Image(_) | Kind::Audio(_) | Kind::File(_)) => media += 1,
            Some(Kind::Text(_)) | None => {}
        }
    }
    for call in &message.tool_calls {
        chars += call.name.len() + call.arguments_json.chars().count();
    }
    i64::try_from(chars.div_ceil(4)).unwrap_or(i64::MAX / 2) + PER_MESSAGE + media * PER_MEDIA
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_characters_are_a_token() {
        let message = Message { text: "x".repeat(400), ..Default::default() };
        assert_eq!(estimate(&message), 100 + PER_MESSAGE);
    }

    #[test]
    fn text_that_repeats_its_parts_counts_once() {
        let part = tutti_proto::llm::v1::Part { kind: Some(Kind::Text("abcd".into())), cache_hint: None };
        let message = Message { text: "abcd".into(), parts: vec![part], ..Default::default() };
        assert_eq!(estimate(&message), 1 + PER_MESSAGE);
    }
}
