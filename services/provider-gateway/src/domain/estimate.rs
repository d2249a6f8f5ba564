//! Sizes of prompts and answers, without a tokenizer.
//!
//! Two different numbers: a *bound* for the reservation, which must not be below what the provider counts, and an
//! *estimate* for the books where the provider told nothing.

use tutti_types::{
    TokenCounts, UnitPrices,
    llm::{CacheTtl, Content, Format, Generation, Media, MediaSource, Message, Part},
};

/// Tokens around each message, tool and tool call: roles, separators, the provider's own wording.
const OVERHEAD: u64 = 16;
/// What providers add to a prompt once: their tool instructions, a format's wording.
const PREAMBLE: u64 = 512;
/// The most that a picture takes at the large providers, tiles and all.
const IMAGE_BOUND: u64 = 5_000;
/// What a picture takes usually.
const IMAGE_USUAL: u64 = 1_000;
/// A document that the provider fetches: its size is not known here.
const REMOTE_FILE_BOUND: u64 = 50_000;
/// The usual rule of thumb.
const CHARS_PER_TOKEN: u64 = 4;

/// An upper bound in practice of the input's tokens: half its UTF-8 bytes (English has 4 bytes a token, code 3, Chinese
/// 2 to 3), overheads, and a flat sum for media. One token a byte would be a proof, and four times too dear to hold.
pub fn input_bound(generation: &Generation) -> u64 {
    let texts = texts(generation).map(|text| (text.len() as u64).div_ceil(2) + OVERHEAD).sum::<u64>();
    let media = parts(generation).map(media_bound).sum::<u64>();
    texts.saturating_add(media).saturating_add(PREAMBLE)
}

/// The input's tokens at 4 characters a token.
pub fn input_estimate(generation: &Generation) -> u64 {
    let chars = texts(generation).map(|text| text.chars().count() as u64).sum::<u64>();
    let media = parts(generation).map(|part| media_bound(part).min(IMAGE_USUAL)).sum::<u64>();
    chars.div_ceil(CHARS_PER_TOKEN).saturating_add(media)
}

/// Tokens of a text of so many characters.
pub fn tokens_of_chars(chars: u64) -> u64 {
    chars.div_ceil(CHARS_PER_TOKEN)
}

/// What an answer used: as the provider `told`, else as we estimate and `counted`. True when we counted.
///
/// Providers tell the input first and the output at the end, with a small count in between: where the answer broke off
/// and far more came than was told, our count is the better one. At the end of a whole answer theirs holds, however
/// many characters a token had; a zero beside output is no count.
pub fn used(told: Option<TokenCounts>, input: u64, counted: u64, is_whole: bool) -> (TokenCounts, bool) {
    let Some(told) = told else {
        return (TokenCounts { fresh_input: input, visible_output: counted, ..TokenCounts::default() }, true);
    };
    let holds = is_whole && told.output() > 0;
    if holds || told.output().saturating_mul(2) >= counted {
        return (told, false);
    }
    (TokenCounts { visible_output: counted.saturating_sub(told.reasoning), ..told }, true)
}

/// The bound of texts to embed.
pub fn texts_bound(inputs: &[String]) -> u64 {
    inputs.iter().map(|text| (text.len() as u64).div_ceil(2) + OVERHEAD).sum()
}

/// The estimate for texts to embed.
pub fn texts_estimate(inputs: &[String]) -> u64 {
    tokens_of_chars(inputs.iter().map(|text| text.chars().count() as u64).sum())
}

/// Puts the worst case into the classes where it costs most: all input in its dearest class, all output.
pub fn worst_case(input: u64, output: u64, wish: Option<CacheTtl>, prices: &UnitPrices) -> TokenCounts {
    let counts = TokenCounts { visible_output: output, ..TokenCounts::default() };
    let dearest_write = match wish {
        Some(CacheTtl::OneHour) => prices.cache_write_1h.max(prices.cache_write_5m),
        _ => prices.cache_write_5m,
    };
    if dearest_write <= prices.input {
        TokenCounts { fresh_input: input, ..counts }
    } else if dearest_write == prices.cache_write_5m {
        TokenCounts { cache_write_5m: input, ..counts }
    } else {
        TokenCounts { cache_write_1h: input, ..counts }
    }
}

/// The longest cache lifetime that is wished for anywhere.
pub fn cache_wish(generation: &Generation) -> Option<CacheTtl> {
    let wishes = || parts(generation).filter_map(|part| part.cache);
    wishes().find(|wish| *wish == CacheTtl::OneHour).or_else(|| wishes().next())
}

fn parts(generation: &Generation) -> impl Iterator<Item = &Part> {
    generation.messages.iter().flat_map(Message::parts)
}

