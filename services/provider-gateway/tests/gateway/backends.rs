//! `CheckBackends` and `ListModels`.

use tutti_error::Reason;
use tutti_proto::gateway::v1::{BackendHealth, BackendStatus, CheckBackendsRequest, ListModelsRequest, Modality};
use tutti_simulator::{Fault, Rule, Scenario};

use crate::support::{World, ask, reason};

async fn check(world: &World, backends: &[&str], probe: bool) -> Vec<BackendStatus> {
    let backends = backends.iter().map(|name| (*name).to_owned()).collect();
    let request = CheckBackendsRequest { backends, probe };
    world.client.clone().check_backends(request).await.unwrap().into_inner().backends
}

#[tokio::test]
async fn backends_are_told_as_they_are_configured() {
    let world = World::start().await;
    let all = check(&world, &[], false).await;
    let names: Vec<&str> = all.iter().map(|backend| backend.name.as_str()).collect();
    assert_eq!(names, ["openai", "anthropic", "gemini", "ollama", "simulator", "locked"]);
    assert!(all.iter().all(|backend| backend.health() == BackendHealth::Unspecified));
    let claude = &all[1];
    assert_eq!((claude.model.as_str(), claude.context_window), ("claude-sonnet-5-5", 1_000_000));
    assert_eq!((claude.max_output_tokens, claude.credentials, claude.local), (4096, 1, false));
    assert!(all[4].simulator && all[4].local);
    let locked = &all[5];
    assert!(!locked.usable);
    assert_eq!(locked.unusable_because, "no credential: set [nowhere] api_key in credentials.toml");
    assert_eq!(world.sim.stats().requests, 0, "nothing was asked");
}

#[tokio::test]
async fn a_probe_says_whether_a_backend_answers() {
    let world = World::start().await;
    let all = check(&world, &[], true).await;
    for backend in all.iter().filter(|backend| backend.usable) {
        assert_eq!(backend.health(), BackendHealth::Healthy, "{backend:?}");
        assert!(backend.latency.is_some() && backend.checked_at.is_some());
    }
    assert!(world.ledger.books().reserved.is_empty(), "a probe costs nothing");
}

#[tokio::test]
async fn the_last_failure_is_remembered() {
    let world = World::start().await;
    let broken = Scenario::new().rule(Rule::new().first(1).fault(Fault::status(503)));
    world.sim.set_scenario(broken);
    world.generate(ask("openai", "hi")).await.unwrap_err();
    let [openai] = &check(&world, &["openai"], false).await[..] else { panic!() };
    assert_eq!(openai.health(), BackendHealth::Unhealthy);
    assert_eq!(openai.last_error_reason(), Reason::ProviderError);
    assert!(!openai.last_error.is_empty());
    world.generate(ask("openai", "hi")).await.unwrap();
    let [openai] = &check(&world, &["openai"], false).await[..] else { panic!() };
    assert_eq!(openai.health(), BackendHealth::Healthy);
    assert_eq!(openai.last_error_reason(), Reason::ProviderError, "still told");
}

#[tokio::test]
async fn an_unknown_backend_is_named() {
    let world = World::start().await;
    let request = CheckBackendsRequest { backends: vec!["gemni".into()], probe: false };
    let status = world.client.clone().check_backends(request).await.unwrap_err();
    assert_eq!(reason(&status), Reason::UnknownBackend);
    assert!(status.message().contains("gemini"));
}

#[tokio::test]
async fn models_are_listed_with_their_prices() {
    let world = World::start().await;
    let request = ListModelsRequest { contains: "gpt4o".into(), ..Default::default() };
    let models = world.client.clone().list_models(request).await.unwrap().into_inner().models;
    let gpt = models.iter().find(|model| model.id == "gpt-4o").unwrap();
    assert_eq!((gpt.prices[0].input_nano_usd, gpt.context_window, gpt.legacy), (2_500_000_000, 128_000, true));
    assert_eq!((gpt.as_of.as_str(), gpt.trains_on_output_known, gpt.configured), ("2026-08-21", true, false));
    assert_eq!(gpt.modalities, [Modality::Text, Modality::Image, Modality::File].map(i32::from));
    assert!(!gpt.source.is_empty() && gpt.regions.contains(&"eu".to_owned()));
    let bad = ListModelsRequest { page_size: -1, ..Default::default() };
    let status = world.client.clone().list_models(bad).await.unwrap_err();
    assert_eq!(reason(&status), Reason::InvalidRequest);
}
