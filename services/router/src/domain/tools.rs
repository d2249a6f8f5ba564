//! The tools of one turn: whose they are, and runs of those of the mesh.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use tracing::{Instrument as _, Span};
use tutti_error::{Error, Reason, Result};
use tutti_layers::CallContext;
use tutti_proto::{
    llm::v1::{Message, Role, Tool, ToolCall, tool_choice},
    router::v1::chat_stream_response::Event,
    sandbox::v1::{ExecuteRequest, ToolCategory, ToolInfo, ToolResult},
};
use tutti_types::TurnId;

use tutti_telemetry as telemetry;

use super::{ask::Ask, outbox::Outbox, room};
use crate::clients::{ToolEvent, Tools};

/// Calls of one round that run at the same time.
const PARALLEL: usize = 8;

/// Names every tool that is enabled.
pub(crate) const ALL: &str = "*";

/// The tools that a model may call.
#[derive(Debug, Clone, Default)]
pub(crate) struct ToolSet {
    mesh: Vec<ToolInfo>,
    callers: Vec<Tool>,
}

/// Who runs a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    /// The mesh: its tool, or a name that nobody has, which the model is told.
    Mesh,
    /// The caller.
    Caller,
}

impl ToolSet {
    /// The tools that the caller brings and, of those the sandbox has, the ones that the caller names.
    ///
    /// # Errors
    /// UNKNOWN_TOOL with the nearest names, TOOL_DISABLED, or INVALID_REQUEST for two tools of one name and for a choice
    /// of a tool that isn't there.
    pub(crate) fn choose(ask: &Ask, known: &[ToolInfo]) -> Result<Self> {
        let mut mesh: Vec<ToolInfo> = Vec::new();
        for name in &ask.chat.mesh_tools {
            if name == ALL {
                mesh.extend(known.iter().filter(|tool| tool.enabled).cloned());
            } else {
                mesh.push(find(name, known)?.clone());
            }
        }
        mesh.sort_by(|a, b| tool_name(a).cmp(tool_name(b)));
        mesh.dedup_by(|a, b| tool_name(a) == tool_name(b));
        for (index, tool) in ask.chat.tools.iter().enumerate() {
            if mesh.iter().any(|m| tool_name(m) == tool.name) {
                let field = ask.field(&format!("tools[{index}].name"));
                return Err(Error::invalid(field, "is the name of a mesh tool of this request"));
            }
        }
        let set = Self { mesh, callers: ask.chat.tools.clone() };
        set.check_choice(ask)?;
        Ok(set)
    }

    /// What the model is shown: the mesh's tools by name, then the caller's.
    pub(crate) fn definitions(&self) -> Vec<Tool> {
        self.mesh.iter().filter_map(|info| info.tool.clone()).chain(self.callers.iter().cloned()).collect()
    }

    /// Who runs a call of this name.
    pub(crate) fn runner(&self, name: &str) -> Runner {
        let is_callers = self.callers.iter().any(|tool| tool.name == name);
        // Without mesh tools, a name that nobody has is the caller's to deal with.
        if is_callers || self.mesh.is_empty() { Runner::Caller } else { Runner::Mesh }
    }

    /// Whether a call that was cut off may be run again: a program may have done half of its work.
    fn may_repeat(&self, name: &str) -> bool {
        let tool = self.mesh.iter().find(|info| answers_to(info, name));
        tool.is_some_and(|info| matches!(info.category(), ToolCategory::Read | ToolCategory::Write))
    }

    fn has(&self, name: &str) -> bool {
        self.mesh.iter().any(|info| answers_to(info, name))
    }

    fn check_choice(&self, ask: &Ask) -> Result<()> {
        use tool_choice::Mode;
        let Some(choice) = &ask.chat.tool_choice else { return Ok(()) };
        let none = self.mesh.is_empty() && self.callers.is_empty();
        let is_there = |name: &String| self.definitions().iter().any(|tool| tool.name == *name);
        match choice.mode() {
            Mode::Required if none => {
                Err(Error::invalid(ask.field("tool_choice.mode"), "a call is required but there are no tools"))
            }
            Mode::Tool if !is_there(&choice.tool_name) => {
                Err(Error::invalid(ask.field("tool_choice.tool_name"), "is not among the tools"))
            }
            _ => Ok(()),
        }
    }
}

fn find<'a>(name: &str, known: &'a [ToolInfo]) -> Result<&'a ToolInfo> {
    let Some(info) = known.iter().find(|info| answers_to(info, name)) else {
        let names =
            known.iter().flat_map(|i| std::iter::once(tool_name(i)).chain(i.aliases.iter().map(String::as_str)));
        return Err(Error::unknown(Reason::UnknownTool, "tool", name, names));
    };
    if !info.enabled {
        let message = format!("the tool \"{name}\" is switched off: {}", info.disabled_because);
        return Err(Error::new(Reason::ToolDisabled, message));
    }
    Ok(info)
}

