//! OpenAI's request as ours. What the domain checks anyway is not checked here.

use axum::http::HeaderMap;
use serde_json::value::RawValue;
use tutti_error::{Error, Reason, Result};
use tutti_proto::{
    gateway::v1::BackendStatus,
    llm::v1::{
        Message, Part, ReasoningEffort, ResponseFormat, Role, Sampling, Tool, ToolCall, ToolChoice, part::Kind,
        response_format, tool_choice::Mode,
    },
    router::v1::ChatRequest,
};

use super::{
    Style, content,
    request::{Call, ChatBody, ChatMessage, ChatTool, Choice, Format, OneOrMany},
    state,
};
use crate::http::options;

/// Reads a request; `backends` are those whose names `model` may have.
///
/// # Errors
/// INVALID_REQUEST or UNSUPPORTED naming the field.
pub(super) fn chat(
    mut body: ChatBody,
    headers: &HeaderMap,
    backends: &[BackendStatus],
) -> Result<(ChatRequest, Style)> {
    refuse_unbuilt(&body)?;
    let mut chat = ChatRequest::default();
    options::apply(&mut chat, headers, body.metadata.take().unwrap_or_default())?;
    let model = body.model.take().ok_or_else(|| Error::invalid("model", "is required"))?;
    choose(&mut chat, model, backends)?;
    let messages = body.messages.take().unwrap_or_default();
    chat.messages = messages.into_iter().enumerate().map(|(index, m)| message(m, index)).collect::<Result<_>>()?;
    chat.tools = tools(body.tools.take().unwrap_or_default())?;
    chat.tool_choice = tool_choice(body.tool_choice.take(), body.parallel_tool_calls)?;
    chat.response_format = body.response_format.take().map(response_format).transpose()?;
    if let Some(user) = body.user.take().filter(|user| !user.is_empty()) {
        chat.attribution.get_or_insert_default().tags.insert("user".to_owned(), user);
    }
    let streamed = body.stream.unwrap_or_default();
    if body.stream_options.is_some() && !streamed {
        return Err(Error::invalid("stream_options", "is for streams only"));
    }
    let style = Style {
        streamed,
        include_usage: body.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or_default(),
        own_tools: own_tools(&chat)?,
    };
    chat.sampling = Some(sampling(body)?);
    Ok((chat, style))
}

/// What clients may ask for and nobody may rely on.
fn refuse_unbuilt(body: &ChatBody) -> Result<()> {
    let refuse = |field: &str, why: &str| {
        Err(Error::new(Reason::Unsupported, "the request asks for what is not built").field(field, why))
    };
    if body.n.is_some_and(|n| n != 1) {
        return refuse("n", "only one answer is given");
    }
    if body.logprobs == Some(true) || body.top_logprobs.is_some_and(|n| n > 0) {
        return refuse("logprobs", "there are none");
    }
    if body.logit_bias.as_ref().is_some_and(|bias| !bias.is_empty()) {
        return refuse("logit_bias", "not every provider has it");
    }
    if body.modalities.as_ref().is_some_and(|kinds| kinds.iter().any(|kind| kind != "text")) {
        return refuse("modalities", "answers are text");
    }
    if body.functions.as_ref().is_some_and(|functions| !functions.is_empty()) {
        return refuse("functions", "use tools");
    }
    if body.web_search_options.is_some() {
        return refuse("web_search_options", "use a tool");
    }
    Ok(())
}

/// `model` stands for a backend, a persona, a model, or (`auto`) for what the rules choose.
fn choose(chat: &mut ChatRequest, model: String, backends: &[BackendStatus]) -> Result<()> {
    let contradicts = |option: &str| Err(Error::invalid("model", format!("contradicts x-tutti-{option}")));
    if model == "auto" {
        return Ok(());
    }
    if let Some(persona) = model.strip_prefix("persona/") {
        if !chat.persona.is_empty() && chat.persona != persona {
            return contradicts("persona");
        }
        persona.clone_into(&mut chat.persona);
    } else if backends.iter().any(|backend| backend.name == model) {
        if !chat.backend.is_empty() && chat.backend != model {
            return contradicts("backend");
        }
        chat.backend = model;
    } else {
        chat.model = model;
    }
    Ok(())
}

fn message(message: ChatMessage, index: usize) -> Result<Message> {
    let path = format!("messages[{index}]");
    let role = match message.role.as_str() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        "" => return Err(Error::invalid(format!("{path}.role"), "is required")),
        _ => {
            let known = "must be system, developer, user, assistant or tool";
            return Err(Error::invalid(format!("{path}.role"), known));
        }
    };
    let (text, parts) = match message.content {
        OneOrMany::Nothing => (message.refusal.unwrap_or_default(), Vec::new()),
        OneOrMany::One(text) => (text, Vec::new()),
        OneOrMany::Many(parts) => parts_of(parts, role, &path)?,
    };
    let calls = message.tool_calls.unwrap_or_default();
    let mut read = Message {
        role: role.into(),
        text,
        parts,
        // A tool's message is named after its call.
        name: message.name.filter(|_| role != Role::Tool).unwrap_or_default(),
        tool_call_id: message.tool_call_id.unwrap_or_default(),
        tool_calls: calls.into_iter().enumerate().map(|(n, c)| tool_call(c, n, &path)).collect::<Result<_>>()?,
        ..Default::default()
    };
    if role == Role::Assistant {
        state::restore(&mut read, message.reasoning_details.unwrap_or_default(), &path)?;
    }
    Ok(read)
}

