//! Calls whose owner dies: a replica in a runtime of its own, which ends as a killed process does.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::runtime::Runtime;
use tutti_config::PostgresConfig;
use tutti_error::Reason;
use tutti_proto::{
    llm::v1::{AttemptOutcome, RunLimits},
    memory::v1::TurnState,
    router::v1::{ChatRequest, ChatStreamResponse, Rewind, chat_stream_response::Event},
};
use tutti_testkit::wait_for;

use super::tests::{PATIENCE, begin, bytes, collected, database, delta, done, keyed, read, replica};
use crate::{
    app::Desk,
    clients::GatewayEvent,
    domain::fakes::{Fake, Play, answer, calling, sent, used},
};

const LONG: Duration = Duration::from_secs(60);

/// A replica that can be killed.
struct Victim {
    desk: Arc<Desk>,
    runtime: Runtime,
}

impl Victim {
    async fn start(config: &PostgresConfig, fake: &Arc<Fake>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (config, fake) = (config.clone(), fake.clone());
        let desk = runtime.spawn(async move { replica(&config, &fake, LONG).await }).await.unwrap();
        Self { desk, runtime }
    }

    /// Somebody asks it, and loses it.
    fn ask(&self, chat: ChatRequest) {
        let desk = self.desk.clone();
        self.runtime.spawn(async move { read(begin(&desk, chat).await.unwrap()).await });
    }

    fn kill(self) {
        self.runtime.shutdown_background();
    }
}

fn stalling(said: Vec<tutti_error::Result<GatewayEvent>>) -> Play {
    let attempt = Ok(GatewayEvent::Attempt(sent("of the dead", used(3))));
    Play::Stalls([attempt].into_iter().chain(said).collect())
}

/// Waits until so many events of the only call are in the store.
async fn recorded(desk: &Arc<Desk>, chat: &ChatRequest, seq: u64) {
    let mut reader = begin(desk, chat.clone()).await.unwrap();
    while reader.next().await.unwrap().unwrap().seq < seq {}
}

fn rewinds(events: &[ChatStreamResponse]) -> Vec<(u64, Rewind)> {
    let rewind = |event: &ChatStreamResponse| match &event.event {
        Some(Event::Rewind(rewind)) => Some((event.seq, *rewind)),
        _ => None,
    };
    events.iter().filter_map(rewind).collect()
}

#[tokio::test]
async fn fifty_readers_of_a_call_whose_owner_is_killed_get_one_answer() {
    let plays = vec![stalling(vec![delta("half")]), answer(&["one ", "answer"])];
    let (fake, config) = (Arc::new(Fake::playing(plays)), database().await);
    // Of five, one is spent by the dead, and one is kept for each of the two backends after the first.
    let limits = RunLimits { max_attempts: 5, ..Default::default() };
    let request = ChatRequest { limits: Some(limits), session_id: "s".into(), ..keyed("k") };
    let owner = Victim::start(&config, &fake).await;
    owner.ask(request.clone());
    let other = replica(&config, &fake, LONG).await;
    let early: Vec<_> = (0..25).map(|_| begin(&other, request.clone())).collect();
    wait_for(PATIENCE, async || (!fake.generated.lock().unwrap().is_empty()).then_some(())).await;
    let early: Vec<_> = join_all(early).await.into_iter().map(Result::unwrap).collect();
    recorded(&other, &request, 2).await;
    (0..24).for_each(|_| owner.ask(request.clone()));
    owner.kill();
    let early = join_all(early.into_iter().map(read)).await;
    // Those who lost the replica come again.
    let late = (0..25).map(|_| async { read(begin(&other, request.clone()).await.unwrap()).await });
    let late = join_all(late).await;

    let (events, error) = &early[0];
    assert!(error.is_none(), "{error:?}");
    let [(seq, rewind)] = rewinds(events)[..] else { panic!("{events:?}") };
    assert_eq!(rewind, Rewind { to_seq: 0, reason: Reason::ServiceUnavailable.into() });
    assert!(seq > 2 && (1..).zip(events).all(|(n, event)| event.seq == n));
    let answer = done(events);
    assert_eq!(answer.message.as_ref().unwrap().text, "one answer");
    let attempts: Vec<_> =
        answer.attempts.iter().map(|attempt| (attempt.attempt_id.as_str(), attempt.outcome())).collect();
    assert_eq!(attempts, [("of the dead", AttemptOutcome::Failed), ("", AttemptOutcome::Ok)]);
    assert!(early.iter().chain(&late).all(|(all, _)| bytes(all) == bytes(events)), "all read the same bytes");
    assert_eq!(collected(&other, request).await.unwrap(), *answer);
    assert_eq!(fake.generated.lock().unwrap().len(), 2);
    assert_eq!(fake.generated.lock().unwrap()[1].limits.unwrap().max_attempts, 2);
    // One turn in the session, closed by the second run.
    let appended = fake.appended.lock().unwrap();
    assert!(appended.iter().all(|append| append.turn_id == appended[0].turn_id));
    let states: Vec<_> = appended.iter().map(|append| (append.index, append.state())).collect();
    assert_eq!(states, [(0, TurnState::Open), (0, TurnState::Open), (10_001, TurnState::Complete)]);
}

