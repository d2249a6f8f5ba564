//! One tool call, from its claim to its record.
//!
//! Each call is a task of its own, so that what must be done at its end (kill, complete the record) is done also when
//! the caller has gone. The order is what makes it right:
//!
//! 1. idempotency: a key that is in use is waited for, one that is used up is answered from its result
//! 2. permission, and the room to run
//! 3. the record, durable; without it nothing runs
//! 4. the tool
//! 5. the record's end, and the result beside it; then the caller gets the result

mod call;
mod keys;
mod rate;
mod repeat;
mod workspaces;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tutti_error::{Error, Reason, Result};
use tutti_server::Tasks;
use tutti_types::{Deadline, Scope};

use call::MAX_RECORDED;
pub(crate) use call::{Call, Request};
pub(crate) use workspaces::Workspaces;

use crate::{
    Config,
    domain::{
        CallResult, Category, CommandPolicy, Decision, Ending, NewRecord, Outcome, Permissions, Question, Subject,
        Verdict, cut,
    },
    engine::{
        keys::{Held, Keys},
        rate::Rate,
        repeat::repeated,
    },
    store::{AuditStore, Begun, Previous},
    tools::{Context, OutputSink, Piece, Registry, Stop},
};

/// Pieces of output that wait for a slow reader, of at most 16 KiB each.
const BUFFERED_PIECES: usize = 16;
/// How often a call that another replica runs is asked for its result.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// When to try again after "too many calls".
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Runs tool calls.
#[derive(Debug)]
pub(crate) struct Engine {
    registry: Arc<Registry>,
    workspaces: Workspaces,
    permissions: Permissions,
    commands: CommandPolicy,
    store: Arc<dyn AuditStore>,
    keys: Keys,
    rate: Rate,
    room: Arc<Semaphore>,
    max_output: usize,
    tasks: Tasks,
}

/// What a caller sees of its call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// Somebody must approve: the approval's id, and why.
    ApprovalRequired(String, String),
    /// Output while it runs.
    Output(Piece),
    /// The end.
    Result(CallResult),
}

/// The events of a call. Dropping them ends the call.
#[derive(Debug)]
pub(crate) struct Events {
    output: mpsc::Receiver<Piece>,
    last: mpsc::Receiver<Event>,
    ended: bool,
    _cancel: DropGuard,
}

impl Stream for Events {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // All output comes before what follows it: the tool's end closes this channel.
        if let Some(piece) = std::task::ready!(self.output.poll_recv(cx)) {
            return Poll::Ready(Some(Ok(Event::Output(piece))));
        }
        let event = std::task::ready!(self.last.poll_recv(cx));
        self.ended = matches!(event, None | Some(Event::Result(_)));
        // A call without a result broke.
        Poll::Ready(Some(event.ok_or_else(|| Error::internal("a tool call ended without a result"))))
    }
}

/// The way back to the caller.
struct Reply {
    started: oneshot::Sender<Result<()>>,
    output: mpsc::Sender<Piece>,
    last: mpsc::Sender<Event>,
}

/// What became of a call before it ran.
enum Admission {
    /// It has been run before.
    Replayed(CallResult),
    /// It may not run.
    Refused(i64, CallResult, Decision),
    /// It runs.
    Running(Box<Ticket>),
}

/// What a running call holds.
struct Ticket {
    seq: i64,
    key: Option<Held>,
    _room: OwnedSemaphorePermit,
}

impl Engine {
    /// An engine over these tools, folders and books; its calls are tasks of `tasks`.
    pub(crate) fn new(
        config: Config,
        registry: Arc<Registry>,
        workspaces: Workspaces,
        store: Arc<dyn AuditStore>,
        tasks: Tasks,
    ) -> Self {
        Self {
            registry,
            workspaces,
            permissions: Permissions::new(config.permission_mode, config.allow),
            commands: CommandPolicy::new(config.allowed_commands),
            store,
            keys: Keys::default(),
            rate: Rate::new(config.rate_per_minute),
            room: Arc::new(Semaphore::new(config.max_concurrent)),
            max_output: config.max_output_bytes,
            tasks,
        }
    }

