//! A request for one turn, validated.

use std::{collections::HashSet, time::Duration};

use tutti_error::{Error, Reason, Result};
use tutti_proto::{
    llm::v1::{Message, Part, Role, RunLimits, part::Kind, tool_choice},
    router::v1::{CachePolicy, ChatRequest},
};
use tutti_types::{RequestId, llm::generation_from_wire, time};

use super::keyed::check_key;

const DEFAULT_ATTEMPTS: u32 = 10;
const DEFAULT_TOOL_ROUNDS: u32 = 10;
const MAX_SESSION_ID: usize = 128;
const MAX_TAGS: usize = 16;
/// Longer than any call may take; larger timeouts don't fit on the clock.
const MAX_TIMEOUT: Duration = Duration::from_secs(86_400);

/// One turn as a caller wants it.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    /// The request's id: the caller's, or a new one.
    pub(crate) id: RequestId,
    /// The request; every field was checked but references to backends, models, tools and earlier messages.
    pub(crate) chat: ChatRequest,
    /// What stands before field names in errors: empty, or `chat.`.
    pub(crate) path: &'static str,
    /// Whether the caller gets events.
    pub(crate) streamed: bool,
    /// Whether the caller understands `rewind`.
    pub(crate) rewinds: bool,
    /// Bounds of the turn.
    pub(crate) bounds: Bounds,
}

/// Bounds of one turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    max_attempts: Option<u32>,
    /// The most it may cost, in nano US dollars.
    pub(crate) max_cost: Option<i64>,
    /// The most rounds of tool calls.
    pub(crate) max_tool_rounds: u32,
    /// The most time; the gRPC deadline holds besides.
    pub(crate) timeout: Option<Duration>,
}

impl Bounds {
    /// The most attempts. Unless the caller says otherwise each tool round may have one more: otherwise the default of
    /// ten rounds could never be reached.
    pub(crate) fn attempts(&self, rounds: u32) -> u32 {
        self.max_attempts.unwrap_or(DEFAULT_ATTEMPTS.saturating_add(rounds))
    }
}

impl Ask {
    /// Reads and checks a request; `path` stands before the field names in errors.
    ///
    /// # Errors
    /// INVALID_REQUEST, MESSAGE_TOO_LARGE or UNSUPPORTED naming the field.
    pub(crate) fn read(mut chat: ChatRequest, path: &'static str, streamed: bool) -> Result<Self> {
        check_message_list(&chat, path)?;
        refuse_unbuilt(&chat, path)?;
        let bounds = bounds(chat.limits.as_ref(), path)?;
        if chat.session_id.chars().count() > MAX_SESSION_ID {
            let why = format!("must have at most {MAX_SESSION_ID} characters");
            return Err(Error::invalid(format!("{path}session_id"), why));
        }
        check_key(&chat.idempotency_key).map_err(|why| Error::invalid(format!("{path}idempotency_key"), why))?;
        let attribution = chat.attribution.get_or_insert_default();
        if attribution.tags.len() > MAX_TAGS {
            return Err(Error::invalid(format!("{path}attribution.tags"), format!("at most {MAX_TAGS} labels")));
        }
        if !chat.session_id.is_empty() {
            attribution.session_id.clone_from(&chat.session_id);
        }
        let id = RequestId::parse_or_generate(&chat.request_id)
            .map_err(|_| Error::invalid(format!("{path}request_id"), "must be a UUID"))?;
        Ok(Self { id, chat, path, streamed, rewinds: true, bounds })
    }