fn tool_name(info: &ToolInfo) -> &str {
    info.tool.as_ref().map_or("", |tool| &tool.name)
}

fn answers_to(info: &ToolInfo, name: &str) -> bool {
    tool_name(info) == name || info.aliases.iter().any(|alias| alias == name)
}

/// The result of a call as the model is shown it: under the name that the model used, which may be an alias, and at most
/// `most` bytes of it.
pub(crate) fn message(call: &ToolCall, result: &ToolResult, most: usize) -> Message {
    let text = match (result.success, result.output.is_empty()) {
        (true, _) => result.output.clone(),
        (false, true) => result.error.clone(),
        (false, false) => format!("{}\n\n{}", result.error, result.output),
    };
    Message {
        role: Role::Tool.into(),
        name: call.name.clone(),
        tool_call_id: call.id.clone(),
        text: room::head_and_tail(text, most),
        tool_error: !result.success,
        ..Default::default()
    }
}

/// Runs the calls of one round.
pub(crate) struct Round<'a> {
    pub(crate) tools: &'a dyn Tools,
    pub(crate) set: &'a ToolSet,
    pub(crate) ask: &'a Ask,
    pub(crate) turn: TurnId,
    pub(crate) context: &'a CallContext,
    pub(crate) outbox: &'a Outbox,
    /// Number of the round, from 0.
    pub(crate) number: u32,
    /// Which run of the turn it is, from 0.
    pub(crate) run: u32,
}

impl Round<'_> {
    /// Runs calls in parallel; the results are in the order of the calls. A call that fails is a result too, so that
    /// the model can go on.
    ///
    /// # Errors
    /// What no model can do anything about: the deadline, an unknown workspace.
    pub(crate) async fn run(&self, calls: &[ToolCall]) -> Result<Vec<ToolResult>> {
        let runs: Vec<_> = calls.iter().enumerate().map(|(index, call)| self.run_one(index, call)).collect();
        stream::iter(runs).buffered(PARALLEL).try_collect().await
    }

    async fn run_one(&self, index: usize, call: &ToolCall) -> Result<ToolResult> {
        let result = if self.set.has(&call.name) {
            let span = span(call);
            let result = match self.execute(index, call).instrument(span.clone()).await {
                Ok(result) => result,
                Err(error) if is_the_callers(error.reason()) => return Err(error),
                Err(error) => failure(call, error.reason(), error.to_string()),
            };
            note(&span, &result);
            result
        } else {
            let names: Vec<String> = self.set.definitions().into_iter().map(|tool| tool.name).collect();
            let known = names.iter().map(String::as_str);
            let error = Error::unknown(Reason::UnknownTool, "tool", &call.name, known);
            failure(call, Reason::UnknownTool, error.message().to_owned())
        };
        self.outbox.push(Event::ToolResult(result.clone())).await;
        Ok(result)
    }

    /// Runs a call under the key that all runs of the turn share, so that it is run once.
    async fn execute(&self, index: usize, call: &ToolCall) -> Result<ToolResult> {
        // Of this turn: a caller who uses a request id again wants the tools to be run again. With what is asked in it:
        // when another router takes the turn over, the same call isn't run twice, and another one is.
        let key = format!("{}:{}:{index}:{}", self.turn, self.number, digest(call));
        let result = self.execute_anywhere(call, &key).await?;
        if self.run == 0 || result.reason() != Reason::Cancelled || !self.set.may_repeat(&call.name) {
            return Ok(result);
        }
        // The death of the router before this one cut it off.
        self.execute_anywhere(call, &format!("{key}:{}", self.run)).await
    }

    /// Runs the call. When its sandbox goes away, another one is asked, once: the key tells it what became of the call.
    async fn execute_anywhere(&self, call: &ToolCall, key: &str) -> Result<ToolResult> {
        match self.execute_once(call, key).await {
            Err(error) if error.reason() == Reason::ServiceUnavailable => self.execute_once(call, key).await,
            ended => ended,
        }
    }

    async fn execute_once(&self, call: &ToolCall, key: &str) -> Result<ToolResult> {
        let execute = ExecuteRequest {
            tool_call: Some(call.clone()),
            workspace: self.ask.chat.workspace.clone(),
            attribution: self.ask.chat.attribution.clone(),
            idempotency_key: key.to_owned(),
            request_id: self.ask.id.to_string(),
        };
        let mut events = self.tools.execute(self.context, execute).await?;
        let mut result = None;
        while let Some(event) = events.next().await {
            match event? {
                ToolEvent::ApprovalRequired(approval) => self.outbox.push(Event::ApprovalRequired(approval)).await,
                ToolEvent::Output(output) => self.outbox.push(Event::ToolOutput(output)).await,
                ToolEvent::Result(ended) => result = Some(ended),
            }
        }
        let missing = || failure(call, Reason::ToolFailed, "the sandbox went away before the tool ended".into());
        Ok(result.unwrap_or_else(missing))
    }
}

