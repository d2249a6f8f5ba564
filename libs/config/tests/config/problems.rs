//! Every kind of problem, with its exact place and text.

use std::time::Duration;

use tutti_config::Reader;

use crate::support::Home;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Manual,
    Auto,
}

const MODES: [(&str, Mode); 2] = [("manual", Mode::Manual), ("auto", Mode::Auto)];

/// A section with a key of every kind.
fn read_tools(reader: &Reader) {
    let tools = reader.section("tools");
    tools.string("name", "x");
    tools.bool("sandbox_enabled", true);
    tools.integer("rounds", 10, 1..=20);
    tools.integer::<u16>("port", 1, 1..=u16::MAX);
    tools.float("ratio", 0.5, 0.0..=1.0);
    tools.duration("timeout_seconds", Duration::from_secs(300));
    tools.positive_duration("poll", Duration::from_secs(1));
    tools.string_list("auto_approve", &[]);
    tools.choice("permission_mode", &MODES, Mode::Manual);
    tools.parsed::<std::net::IpAddr>("address", [127, 0, 0, 1].into(), "an address such as 127.0.0.1");
    let limits = tools.subsection("limits");
    limits.integer("memory", 1, 1..=i64::MAX);
    tools.finish();
}

#[test]
fn every_kind_of_wrong_value_is_named_with_file_and_line_at_once() {
    let home = Home::new().global(
        r#"[tools]
name = 7
sandbox_enabled = "yes"
rounds = 21
port = 70000
ratio = 1.5
timeout_seconds = true
poll = 0
auto_approve = [
  "a",
  3,
]
permission_mode = "manul"
address = "here"
limits = 4
"#,
    );
    let problems = home.read(read_tools).unwrap_err();
    let expected = [
        "global/config.toml:2: tools.name: expected a string, found an integer",
        "global/config.toml:3: tools.sandbox_enabled: expected true or false, found a string",
        "global/config.toml:4: tools.rounds: expected an integer from 1 to 20, found 21",
        "global/config.toml:5: tools.port: expected an integer from 1 to 65535, found 70000",
        "global/config.toml:6: tools.ratio: expected a number from 0 to 1, found 1.5",
        "global/config.toml:7: tools.timeout_seconds: expected a duration such as 30 or \"500ms\", found a boolean",
        "global/config.toml:8: tools.poll: expected a duration above zero",
        "global/config.toml:11: tools.auto_approve: expected an array of strings such as [\"a\", \"b\"], \
         found an integer in it",
        "global/config.toml:13: tools.permission_mode: expected \"manual\" or \"auto\", found \"manul\"; \
         did you mean \"manual\"?",
        "global/config.toml:14: tools.address: expected an address such as 127.0.0.1, found \"here\"",
        "global/config.toml:15: tools.limits: expected a table, found an integer",
    ];
    assert_eq!(problems, expected);
}

#[test]
fn wrong_kinds_of_numbers_say_what_was_expected() {
    let home = Home::new().global("[tools]\nrounds = 1.0\nratio = \"x\"\nauto_approve = \"a\"\npermission_mode = 1\n");
    let problems = home.read(read_tools).unwrap_err();
    let expected = [
        "global/config.toml:2: tools.rounds: expected an integer from 1 to 20, found a float",
        "global/config.toml:3: tools.ratio: expected a number from 0 to 1, found a string",
        "global/config.toml:4: tools.auto_approve: expected an array of strings such as [\"a\", \"b\"], found a string",
        "global/config.toml:5: tools.permission_mode: expected \"manual\" or \"auto\", found an integer",
    ];
    assert_eq!(problems, expected);
}

#[test]
fn unknown_keys_and_sections_come_with_the_nearest_names() {
    let home = Home::new()
        .global("[tols]\nx = 1\n\n[tools]\nrunds = 1\nqqq = 2\n[tools.limits]\nmemry = 1\n")
        .project("# note\n[backnds.a]\nmodel = \"x\"\n");
    let problems = home.read(read_tools).unwrap_err();
    let expected = [
        "global/config.toml:1: tols: unknown section; did you mean \"tools\"?",
        "global/config.toml:5: tools.runds: unknown key; did you mean \"rounds\"?",
        "global/config.toml:6: tools.qqq: unknown key; known: address, auto_approve, limits, name, permission_mode, \
         poll, port, ratio, rounds, sandbox_enabled, timeout_seconds",
        "global/config.toml:8: tools.limits.memry: unknown key; did you mean \"memory\"?",
        "project/.tutti/config.toml:2: backnds: unknown section; did you mean \"backends\"?",
    ];
    assert_eq!(problems, expected);
}

#[test]
fn a_section_that_is_no_table_and_sections_of_other_files_are_refused() {
    let home = Home::new().global("tools = 1\n[personas.a]\nname = \"x\"\n[credentials.openai]\napi_key = \"k\"\n");
    let problems = home.read(read_tools).unwrap_err();
    let expected = [
        "global/config.toml:1: tools: expected a table, found an integer",
        "global/config.toml:2: personas: personas belong in personas.toml",
        "global/config.toml:4: credentials: credentials belong in credentials.toml",
    ];
    assert_eq!(problems, expected);
}

