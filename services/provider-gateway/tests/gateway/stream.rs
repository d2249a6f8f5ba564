//! `GenerateStream` when all goes well.

use tutti_proto::{
    gateway::v1::{GenerateRequest, GenerateStreamRequest, generate_stream_response::Event},
    llm::v1::{AttemptOutcome, FinishReason, Sampling, Tool},
};
use tutti_simulator::{Fault, Rule, Scenario};

use crate::support::{FORMATS, World, ask, done, text};

#[tokio::test]
async fn every_format_streams_and_ends_with_the_whole_answer() {
    for backend in FORMATS {
        let world = World::start().await;
        let (events, ended) = world.stream(ask(backend, "[[words 50]]")).await;
        ended.unwrap();
        let seqs: Vec<u64> = events.iter().map(|event| event.seq).collect();
        assert_eq!(seqs, (1..=events.len() as u64).collect::<Vec<_>>(), "{backend}");
        let done = done(&events);
        assert_eq!(done.message.as_ref().unwrap().text, text(&events), "{backend}");
        assert_eq!(done.finish_reason(), FinishReason::Stop);
        assert!(done.time_to_first_token.is_some());
        let usage = done.usage.unwrap();
        let seen = world.sim.request(&done.attempts[0].attempt_id).unwrap();
        assert_eq!(usage.output_tokens as u64, seen.output_tokens, "{backend}");
        let settled = world.ledger.only_settlement().await;
        assert_eq!(settled.outcome(), AttemptOutcome::Ok);
        assert_eq!(settled.used.unwrap().visible_output, usage.output_tokens);
    }
}

#[tokio::test]
async fn tool_calls_come_whole_after_the_text_before_them() {
    for backend in FORMATS {
        let world = World::start().await;
        let tool = Tool { name: "add".into(), parameters_json: r#"{"type":"object"}"#.into(), ..Default::default() };
        let request =
            GenerateRequest { tools: vec![tool], ..ask(backend, r#"[[say let me see]][[tool add {"x": 4}]]"#) };
        let (events, ended) = world.stream(request).await;
        ended.unwrap();
        let call_at = events.iter().position(|event| matches!(event.event, Some(Event::ToolCall(_)))).unwrap();
        let last_text = events.iter().rposition(|event| matches!(event.event, Some(Event::Delta(_)))).unwrap();
        assert!(last_text < call_at, "{backend}");
        assert_eq!(done(&events).finish_reason(), FinishReason::ToolCalls, "{backend}");
    }
}

#[tokio::test]
async fn small_pieces_are_merged_for_a_slow_reader_and_the_provider_waits() {
    let world = World::with(|backend| backend.timeouts.idle = std::time::Duration::from_millis(300)).await;
    let sampling = Sampling { max_output_tokens: Some(100_000), ..Default::default() };
    let all = GenerateRequest { sampling: Some(sampling), ..ask("simulator", "[[words 100000]]") };
    let request = GenerateStreamRequest { generate: Some(all) };
    let mut stream = world.client.clone().generate_stream(request).await.unwrap().into_inner();
    let attempt = stream.message().await.unwrap().unwrap();
    let first = stream.message().await.unwrap().unwrap();
    // Meanwhile this reader does something else, for longer than the idle timeout.
    let slow = Scenario::new().rule(Rule::new().model("gpt-4o-mini").fault(Fault::new().head_ms(700)));
    world.sim.set_scenario(slow);
    let other = GenerateRequest { model: "gpt-4o-mini".into(), ..ask("openai", "hi") };
    world.generate(other).await.unwrap();
    // 100,000 chunks of some 200 bytes are 20 MB: the sockets hold a part of it.
    let held_back = &world.sim.requests()[0];
    assert!(held_back.ended_us.is_none(), "the provider could write it all: nobody held it back: {held_back:?}");
    let mut events = vec![attempt, first];
    while let Some(event) = stream.message().await.unwrap() {
        events.push(event);
        // Others have their turn before this reader comes back.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }
    assert!(events.len() < 50_000, "{} events", events.len());
    assert_eq!(text(&events).len(), 400_000);
    let longest =
        events.iter().filter_map(|e| if let Some(Event::Delta(d)) = &e.event { Some(d.len()) } else { None }).max();
    assert!(longest.unwrap() <= 64 * 1024);
    world.ledger.balanced().await;
}

#[tokio::test]
async fn the_attempt_is_told_before_it_is_sent_and_its_usage_while_the_provider_is_silent() {
    for backend in FORMATS {
        let world = World::start().await;
        let (events, ended) = world.stream(ask(backend, "[[fault chunk_ms=1]] [[words 500]]")).await;
        ended.unwrap();
        let Some(Event::Attempt(told)) = &events[0].event else { panic!("{backend}: {:?}", events[0]) };
        let closed = &done(&events).attempts[0];
        assert_eq!((&told.attempt_id, &told.model), (&closed.attempt_id, &closed.model), "{backend}");
        assert_eq!((told.outcome(), told.usage.unwrap().estimated), (AttemptOutcome::Unspecified, true), "{backend}");
        assert!(told.usage.unwrap().input_tokens > 0, "{backend}");
        let usages = events.iter().filter_map(|e| if let Some(Event::Usage(u)) = &e.event { Some(u) } else { None });
        let most = usages.map(|usage| usage.output_tokens).max().unwrap_or_default();
        let all = closed.usage.unwrap().output_tokens;
        assert!(most > all / 2, "{backend}: {most} of {all}");
    }
}
