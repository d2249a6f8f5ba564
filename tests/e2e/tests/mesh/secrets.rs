//! The providers' keys are nowhere to be seen: not in answers, errors, records, logs at their most talkative, traces or
//! metrics.

use tutti_error::{Reason, attempts_of};
use tutti_proto::{
    gateway::v1::{CheckBackendsRequest, GenerateRequest},
    ledger::v1::UsageFilter,
};
use tutti_simulator::{SimConfig, Simulator};
use tutti_testkit::wait_for;

use crate::{
    support::{Mesh, PATIENCE, ask, configure, patient, tutti_up, user},
    telemetry::{get, sink::Sink},
};

/// The middle of every key: what is shown of a key is its ends.
const MIDDLE: &str = "TANGERINE";

#[tokio::test]
async fn keys_are_shown_to_nobody() {
    let sink = Sink::start().await;
    let sim = Simulator::start(SimConfig::new()).await.unwrap();
    let builder = tutti_up().args(["--admin-listen", "127.0.0.1:0"]);
    let more = format!(
        "[general]\nlog_level = \"trace\"\n[telemetry]\notlp_endpoint = \"{}\"\ncapture_content = true\n\
         [backends.bad]\nprovider = \"openai\"\nmodel = \"gpt-5.4\"\ncredentials = \"bad\"\n\
         base_url = \"http://{}/v1\"\n[resilience.retry]\nbase_delay = \"1ms\"\n\
         [resilience.limits.credential]\nrequests_per_minute = 1000\nburst = 1000\n",
        sink.endpoint(),
        sim.addr()
    );
    configure(&builder, &sim, &more);
    let key = |name: &str| format!("[{name}]\napi_key = \"sk-{MIDDLE}-{name}-0123456789\"\n");
    let keys = ["claude", "openai", "gemini", "deepseek"].map(key).join("\n");
    // The simulator refuses keys that begin so, in the words of the provider.
    let bad =
        format!("{keys}\n[bad]\napi_keys = [\"invalid-{MIDDLE}-1-0123456789\", \"invalid-{MIDDLE}-2-0123456789\"]\n");
    builder.scratch().write_config("credentials.toml", &bad);
    let mut mesh = Mesh::of(builder, sim).await;
    let admin = mesh.process.wait_for_stderr(PATIENCE, |line| {
        let (_, rest) = line.split_once("metrics and probes address=")?;
        rest.split_whitespace().next().map(str::to_owned)
    });
    let admin = admin.await;

    let mut said = Vec::new();
    for backend in ["claude", "openai", "gemini", "ollama", "deepseek", "bad"] {
        for text in
            ["hello", "[[fault status=500 times=1]] hello", "[[fault kind=auth]] hello", "[[fault close]] hello"]
        {
            said.push(format!("{:?}", mesh.chat(ask(backend, text)).await));
            let generate =
                GenerateRequest { backend: backend.into(), messages: vec![user(text)], ..Default::default() };
            said.push(format!("{:?}", mesh.gateway().generate(patient(generate)).await));
        }
    }
    let refused = mesh.chat(ask("bad", "hello")).await.unwrap_err();
    assert!(attempts_of(&refused).iter().any(|attempt| attempt.reason() == Reason::ProviderAuth), "{refused:?}");
    let check = CheckBackendsRequest { backends: Vec::new(), probe: true };
    let backends = format!("{:?}", mesh.gateway().check_backends(patient(check)).await.unwrap());
    assert!(backends.contains("claude/sk-…6789"), "{backends}");
    said.push(backends);
    said.push(format!("{:?}", mesh.usage(UsageFilter::default()).await));
    said.push(get(&admin, "/metrics").await);
    let spans = wait_for(PATIENCE, || async {
        let spans = sink.all();
        if spans.iter().any(|span| span.name.starts_with("chat ")) { Ok(spans) } else { Err(spans) }
    });
    said.push(format!("{:?}", spans.await));
    mesh.process.terminate(PATIENCE).await;
    said.push(format!("{:?}", sink.all()));
    said.push(mesh.process.stdout());
    let log = mesh.process.stderr();
    assert!(log.contains("TRACE") && log.contains("a credential rests"), "{log}");
    said.push(log);
    for text in said {
        if let Some(at) = text.find(MIDDLE) {
            let around: String = text[..at].chars().rev().take(300).collect();
            panic!("a key is shown after: {}", around.chars().rev().collect::<String>());
        }
    }
}
