//! Delays: they are at least as long as asked, and streams do not wait for one another.

use std::time::{Duration, Instant};

use tutti_simulator::{Fault, Format, Scenario};

use crate::support::{chat, sim_with};

#[tokio::test]
async fn first_token_and_chunks_come_at_their_pace() {
    let pace = Fault::new().ttft_ms(60).chunk_ms(10);
    let sim = sim_with(Scenario::new().defaults(pace)).await;
    for stream in [true, false] {
        let began = Instant::now();
        let reply = chat(Format::OpenAi, stream, "[[words 5]]").send(&sim).await.unwrap();
        assert!(reply.complete);
        assert!(began.elapsed() >= Duration::from_millis(100), "{stream}: {:?}", began.elapsed());
        let first = sim.requests().pop().unwrap().first_chunk_us.unwrap();
        assert!(first >= 60_000, "{first}");
    }
}

#[tokio::test]
async fn a_slow_head_delays_everything() {
    let sim = sim_with(Scenario::new()).await;
    let began = Instant::now();
    let reply = chat(Format::Ollama, true, "[[fault head_ms=50]]").send(&sim).await.unwrap();
    assert!(reply.complete && began.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn chunks_hold_as_many_tokens_as_asked() {
    let sim = sim_with(Scenario::new()).await;
    let prompt = "[[words 10]][[fault chunk_tokens=4]]";
    let reply = chat(Format::OpenAi, true, prompt).send(&sim).await.unwrap();
    let texts = reply.events().iter().filter(|event| event["choices"][0]["delta"]["content"] != "").count();
    assert_eq!(texts - 1, 3, "three chunks and the finish");
    let record = sim.requests().pop().unwrap();
    assert_eq!((record.chunks_sent, record.output_tokens_sent), (3, 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_streams_run_side_by_side() {
    let sim = sim_with(Scenario::new().defaults(Fault::new().chunk_ms(10))).await;
    let began = Instant::now();
    let request = chat(Format::OpenAi, true, "[[words 20]]");
    let streams = (0..200).map(|_| request.send(&sim));
    let replies = futures::future::join_all(streams).await;
    assert!(replies.iter().all(|reply| reply.as_ref().is_ok_and(|reply| reply.complete)));
    // One after another they would take 38 s.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let stats = sim.stats();
    assert_eq!((stats.finished, stats.output_tokens_sent), (200, 4000));
}
