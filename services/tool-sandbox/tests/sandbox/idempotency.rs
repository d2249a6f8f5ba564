//! Calls that are repeated.

use std::time::Duration;

use tonic::Code;
use tutti_error::Reason;

use crate::support::{LONG, Sandbox, assert_status, bash, call, of_org, result, until, with_key};

#[tokio::test]
async fn a_repeated_call_runs_once() {
    let sandbox = Sandbox::open("").await;
    let request = || with_key("k", bash("echo run >>runs; echo out; exit 3"));
    let first = result(sandbox.events(request()).await.unwrap());
    let mut again = request();
    again.tool_call.as_mut().unwrap().id = "c2".into();
    let second = result(sandbox.events(again).await.unwrap());
    assert_eq!(second.tool_call_id, "c2");
    assert_eq!(tutti_proto::sandbox::v1::ToolResult { tool_call_id: "c1".into(), ..second }, first);
    assert_eq!(sandbox.content("runs").unwrap(), "run\n");
    assert_eq!(sandbox.records().await.len(), 1);
    // Without a key each call is its own.
    sandbox.events(bash("echo run >>runs")).await.unwrap();
    sandbox.events(bash("echo run >>runs")).await.unwrap();
    assert_eq!(sandbox.content("runs").unwrap(), "run\nrun\nrun\n");
}

#[tokio::test]
async fn a_call_that_still_runs_is_waited_for() {
    let sandbox = Sandbox::open("").await;
    let request = || with_key("k", bash("echo run >>runs; until [ -e go ]; do sleep 0.01; done; echo out"));
    let first = sandbox.start(request()).await.unwrap();
    until("it runs", || sandbox.content("runs").is_some()).await;
    // One that can't wait long enough.
    let status = sandbox.start_within(request(), Duration::from_millis(200)).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    let (second, ()) = tokio::join!(sandbox.events(request()), async { sandbox.file("go", "") });
    assert_eq!(result(second.unwrap()).output, "out\n");
    assert_eq!(sandbox.content("runs").unwrap(), "run\n");
    drop(first);
}

#[tokio::test]
async fn a_key_stands_for_one_call_only() {
    let sandbox = Sandbox::open("").await;
    let running = sandbox.start(with_key("k", bash("echo $$ >pid; sleep 1000"))).await.unwrap();
    until("it runs", || sandbox.content("pid").is_some()).await;
    let other = || with_key("k", call("list_dir", "{}"));
    assert_status(&sandbox.refused(other()).await, Code::AlreadyExists, Reason::IdempotencyConflict);
    drop(running);
    let ended = with_key("k", bash("echo $$ >pid; sleep 1000"));
    assert_eq!(result(sandbox.events(ended).await.unwrap()).reason(), Reason::Cancelled);
    assert_status(&sandbox.refused(other()).await, Code::AlreadyExists, Reason::IdempotencyConflict);
    // Another org has keys of its own.
    sandbox.tools.clone().execute(of_org("acme", other())).await.unwrap();
}

#[tokio::test]
async fn a_refused_call_does_not_use_up_its_key() {
    let sandbox = Sandbox::with("").await;
    let request = || with_key("k", call("write", r#"{"path": "a", "content": "x"}"#));
    assert_eq!(result(sandbox.events(request()).await.unwrap()).reason(), Reason::ApprovalRequired);
    let sandbox = sandbox.restart("permission_mode = \"auto\"\nauto_approve = [\"write\"]\n").await;
    assert!(result(sandbox.events(request()).await.unwrap()).success);
}

#[tokio::test]
async fn results_outlive_the_process() {
    let sandbox = Sandbox::open("").await;
    let request = || with_key("k", call("write", r#"{"path": "a", "content": "x"}"#));
    let first = result(sandbox.events(request()).await.unwrap());
    std::fs::remove_file(sandbox.path("a")).unwrap();
    let sandbox = sandbox.restart("permission_mode = \"deny\"\n").await;
    assert_eq!(result(sandbox.events(request()).await.unwrap()), first);
    assert_eq!(sandbox.content("a"), None);
}

#[tokio::test]
async fn a_key_is_forgotten_after_a_day() {
    let sandbox = Sandbox::open("").await;
    let request = |key| with_key(key, bash("echo run >>runs"));
    sandbox.events(request("old")).await.unwrap();
    sandbox.events(request("new")).await.unwrap();
    sandbox.change("UPDATE claims SET claimed_at = claimed_at - 86400000000 WHERE idempotency_key = 'old'").await;
    let sandbox =
        sandbox.restart("permission_mode = \"trust\"\nauto_approve = [\"**\"]\nallow_unsandboxed = true\n").await;
    tutti_testkit::wait_for(LONG, || async {
        let claims = sandbox.claims().await;
        if claims == 1 { Ok(()) } else { Err(format!("{claims} keys")) }
    })
    .await;
    sandbox.events(request("old")).await.unwrap();
    sandbox.events(request("new")).await.unwrap();
    assert_eq!(sandbox.content("runs").unwrap(), "run\nrun\nrun\n");
}
