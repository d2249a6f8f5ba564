//! The file tools.

use std::{os::unix::fs::symlink, time::Duration};

use tonic::Code;
use tutti_error::Reason;
use tutti_proto::sandbox::v1::PermissionDecision;
use tutti_server::Readiness;

use crate::support::{Sandbox, assert_status, call, config};

#[tokio::test]
async fn a_file_is_written_read_and_listed() {
    let sandbox = Sandbox::open("").await;
    let written = sandbox.run("write", r#"{"path": "a/b.txt", "content": "häl"}"#).await;
    assert!(written.success && written.approved, "{written:?}");
    assert_eq!((written.name.as_str(), written.isolation.as_str(), written.exit_code), ("write", "workspace", None));
    assert_eq!(written.output, "wrote 4 bytes to a/b.txt");
    let appended = sandbox.run("write_file", r#"{"path": "a/b.txt", "content": "lo", "append": true}"#).await;
    assert!(appended.success, "{appended:?}");
    let read = sandbox.run("read_file", r#"{"path": "a/b.txt"}"#).await;
    assert_eq!((read.output.as_str(), read.tool_call_id.as_str(), read.name.as_str()), ("hällo", "c1", "read"));
    let listed = sandbox.run("list_directory", r#"{"recursive": true}"#).await;
    assert_eq!(listed.output, "a/\na/b.txt");
    assert_eq!(sandbox.run("list_dir", r#"{"path": "a"}"#).await.output, "b.txt");
}

#[tokio::test]
async fn escapes_are_results_that_say_so() {
    let sandbox = Sandbox::open("").await;
    symlink("/etc", sandbox.path("link")).unwrap();
    for path in ["/etc/hostname", "../../sandbox.db", "link/hostname", "missing/../../x"] {
        for (tool, more) in [("read", ""), ("write", r#", "content": "x""#), ("list_dir", "")] {
            let result = sandbox.run(tool, &format!(r#"{{"path": "{path}"{more}}}"#)).await;
            assert!(!result.success);
            assert_eq!(result.reason(), Reason::PathOutsideWorkspace, "{tool} {path}: {result:?}");
        }
    }
}

#[tokio::test]
async fn what_can_not_be_read_says_why() {
    let sandbox = Sandbox::open("").await;
    sandbox.file("binary", [0xff, 0xfe, b'a']);
    let missing = sandbox.run("read", r#"{"path": "missing"}"#).await;
    assert_eq!(
        (missing.reason(), missing.error.as_str()),
        (Reason::ToolFailed, "\"missing\": no such file or directory")
    );
    let binary = sandbox.run("read", r#"{"path": "binary"}"#).await;
    assert!(binary.error.contains("not UTF-8"), "{binary:?}");
    assert_eq!(sandbox.run("read", r#"{"path": "binary", "encoding": "latin-1"}"#).await.output, "ÿþa");
}

#[tokio::test]
async fn a_large_file_is_cut_and_says_so() {
    let sandbox = Sandbox::open("").await;
    sandbox.file("big", "ä".repeat(600 * 1024));
    let result = sandbox.run("read", r#"{"path": "big"}"#).await;
    assert!(result.success && result.truncated);
    assert!(result.output.ends_with("ä\n[... cut at 1048576 of 1228800 bytes ...]"));
    assert_eq!(sandbox.records().await[0].output_bytes, 1_228_800);
}

#[tokio::test]
async fn malformed_requests_are_statuses_that_name_the_field() {
    let sandbox = Sandbox::open("").await;
    let status = sandbox.refused(call("read", r#"{"pth": 1}"#)).await;
    assert_status(&status, Code::InvalidArgument, Reason::InvalidToolArguments);
    assert!(status.message().contains("tool_call.arguments_json.path: is required"), "{status:?}");
    let status = sandbox.refused(call("read", "{")).await;
    assert_status(&status, Code::InvalidArgument, Reason::InvalidToolArguments);
    let status = sandbox.refused(call("", "{}")).await;
    assert_status(&status, Code::InvalidArgument, Reason::InvalidRequest);
    let mut request = call("read", "{}");
    request.tool_call = None;
    assert_status(&sandbox.refused(request).await, Code::InvalidArgument, Reason::InvalidRequest);
    let mut request = call("read", r#"{"path": "a"}"#);
    request.request_id = "x".repeat(1000);
    assert_status(&sandbox.refused(request).await, Code::InvalidArgument, Reason::InvalidRequest);
    let status = sandbox.refused(call("read", &" ".repeat(9 * 1024 * 1024))).await;
    assert_status(&status, Code::InvalidArgument, Reason::MessageTooLarge);
    assert!(sandbox.records().await.iter().all(|record| record.decision() == PermissionDecision::Denied));
}

#[tokio::test]
async fn unknown_names_come_with_the_nearest() {
    let sandbox = Sandbox::open("").await;
    let status = sandbox.refused(call("raed_file", "{}")).await;
    assert_status(&status, Code::NotFound, Reason::UnknownTool);
    assert!(status.message().contains("\"read_file\""), "{status:?}");
    let mut request = call("read", r#"{"path": "a"}"#);
    request.workspace = "defualt".into();
    let status = sandbox.refused(request).await;
    assert_status(&status, Code::NotFound, Reason::UnknownWorkspace);
    assert!(status.message().contains("\"default\""), "{status:?}");
}

#[tokio::test]
async fn workspaces_are_apart() {
    let other = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::open(&format!("[tools.workspaces]\nother = \"{}\"\n", other.path().display())).await;
    let mut request = call("write", r#"{"path": "a", "content": "x"}"#);
    request.workspace = "other".into();
    sandbox.events(request).await.unwrap();
    assert_eq!(std::fs::read_to_string(other.path().join("a")).unwrap(), "x");
    assert_eq!(sandbox.content("a"), None);
    assert_eq!(sandbox.records().await[0].workspace, "other");
}

#[tokio::test]
async fn a_workspace_that_is_not_there_is_told_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), "[tools.workspaces]\ngone = \"/nowhere/at/all\"\n").unwrap();
    let error = tool_sandbox::App::start(config, &dir.path().join("data"), &Readiness::default()).await.unwrap_err();
    assert_eq!(error.reason(), Reason::WorkspaceUnavailable);
    assert!(error.message().contains("/nowhere/at/all of workspace \"gone\""), "{error}");
}

#[tokio::test]
async fn a_deadline_that_has_passed_ends_the_call() {
    let sandbox = Sandbox::open("").await;
    let request = call("list_dir", "{}");
    let status = match sandbox.start_within(request, Duration::from_nanos(1)).await {
        Err(status) => status,
        Ok(mut stream) => stream.message().await.unwrap_err(),
    };
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
}