    /// A field's name as this call's caller knows it.
    pub(crate) fn field(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    /// The text of the last user message.
    pub(crate) fn last_user_text(&self) -> String {
        let Some(message) = self.chat.messages.iter().rev().find(|m| m.role() == Role::User) else {
            return String::new();
        };
        let mut text = message.text.clone();
        for part in &message.parts {
            if let Some(Kind::Text(t)) = &part.kind {
                text.push(' ');
                text.push_str(t);
            }
        }
        text
    }

    /// Checks that every tool result answers a call of the messages before it or of the session's context.
    ///
    /// # Errors
    /// INVALID_REQUEST naming the `tool_call_id`.
    pub(crate) fn check_results(&self, context: &[Message]) -> Result<()> {
        let mut calls: HashSet<&str> = HashSet::new();
        calls.extend(context.iter().flat_map(|m| &m.tool_calls).map(|call| call.id.as_str()));
        for (index, message) in self.chat.messages.iter().enumerate() {
            if message.role() == Role::Tool && !calls.contains(message.tool_call_id.as_str()) {
                return Err(Error::invalid(
                    self.field(&format!("messages[{index}].tool_call_id")),
                    "must be the id of a tool call in an assistant message before, here or in the session",
                ));
            }
            calls.extend(message.tool_calls.iter().map(|call| call.id.as_str()));
        }
        Ok(())
    }
}

/// Checks all that can be checked without other services. Which calls a session's context holds is not known here, so
/// with a session, results stand for plain messages; [`Ask::check_results`] looks at them again.
fn check_message_list(chat: &ChatRequest, path: &str) -> Result<()> {
    if let Some(index) = chat.messages.iter().position(|m| m.role() == Role::User && is_blank(m)) {
        return Err(Error::invalid(format!("{path}messages[{index}].text"), "the message is empty"));
    }
    let stand_ins;
    let messages = if chat.session_id.is_empty() {
        &chat.messages
    } else {
        stand_ins = chat.messages.iter().map(without_call).collect::<Vec<_>>();
        &stand_ins
    };
    // A choice among mesh tools is checked when they are known.
    let choice = chat.tool_choice.as_ref().filter(|_| chat.mesh_tools.is_empty());
    let (format, sampling) = (chat.response_format.as_ref(), chat.sampling.as_ref());
    generation_from_wire(path, messages, &chat.tools, choice, format, sampling)?;
    if chat.mesh_tools.iter().any(String::is_empty) {
        return Err(Error::invalid(format!("{path}mesh_tools"), "a name is empty"));
    }
    let forced = chat.tool_choice.as_ref().filter(|c| c.mode() == tool_choice::Mode::Tool);
    if forced.is_some_and(|choice| choice.tool_name.is_empty()) {
        return Err(Error::invalid(format!("{path}tool_choice.tool_name"), "is required in this mode"));
    }
    Ok(())
}

/// Whether a message says nothing: no provider would take it.
fn is_blank(message: &Message) -> bool {
    let blank_part = |part: &Part| matches!(&part.kind, Some(Kind::Text(text)) if text.trim().is_empty());
    message.text.trim().is_empty() && message.parts.iter().all(blank_part)
}

fn without_call(message: &Message) -> Message {
    let mut message = message.clone();
    if message.role() == Role::Tool {
        message.set_role(Role::User);
        // An empty result is fine where an empty question isn't.
        message.text.push(' ');
    }
    message
}

/// What the API has a place for and nobody may rely on yet.
fn refuse_unbuilt(chat: &ChatRequest, path: &str) -> Result<()> {
    let refuse = |field: &str, why: &str| {
        Err(Error::new(Reason::Unsupported, "the request asks for what is not built yet")
            .field(format!("{path}{field}"), why))
    };
    if !matches!(chat.strategy.as_str(), "" | "chain") {
        return refuse("strategy", "only \"chain\" is built");
    }
    if chat.cache() == CachePolicy::On {
        return refuse("cache", "there is no cache yet");
    }
    Ok(())
}

fn bounds(limits: Option<&RunLimits>, path: &str) -> Result<Bounds> {
    let limits = limits.copied().unwrap_or_default();
    if limits.max_cost_nano_usd < 0 {
        return Err(Error::invalid(format!("{path}limits.max_cost_nano_usd"), "must not be negative"));
    }
    let timeout = limits.timeout.as_ref().map(|timeout| time::from_wire(timeout).min(MAX_TIMEOUT));
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        return Err(Error::invalid(format!("{path}limits.timeout"), "must be above zero"));
    }
    let or_default = |n: u32, default| if n == 0 { default } else { n };
    Ok(Bounds {
        max_attempts: (limits.max_attempts > 0).then_some(limits.max_attempts),
        max_cost: (limits.max_cost_nano_usd > 0).then_some(limits.max_cost_nano_usd),
        max_tool_rounds: or_default(limits.max_tool_rounds, DEFAULT_TOOL_ROUNDS),
        timeout,
    })
}

