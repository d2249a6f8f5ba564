//! `[backends.NAME]`.

use std::time::Duration;

use tutti_config::{BreakerConfig, Preset, ProviderKind, RetryConfig, Timeouts};

use crate::support::Home;

#[test]
fn the_built_in_backends_are_those_of_the_documents() {
    let all = Home::new().all().unwrap();
    let rows: Vec<_> = all
        .backends
        .iter()
        .map(|b| {
            (b.name.as_str(), b.provider, b.model.as_str(), b.persona.as_str(), b.max_context_tokens, b.temperature)
        })
        .collect();
    let expected = [
        (
            "claude",
            ProviderKind::Anthropic,
            "claude-sonnet-4.5-20250929",
            "general-assistant",
            Some(200_000),
            Some(0.7),
        ),
        ("openai", ProviderKind::OpenAi, "gpt-4o", "code-specialist", Some(128_000), Some(0.7)),
        ("gemini", ProviderKind::Gemini, "gemini-2-flash", "fast-parser", Some(1_000_000), Some(0.5)),
        ("ollama", ProviderKind::Ollama, "deepseek-coder:latest", "local-coder", Some(8_192), Some(0.3)),
        ("opus", ProviderKind::Anthropic, "claude-opus-4-5-20251101", "architect", Some(200_000), Some(0.2)),
    ];
    assert_eq!(rows, expected);
    let opus = all.backends.get("opus").unwrap();
    assert_eq!((opus.credentials.as_str(), opus.max_output_tokens), ("opus_self", 4_096));
    assert_eq!(opus.timeouts, Timeouts::default());
}

#[test]
fn single_keys_are_overridden_backends_added_and_disabled() {
    let home = Home::new().global(
        "[backends.claude]\nmodel = \"newer\"\n[backends.claude.timeouts]\nidle = \"5s\"\n\
         [backends.opus]\nenabled = false\n\
         [backends.ds]\nprovider = \"deepseek\"\nmodel = \"deepseek-chat\"\nbase_url = \"https://example.com/v1/\"\n\
         [backends.office]\nprovider = \"openai-compatible\"\npreset = \"vllm\"\nmodel = \"m\"\n",
    );
    let all = home.all().unwrap();
    assert_eq!(all.backends.names().collect::<Vec<_>>(), ["claude", "openai", "gemini", "ollama", "ds", "office"]);
    let claude = all.backends.get("claude").unwrap();
    assert_eq!((claude.model.as_str(), claude.persona.as_str()), ("newer", "general-assistant"));
    assert_eq!(claude.timeouts, Timeouts { idle: Duration::from_secs(5), ..Timeouts::default() });
    let ds = all.backends.get("ds").unwrap();
    assert_eq!((ds.provider, ds.preset), (ProviderKind::OpenAiCompatible, Some(Preset::DeepSeek)));
    assert_eq!((ds.credentials.as_str(), ds.persona.as_str()), ("deepseek", "default"));
    assert_eq!(ds.effective_base_url(None).as_deref(), Some("https://example.com/v1"));
    assert_eq!((ds.max_context_tokens, ds.temperature), (None, None));
    let office = all.backends.get("office").unwrap();
    assert_eq!((office.preset, office.credentials.as_str()), (Some(Preset::Vllm), "vllm"));
    assert!(office.is_local() && !ds.is_local());
    assert_eq!(all.backends.nearest("claud"), ["claude"]);
}

#[test]
fn every_provider_id_is_known() {
    for (id, kind) in [
        ("claude", ProviderKind::Anthropic),
        ("anthropic", ProviderKind::Anthropic),
        ("opus_self", ProviderKind::Anthropic),
        ("openai", ProviderKind::OpenAi),
        ("gemini", ProviderKind::Gemini),
        ("ollama", ProviderKind::Ollama),
        ("simulator", ProviderKind::Simulator),
        ("kimi", ProviderKind::OpenAiCompatible),
        ("moonshot", ProviderKind::OpenAiCompatible),
        ("mistral", ProviderKind::OpenAiCompatible),
        ("groq", ProviderKind::OpenAiCompatible),
        ("together", ProviderKind::OpenAiCompatible),
        ("openrouter", ProviderKind::OpenAiCompatible),
        ("litellm", ProviderKind::OpenAiCompatible),
        ("vllm", ProviderKind::OpenAiCompatible),
        ("llamacpp", ProviderKind::OpenAiCompatible),
    ] {
        let home = Home::new().global(&format!("[backends.b]\nprovider = \"{id}\"\nmodel = \"m\"\n"));
        let all = home.all().unwrap();
        let backend = all.backends.get("b").unwrap();
        assert_eq!((backend.provider, backend.credentials.as_str()), (kind, id));
        assert_eq!(backend.effective_base_url(None).is_some(), kind != ProviderKind::Simulator, "{id}");
    }
}

