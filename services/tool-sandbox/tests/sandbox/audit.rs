//! The books.

use sqlx::{Connection as _, SqliteConnection};
use tonic::Code;
use tutti_error::Reason;
use tutti_layers::CallContext;
use tutti_proto::sandbox::v1::{PermissionDecision, QueryAuditRequest};
use tutti_types::{Deadline, Scope};

use crate::support::{LONG, Sandbox, assert_status, bash, call, of_org, with_key};

async fn change(sandbox: &Sandbox, sql: &'static str) {
    let url = format!("sqlite://{}", sandbox.data().join("sandbox.db").display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    sqlx::query(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

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
    request.set_timeout(std::time::Duration::from_nanos(1));
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
    let context = CallContext { scope, deadline: Deadline::after(LONG) };
    let request = tutti_client::request(QueryAuditRequest::default(), &context);
    let records = sandbox.audit.clone().query_audit(request).await.unwrap().into_inner().records;
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].org.as_str(), records[0].principal.as_str()), ("acme", "p"));
    assert_eq!(sandbox.records().await.len(), 1);
}

#[tokio::test]
async fn without_a_record_nothing_runs() {
    let sandbox = Sandbox::open("").await;
    change(&sandbox, "ALTER TABLE tool_calls RENAME TO elsewhere").await;
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
    change(&sandbox, "UPDATE claims SET result = NULL").await;
    change(&sandbox, "UPDATE tool_calls SET finished = 0").await;
    let result = crate::support::result(sandbox.events(request()).await.unwrap());
    assert_eq!((result.success, result.reason()), (false, Reason::ToolFailed));
    assert!(result.error.contains("died"), "{result:?}");
    assert_eq!(sandbox.content("ran"), None);
    assert!(!sandbox.records().await[0].finished);
}
