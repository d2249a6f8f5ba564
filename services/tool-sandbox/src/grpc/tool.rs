//! `ToolService`.

use std::{collections::BTreeSet, pin::Pin, sync::Arc};

use futures::{Stream, StreamExt as _};
use prost::Message as _;
use tonic::{Request as GrpcRequest, Response, Status};
use tutti_error::{Error, Result};
use tutti_layers::CallContext;
use tutti_proto::{
    llm::v1 as llm,
    sandbox::v1::{
        ApprovalRequired, ExecuteRequest, ExecuteResponse, ListToolsRequest, ListToolsResponse, OutputStream,
        ToolCategory, ToolInfo, ToolOutput, ToolResult, execute_response, tool_service_server::ToolService,
    },
};
use tutti_types::time;

use crate::{
    domain::{CallResult, Category, Stream as OutputOf},
    engine::{Engine, Event, Request},
    tools::{Entry, Registry},
};

/// The longest id, key or name in a request, in bytes.
const MAX_NAME: usize = 256;
/// The largest attribution, in bytes.
const MAX_ATTRIBUTION: usize = 4096;
/// The most labels of an attribution.
const MAX_TAGS: usize = 16;

/// Answers `ToolService`.
#[derive(Debug)]
pub(super) struct Handler {
    engine: Arc<Engine>,
    registry: Arc<Registry>,
}

impl Handler {
    pub(super) fn new(engine: Arc<Engine>, registry: Arc<Registry>) -> Self {
        Self { engine, registry }
    }
}

#[tonic::async_trait]
impl ToolService for Handler {
    type ExecuteStream = Pin<Box<dyn Stream<Item = Result<ExecuteResponse, Status>> + Send>>;

    async fn list_tools(&self, request: GrpcRequest<ListToolsRequest>) -> Result<Response<ListToolsResponse>, Status> {
        let asked = request.into_inner().names;
        let mut names = BTreeSet::new();
        for name in &asked {
            names.insert(self.registry.find(name)?.definition.name);
        }
        let wanted = |entry: &&Arc<Entry>| asked.is_empty() || names.contains(entry.definition.name);
        let tools = self.registry.all().iter().filter(wanted).map(|entry| info(entry)).collect();
        Ok(Response::new(ListToolsResponse { tools }))
    }

    async fn execute(&self, request: GrpcRequest<ExecuteRequest>) -> Result<Response<Self::ExecuteStream>, Status> {
        let context = CallContext::of(&request);
        let (call, request) = decode(request.into_inner(), context)?;
        let events = self.engine.execute(request).await?;
        let events = events.map(move |event| match event {
            Ok(event) => Ok(ExecuteResponse { event: Some(encode(event, &call)) }),
            Err(error) => Err(Status::from(error)),
        });
        Ok(Response::new(Box::pin(events)))
    }
}

fn decode(request: ExecuteRequest, context: CallContext) -> Result<(llm::ToolCall, Request)> {
    let call = request.tool_call.ok_or_else(|| Error::invalid("tool_call", "is required"))?;
    if call.name.is_empty() {
        return Err(Error::invalid("tool_call.name", "is required"));
    }
    let names = [
        ("tool_call.id", &call.id),
        ("tool_call.name", &call.name),
        ("workspace", &request.workspace),
        ("idempotency_key", &request.idempotency_key),
        ("request_id", &request.request_id),
    ];
    for (field, name) in names {
        if name.len() > MAX_NAME {
            return Err(Error::invalid(field, format!("takes at most {MAX_NAME} bytes")));
        }
    }
    let attribution = request.attribution.unwrap_or_default();
    if attribution.encoded_len() > MAX_ATTRIBUTION || attribution.tags.len() > MAX_TAGS {
        let bounds = format!("takes at most {MAX_ATTRIBUTION} bytes and {MAX_TAGS} tags");
        return Err(Error::invalid("attribution", bounds));
    }
    let request = Request {
        scope: context.scope,
        deadline: context.deadline,
        tool_call_id: call.id.clone(),
        tool: call.name.clone(),
        arguments_json: call.arguments_json.clone(),
        workspace: request.workspace,
        attribution,
        idempotency_key: request.idempotency_key,
        request_id: request.request_id,
    };
    Ok((call, request))
}

fn encode(event: Event, call: &llm::ToolCall) -> execute_response::Event {
    match event {
        Event::ApprovalRequired(approval_id, because) => execute_response::Event::ApprovalRequired(ApprovalRequired {
            approval_id,
            tool_call: Some(call.clone()),
            because,
        }),
        Event::Output(piece) => {
            let stream = match piece.stream {
                OutputOf::Stdout => OutputStream::Stdout,
                OutputOf::Stderr => OutputStream::Stderr,
            };
            let output = ToolOutput { tool_call_id: call.id.clone(), stream: stream.into(), text: piece.text };
            execute_response::Event::Output(output)
        }
        Event::Result(result) => execute_response::Event::Result(encode_result(result, &call.id)),
    }
}

fn encode_result(result: CallResult, tool_call_id: &str) -> ToolResult {
    ToolResult {
        tool_call_id: tool_call_id.to_owned(),
        name: result.tool,
        success: result.success,
        output: result.output,
        error: result.error,
        reason: result.reason,
        duration: Some(time::to_wire(result.duration)),
        retries: result.retries,
        approved: result.approved,
        truncated: result.truncated,
        exit_code: result.exit_code,
        isolation: result.isolation,
    }
}

fn info(entry: &Entry) -> ToolInfo {
    let definition = &entry.definition;
    let category = match definition.category {
        Category::Read => ToolCategory::Read,
        Category::Write => ToolCategory::Write,
        Category::Execute => ToolCategory::Execute,
    };
    ToolInfo {
        tool: Some(llm::Tool {
            name: definition.name.to_owned(),
            description: definition.description.to_owned(),
            parameters_json: definition.parameters.to_string(),
            // Strict schemas have no optional arguments; ours do.
            strict: false,
        }),
        aliases: definition.aliases.iter().map(|alias| (*alias).to_owned()).collect(),
        category: category.into(),
        requires_approval: entry.requires_approval,
        timeout: Some(time::to_wire(entry.timeout)),
        enabled: entry.disabled_because.is_none(),
        disabled_because: entry.disabled_because.unwrap_or_default().to_owned(),
    }
}