    /// Runs a call. Returns once it runs, or is known not to.
    ///
    /// # Errors
    /// UNKNOWN_TOOL, UNKNOWN_WORKSPACE, INVALID_TOOL_ARGUMENTS, TOOL_DISABLED, RATE_LIMITED, OVERLOADED (all in the books
    /// as denied), IDEMPOTENCY_CONFLICT, STORE_UNAVAILABLE (nothing has run then), DEADLINE_EXCEEDED while waiting for a call with the same key.
    pub(crate) async fn execute(self: &Arc<Self>, request: Request) -> Result<Events> {
        let call = match Call::check(&request, &self.registry, &self.workspaces) {
            Ok(call) => call,
            Err(error) => {
                let record = |verdict| request.record(verdict, SystemTime::now());
                return Err(self.deny(&request.scope, record, error).await?);
            }
        };
        let (started, when_started) = oneshot::channel();
        let (output, pieces) = mpsc::channel(BUFFERED_PIECES);
        // An approval, and the result: never waited for.
        let (last, last_events) = mpsc::channel(2);
        let cancelled = CancellationToken::new();
        let events =
            Events { output: pieces, last: last_events, ended: false, _cancel: cancelled.clone().drop_guard() };
        let engine = self.clone();
        self.tasks.spawn(async move { engine.drive(&call, Reply { started, output, last }, cancelled).await });
        when_started.await.map_err(|_| Error::internal("a tool call's task broke"))??;
        Ok(events)
    }

    async fn drive(&self, call: &Call, reply: Reply, cancelled: CancellationToken) {
        let Reply { started, output, last } = reply;
        let stop = Stop {
            cancelled,
            stopping: self.tasks.stopping().clone(),
            deadline: call.request.deadline,
            timeout: (call.entry.timeout, Deadline::after(call.entry.timeout)),
        };
        let admitted = self.admit(call, &stop).await;
        // From here on nobody may be listening: what is to be done is done all the same.
        let _ = started.send(admitted.as_ref().map(|_| ()).map_err(Clone::clone));
        let result = match admitted {
            Err(_) => return,
            Ok(Admission::Replayed(result)) => result,
            Ok(Admission::Refused(seq, result, decision)) => {
                if decision == Decision::NeedsApproval {
                    let _ = last.send(Event::ApprovalRequired(seq.to_string(), result.error.clone())).await;
                }
                result
            }
            Ok(Admission::Running(ticket)) => self.run(call, *ticket, output.clone(), stop).await,
        };
        drop(output);
        let _ = last.send(Event::Result(result)).await;
    }

    async fn admit(&self, call: &Call, stop: &Stop) -> Result<Admission> {
        if let Some(why) = call.entry.disabled_because {
            let message = format!("the tool \"{}\" is off: {why}", call.entry.definition.name);
            return Err(self.deny_call(call, Error::new(Reason::ToolDisabled, message)).await?);
        }
        let key = match &call.claim {
            Some(claim) => Some(self.keys.hold(&call.request.scope.org, claim, stop).await?),
            None => None,
        };
        let mut claim = call.claim.as_ref();
        if let Some(of_call) = claim
            && let Some(previous) = self.store.previous(&call.request.scope, &of_call.key).await?
        {
            match self.replay(previous, call, stop).await? {
                Some(result) => return Ok(Admission::Replayed(result)),
                None => claim = None,
            }
        }
        let verdict = self.decide(call);
        if verdict.decision != Decision::Allowed {
            return self.refuse(call, verdict).await;
        }
        if let Err(error) = self.rate.take(&call.request.scope.org, call.entry.definition.name).await {
            return Err(self.deny_call(call, error).await?);
        }
        let Ok(room) = self.room.clone().try_acquire_owned() else {
            let error = Error::new(Reason::Overloaded, "too many tool calls are running; try again");
            return Err(self.deny_call(call, error.retry_after(RETRY_AFTER)).await?);
        };
        let record = call.record(verdict, SystemTime::now());
        let mut begun = self.store.begin(&call.request.scope, &record, claim, None).await?;
        loop {
            begun = match begun {
                Begun::New(seq) => return Ok(Admission::Running(Box::new(Ticket { seq, key, _room: room }))),
                // Another replica was faster.
                Begun::Taken(previous) => match self.replay(previous, call, stop).await? {
                    Some(result) => return Ok(Admission::Replayed(result)),
                    None => self.store.begin(&call.request.scope, &record, None, None).await?,
                },
            };
        }
    }