/// All text that reaches the model, one item a place with an overhead of its own.
fn texts(generation: &Generation) -> impl Iterator<Item = std::borrow::Cow<'_, str>> {
    use std::borrow::Cow;
    let of_parts = parts(generation).filter_map(|part| match &part.content {
        Content::Text(text) => Some(Cow::Borrowed(text.as_str())),
        // Opaque state is what the readable text stands for, usually longer.
        Content::Reasoning(reasoning) => {
            let state = reasoning.state.as_ref().map_or(0, |state| state.data.len());
            let text = &reasoning.text;
            Some(if text.len() >= state { Cow::Borrowed(text.as_str()) } else { Cow::Owned(" ".repeat(state)) })
        }
        _ => None,
    });
    let of_calls = generation.messages.iter().flat_map(|message| match message {
        Message::Assistant { tool_calls, .. } => tool_calls.as_slice(),
        _ => &[],
    });
    let of_calls = of_calls.flat_map(|call| [call.name.as_str(), call.arguments.as_str()]).map(Cow::Borrowed);
    let of_tools = generation.tools.iter().flat_map(|tool| {
        [
            Cow::Borrowed(tool.name.as_str()),
            Cow::Borrowed(tool.description.as_str()),
            tool.parameters.to_string().into(),
        ]
    });
    let of_format = match &generation.format {
        Format::Schema(format) => Some(Cow::Owned(format.schema.to_string())),
        Format::Text | Format::Json => None,
    };
    of_parts.chain(of_calls).chain(of_tools).chain(of_format)
}

fn media_bound(part: &Part) -> u64 {
    let inline = |media: &Media| match &media.source {
        MediaSource::Inline(data) => Some(data.len() as u64),
        MediaSource::Url(_) => None,
    };
    match &part.content {
        Content::Text(_) | Content::Reasoning(_) => 0,
        Content::Image(_) => IMAGE_BOUND,
        // 32 tokens a second, and no codec in use has below 3,200 bytes a second.
        Content::Audio(media) => inline(media).unwrap_or(0) / 100 + OVERHEAD,
        // Pages count as text and as pictures.
        Content::File(media) => inline(media).map_or(REMOTE_FILE_BOUND, |bytes| bytes / 2 + IMAGE_BOUND),
    }
}

#[cfg(test)]
mod tests {
    use tutti_types::llm::{Sampling, Tool, ToolChoice};

    use super::*;

    #[test]
    fn what_the_provider_told_of_a_whole_answer_holds() {
        let told = |output| TokenCounts { fresh_input: 7, visible_output: output, ..TokenCounts::default() };
        // Far fewer tokens than we count, as of a long run of blanks.
        assert_eq!(used(Some(told(10)), 5, 100, true), (told(10), false));
        assert_eq!(used(Some(told(10)), 5, 100, false), (told(100), true));
        assert_eq!(used(Some(told(60)), 5, 100, false), (told(60), false));
        assert_eq!(used(Some(told(0)), 5, 100, true), (told(100), true));
        assert_eq!(used(Some(told(0)), 5, 0, true), (told(0), false));
        let ours = TokenCounts { fresh_input: 5, visible_output: 100, ..TokenCounts::default() };
        assert_eq!(used(None, 5, 100, true), (ours, true));
    }

    fn generation(text: &str) -> Generation {
        Generation {
            messages: vec![Message::User { parts: vec![Part::text(text)], name: None }],
            tools: Vec::new(),
            tool_choice: ToolChoice::default(),
            format: Format::Text,
            sampling: Sampling::default(),
        }
    }

    #[test]
    fn the_bound_is_above_what_tokenizers_count() {
        // Characters and tokens (o200k) of texts that are dear for their length.
        let chinese = "我们的语言模型网关在每次调用之前都会预留费用".repeat(50);
        assert!(input_bound(&generation(&chinese)) > 17 * 50);
        let digits = "3141592653589793".repeat(100);
        assert!(input_bound(&generation(&digits)) > 600);
    }

    #[test]
    fn tools_and_media_count() {
        let plain = generation("hi");
        let mut with_tool = plain.clone();
        let parameters = serde_json::json!({"type": "object", "properties": {"city": {"type": "string"}}});
        with_tool.tools.push(Tool { name: "weather".into(), description: "d".repeat(400), parameters, strict: false });
        assert!(input_bound(&with_tool) > input_bound(&plain) + 200);
        assert!(input_estimate(&with_tool) > input_estimate(&plain) + 100);
        let mut with_image = plain.clone();
        let source = MediaSource::Inline(bytes::Bytes::from_static(b"x"));
        let media = Media { source, media_type: "image/png".into(), filename: None, detail: None };
        let Message::User { parts, .. } = &mut with_image.messages[0] else { unreachable!() };
        parts.push(Part { content: Content::Image(media), cache: None });
        assert_eq!(input_bound(&with_image) - input_bound(&plain), IMAGE_BOUND);
    }

    #[test]
    fn the_worst_case_is_in_the_dearest_class() {
        let writes = UnitPrices { input: 4, cache_write_5m: 5, cache_write_1h: 8, output: 20, ..Default::default() };
        assert_eq!(worst_case(7, 3, None, &writes).cache_write_5m, 7);
        assert_eq!(worst_case(7, 3, Some(CacheTtl::OneHour), &writes).cache_write_1h, 7);
        let flat = UnitPrices { input: 4, cache_write_5m: 4, cache_write_1h: 4, output: 20, ..Default::default() };
        assert_eq!(
            worst_case(7, 3, None, &flat),
            TokenCounts { fresh_input: 7, visible_output: 3, ..Default::default() }
        );
    }
}
