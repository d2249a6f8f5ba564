//! A running service with its own folders.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use sqlx::{Connection as _, SqliteConnection};
use tempfile::TempDir;
use tonic::{Code, Request, Status, Streaming};
use tool_sandbox::{App, Config};
use tutti_client::Channel;
use tutti_config::{Env, Loader};
use tutti_error::Reason;
use tutti_layers::CallContext;
use tutti_proto::{
    llm::v1::{Attribution, ToolCall},
    sandbox::v1::{
        AuditRecord, ExecuteRequest, ExecuteResponse, QueryAuditRequest, ToolResult,
        audit_service_client::AuditServiceClient, execute_response::Event, tool_service_client::ToolServiceClient,
    },
};
use tutti_server::Readiness;
use tutti_types::{Deadline, Scope};

/// Long enough for anything that a test does.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) struct Sandbox {
    app: Option<App>,
    pub(crate) tools: ToolServiceClient<Channel>,
    pub(crate) audit: AuditServiceClient<Channel>,
    dir: TempDir,
}

impl Sandbox {
    /// With these lines in `[tools]`.
    pub(crate) async fn with(tools: &str) -> Self {
        Self::over(tempfile::tempdir().unwrap(), tools).await
    }

    async fn over(dir: TempDir, tools: &str) -> Self {
        let app = App::start(config(dir.path(), tools).unwrap(), &dir.path().join("data"), &Readiness::default())
            .await
            .unwrap();
        let channel = Channel::in_process(app.services().stack(LONG));
        let tools = ToolServiceClient::new(channel.clone()).max_decoding_message_size(tutti_layers::MAX_MESSAGE_BYTES);
        Self { app: Some(app), tools, audit: AuditServiceClient::new(channel), dir }
    }

    /// In mode trust, with everything allowed.
    pub(crate) async fn open(tools: &str) -> Self {
        let all = "permission_mode = \"trust\"\nauto_approve = [\"**\"]\nallow_unsandboxed = true\n";
        Self::with(&format!("{all}{tools}")).await
    }

    /// Ends the service, and starts another over the same data.
    pub(crate) async fn restart(mut self, tools: &str) -> Self {
        self.stop().await;
        // The rest of it goes: what the clients reach keeps the store open.
        let Self { app: _, tools: tool_client, audit, dir } = self;
        drop((tool_client, audit));
        Self::over(dir, tools).await
    }

    pub(crate) async fn stop(&mut self) {
        let app = self.app.take().unwrap();
        app.stop(LONG).await;
    }

    /// A path in the workspace `default`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("data/workspaces/default").join(name)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(crate) fn content(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.path(name)).ok()
    }

    pub(crate) async fn start(&self, request: ExecuteRequest) -> Result<Streaming<ExecuteResponse>, Status> {
        self.start_within(request, LONG).await
    }

    pub(crate) async fn start_within(
        &self,
        request: ExecuteRequest,
        time: Duration,
    ) -> Result<Streaming<ExecuteResponse>, Status> {
        let mut request = Request::new(request);
        request.set_timeout(time);
        Ok(self.tools.clone().execute(request).await?.into_inner())
    }

    /// All events of a call.
    pub(crate) async fn events(&self, request: ExecuteRequest) -> Result<Vec<Event>, Status> {
        let mut stream = self.start(request).await?;
        let mut events = Vec::new();
        while let Some(response) = stream.message().await? {
            events.push(response.event.unwrap());
        }
        assert!(matches!(events.last(), Some(Event::Result(_))), "no result at the end: {events:?}");
        Ok(events)
    }

    /// The result of a call.
    pub(crate) async fn run(&self, tool: &str, arguments: &str) -> ToolResult {
        result(self.events(call(tool, arguments)).await.unwrap())
    }

    /// The status of a call that gets no result.
    pub(crate) async fn refused(&self, request: ExecuteRequest) -> Status {
        self.events(request).await.unwrap_err()
    }

    /// The books, newest first.
    pub(crate) async fn records(&self) -> Vec<AuditRecord> {
        self.audit.clone().query_audit(QueryAuditRequest::default()).await.unwrap().into_inner().records
    }

    /// Runs a statement on the books, behind the service's back.
    pub(crate) async fn change(&self, sql: &'static str) {
        sqlx::query(sql).execute(&mut self.books().await).await.unwrap();
    }

    /// The keys that stand for a call.
    pub(crate) async fn claims(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM claims").fetch_one(&mut self.books().await).await.unwrap()
    }

    async fn books(&self) -> SqliteConnection {
        let url = format!("sqlite://{}", self.data().join("sandbox.db").display());
        SqliteConnection::connect(&url).await.unwrap()
    }

    /// The newest record, once it is complete.
    pub(crate) async fn finished(&self) -> AuditRecord {
        let end = Instant::now() + LONG;
        loop {
            let record = self.records().await.remove(0);
            if record.finished {
                return record;
            }
            assert!(Instant::now() < end, "the record is never completed");
            tokio::task::yield_now().await;
        }
    }
}

pub(crate) fn config(dir: &Path, tools: &str) -> Result<Config, String> {
    let folder = dir.join("config");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.toml"), format!("[tools]\n{tools}")).unwrap();
    let loader = Loader::new().config_dir(Some(folder)).start_dir(dir).env(Env::default());
    let reader = loader.load().map_err(|problems| problems.to_string())?.reader();
    let config = Config::read(&reader);
    reader.finish().map_err(|problems| problems.to_string())?;
    Ok(config)
}

/// A call `c1` of request `r1` in session `s1`.
pub(crate) fn call(tool: &str, arguments: &str) -> ExecuteRequest {
    ExecuteRequest {
        tool_call: Some(ToolCall {
            id: "c1".into(),
            name: tool.into(),
            arguments_json: arguments.into(),
            ..Default::default()
        }),
        attribution: Some(Attribution { session_id: "s1".into(), team: "t1".into(), ..Default::default() }),
        request_id: "r1".into(),
        ..Default::default()
    }
}

pub(crate) fn bash(command: &str) -> ExecuteRequest {
    call("bash", &serde_json::json!({ "command": command }).to_string())
}

pub(crate) fn with_key(key: &str, request: ExecuteRequest) -> ExecuteRequest {
    ExecuteRequest { idempotency_key: key.into(), ..request }
}

/// The same request, made by a peer for somebody of that org.
pub(crate) fn of_org(org: &str, request: ExecuteRequest) -> Request<ExecuteRequest> {
    let scope = Scope { org: org.into(), principal: "p".into() };
    tutti_client::request(request, &CallContext::new(scope, Deadline::after(LONG)))
}

pub(crate) fn result(mut events: Vec<Event>) -> ToolResult {
    match events.pop() {
        Some(Event::Result(result)) => result,
        other => panic!("not a result: {other:?}"),
    }
}

/// Asserts a status of the mesh: its code and its reason.
pub(crate) fn assert_status(status: &Status, code: Code, reason: Reason) {
    assert_eq!((status.code(), tutti_error::reason_of(status)), (code, Some(reason)), "{status:?}");
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    tutti_testkit::wait_for(LONG, || std::future::ready(condition().then_some(()).ok_or(what))).await;
}

/// Whether a process lives: one that has ended and waits for its parent does not.
pub(crate) fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