/// Tells calls apart by what they ask for.
fn digest(call: &ToolCall) -> String {
    let mut hasher = Sha256::new();
    hasher.update((call.name.len() as u64).to_be_bytes());
    hasher.update(&call.name);
    hasher.update(&call.arguments_json);
    hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The span of a tool's run, by the GenAI conventions; an empty one when nobody records the trace.
fn span(call: &ToolCall) -> Span {
    if !telemetry::is_exporting() {
        return Span::none();
    }
    let span = telemetry::child(&format!("execute_tool {}", call.name), false);
    telemetry::set(&span, "gen_ai.operation.name", "execute_tool");
    telemetry::set(&span, "gen_ai.tool.name", call.name.clone());
    telemetry::set(&span, "gen_ai.tool.call.id", call.id.clone());
    if let Some(arguments) = telemetry::redacted(&call.arguments_json) {
        telemetry::set(&span, "gen_ai.tool.call.arguments", arguments);
    }
    span
}

/// Completes it.
fn note(span: &Span, result: &ToolResult) {
    if span.is_none() {
        return;
    }
    if !result.success {
        telemetry::set_error(span, result.reason().as_str_name().trim_start_matches("ERROR_REASON_"));
    }
    if let Some(output) = telemetry::redacted(&result.output) {
        telemetry::set(span, "gen_ai.tool.call.result", output);
    }
}

/// Failures that end the turn: they are about the request, not about the call.
fn is_the_callers(reason: Reason) -> bool {
    matches!(reason, Reason::UnknownWorkspace | Reason::DeadlineExceeded | Reason::Cancelled | Reason::Unauthenticated)
}

fn failure(call: &ToolCall, reason: Reason, error: String) -> ToolResult {
    ToolResult {
        tool_call_id: call.id.clone(),
        name: call.name.clone(),
        error,
        reason: reason.into(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use tutti_proto::{llm::v1::ToolChoice, router::v1::ChatRequest};

    use super::*;

    fn info(name: &str, alias: &str, enabled: bool) -> ToolInfo {
        ToolInfo {
            tool: Some(Tool { name: name.into(), ..Default::default() }),
            aliases: vec![alias.into()],
            enabled,
            disabled_because: "set tools.allow_unsandboxed".into(),
            ..Default::default()
        }
    }

    fn ask(mesh: &[&str], own: &[&str]) -> Ask {
        let user = Message { role: Role::User.into(), text: "hi".into(), ..Default::default() };
        let chat = ChatRequest {
            messages: vec![user],
            mesh_tools: mesh.iter().map(|name| (*name).to_owned()).collect(),
            tools: own.iter().map(|name| Tool { name: (*name).into(), ..Default::default() }).collect(),
            ..Default::default()
        };
        Ask::read(chat, "", false).unwrap()
    }

    fn names(ask: &Ask) -> Result<Vec<String>> {
        let known = [info("bash", "run_shell_command", false), info("read", "read_file", true)];
        Ok(ToolSet::choose(ask, &known)?.definitions().into_iter().map(|tool| tool.name).collect())
    }

    #[test]
    fn a_star_takes_what_is_enabled_and_a_name_or_alias_its_tool_once() {
        assert_eq!(names(&ask(&["*"], &["mine"])).unwrap(), ["read", "mine"]);
        assert_eq!(names(&ask(&["read_file", "read"], &[])).unwrap(), ["read"]);
    }

    #[test]
    fn names_that_can_not_be_used_are_refused() {
        let error = names(&ask(&["raed"], &[])).unwrap_err();
        assert_eq!(error.reason(), Reason::UnknownTool);
        assert!(error.message().contains("\"read\""), "{error}");
        let error = names(&ask(&["bash"], &[])).unwrap_err();
        assert_eq!(error.reason(), Reason::ToolDisabled);
        assert!(error.message().contains("allow_unsandboxed"), "{error}");
        let error = names(&ask(&["read"], &["mine", "read"])).unwrap_err();
        assert_eq!(error.fields()[0].0, "tools[1].name");
        let mut forced = ask(&["read"], &[]);
        forced.chat.tool_choice =
            Some(ToolChoice { mode: tool_choice::Mode::Tool.into(), tool_name: "write".into(), parallel: None });
        assert_eq!(names(&forced).unwrap_err().fields()[0].0, "tool_choice.tool_name");
    }

    #[test]
    fn a_failed_tool_tells_the_model_why_and_what_it_wrote() {
        let result = ToolResult { error: "exit 1".into(), output: "boom".into(), ..Default::default() };
        let shown = message(&ToolCall::default(), &result, 100);
        assert_eq!((shown.text.as_str(), shown.tool_error), ("exit 1\n\nboom", true));
    }
}