#[test]
fn everything_wrong_with_backends_is_named_at_once() {
    let home = Home::new().global(
        r#"[backends]
loose = 1

[backends.a]
provider = "opnai"
model = "m"
persona = "architct"

[backends.b]
provider = "openai-compatible"
temperature = 3

[backends.c]
provider = "openai"
preset = "vllm"
model = ""
api_key = "sk-secret"
max_context_tokens = 0

[backends.d]
model = "m"
base_url = "ftp://x"
[backends.d.timeouts]
total = 0
totl = 1

[backends.e]
provider = "claude-cli"
model = "m"

[backends.f]
provider = "ollama"
model = "m"
base_url = "https://user:pass@example.com"
"#,
    );
    let expected = [
        "global/config.toml:2: backends.loose: expected a table such as [backends.NAME], found an integer",
        "global/config.toml:5: backends.a.provider: unknown provider \"opnai\"; did you mean \"openai\"?",
        "global/config.toml:7: backends.a.persona: unknown persona \"architct\"; did you mean \"architect\"?",
        "global/config.toml:9: backends.b.base_url: missing key; a provider without a preset needs its address",
        "global/config.toml:9: backends.b.model: missing key",
        "global/config.toml:11: backends.b.temperature: expected a number from 0 to 2, found 3",
        "global/config.toml:15: backends.c.preset: only provider = \"openai-compatible\" takes a preset",
        "global/config.toml:16: backends.c.model: must not be empty",
        "global/config.toml:17: backends.c.api_key: keys belong in credentials.toml, never in a config file",
        "global/config.toml:18: backends.c.max_context_tokens: expected an integer of at least 1, found 0",
        "global/config.toml:20: backends.d.provider: missing key",
        "global/config.toml:22: backends.d.base_url: expected an address such as https://example.com/v1",
        "global/config.toml:24: backends.d.timeouts.total: expected a duration above zero",
        "global/config.toml:25: backends.d.timeouts.totl: unknown key; did you mean \"total\"?",
        "global/config.toml:28: backends.e.provider: the provider claude-cli is not built yet",
        "global/config.toml:34: backends.f.base_url: an address must hold no password; \
         keys belong in credentials.toml",
    ];
    assert_eq!(home.all_problems(), expected);
}

#[test]
fn a_project_that_redirects_a_key_is_announced() {
    let home = Home::new()
        .project("[backends.claude]\nmodel = \"m\"\nbase_url = \"https://example.com\"\n")
        .file("project/.env", "TUTTI_CREDENTIALS__OPENAI__BASE_URL=https://example.com\n");
    let expected = [
        "project/.tutti/config.toml:3: backends.claude.base_url: this project decides where a key of yours is sent",
        "project/.env:1: openai.base_url: this project decides where a key of yours is sent",
    ];
    assert_eq!(home.all().unwrap().warnings, expected);
    let own = Home::new().global("[backends.claude]\nbase_url = \"https://example.com\"\n");
    assert!(own.all().unwrap().warnings.is_empty());
}

#[test]
fn resilience_holds_for_all_backends_and_each_may_differ() {
    let home = Home::new().global(
        "[resilience.retry]\nmax_attempts = 5\nbase_delay = \"100ms\"\n[resilience.breaker]\nenabled = false\n\
         [backends.claude.retry]\nmax_attempts = 1\n[backends.claude.breaker]\nenabled = true\nopen_for = \"1s\"\n",
    );
    let all = home.all().unwrap();
    let of = |name| &all.backends.get(name).unwrap().resilience;
    let retry = RetryConfig { max_attempts: 5, base_delay: Duration::from_millis(100), ..RetryConfig::default() };
    assert_eq!(of("openai").retry, retry);
    assert_eq!(of("claude").retry, RetryConfig { max_attempts: 1, ..retry });
    assert!(!of("openai").breaker.enabled);
    let own = BreakerConfig { open_for: Duration::from_secs(1), ..BreakerConfig::default() };
    assert_eq!(of("claude").breaker, own);
    let wrong = Home::new().global("[resilience.breaker]\nsuccesses = 4\n[resilience.retry]\ntries = 2\n");
    assert_eq!(
        wrong.all_problems(),
        [
            "global/config.toml:2: resilience.breaker.successes: more successes than half_open_calls can never come",
            "global/config.toml:4: resilience.retry.tries: unknown key; known: base_delay, factor, jitter, max_attempts, \
             max_delay",
        ]
    );
}

#[test]
fn egress_holds_for_all_backends_and_each_may_differ() {
    let home = Home::new().global(
        "[egress]\nproxy = \"http://proxy:3128\"\nca_file = \"ca.pem\"\n\
         [backends.claude]\nproxy = \"\"\n[backends.openai]\nca_file = \"/own.pem\"\n",
    );
    let all = home.all().unwrap();
    let of = |name| &all.backends.get(name).unwrap().egress;
    assert_eq!((of("gemini").proxy.as_deref(), of("claude").proxy.as_deref()), (Some("http://proxy:3128"), None));
    assert!(of("gemini").ca_file.as_ref().unwrap().ends_with("global/ca.pem"));
    assert_eq!(of("openai").ca_file.as_deref(), Some(std::path::Path::new("/own.pem")));
    let wrong = Home::new().global("[egress]\nproxy = \"http://me:secret@proxy\"\n");
    assert_eq!(
        wrong.all_problems(),
        ["global/config.toml:2: egress.proxy: a proxy that wants a password is not supported"]
    );
}