#[test]
fn two_readers_of_one_section_add_up() {
    let home = Home::new().global("[tools]\na = 1\nb = 2\nc = 3\n");
    let problems = home.read(|reader| {
        let one = reader.section("tools");
        let two = reader.section("tools");
        one.integer("a", 0, 0..=9);
        two.integer("b", 0, 0..=9);
        two.string("a", "");
        one.string("a", "");
        one.finish();
        two.finish();
    });
    let expected = [
        "global/config.toml:2: tools.a: expected a string, found an integer",
        "global/config.toml:4: tools.c: unknown key; did you mean \"a\" or \"b\"?",
    ];
    assert_eq!(problems.unwrap_err(), expected);
}

#[test]
fn a_section_that_was_only_looked_into_has_no_unknown_keys() {
    let home = Home::new().global("[tools]\na = 1\nb = 2\n");
    let warnings = home.read(|reader| {
        assert_eq!(reader.section("tools").integer("a", 0, 0..=9), 1);
    });
    assert_eq!(warnings, Ok(Vec::new()));
}

#[test]
fn syntax_errors_of_all_files_come_at_once_and_show_no_values() {
    let home = Home::new()
        .global("[general]\nlog_level = \n[tools\nx = 1\n")
        .project("name = 'sk-secret\n")
        .file("global/personas.toml", b"[personas.a]\nname = \"\xff\"\n");
    let problems = home.loader().load().unwrap_err();
    let lines = home.lines(&problems);
    let places: Vec<&str> = lines.iter().filter_map(|line| line.split(": ").next()).collect();
    assert!(places.contains(&"global/config.toml:2"), "{lines:?}");
    assert!(places.contains(&"global/config.toml:3"), "{lines:?}");
    assert!(places.contains(&"project/.tutti/config.toml:1"), "{lines:?}");
    assert!(lines.contains(&"global/personas.toml: line 2 is not UTF-8".to_owned()), "{lines:?}");
    assert!(!lines.concat().contains("sk-secret"), "{lines:?}");
}

#[test]
fn a_named_config_folder_must_exist() {
    let home = Home::new();
    let problems = home.loader().config_dir(Some(home.path("nowhere"))).load().unwrap_err();
    assert_eq!(home.lines(&problems), ["nowhere: this config folder does not exist"]);
}

#[test]
fn a_problem_of_the_reader_stands_at_the_key_or_else_at_the_section() {
    let home = Home::new().global("\n[routing]\n\nfirst = 1\n");
    let problems = home.read(|reader| {
        let routing = reader.section("routing");
        routing.problem("first", "is odd");
        routing.problem("second", "is missing");
        reader.section("storage").required_string("path");
    });
    let expected = [
        "global/config.toml: storage.path: missing key",
        "global/config.toml:2: routing.second: is missing",
        "global/config.toml:4: routing.first: is odd",
    ];
    assert_eq!(problems.unwrap_err(), expected);
}

#[test]
fn what_is_not_built_yet_is_one_warning_a_section() {
    let text = "[quotas]\nmax_cost_per_hour = 1\n[cache]\nenabled = true\n[tools]\na = 1\nb = 2\n";
    let home = Home::new().global(text).project("[tools]\nb = 3\n");
    let read = |reader: &Reader| {
        let tools = reader.section("tools");
        tools.not_built(&["a", "b", "c"]);
        tools.finish();
        reader.section("cache").bool("enabled", false);
    };
    let expected = [
        "global/config.toml:6: [tools] a is accepted but has no effect yet",
        "project/.tutti/config.toml:2: [tools] b is accepted but has no effect yet",
        "global/config.toml:1: [quotas] is accepted but has no effect yet",
    ];
    assert_eq!(home.read(read).unwrap(), expected);
    let quiet = home.read(|reader| {
        read(reader);
        reader.read_elsewhere(&["quotas"]);
    });
    assert_eq!(quiet.unwrap().len(), 2);
}

#[test]
fn values_of_the_right_kind_are_read() {
    let home = Home::new().global(
        "[tools]\nname = \"n\"\nrounds = 3\nratio = 1\ntimeout_seconds = \"500ms\"\npermission_mode = \"auto\"\n\
         auto_approve = [\"a\"]\nfile = \"~/x\"\n[tools.labels]\nb = \"2\"\na = \"1\"\n[tools.entry.one]\n[tools.entry.two]\n",
    );
    let read = home.read(|reader| {
        let tools = reader.section("tools");
        assert_eq!(tools.string("name", "x"), "n");
        assert_eq!(tools.opt_integer::<u32>("rounds", 1..=20), Some(3));
        assert_eq!(tools.float("ratio", 0.5, 0.0..=1.0).to_bits(), 1.0f64.to_bits());
        assert_eq!(tools.duration("timeout_seconds", Duration::ZERO), Duration::from_millis(500));
        assert_eq!(tools.choice("permission_mode", &MODES, Mode::Manual), Mode::Auto);
        assert_eq!(tools.string_list("auto_approve", &["z"]), ["a"]);
        assert_eq!(tools.string_list("absent", &["z"]), ["z"]);
        assert_eq!(tools.opt_path("file"), Some(home.path("x")));
        let labels: Vec<_> = tools.string_map("labels").into_iter().collect();
        assert_eq!(labels, [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())]);
        assert_eq!(tools.subsection("entry").entries(), ["one", "two"]);
        tools.finish();
    });
    assert_eq!(read, Ok(Vec::new()));
}
