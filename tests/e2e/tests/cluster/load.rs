//! Conversations with tools over all wire formats, all at the same time, until they are told to end.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::MissedTickBehavior};
use tonic::{Code, Request, Status};
use tutti_client::Channel;
use tutti_error::{Error, Reason, from_status, reason_of};
use tutti_proto::{
    llm::v1::{FinishReason, Message, Role, Tool},
    router::v1::{
        ChatRequest, ChatResponse, ChatStreamRequest, chat_stream_response::Event,
        router_service_client::RouterServiceClient,
    },
};
use tutti_testkit::wait_for;

use crate::support::{BACKENDS, Cluster, NOTE, PATIENCE};

/// How long a call may take, also on a busy machine.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(120);

/// How often a call with a key is sent at most.
const TRIES: usize = 3;

/// One call as its caller saw it.
pub(crate) struct Call {
    pub(crate) conversation: usize,
    /// What was asked.
    text: String,
    /// Whether anything of the answer came.
    pub(crate) had_begun: bool,
    /// The last event of its stream, with the request's id and when it came.
    last: String,
    /// How often a unary call was sent.
    pub(crate) tries: usize,
    pub(crate) began: Instant,
    pub(crate) took: Duration,
    pub(crate) failure: Option<Failure>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { conversation, text, last, took, failure, .. } = self;
        write!(f, "conversation {conversation}, {text:?}, last [{last}], after {took:?}: {failure:?}")
    }
}

/// Why a call failed.
pub(crate) struct Failure {
    pub(crate) code: Code,
    /// As the client of the mesh reads it.
    pub(crate) reason: Reason,
    message: String,
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}: {}", self.code, self.reason.as_str_name(), self.message)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let (code, message) = (status.code(), status.message().to_owned());
        let error = from_status(&status, "router");
        let reason = error.reason();
        // A router that died can't say why: what is left of the connection becomes a typed error in the client.
        let code = if reason_of(&status).is_some() { code } else { Status::from(error).code() };
        Self { code, reason, message }
    }
}

/// Running conversations; ended when it is dropped.
pub(crate) struct Load {
    conversations: JoinSet<Vec<Call>>,
    ending: Arc<AtomicBool>,
    /// Turns that have ended.
    turns: Arc<AtomicUsize>,
}

impl Load {
    /// So many conversations, each of which begins a turn every `pace` at most, and streams every other turn. With
    /// `insistent`, the others have an idempotency key, with which they are sent again when their router dies.
    pub(crate) fn start(cluster: &Cluster, count: usize, pace: Duration, insistent: bool) -> Self {
        let (ending, turns) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let client = cluster.router();
        let mut conversations = JoinSet::new();
        for number in 0..count {
            let conversation =
                Conversation { client: client.clone(), number, insistent, pace, left: 0, calls: Vec::new() };
            conversations.spawn(conversation.run(Arc::clone(&ending), Arc::clone(&turns)));
        }
        Self { conversations, ending, turns }
    }

    /// Waits until so many more turns have ended.
    pub(crate) async fn goes_on(&self, turns: usize) {
        let wanted = self.turns.load(Ordering::Relaxed) + turns;
        wait_for(PATIENCE, async || {
            let ended = self.turns.load(Ordering::Relaxed);
            (ended >= wanted).then_some(()).ok_or((ended, wanted))
        })
        .await;
    }

    /// Lets every conversation end its turn; all calls that were made.
    pub(crate) async fn end(mut self) -> Vec<Call> {
        self.ending.store(true, Ordering::Relaxed);
        let mut calls = Vec::new();
        while let Some(conversation) = self.conversations.join_next().await {
            calls.extend(conversation.unwrap());
        }
        calls
    }
}

/// The name of a conversation's first session.
pub(crate) fn session(conversation: usize) -> String {
    format!("conversation-{conversation}.0")
}

/// The calls that failed.
pub(crate) fn failures(calls: &[Call]) -> Vec<&Call> {
    calls.iter().filter(|call| call.failure.is_some()).collect()
}

struct Conversation {
    client: RouterServiceClient<Channel>,
    number: usize,
    insistent: bool,
    /// From the beginning of a turn to that of the next, at least.
    pace: Duration,
    /// Sessions that were left.
    left: usize,
    calls: Vec<Call>,
}

impl Conversation {
    async fn run(mut self, ending: Arc<AtomicBool>, turns: Arc<AtomicUsize>) -> Vec<Call> {
        // Not all at the same moment, nor at the same place.
        let share = self.pace * u32::try_from(self.number % 100).unwrap_or_default() / 100;
        let mut pace = tokio::time::interval_at(tokio::time::Instant::now() + share, self.pace);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for turn in self.number.. {
            pace.tick().await;
            match turn % 3 {
                0 => self.tool_of_the_mesh(turn).await,
                1 => self.tool_of_the_caller(turn).await,
                _ => self.many_words(turn).await,
            }
            turns.fetch_add(1, Ordering::Relaxed);
            if ending.load(Ordering::Relaxed) {
                break;
            }
        }
        self.calls
    }

