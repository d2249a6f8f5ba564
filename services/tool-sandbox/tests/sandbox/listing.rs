//! What tools there are.

use tonic::Code;
use tutti_error::Reason;
use tutti_proto::sandbox::v1::{ListToolsRequest, ToolCategory, ToolInfo};

use crate::support::{Sandbox, assert_status, bash, config};

async fn list(sandbox: &Sandbox, names: &[&str]) -> Vec<ToolInfo> {
    let request = ListToolsRequest { names: names.iter().map(|name| (*name).to_owned()).collect() };
    sandbox.tools.clone().list_tools(request).await.unwrap().into_inner().tools
}

fn name(info: &ToolInfo) -> &str {
    &info.tool.as_ref().unwrap().name
}

#[tokio::test]
async fn tools_are_listed_by_name_with_closed_schemas() {
    let sandbox = Sandbox::with("").await;
    let tools = list(&sandbox, &[]).await;
    assert_eq!(tools.iter().map(name).collect::<Vec<_>>(), ["bash", "list_dir", "read", "write"]);
    for info in &tools {
        let tool = info.tool.as_ref().unwrap();
        let schema: serde_json::Value = serde_json::from_str(&tool.parameters_json).unwrap();
        assert_eq!(schema["additionalProperties"], false, "{}", tool.name);
        let arguments = schema["properties"].as_object().unwrap();
        assert!(arguments.values().all(|argument| argument["description"].is_string()), "{}", tool.name);
        assert!(tool.description.len() > 20);
        assert_eq!(info.aliases.len(), 1);
    }
    let approvals: Vec<bool> = tools.iter().map(|info| info.requires_approval).collect();
    assert_eq!(approvals, [true, false, false, true]);
    let timeouts: Vec<i64> = tools.iter().map(|info| info.timeout.unwrap().seconds).collect();
    assert_eq!(timeouts, [600, 300, 300, 300]);
    assert_eq!(tools[3].category(), ToolCategory::Write);
    assert!(tools[0].tool.as_ref().unwrap().description.contains("Isolation: none"));
}

#[tokio::test]
async fn names_and_aliases_select() {
    let sandbox = Sandbox::with("").await;
    let tools = list(&sandbox, &["write_file", "read", "read_file"]).await;
    assert_eq!(tools.iter().map(name).collect::<Vec<_>>(), ["read", "write"]);
    let status = sandbox.tools.clone().list_tools(ListToolsRequest { names: vec!["wrte".into()] }).await.unwrap_err();
    assert_status(&status, Code::NotFound, Reason::UnknownTool);
}

#[tokio::test]
async fn bash_is_off_until_it_is_switched_on_and_says_how() {
    let sandbox = Sandbox::with("permission_mode = \"trust\"\nauto_approve = [\"**\"]\n").await;
    let info = list(&sandbox, &["bash"]).await.remove(0);
    assert!(!info.enabled && info.disabled_because.contains("tools.allow_unsandboxed = true"), "{info:?}");
    let status = sandbox.refused(bash("echo hi")).await;
    assert_status(&status, Code::FailedPrecondition, Reason::ToolDisabled);
    assert!(status.message().contains("tools.allow_unsandboxed = true"), "{status:?}");
    let record = sandbox.records().await.remove(0);
    assert_eq!((record.tool.as_str(), record.reason(), record.finished), ("bash", Reason::ToolDisabled, true));
    let on = Sandbox::open("").await;
    assert!(list(&on, &["bash"]).await[0].enabled);
}

#[tokio::test]
async fn a_tool_can_be_configured_by_itself() {
    let sandbox =
        Sandbox::with("timeout_seconds = 20\n[tools.read]\nrequires_approval = true\n[tools.bash]\ntimeout = \"5s\"\n")
            .await;
    let tools = list(&sandbox, &["bash", "read", "write"]).await;
    let timeouts: Vec<i64> = tools.iter().map(|info| info.timeout.unwrap().seconds).collect();
    assert_eq!(timeouts, [5, 20, 20]);
    assert!(tools[1].requires_approval);
}

#[test]
fn mistakes_in_the_configuration_are_told_with_their_lines() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = "permission_mode = \"aut\"\nauto_approve = [\"read\",\n  \"a b\"]\nmax_concurrent = 0\nfoo = 1\n\
                 [tools.workspaces]\n\"a/b\" = \"/x\"\n[tools.bash]\ntimeout = 0\n";
    let problems = config(dir.path(), wrong).unwrap_err();
    for place in ["config.toml:2", "config.toml:4", "config.toml:5", "config.toml:6", "config.toml:8", "config.toml:10"]
    {
        assert!(problems.contains(place), "{place} is missing in:\n{problems}");
    }
}

#[tokio::test]
async fn a_deadline_that_has_passed_ends_the_list() {
    let sandbox = Sandbox::with("").await;
    let mut request = tonic::Request::new(ListToolsRequest::default());
    request.set_timeout(std::time::Duration::from_nanos(1));
    let status = sandbox.tools.clone().list_tools(request).await.unwrap_err();
    assert_status(&status, Code::DeadlineExceeded, Reason::DeadlineExceeded);
}
