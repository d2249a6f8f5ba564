//! What needs a tool that fails on demand.

use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tutti_config::{Env, Loader};
use tutti_proto::llm::v1::Attribution;

use super::*;
use crate::{
    domain::{Definition, Failure},
    store::SqliteStore,
    tools::Tool,
};

/// Fails that often before it succeeds.
#[derive(Debug)]
struct Flaky {
    category: Category,
    is_transient: bool,
    failures: AtomicU32,
}

#[async_trait]
impl Tool for Flaky {
    fn definition(&self) -> Definition {
        Definition {
            name: "flaky",
            aliases: &[],
            description: "",
            parameters: json!({"type": "object"}),
            category: self.category,
            subject: Subject::Path("path"),
            isolation: "none",
        }
    }

    async fn run(&self, _: &Value, _: Context) -> Outcome {
        let left = |failures: u32| failures.checked_sub(1);
        match self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left) {
            Ok(_) => Failure::failed("not now").transient(self.is_transient).into(),
            Err(_) => Outcome::success("done"),
        }
    }
}

/// Whether it succeeds in the end, and after how many retries.
async fn outcome(category: Category, is_transient: bool, failures: u32) -> (bool, u32) {
    let dir = tempfile::tempdir().unwrap();
    let text = "[tools]\npermission_mode = \"trust\"\nauto_approve = [\"**\"]\nallow_unsandboxed = true\n";
    std::fs::write(dir.path().join("config.toml"), text).unwrap();
    let loader = Loader::new().config_dir(Some(dir.path().to_owned())).start_dir(dir.path()).env(Env::default());
    let config = Config::read(&loader.load().unwrap().reader());
    let tool = Arc::new(Flaky { category, is_transient, failures: AtomicU32::new(failures) });
    let registry = Arc::new(Registry::of(vec![tool], &config).unwrap());
    let store: Arc<dyn AuditStore> = Arc::new(SqliteStore::open(dir.path()).await.unwrap());
    let workspaces = Workspaces::open(&config.workspaces, dir.path()).unwrap();
    let engine = Arc::new(Engine::new(config, registry, workspaces, store, Tasks::default()));
    let request = Request {
        scope: Scope { org: "o".into(), principal: "p".into() },
        deadline: Deadline::after(Duration::from_secs(60)),
        tool_call_id: "c".into(),
        tool: "flaky".into(),
        arguments_json: "{}".into(),
        workspace: String::new(),
        attribution: Attribution::default(),
        idempotency_key: String::new(),
        request_id: "r".into(),
    };
    let events: Vec<_> = engine.execute(request).await.unwrap().collect().await;
    match events.last() {
        Some(Ok(Event::Result(result))) => (result.success, result.retries),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_only_reads_is_tried_again_while_its_failure_may_pass() {
    assert_eq!(outcome(Category::Read, true, 2).await, (true, 2));
    assert_eq!(outcome(Category::Read, true, 9).await, (false, 3));
    assert_eq!(outcome(Category::Read, false, 1).await, (false, 0));
    assert_eq!(outcome(Category::Write, true, 1).await, (false, 0));
    assert_eq!(outcome(Category::Execute, true, 1).await, (false, 0));
}
