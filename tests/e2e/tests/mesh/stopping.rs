//! How a mesh ends: gently on SIGTERM, and without losing what it owes on SIGKILL.

use std::time::Duration;

use tutti_proto::{
    ledger::v1::{UsageFilter, UsageState},
    memory::v1::{GetHistoryRequest, TurnState},
    router::v1::{ChatRequest, chat_stream_response::Event},
};

use tutti_testkit::Process;

use crate::support::{Mesh, PATIENCE, ask, patient, tutti_up_at};

#[tokio::test]
async fn a_running_stream_ends_within_the_grace_period() {
    let mut mesh = Mesh::start().await;
    let mut stream = mesh.stream(ask("claude", "[[fault chunk_ms=10]] [[words 60]]")).await;
    stream.message().await.unwrap().unwrap();
    mesh.process.signal(nix::sys::signal::Signal::SIGTERM);
    let mut done = None;
    while let Some(event) = stream.message().await.unwrap() {
        if let Some(Event::Done(answer)) = event.event {
            done = Some(answer);
        }
    }
    let request_id = done.unwrap().request_id;
    drop(stream);
    let status = mesh.process.wait(PATIENCE).await;
    assert!(status.success(), "{status:?}: {}", mesh.process.stderr());

    let mesh = restarted(mesh).await;
    assert_eq!(mesh.settled(&request_id).await[0].state(), UsageState::Settled);
}

#[tokio::test]
async fn a_killed_mesh_still_has_the_hold_of_what_it_was_paying_for() {
    let mut mesh = Mesh::start().await;
    let chat = ChatRequest { session_id: "s".into(), ..ask("claude", "[[fault chunk_ms=10]] [[words 2000]]") };
    let mut stream = mesh.stream(chat).await;
    let event = stream.message().await.unwrap().unwrap();
    loop {
        if let Some(Event::Delta(_)) = stream.message().await.unwrap().unwrap().event {
            break;
        }
    }
    mesh.process.kill();
    drop(stream);

    let mesh = restarted(mesh).await;
    let filter = UsageFilter { request_id: event.request_id, ..Default::default() };
    let records = mesh.usage(filter).await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].state(), UsageState::Reserved);
    assert!(records[0].held_nano_usd > 0);

    let asked = GetHistoryRequest { session_id: "s".into(), ..Default::default() };
    let entries = mesh.memory().get_history(patient(asked)).await.unwrap().into_inner().entries;
    let states: Vec<_> = entries.iter().map(|entry| entry.turn_state()).collect();
    assert_eq!(states, [TurnState::Incomplete], "nobody is left to go on with the turn");
}

/// A new mesh on the same folders.
async fn restarted(mesh: Mesh) -> Mesh {
    let Mesh { process, sim, .. } = mesh;
    let scratch = process.into_scratch();
    let data = scratch.data_dir();
    let builder = tutti_up_at(Process::binary("tutti").with_scratch(scratch), "127.0.0.1:0", &data);
    tokio::time::timeout(Duration::from_secs(60), Mesh::of(builder, sim)).await.unwrap()
}
