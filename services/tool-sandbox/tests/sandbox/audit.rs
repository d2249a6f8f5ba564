//! The books.

use std::time::Duration;

use tonic::Code;
use tutti_error::Reason;
use tutti_layers::CallContext;
use tutti_proto::sandbox::v1::{ExecuteRequest, PermissionDecision, QueryAuditRequest};
use tutti_types::{Deadline, Scope};

use crate::support::{LONG, Sandbox, assert_status, bash, call, of_org, with_key};

#[tokio::test]
async fn every_outcome_has_its_record() {
    let sandbox = Sandbox::open("").await;
    let long = "x".repeat(10_000);
    sandbox.run("write", &format!(r#"{{"path": "a", "content": "{long}"}}"#)).await;
    sandbox.run("read", r#"{"path": "/etc/passwd"}"#).await;
    sandbox.events(bash("echo hi; exit 4")).await.unwrap();
    let records = sandbox.records().await;
    assert!(records.iter().all(|record| record.finished && record.decision() == PermissionDecision::Allowed));
    let [bash, read, write] = records.as_slice() else { panic!("{records:?}") };
    assert!(write.success && write.arguments_json.len() == 4096 && write.seq < read.seq && read.seq < bash.seq);
    assert_eq!((read.reason(), read.isolation.as_str()), (Reason::PathOutsideWorkspace, "workspace"));
    assert_eq!((bash.exit_code, bash.output_bytes, bash.isolation.as_str()), (Some(4), 3, "none"));
    assert_eq!((bash.org.as_str(), bash.principal.as_str()), ("default", "anonymous"));
    assert_eq!((bash.request_id.as_str(), bash.tool_call_id.as_str()), ("r1", "c1"));
    assert_eq!(bash.attribution.as_ref().unwrap().team, "t1");
    assert_eq!(bash.decided_because, "tools.auto_approve has \"**\"");
    assert!(bash.started_at.unwrap().seconds > 1_700_000_000 && bash.duration.is_some());
}

#[tokio::test]
async fn records_are_filtered_and_paged() {
    let sandbox = Sandbox::open("").await;
    for _ in 0..5 {
        sandbox.run("list_dir", "{}").await;
    }
    sandbox.run("read", r#"{"path": "missing"}"#).await;
    let mut seqs = Vec::new();
    let mut request = QueryAuditRequest { tool: "list_directory".into(), page_size: 2, ..Default::default() };
    loop {
        let page = sandbox.audit.clone().query_audit(request.clone()).await.unwrap().into_inner();
        assert!(page.records.len() <= 2 && page.records.iter().all(|record| record.tool == "list_dir"));
        seqs.extend(page.records.iter().map(|record| record.seq));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(seqs, [5, 4, 3, 2, 1]);
    let none = QueryAuditRequest { session_id: "another".into(), ..Default::default() };
    assert!(sandbox.audit.clone().query_audit(none).await.unwrap().into_inner().records.is_empty());
    for wrong in [
        QueryAuditRequest { page_size: -1, ..Default::default() },
        QueryAuditRequest { page_token: "x".into(), ..Default::default() },
    ] {
        let status = sandbox.audit.clone().query_audit(wrong).await.unwrap_err();
        assert_status(&status, Code::InvalidArgument, Reason::InvalidRequest);
    }
}

#[tokio::test]
async fn a_deadline_that_has_passed_ends_the_query() {
    let sandbox = Sandbox::open("").await;
    let mut request = tonic::Request::new(QueryAuditRequest::default());
    request.set_timeout(Duration::from_nanos(1));
    let status = sandbox.audit.clone().query_audit(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
}

#[tokio::test]
async fn orgs_see_their_own_records() {
    let sandbox = Sandbox::open("").await;
    sandbox.run("list_dir", "{}").await;
    let mut stream = sandbox.tools.clone().execute(of_org("acme", call("list_dir", "{}"))).await.unwrap().into_inner();
    while stream.message().await.unwrap().is_some() {}
    let scope = Scope { org: "acme".into(), principal: "p".into() };
    let context = CallContext::new(scope, Deadline::after(LONG));
    let request = tutti_client::request(QueryAuditRequest::default(), &context);
    let records = sandbox.audit.clone().query_audit(request).await.unwrap().into_inner().records;
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].org.as_str(), records[0].principal.as_str()), ("acme", "p"));
    assert_eq!(sandbox.records().await.len(), 1);
}

#[tokio::test]
async fn without_a_record_nothing_runs() {
    let sandbox = Sandbox::open("").await;
    sandbox.change("ALTER TABLE tool_calls RENAME TO elsewhere").await;
    for request in [call("write", r#"{"path": "a", "content": "x"}"#), bash("touch b"), with_key("k", bash("touch c"))]
    {
        assert_status(&sandbox.refused(request).await, Code::Unavailable, Reason::StoreUnavailable);
    }
    assert!(["a", "b", "c"].iter().all(|name| sandbox.content(name).is_none()));
    let status = sandbox.audit.clone().query_audit(QueryAuditRequest::default()).await.unwrap_err();
    assert_status(&status, Code::Unavailable, Reason::StoreUnavailable);
}

#[tokio::test]
async fn a_call_in_which_the_process_died_is_not_run_again() {
    let sandbox = Sandbox::open("").await;
    let request = || with_key("k", bash("touch ran"));
    sandbox.events(request()).await.unwrap();
    std::fs::remove_file(sandbox.path("ran")).unwrap();
    // As a process leaves it that dies after the record was written.
    sandbox.change("UPDATE claims SET result = NULL").await;
    sandbox.change("DROP TRIGGER tool_call_endings_are_kept").await;
    sandbox.change("DELETE FROM tool_call_endings").await;
    let result = crate::support::result(sandbox.events(request()).await.unwrap());
    assert_eq!((result.success, result.reason()), (false, Reason::ToolFailed));
    assert!(result.error.contains("died"), "{result:?}");
    assert_eq!(sandbox.content("ran"), None);
    assert!(!sandbox.records().await[0].finished);
}

#[tokio::test]
async fn a_call_that_only_reads_is_run_again_when_its_process_died() {
    let sandbox = Sandbox::open("").await;
    let request = || with_key("k", call("list_dir", "{}"));
    sandbox.events(request()).await.unwrap();
    // As a process leaves it that dies after the record was written.
    sandbox.change("UPDATE claims SET result = NULL").await;
    std::fs::write(sandbox.path("new"), "").unwrap();
    let result = crate::support::result(sandbox.events(request()).await.unwrap());
    assert!(result.success && result.output.contains("new"), "{result:?}");
    assert_eq!(sandbox.records().await.len(), 2);
}

#[tokio::test]
async fn calls_that_are_not_taken_have_records_too() {
    let sandbox = Sandbox::open("max_concurrent = 1\n").await;
    let wrong = [
        (call("raed", "{}"), "raed", Reason::UnknownTool),
        (ExecuteRequest { workspace: "nowhere".into(), ..call("read", "{}") }, "read", Reason::UnknownWorkspace),
        (call("read", r#"{"pth": 1}"#), "read", Reason::InvalidToolArguments),
    ];
    for (request, tool, reason) in wrong {
        let workspace = request.workspace.clone();
        let arguments = request.tool_call.as_ref().unwrap().arguments_json.clone();
        let status = sandbox.refused(request).await;
        let record = sandbox.records().await.remove(0);
        assert_eq!((record.reason(), record.decision(), record.finished), (reason, PermissionDecision::Denied, true));
        assert_eq!((record.tool, record.workspace, record.arguments_json), (tool.to_owned(), workspace, arguments));
        assert_eq!((record.error.as_str(), record.request_id.as_str()), (status.message(), "r1"));
    }
    let running = sandbox.start(bash("echo $$ >pid; sleep 1000")).await.unwrap();
    assert_status(&sandbox.refused(call("list_dir", "{}")).await, Code::ResourceExhausted, Reason::Overloaded);
    drop(running);
    let record = sandbox.records().await.remove(0);
    assert_eq!((record.tool.as_str(), record.reason()), ("list_dir", Reason::Overloaded));
    assert_eq!((record.decision(), record.workspace.as_str()), (PermissionDecision::Denied, "default"));
}

#[tokio::test]
async fn a_tool_that_is_called_too_often_is_refused_until_later() {
    let sandbox = Sandbox::open("rate_per_minute = 2\n").await;
    for _ in 0..2 {
        assert!(sandbox.run("list_dir", "{}").await.success);
    }
    // By its alias it is the same tool.
    let status = sandbox.refused(call("list_directory", "{}")).await;
    assert_status(&status, Code::ResourceExhausted, Reason::RateLimited);
    let wait = tutti_error::from_status(&status, "sandbox").retry_delay().unwrap();
    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(30), "{wait:?}");
    let record = sandbox.records().await.remove(0);
    assert_eq!((record.tool.as_str(), record.reason()), ("list_dir", Reason::RateLimited));
    assert_eq!(record.decision(), PermissionDecision::Denied);
    // Other tools and other orgs have their own.
    assert!(sandbox.events(call("write", r#"{"path": "a", "content": "x"}"#)).await.is_ok());
    sandbox.tools.clone().execute(of_org("acme", call("list_dir", "{}"))).await.unwrap();
}