/// Results of tools and instructions are plain text; anything else keeps its parts.
fn parts_of(parts: Vec<super::request::ContentPart>, role: Role, path: &str) -> Result<(String, Vec<Part>)> {
    let read = |(index, part)| content::part(part, &format!("{path}.content[{index}]"));
    let parts: Vec<Part> = parts.into_iter().enumerate().map(read).collect::<Result<_>>()?;
    if !matches!(role, Role::Tool | Role::System) {
        return Ok((String::new(), parts));
    }
    let mut text = String::new();
    for (index, part) in parts.iter().enumerate() {
        match &part.kind {
            Some(Kind::Text(more)) => text.push_str(more),
            _ => return Err(Error::invalid(format!("{path}.content[{index}].type"), "must be text here")),
        }
    }
    Ok((text, Vec::new()))
}

fn tool_call(call: Call, index: usize, path: &str) -> Result<ToolCall> {
    let path = format!("{path}.tool_calls[{index}]");
    let function = call.function.ok_or_else(|| Error::invalid(format!("{path}.function"), "is required"))?;
    let arguments_json = function.arguments.unwrap_or_default();
    let mut read = ToolCall { id: call.id, name: function.name, arguments_json, ..Default::default() };
    state::restore_call(&mut read, call.extra_content, &path)?;
    Ok(read)
}

fn tools(tools: Vec<ChatTool>) -> Result<Vec<Tool>> {
    let read = |(index, tool): (usize, ChatTool)| {
        if tool.kind != "function" {
            let error = Error::new(Reason::Unsupported, "only functions are built");
            return Err(error.field(format!("tools[{index}].type"), "must be function"));
        }
        let required = || Error::invalid(format!("tools[{index}].function"), "is required");
        let function = tool.function.ok_or_else(required)?;
        Ok(Tool {
            name: function.name,
            description: function.description.unwrap_or_default(),
            parameters_json: function.parameters.map(text).unwrap_or_default(),
            strict: function.strict.unwrap_or_default(),
        })
    };
    tools.into_iter().enumerate().map(read).collect()
}

/// JSON as it came.
fn text(raw: Box<RawValue>) -> String {
    Box::<str>::from(raw).into_string()
}

fn tool_choice(choice: Option<Choice>, parallel: Option<bool>) -> Result<Option<ToolChoice>> {
    let known = || Error::invalid("tool_choice", "must be none, auto, required, or a function by its name");
    let (mode, tool_name) = match choice {
        None if parallel.is_none() => return Ok(None),
        None => (Mode::Auto, String::new()),
        Some(Choice::Mode(mode)) => match mode.as_str() {
            "auto" => (Mode::Auto, String::new()),
            "none" => (Mode::None, String::new()),
            "required" => (Mode::Required, String::new()),
            _ => return Err(known()),
        },
        Some(Choice::Named(named)) if named.kind == "function" => (Mode::Tool, named.function.ok_or_else(known)?.name),
        Some(Choice::Named(_)) => return Err(known()),
    };
    Ok(Some(ToolChoice { mode: mode.into(), tool_name, parallel }))
}

fn response_format(format: Format) -> Result<ResponseFormat> {
    use response_format::Kind as Wanted;
    match format.kind.as_str() {
        "text" => Ok(ResponseFormat { kind: Wanted::Text.into(), ..Default::default() }),
        "json_object" => Ok(ResponseFormat { kind: Wanted::Json.into(), ..Default::default() }),
        "json_schema" => {
            let required = |what: &str| Error::invalid(format!("response_format.json_schema{what}"), "is required");
            let schema = format.json_schema.ok_or_else(|| required(""))?;
            Ok(ResponseFormat {
                kind: Wanted::JsonSchema.into(),
                schema_json: text(schema.schema.ok_or_else(|| required(".schema"))?),
                name: schema.name.unwrap_or_default(),
                strict: schema.strict.unwrap_or_default(),
            })
        }
        _ => Err(Error::invalid("response_format.type", "must be text, json_object or json_schema")),
    }
}

fn sampling(body: ChatBody) -> Result<Sampling> {
    let effort = match body.reasoning_effort.as_deref() {
        None => ReasoningEffort::Unspecified,
        Some("none") => ReasoningEffort::None,
        Some("minimal") => ReasoningEffort::Minimal,
        Some("low") => ReasoningEffort::Low,
        Some("medium") => ReasoningEffort::Medium,
        Some("high") => ReasoningEffort::High,
        Some("xhigh" | "max") => ReasoningEffort::Max,
        Some(_) => {
            let known = "must be none, minimal, low, medium, high, xhigh or max";
            return Err(Error::invalid("reasoning_effort", known));
        }
    };
    Ok(Sampling {
        temperature: body.temperature,
        top_p: body.top_p,
        top_k: None,
        max_output_tokens: body.max_completion_tokens.or(body.max_tokens),
        stop: match body.stop {
            OneOrMany::Nothing => Vec::new(),
            OneOrMany::One(stop) => vec![stop],
            OneOrMany::Many(stops) => stops,
        },
        seed: body.seed,
        presence_penalty: body.presence_penalty,
        frequency_penalty: body.frequency_penalty,
        reasoning_effort: effort.into(),
    })
}

/// With tools of the mesh, the client is shown calls of its own tools only; the others' results are in the session.
fn own_tools(chat: &ChatRequest) -> Result<Option<Vec<String>>> {
    if chat.mesh_tools.is_empty() {
        return Ok(None);
    }
    if !chat.tools.is_empty() && chat.session_id.is_empty() {
        let why = "beside tools of your own, x-tutti-mesh-tools needs x-tutti-session: it keeps the mesh's results";
        return Err(Error::invalid("tools", why));
    }
    Ok(Some(chat.tools.iter().map(|tool| tool.name.clone()).collect()))
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