#[cfg(test)]
mod tests {
    use tutti_proto::llm::v1::ToolCall;

    use super::*;

    fn chat(role: Role, text: &str) -> ChatRequest {
        let message = Message { role: role.into(), text: text.into(), ..Default::default() };
        ChatRequest { messages: vec![message], ..Default::default() }
    }

    fn field_of(chat: ChatRequest) -> (Reason, String) {
        let error = Ask::read(chat, "chat.", true).unwrap_err();
        (error.reason(), error.fields()[0].0.clone())
    }

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        let base = || chat(Role::User, "hi");
        let cases = [
            (ChatRequest { strategy: "greedy".into(), ..base() }, "chat.strategy"),
            (ChatRequest { cache: CachePolicy::On.into(), ..base() }, "chat.cache"),
        ];
        for (chat, field) in cases {
            assert_eq!(field_of(chat), (Reason::Unsupported, field.into()));
        }
    }

    #[test]
    fn bad_fields_are_named_as_the_caller_knows_them() {
        let base = || chat(Role::User, "hi");
        let limits = |limits| ChatRequest { limits: Some(limits), ..base() };
        let invalid = |field: &str| (Reason::InvalidRequest, field.to_owned());
        assert_eq!(field_of(ChatRequest::default()), invalid("chat.messages"));
        assert_eq!(field_of(chat(Role::Unspecified, "hi")), invalid("chat.messages[0].role"));
        assert_eq!(field_of(chat(Role::User, " \n\t")), invalid("chat.messages[0].text"));
        let mut parts = chat(Role::User, "");
        parts.messages[0].parts = vec![Part { kind: Some(Kind::Text(" ".into())), cache_hint: None }];
        assert_eq!(field_of(parts), invalid("chat.messages[0].text"));
        assert_eq!(field_of(ChatRequest { request_id: "7".into(), ..base() }), invalid("chat.request_id"));
        let cost = limits(RunLimits { max_cost_nano_usd: -1, ..Default::default() });
        assert_eq!(field_of(cost), invalid("chat.limits.max_cost_nano_usd"));
        let timeout = limits(RunLimits { timeout: Some(Default::default()), ..Default::default() });
        assert_eq!(field_of(timeout), invalid("chat.limits.timeout"));
        assert_eq!(
            field_of(ChatRequest { idempotency_key: "k".repeat(256), ..base() }),
            invalid("chat.idempotency_key")
        );
        assert_eq!(field_of(ChatRequest { idempotency_key: "\n".into(), ..base() }), invalid("chat.idempotency_key"));
        assert_eq!(field_of(ChatRequest { session_id: "s".repeat(129), ..base() }), invalid("chat.session_id"));
    }

    #[test]
    fn a_result_may_answer_a_call_of_the_session() {
        let mut result = chat(Role::Tool, "");
        result.messages[0].tool_call_id = "c1".into();
        assert_eq!(field_of(result.clone()), (Reason::InvalidRequest, "chat.messages[0].tool_call_id".into()));
        result.session_id = "s".into();
        let ask = Ask::read(result, "", false).unwrap();
        assert_eq!(ask.check_results(&[]).unwrap_err().fields()[0].0, "messages[0].tool_call_id");
        let call = ToolCall { id: "c1".into(), ..Default::default() };
        ask.check_results(&[Message { tool_calls: vec![call], ..Default::default() }]).unwrap();
    }
}