    /// The result of the call that a key stands for, once it has one. `None` when its process died and it may be run
    /// again, since it only reads: its key goes on to stand for the lost one.
    async fn replay(&self, mut previous: Previous, call: &Call, stop: &Stop) -> Result<Option<CallResult>> {
        let claim = call.claim.as_ref().filter(|claim| claim.body_hash == previous.body_hash);
        while let Some(claim) = claim.filter(|_| previous.runs_elsewhere) {
            tokio::select! {
                () = tokio::time::sleep(LOOK_AGAIN) => (),
                failure = stop.wait() => return Err(keys::gave_up(&failure)),
            }
            let Some(now) = self.store.previous(&call.request.scope, &claim.key).await? else { break };
            previous = now;
        }
        let is_lost = previous.result.is_none();
        let result = replay(previous, call)?;
        Ok((!is_lost || call.entry.definition.category != Category::Read).then_some(result))
    }

    fn decide(&self, call: &Call) -> Verdict {
        let definition = &call.entry.definition;
        let value = definition.subject.of(&call.arguments);
        if matches!(definition.subject, Subject::Command(_))
            && let Some(refusal) = self.commands.refusal(value)
        {
            return Verdict::new(Decision::Denied, refusal);
        }
        self.permissions.decide(&Question {
            tool: definition.name,
            aliases: definition.aliases,
            requires_approval: call.entry.requires_approval,
            subject: definition.subject,
            value,
        })
    }

    /// Records a call that may not run. It does not use up its key: nothing was done that must not be done twice.
    async fn refuse(&self, call: &Call, verdict: Verdict) -> Result<Admission> {
        let decision = verdict.decision;
        let (reason, error) = match decision {
            Decision::NeedsApproval => (
                Reason::ApprovalRequired,
                format!("the call needs approval and nobody can give it here: {}", verdict.because),
            ),
            _ => (Reason::PermissionDenied, verdict.because.clone()),
        };
        let ending = Ending { reason: Some(reason), error, ..Ending::default() };
        let result = call.result(&ending, Outcome::default(), false);
        let record = call.record(verdict, SystemTime::now());
        match self.store.begin(&call.request.scope, &record, None, Some(&ending)).await? {
            Begun::New(seq) | Begun::Taken(Previous { seq, .. }) => Ok(Admission::Refused(seq, result, decision)),
        }
    }

    async fn deny_call(&self, call: &Call, error: Error) -> Result<Error> {
        self.deny(&call.request.scope, |verdict| call.record(verdict, SystemTime::now()), error).await
    }

    /// Records a call that is not taken, and hands back why.
    async fn deny(&self, scope: &Scope, record: impl FnOnce(Verdict) -> NewRecord, error: Error) -> Result<Error> {
        // It may quote the arguments.
        let why = cut(&error.to_string(), MAX_RECORDED).to_owned();
        let record = record(Verdict::new(Decision::Denied, why.clone()));
        let ending = Ending { reason: Some(error.reason()), error: why, ..Ending::default() };
        self.store.begin(scope, &record, None, Some(&ending)).await?;
        Ok(error)
    }

    async fn run(&self, call: &Call, ticket: Ticket, output: mpsc::Sender<Piece>, stop: Stop) -> CallResult {
        let began = Instant::now();
        let once = || {
            let context = Context {
                workspace: call.workspace.clone(),
                output: OutputSink(output.clone()),
                stop: stop.clone(),
                max_output: self.max_output,
            };
            call.entry.tool.run(&call.arguments, context)
        };
        let (outcome, retries) = match call.entry.definition.category {
            Category::Read => repeated(&stop, once).await,
            Category::Write | Category::Execute => (once().await, 0),
        };
        let ending = Ending::of(&outcome, began.elapsed());
        let result = CallResult { retries, ..call.result(&ending, outcome, true) };
        let replayed = ticket.key.is_some().then_some(&result);
        if let Err(error) = self.store.finish(&call.request.scope, ticket.seq, &ending, replayed).await {
            // The tool has run: its caller gets the result; the record says that it began.
            tracing::error!(%error, seq = ticket.seq, "the end of a tool call could not be recorded");
        }
        result
    }
}

/// The result of the call that a key stands for.
fn replay(previous: Previous, call: &Call) -> Result<CallResult> {
    if call.claim.as_ref().is_some_and(|claim| claim.body_hash != previous.body_hash) {
        return Err(keys::conflict());
    }
    if let Some(result) = previous.result {
        return Ok(result);
    }
    // Nobody runs it, or its key would be held: its process died in the middle.
    let error = "the process died while this call ran, and how far it came is not known; use a new idempotency key to run it again";
    let ending = Ending { reason: Some(Reason::ToolFailed), error: error.to_owned(), ..Ending::default() };
    Ok(call.result(&ending, Outcome::default(), true))
}

#[cfg(test)]
mod tests;
