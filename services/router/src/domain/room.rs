//! How much of what tools said a turn carries: a model is shown a part of each result, the caller gets results whole up to
//! a cap, and an answer fits one message of the mesh, so that nothing that was paid for is lost on its way.

use prost::Message as _;
use tutti_error::{Error, Reason, Result};
use tutti_layers::MAX_MESSAGE_BYTES;
use tutti_proto::{llm::v1::Message, router::v1::ChatResponse, sandbox::v1::ToolResult};

use super::{needs, route::Taken};

/// The most of one result that a model is shown, in bytes.
const MAX_SHOWN: usize = 64 * 1024;
/// Shown in any case: enough to see what it is.
const MIN_SHOWN: usize = 1024;
/// The most that the tool rounds of a turn may take, in bytes, whatever the window.
const MAX_ROUNDS: usize = 8 * 1024 * 1024;
/// The most that results take which are given to the caller whole, in bytes.
const MAX_WHOLE: usize = 4 * 1024 * 1024;
/// The most that an answer takes, with space for what is put around it.
const MAX_ANSWER: usize = MAX_MESSAGE_BYTES - 64 * 1024;

/// How much of one result a backend's model is shown, in bytes: at most a quarter of the prompt's share of its window, at
/// four bytes a token.
pub(crate) fn shown(taken: &Taken) -> usize {
    usize::try_from(taken.budget).unwrap_or_default().clamp(MIN_SHOWN, MAX_SHOWN)
}

/// The beginning and the end of a text of more than `most` bytes, with a note of what is left out.
pub(crate) fn head_and_tail(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let head = text.floor_char_boundary(most / 4 * 3);
    let tail = text.ceil_char_boundary(text.len() - most / 4);
    let note = format!("[... {} bytes are left out here; ask for a smaller part ...]", tail - head);
    format!("{}\n\n{note}\n\n{}", &text[..head], &text[tail..])
}

/// Checks that a backend can be shown the rounds of a turn.
///
/// # Errors
/// CONTEXT_TOO_LONG.
pub(crate) fn check_rounds(rounds: &[&[Message]], taken: &Taken) -> Result<()> {
    let bytes: usize = rounds.iter().copied().flatten().map(Message::encoded_len).sum();
    let tokens: i64 = rounds.iter().map(|messages| needs::estimate(messages, &[])).sum();
    let window = taken.backend.context_window;
    if bytes <= MAX_ROUNDS && tokens <= window {
        return Ok(());
    }
    let message = format!(
        "the tool results of this turn are too much for {} (some {tokens} tokens, its window has {window}); ask for \
         smaller parts, or name a backend with a larger window",
        taken.backend.name
    );
    Err(Error::new(Reason::ContextTooLong, message))
}

/// Adds results to those that the caller gets: whole while there is room, then their beginning and end, then without
/// output.
pub(crate) fn keep(results: Vec<ToolResult>, kept: &mut Vec<ToolResult>) {
    let mut left = MAX_WHOLE.saturating_sub(kept.iter().map(ToolResult::encoded_len).sum());
    for mut result in results {
        if result.encoded_len() > left {
            result.output = head_and_tail(result.output, MAX_SHOWN.min(left / 2));
            result.error = head_and_tail(result.error, MIN_SHOWN);
            result.truncated = true;
        }
        left = left.saturating_sub(result.encoded_len());
        kept.push(result);
    }
}

/// Makes an answer fit one message: what the model said is the last to go.
pub(crate) fn fit(mut answer: ChatResponse) -> ChatResponse {
    if answer.encoded_len() <= MAX_ANSWER {
        return answer;
    }
    for result in &mut answer.tool_results {
        result.truncated |= !result.output.is_empty();
        result.output.clear();
    }
    if answer.encoded_len() > MAX_ANSWER {
        answer.round_messages.clear();
    }
    answer.warnings.push("results of tools are left out: the answer would be larger than the mesh takes".into());
    answer
}

#[cfg(test)]
mod tests {
    use tutti_proto::gateway::v1::BackendStatus;

    use super::*;

    fn taken(window: i64) -> Taken {
        Taken {
            backend: BackendStatus { name: "b".into(), context_window: window, ..Default::default() },
            model: String::new(),
            persona: None,
            persona_named: false,
            own_cap: false,
            budget: window / 10 * 8,
            why: String::new(),
        }
    }

    fn result(bytes: usize) -> ToolResult {
        ToolResult { output: "x".repeat(bytes), success: true, ..Default::default() }
    }

    #[test]
    fn a_large_result_is_shown_by_its_ends_and_says_so() {
        assert_eq!((shown(&taken(1_000_000)), shown(&taken(8_192)), shown(&taken(10))), (MAX_SHOWN, 6_552, MIN_SHOWN));
        assert_eq!(head_and_tail("short".into(), 5), "short");
        let text = format!("begin{}end", "\u{e4}".repeat(1_000));
        let cut = head_and_tail(text, 101);
        assert!(cut.starts_with("begin") && cut.ends_with("end") && cut.len() < 200, "{cut}");
        assert!(cut.contains("bytes are left out"), "{cut}");
    }

    #[test]
    fn rounds_that_no_window_holds_end_the_turn() {
        let round = |bytes: usize| vec![Message { text: "x".repeat(bytes), ..Default::default() }];
        check_rounds(&[&round(16_000), &round(16_000)], &taken(8_192)).unwrap();
        let small = check_rounds(&[&round(16_000), &round(17_000)], &taken(8_192)).unwrap_err();
        assert_eq!(small.reason(), Reason::ContextTooLong);
        let large = check_rounds(&[&round(MAX_ROUNDS)], &taken(100_000_000)).unwrap_err();
        assert_eq!(large.reason(), Reason::ContextTooLong);
    }

    #[test]
    fn results_are_kept_whole_up_to_a_cap() {
        let mut kept = Vec::new();
        keep((0..1_000).map(|_| result(1 << 20)).collect(), &mut kept);
        let whole = kept.iter().filter(|r| !r.truncated).count();
        assert_eq!((kept.len(), whole), (1_000, 3));
        assert!(kept.iter().map(ToolResult::encoded_len).sum::<usize>() < MAX_WHOLE + 200_000);
    }

    #[test]
    fn an_answer_is_never_larger_than_a_message() {
        let message = |bytes| Message { text: "x".repeat(bytes), ..Default::default() };
        let answer = ChatResponse {
            message: Some(message(28 << 20)),
            tool_results: vec![result(4 << 20)],
            round_messages: vec![message(8 << 20)],
            ..Default::default()
        };
        let fitted = fit(answer);
        assert!(fitted.encoded_len() <= MAX_ANSWER);
        assert_eq!(fitted.message.unwrap().text.len(), 28 << 20);
        assert_eq!((fitted.tool_results[0].truncated, fitted.warnings.len()), (true, 1));
    }
}
