//! Several credentials of a backend: who uses which, what a refusal costs, and how they are exchanged while it runs.

use std::{collections::BTreeMap, fs, path::Path};

use tutti_config::{Credentials, Env, Loader};
use tutti_error::{Reason, attempts_of};
use tutti_proto::{
    gateway::v1::{CheckBackendsRequest, GenerateRequest},
    llm::v1::{Attribution, RunLimits},
};
use tutti_testkit::wait_for;

use crate::support::{LONG, World, ask, client, reason, start};

fn of_session(session: &str, text: &str) -> GenerateRequest {
    let attribution = Attribution { session_id: session.into(), ..Default::default() };
    GenerateRequest { attribution: Some(attribution), ..ask("openai", text) }
}

/// The credential of the only attempt.
async fn used(world: &World, request: GenerateRequest) -> String {
    let answer = world.generate(request).await.unwrap();
    let [attempt] = &answer.attempts[..] else { panic!("{:?}", answer.attempts) };
    world.ledger.books().reserved[&attempt.attempt_id].0.credential.clone()
}

#[tokio::test]
async fn a_session_keeps_its_credential_and_sessions_spread() {
    let world = World::start().await;
    let mut homes = BTreeMap::new();
    for n in 0..12 {
        let session = format!("session-{n}");
        let home = used(&world, of_session(&session, "hi")).await;
        assert_eq!(used(&world, of_session(&session, "again")).await, home);
        *homes.entry(home).or_insert(0) += 1;
    }
    assert_eq!(homes.len(), 2, "{homes:?}");
}

#[tokio::test]
async fn a_refused_credential_is_followed_by_the_next_within_the_cap() {
    for fault in ["kind=auth", "kind=quota"] {
        let world = World::start().await;
        let prompt = format!("[[fault {fault} times=1]] hi");
        let answer = world.generate(of_session("s", &prompt)).await.unwrap();
        let credentials: Vec<String> = {
            let books = world.ledger.books();
            answer.attempts.iter().map(|attempt| books.reserved[&attempt.attempt_id].0.credential.clone()).collect()
        };
        assert_eq!(credentials.len(), 2, "{fault}");
        assert_ne!(credentials[0], credentials[1], "{fault}");
        // It rests: the session moves.
        assert_eq!(used(&world, of_session("s", "hi")).await, credentials[1], "{fault}");
        let request = CheckBackendsRequest { backends: vec!["openai".into()], probe: false };
        let status = world.client.clone().check_backends(request).await.unwrap().into_inner().backends.remove(0);
        let resting: Vec<_> = status.credential_states.iter().filter(|state| state.resting_for.is_some()).collect();
        assert_eq!((resting.len(), &resting[0].name), (1, &credentials[0]), "{fault}");
        let one = RunLimits { max_attempts: 1, ..Default::default() };
        world.ledger.balanced().await;
        let capped = World::start().await;
        let request = GenerateRequest { limits: Some(one), ..of_session("s", &prompt) };
        let status = capped.generate(request).await.unwrap_err();
        assert_eq!((capped.sim.stats().requests, attempts_of(&status).len()), (1, 1), "{fault}");
    }
    // When both are refused, that is the answer.
    let world = World::start().await;
    let status = world.generate(ask("openai", "[[fault kind=auth]] hi")).await.unwrap_err();
    assert_eq!((reason(&status), attempts_of(&status).len()), (Reason::ProviderAuth, 2));
}

fn write(path: &Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let beside = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    fs::rename(beside, path).unwrap();
}

#[tokio::test]
async fn credentials_are_exchanged_in_a_running_process() {
    let world = World::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (toml, mounted) = (folder.path().join("credentials.toml"), folder.path().join("mounted"));
    write(&toml, "[openai]\napi_key = \"sk-old-0123456789-0123456789\"\n[anthropic]\napi_key_file = \"mounted\"\n");
    write(&mounted, "sk-old-mounted-0123456789");
    let loader = Loader::new().config_dir(Some(folder.path().into())).start_dir(folder.path());
    let source = loader.env(Env::from_map([("TUTTI", "")])).load().unwrap();
    let mut config = world.config.clone();
    config.credentials = Credentials::read(&source.reader());
    config.source = Some(source);
    let app = start(&config, &world.dir, &world.ledger).await;
    let gateway = client(&app);
    let credential = async |backend: &str| {
        let answer = gateway.clone().generate(ask(backend, "hi")).await.unwrap().into_inner();
        world.ledger.books().reserved[&answer.attempts[0].attempt_id].0.credential.clone()
    };
    assert_eq!(credential("openai").await, "openai/sk-…6789");
    write(&toml, "[openai]\napi_key = \"sk-new-0123456789-012345abcd\"\n[anthropic]\napi_key_file = \"mounted\"\n");
    wait_for(LONG, async || credential("openai").await == "openai/sk-…abcd").await;
    write(&mounted, "sk-new-mounted-012345wxyz");
    wait_for(LONG, async || credential("anthropic").await == "anthropic/sk-…wxyz").await;
    // What can't be used changes nothing, and what comes after it is read.
    write(&toml, "[openai]\napi_key = 7\n");
    write(&mounted, "sk-new-mounted-012345wxy2");
    assert_eq!(credential("openai").await, "openai/sk-…abcd");
    write(&toml, "[openai]\napi_key = \"sk-new-0123456789-012345last\"\n[anthropic]\napi_key_file = \"mounted\"\n");
    wait_for(LONG, async || credential("openai").await == "openai/sk-…last").await;
    app.stop(LONG).await;
}