#[tokio::test]
async fn nothing_is_taken_back_that_was_not_said() {
    let plays = vec![stalling(Vec::new()), answer(&["ok"])];
    let (fake, config) = (Arc::new(Fake::playing(plays)), database().await);
    let owner = Victim::start(&config, &fake).await;
    owner.ask(keyed("k"));
    let other = replica(&config, &fake, LONG).await;
    wait_for(PATIENCE, async || (!fake.generated.lock().unwrap().is_empty()).then_some(())).await;
    let reader = begin(&other, keyed("k")).await.unwrap();
    owner.kill();
    let (events, error) = read(reader).await;
    assert!(error.is_none() && rewinds(&events).is_empty(), "{events:?}");
    assert_eq!(done(&events).message.as_ref().unwrap().text, "ok");
}

#[tokio::test]
async fn the_cap_on_attempts_holds_over_all_owners() {
    let (fake, config) = (Arc::new(Fake::playing(vec![stalling(vec![delta("half")])])), database().await);
    let limits = RunLimits { max_attempts: 1, ..Default::default() };
    let request = ChatRequest { limits: Some(limits), ..keyed("k") };
    let owner = Victim::start(&config, &fake).await;
    owner.ask(request.clone());
    let other = replica(&config, &fake, LONG).await;
    wait_for(PATIENCE, async || (!fake.generated.lock().unwrap().is_empty()).then_some(())).await;
    owner.kill();
    let error = collected(&other, request.clone()).await.unwrap_err();
    assert_eq!(error.reason(), Reason::AttemptsExceeded);
    // It would fail again.
    assert_eq!(collected(&other, request).await.unwrap_err().encode(), error.encode());
    assert_eq!(fake.generated.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_tool_call_of_both_owners_has_one_key() {
    let plays = vec![
        calling(&[("c1", "read")]),
        stalling(vec![delta("half")]),
        calling(&[("c2", "read")]),
        answer(&["read it"]),
    ];
    let (fake, config) = (Arc::new(Fake::playing(plays)), database().await);
    let request = ChatRequest { mesh_tools: vec!["read".into()], ..keyed("k") };
    let owner = Victim::start(&config, &fake).await;
    owner.ask(request.clone());
    let other = replica(&config, &fake, LONG).await;
    wait_for(PATIENCE, async || (fake.generated.lock().unwrap().len() == 2).then_some(())).await;
    owner.kill();
    let response = collected(&other, request).await.unwrap();
    assert_eq!(response.message.unwrap().text, "read it");
    let executed = fake.executed.lock().unwrap();
    assert_eq!(executed.len(), 2);
    assert_eq!(executed[0].idempotency_key, executed[1].idempotency_key, "the sandbox runs it once");
}

#[tokio::test]
async fn an_owner_that_was_only_slow_writes_nothing_any_more() {
    let plays = vec![stalling(vec![delta("half")]), answer(&["anew"])];
    let (fake, config) = (Arc::new(Fake::playing(plays)), database().await);
    let (one, other) = (replica(&config, &fake, LONG).await, replica(&config, &fake, LONG).await);
    let request = ChatRequest { session_id: "s".into(), ..keyed("k") };
    let first = begin(&one, request.clone()).await.unwrap();
    let second = begin(&other, request.clone()).await.unwrap();
    recorded(&other, &request, 2).await;
    // Another replica believes that the first is dead, and is believed.
    let name = match url(&config).rsplit('/').next() {
        Some(name) => name.to_owned(),
        None => unreachable!(),
    };
    let fence = "UPDATE router.calls SET owner = 'nobody', fencing = fencing + 1";
    tutti_testkit::TestPostgres::shared().sql(&name, fence);
    let (events, error) = read(second).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(done(&events).message.as_ref().unwrap().text, "anew");
    let (same, _) = read(first).await;
    assert_eq!(bytes(&same), bytes(&events), "its readers read on");
}

fn url(config: &PostgresConfig) -> String {
    use tutti_config::ExposeSecret as _;
    config.url.expose_secret().to_owned()
}
