//! No input makes the loader panic.

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::{collection, string};

use crate::support::Home;

/// Values of all kinds, some of them broken.
fn value() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:?}")),
        any::<bool>().prop_map(|boolean| boolean.to_string()),
        any::<String>().prop_map(|text| format!("{text:?}")),
        Just("1979-05-27T07:32:00Z".to_owned()),
        Just("\"500ms\"".to_owned()),
        Just("nan".to_owned()),
    ];
    scalar.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(", "))),
            (key(), inner).prop_map(|(key, value)| format!("{{ {key} = {value} }}")),
        ]
    })
}

/// Keys and paths that readers ask for, and others.
fn key() -> impl Strategy<Value = String> {
    let known = [
        "log_level",
        "log_file",
        "listen",
        "data_dir",
        "claude",
        "provider",
        "model",
        "timeouts",
        "persona",
        "base_url",
        "preset",
        "enabled",
        "api_key",
        "api_keys",
        "api_key_file",
        "system_prompt",
        "preferred_backends",
        "openai",
        "credentials",
        "temperature",
        "a.b",
        "claude.timeouts.idle",
        "\"\"",
        "\"x y\"",
    ];
    prop_oneof![
        3 => (0..known.len()).prop_map(move |index| known[index].to_owned()),
        1 => string::string_regex("[a-z_]{1,8}").unwrap(),
    ]
}

/// A file of sections with keys.
fn document() -> impl Strategy<Value = String> {
    let headers = [
        "general",
        "server",
        "backends",
        "backends.claude",
        "backends.x",
        "personas.a",
        "openai",
        "tools",
        "quotas",
        "personas",
    ];
    let header = (0..headers.len()).prop_map(move |index| headers[index]);
    let pairs = collection::vec((key(), value()), 0..5);
    let section = (header, pairs).prop_map(|(header, pairs)| {
        let lines: Vec<String> = pairs.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        format!("[{header}]\n{}\n", lines.join("\n"))
    });
    collection::vec(section, 0..4).prop_map(|sections| sections.concat())
}

/// Loads, reads and dumps; any outcome but a panic will do, except a dump that is no TOML.
fn exercise(home: &Home) {
    let Ok(config) = home.loader().load() else {
        return;
    };
    let reader = config.reader();
    let tools = reader.section("tools");
    tools.not_built(&["model", "provider"]);
    tools.finish();
    let dump = config.dump();
    assert!(dump.parse::<toml::Table>().is_ok(), "{dump}");
    if let Err(problems) = reader.finish() {
        assert_eq!(problems.to_string().lines().count(), problems.len());
    }
    let _ = home.all();
    let _ = config.dump();
}

proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn plausible_files_never_panic(
        global in document(), project in document(), personas in document(), credentials in document(), text in any::<String>(),
    ) {
        let home = Home::new()
            .global(&global)
            .project(&project)
            .file("global/personas.toml", &personas)
            .credentials(&credentials)
            .variable("TUTTI_BACKENDS__CLAUDE__MODEL", &text)
            .variable("TUTTI_SERVER__LISTEN", &text);
        exercise(&home);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in collection::vec(any::<u8>(), 0..200), text in any::<String>()) {
        let home = Home::new()
            .file("global/config.toml", &bytes)
            .file("global/credentials.toml", &text)
            .file("project/.tutti/personas.toml", &text)
            .file("project/.env", &text);
        exercise(&home);
    }
}

#[test]
fn deep_nesting_is_refused_or_read_but_never_overflows() {
    let arrays = format!("[tools]\nx = {}{}\n", "[".repeat(20_000), "]".repeat(20_000));
    exercise(&Home::new().global(&arrays));
    let header = format!("[{}]\n", vec!["tools"; 20_000].join("."));
    exercise(&Home::new().global(&header));
    exercise(&Home::new().variable("TUTTI_TOOLS__X", &"[".repeat(20_000)));
}
