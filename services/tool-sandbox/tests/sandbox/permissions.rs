//! Who may run what.

use tutti_error::Reason;
use tutti_proto::sandbox::v1::{PermissionDecision, ToolResult, execute_response::Event};

use crate::support::{Sandbox, bash, call, result};

/// What came of a call: its result, and whether somebody was asked.
async fn decided(sandbox: &Sandbox, tool: &str, path: &str) -> (ToolResult, bool) {
    let content = if tool == "write" { r#", "content": "x""# } else { "" };
    let events = sandbox.events(call(tool, &format!(r#"{{"path": "{path}"{content}}}"#))).await.unwrap();
    let asked = matches!(&events[0], Event::ApprovalRequired(asked)
        if !asked.approval_id.is_empty() && asked.tool_call.as_ref().unwrap().name == tool && !asked.because.is_empty());
    assert_eq!(events.len(), 1 + usize::from(asked));
    (result(events), asked)
}

#[tokio::test]
async fn the_modes_decide_as_documented() {
    use PermissionDecision::{Allowed, Denied, NeedsApproval};
    let table = [
        ("manual", [Allowed, Allowed, NeedsApproval, NeedsApproval]),
        ("auto", [Allowed, Denied, Allowed, Denied]),
        ("trust", [Allowed, NeedsApproval, Allowed, NeedsApproval]),
        ("deny", [Denied, Denied, Denied, Denied]),
    ];
    for (mode, expected) in table {
        let patterns = r#"auto_approve = ["read_file:src/**", "write:src/*"]"#;
        let sandbox = Sandbox::with(&format!("permission_mode = \"{mode}\"\n{patterns}\n")).await;
        sandbox.file("src/a", "a");
        sandbox.file("b", "b");
        let calls = [("read", "src/a"), ("read", "b"), ("write", "src/new"), ("write", "src/deep/new")];
        for ((tool, path), expected) in calls.into_iter().zip(expected) {
            let (result, asked) = decided(&sandbox, tool, path).await;
            let case = format!("{mode}: {tool} {path}: {result:?}");
            let reason = match expected {
                Denied => Reason::PermissionDenied,
                NeedsApproval => Reason::ApprovalRequired,
                _ => Reason::Unspecified,
            };
            assert_eq!((result.approved, result.success), (expected == Allowed, expected == Allowed), "{case}");
            assert_eq!((result.reason(), asked), (reason, expected == NeedsApproval), "{case}");
            let record = sandbox.records().await.remove(0);
            assert_eq!((record.decision(), record.finished), (expected, true), "{case}");
            assert_eq!((record.reason(), record.success), (reason, result.success), "{case}");
            assert!(!record.decided_because.is_empty(), "{case}");
        }
        assert_eq!(sandbox.content("src/new").is_some(), expected[2] == Allowed, "{mode}");
        assert_eq!(sandbox.content("src/deep/new"), None, "{mode}");
    }
}

#[tokio::test]
async fn dangerous_commands_are_refused_whatever_the_mode() {
    let sandbox = Sandbox::open("").await;
    for command in ["rm -rf / --no-preserve-root", "echo x; rm -rf y", "curl http://localhost:1 | sh"] {
        let result = result(sandbox.events(bash(command)).await.unwrap());
        assert_eq!((result.reason(), result.approved), (Reason::PermissionDenied, false), "{command}");
        assert!(result.error.contains("dangerous"), "{result:?}");
    }
    assert!(sandbox.records().await.iter().all(|record| record.decision() == PermissionDecision::Denied));
}

#[tokio::test]
async fn only_allowed_commands_run() {
    let sandbox = Sandbox::open("allowed_commands = [\"echo\"]\n").await;
    assert!(result(sandbox.events(bash("echo hi")).await.unwrap()).success);
    let refused = result(sandbox.events(bash("echo hi | cat")).await.unwrap());
    assert_eq!(refused.error, "\"cat\" is not in tools.allowed_commands");
}

#[tokio::test]
async fn an_allowed_glob_lets_no_second_command_in() {
    let sandbox =
        Sandbox::with("permission_mode = \"auto\"\nallow_unsandboxed = true\nauto_approve = [\"bash:echo *\"]\n").await;
    assert!(result(sandbox.events(bash("echo a/b c")).await.unwrap()).success);
    let refused = result(sandbox.events(bash("echo a; touch b")).await.unwrap());
    assert_eq!(refused.reason(), Reason::PermissionDenied);
    assert_eq!(sandbox.content("b"), None);
}
