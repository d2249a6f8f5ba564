//! The dump of what is in force.

use crate::support::Home;

/// The dump after reading all shared sections.
fn dump(home: &Home) -> String {
    let config = home.load();
    let reader = config.reader();
    tutti_config::GeneralConfig::read(&reader);
    tutti_config::BackendsConfig::read(&reader);
    tutti_config::Credentials::read(&reader);
    tutti_config::Personas::read(&reader);
    home.strip(&config.dump())
}

#[test]
fn values_come_with_their_places_and_defaults_with_theirs() {
    let home = Home::new().global("[general]\nlog_level = \"debug\"\n").variable("TUTTI_BACKENDS__CLAUDE__MODEL", "m");
    let dump = dump(&home);
    for line in [
        "[general]",
        "log_level = \"debug\"  # global/config.toml:2",
        "log_format = \"text\"  # default",
        "model = \"m\"  # environment variable TUTTI_BACKENDS__CLAUDE__MODEL",
        "max_context_tokens = 200000  # default",
        "[backends.claude.timeouts]",
        "first_token = 60  # default",
    ] {
        assert!(dump.lines().any(|dumped| dumped == line), "{line} in\n{dump}");
    }
}

#[test]
fn a_dump_is_toml_with_the_same_values() {
    let home = Home::new()
        .global("[tools]\n\"odd key\" = \"a\\n\\\"b\\\\\\u0001\"\nf = 1.0\nd = 1979-05-27\nt = [{ a = [1] }]\n");
    let dump = dump(&home);
    let parsed: toml::Table = dump.parse().unwrap();
    assert_eq!(parsed["tools"]["odd key"].as_str(), Some("a\n\"b\\\u{1}"));
    assert_eq!(parsed["tools"]["f"].as_float(), Some(1.0));
    assert_eq!(parsed["tools"]["t"][0]["a"][0].as_integer(), Some(1));
    assert!(parsed["tools"]["d"].is_datetime());
}

#[test]
fn secrets_are_hidden_wherever_they_stand() {
    let home = Home::new()
        .credentials("[openai]\napi_key = \"sk-secret\"\n[groq]\napi_keys = [\"sk-secret\"]\n")
        .global(
            "[backends.claude]\napi_key = \"sk-secret\"\n[mesh]\nshared_secret = \"sk-secret\"\n\
             [storage]\nurl = \"postgres://me:sk-secret@db/x\"\nmore = [{ password = \"sk-secret\", b = 1 }]\n\
             [telemetry]\nodd = \"sk-secret\"\n",
        )
        .variable("ANTHROPIC_API_KEY", "sk-secret");
    let config = home.load();
    let reader = config.reader();
    assert!(reader.section("telemetry").opt_secret("odd").is_some());
    let dump = config.dump();
    assert!(!dump.contains("sk-secret"), "{dump}");
    assert_eq!(dump.matches("\"<hidden>\"").count(), 8, "{dump}");
    assert!(dump.contains("max_context_tokens = 200000"), "tokens are no secrets");
    assert!(!format!("{config:?} {reader:?}").contains("sk-secret"));
}
