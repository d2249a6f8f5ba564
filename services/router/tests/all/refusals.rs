//! What `Chat` refuses, with the field or the nearest names.

use tonic::Code;
use tutti_error::Reason;
use tutti_proto::{
    llm::v1::{Role, Sampling, Tool},
    router::v1::{CachePolicy, ChatRequest},
};

use crate::mesh::{Mesh, chat, refusal};

#[tokio::test]
async fn a_malformed_request_names_its_field() {
    let mesh = Mesh::start().await;
    let mut no_role = chat("hi");
    no_role.messages[0].set_role(Role::Unspecified);
    let mut result = chat("4");
    result.messages[0].set_role(Role::Tool);
    result.messages[0].tool_call_id = "c1".into();
    let hot = Sampling { temperature: Some(3.0), ..Default::default() };
    let bad = Tool { name: "t".into(), parameters_json: "{".into(), ..Default::default() };
    let same = Tool { name: "read".into(), ..Default::default() };
    let cases = [
        (ChatRequest::default(), "messages"),
        (no_role, "messages[0].role"),
        (chat(""), "messages[0].text"),
        (chat(" \n"), "messages[0].text"),
        (result.clone(), "messages[0].tool_call_id"),
        (ChatRequest { session_id: "s".into(), ..result }, "messages[0].tool_call_id"),
        (ChatRequest { sampling: Some(hot), ..chat("hi") }, "sampling.temperature"),
        (ChatRequest { tools: vec![bad], ..chat("hi") }, "tools[0].parameters_json"),
        (ChatRequest { tools: vec![same], mesh_tools: vec!["read".into()], ..chat("hi") }, "tools[0].name"),
        (ChatRequest { request_id: "one".into(), ..chat("hi") }, "request_id"),
        (ChatRequest { task_type: "codin".into(), ..chat("hi") }, "task_type"),
    ];
    for (request, field) in cases {
        let status = mesh.router().chat(request).await.unwrap_err();
        assert_eq!((status.code(), refusal(&status).1.as_str()), (Code::InvalidArgument, field), "{status:?}");
    }
}

#[tokio::test]
async fn an_unknown_name_is_not_found_with_the_nearest() {
    let mesh = Mesh::start().await;
    let cases = [
        (ChatRequest { backend: "claud".into(), ..chat("hi") }, Reason::UnknownBackend, "\"claude\""),
        (ChatRequest { persona: "architekt".into(), ..chat("hi") }, Reason::UnknownPersona, "\"architect\""),
        (ChatRequest { model: "claude-modell".into(), ..chat("hi") }, Reason::UnknownModel, "\"claude-model\""),
        (ChatRequest { mesh_tools: vec!["reed".into()], ..chat("hi") }, Reason::UnknownTool, "\"read\""),
    ];
    for (request, reason, nearest) in cases {
        let status = mesh.router().chat(request).await.unwrap_err();
        assert_eq!((status.code(), refusal(&status).0), (Code::NotFound, reason));
        assert!(status.message().contains(nearest), "{}", status.message());
    }
}

#[tokio::test]
async fn what_can_not_be_done_here_is_a_failed_precondition() {
    let mesh = Mesh::start().await;
    let cases = [
        (ChatRequest { backend: "gemini".into(), ..chat("hi") }, Reason::BackendNotUsable, ""),
        (ChatRequest { mesh_tools: vec!["bash".into()], ..chat("hi") }, Reason::ToolDisabled, ""),
        (ChatRequest { strategy: "pareto".into(), ..chat("hi") }, Reason::Unsupported, "strategy"),
        (ChatRequest { cache: CachePolicy::On.into(), ..chat("hi") }, Reason::Unsupported, "cache"),
    ];
    for (request, reason, field) in cases {
        let status = mesh.router().chat(request).await.unwrap_err();
        let (is, of, _) = refusal(&status);
        assert_eq!((status.code(), is, of.as_str()), (Code::FailedPrecondition, reason, field));
    }
}