    /// The mesh reads a file for the model.
    async fn tool_of_the_mesh(&mut self, turn: usize) {
        let mut chat = self.ask(turn, r#"[[tool read {"path":"note.txt"}]]"#);
        chat.mesh_tools = vec!["read".into()];
        self.call(chat, |answer| answer.text.contains(NOTE)).await;
    }

    /// The model calls a tool of ours, and goes on with its result.
    async fn tool_of_the_caller(&mut self, turn: usize) {
        let parameters_json =
            r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"#.to_owned();
        let weather =
            Tool { name: "weather".into(), description: "the weather".into(), parameters_json, strict: false };
        let mut chat = self.ask(turn, r#"[[tool weather {"city":"Ulm"}]]"#);
        chat.tools = vec![weather];
        let asked = self.call(chat.clone(), |message| message.tool_calls.len() == 1).await;
        let Some(asks) = asked.filter(|_| chat.session_id == self.session()) else { return };
        let result = asks.tool_calls.iter().map(|call| Message {
            role: Role::Tool.into(),
            text: format!("sunny for {}", call.arguments_json),
            tool_call_id: call.id.clone(),
            ..Default::default()
        });
        chat.messages = result.collect();
        self.call(chat, |answer| answer.text.contains("sunny") && answer.text.contains("Ulm")).await;
    }

    /// A long answer.
    async fn many_words(&mut self, turn: usize) {
        let chat = self.ask(turn, "[[words 60]]");
        self.call(chat, |answer| answer.text.len() > 100).await;
    }

    fn session(&self) -> String {
        format!("conversation-{}.{}", self.number, self.left)
    }

    fn ask(&self, turn: usize, text: &str) -> ChatRequest {
        ChatRequest {
            session_id: self.session(),
            backend: BACKENDS[self.number % BACKENDS.len()].to_owned(),
            messages: vec![Message {
                role: Role::User.into(),
                text: format!("turn {turn} of {}: {text}", self.number),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    /// Makes the call; the answer, if it is as expected.
    async fn call(&mut self, chat: ChatRequest, is_expected: impl Fn(&Message) -> bool) -> Option<Message> {
        let (began, mut had_begun, mut last, mut tries) = (Instant::now(), false, String::new(), 0);
        let text = chat.messages[0].text.clone();
        let answered = if self.calls.len().is_multiple_of(2) {
            self.stream(chat, &mut had_begun, &mut last).await
        } else {
            self.collect(chat, &mut tries).await
        };
        let message = answered.map_err(Failure::from).and_then(|answer| {
            // It will be, some time: nobody can go on with it now.
            let is_unwritten = answer.warnings.iter().any(|warning| warning.contains("could not be written"));
            self.left += usize::from(is_unwritten);
            let finished = matches!(answer.finish_reason(), FinishReason::Stop | FinishReason::ToolCalls);
            let message = answer.message.unwrap_or_default();
            if finished && is_expected(&message) {
                return Ok(message);
            }
            Err(Failure {
                code: Code::Ok,
                reason: Reason::Unspecified,
                message: format!("a wrong answer: {message:?}"),
            })
        });
        let (message, failure) = match message {
            Ok(message) => (Some(message), None),
            Err(failure) => {
                // Its question stands there without an answer, and would be asked again with the next one.
                self.left += 1;
                (None, Some(failure))
            }
        };
        self.calls.push(Call {
            conversation: self.number,
            text,
            had_begun,
            last,
            tries,
            began,
            took: began.elapsed(),
            failure,
        });
        message
    }

    /// A whole answer. As an application that wants it even when the replica dies that was asked: the key makes the call
    /// one, however often it is sent.
    async fn collect(&mut self, mut chat: ChatRequest, tries: &mut usize) -> Result<ChatResponse, Status> {
        if self.insistent {
            chat.idempotency_key = format!("{}/{}", self.session(), self.calls.len());
        }
        loop {
            *tries += 1;
            let answered = self.client.chat(timed(chat.clone())).await.map(tonic::Response::into_inner);
            let is_lost = |status: &Status| from_status(status, "router").reason() == Reason::ServiceUnavailable;
            if !self.insistent || *tries == TRIES || !answered.as_ref().is_err_and(is_lost) {
                return answered;
            }
        }
    }

    async fn stream(
        &mut self,
        chat: ChatRequest,
        had_begun: &mut bool,
        seen: &mut String,
    ) -> Result<ChatResponse, Status> {
        let began = Instant::now();
        let request = timed(ChatStreamRequest { chat: Some(chat) });
        let mut stream = self.client.chat_stream(request).await?.into_inner();
        let (mut seq, mut last) = (0, None);
        while let Some(event) = stream.message().await? {
            *had_begun = true;
            seq += 1;
            if event.seq != seq {
                return Err(broken(format!("event {} came after {}", event.seq, seq - 1)));
            }
            *seen = format!("of {} after {:?}: {:?}", event.request_id, began.elapsed(), event.event);
            last = event.event;
        }
        match last {
            Some(Event::Done(answer)) => Ok(answer),
            other => Err(broken(format!("the stream ended without done, after {other:?}"))),
        }
    }
}

/// What no stream may be.
fn broken(how: String) -> Status {
    Error::new(Reason::Internal, how).into()
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(TIMEOUT);
    request
}
