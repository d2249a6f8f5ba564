//! Which layer wins.

use tutti_config::{Env, Loader, LogFormat};

use crate::support::Home;

/// The value of `tools.key`, with the place it came from.
fn value(home: &Home, loader: Loader) -> (String, String) {
    let config = loader.load().unwrap();
    let reader = config.reader();
    let value = reader.section("tools").string("key", "default");
    let dump = home.strip(&config.dump());
    let line = dump.lines().find(|line| line.starts_with("key = ")).unwrap();
    (value, line.split_once("# ").unwrap().1.to_owned())
}

fn pair(value: &str, place: &str) -> (String, String) {
    (value.to_owned(), place.to_owned())
}

#[test]
fn each_layer_wins_over_those_below() {
    let home = Home::new();
    assert_eq!(value(&home, home.loader()), pair("default", "default"));
    let home = home.global("[tools]\nkey = \"global\"\n");
    assert_eq!(value(&home, home.loader()), pair("global", "global/config.toml:2"));
    let home = home.project("\n[tools]\nkey = \"project\"\n");
    assert_eq!(value(&home, home.loader()), pair("project", "project/.tutti/config.toml:3"));
    let home = home.file("project/.env", "TUTTI_TOOLS__KEY=dotenv\n");
    assert_eq!(value(&home, home.loader()), pair("dotenv", "project/.env:1"));
    let home = home.variable("TUTTI_TOOLS__KEY", "variable");
    let place = "environment variable TUTTI_TOOLS__KEY";
    assert_eq!(value(&home, home.loader()), pair("variable", place));
    let loader = home.loader().flag("tools.key", "flag").opt_flag("tools.key", None::<u8>);
    assert_eq!(value(&home, loader), pair("flag", "flag for tools.key"));
}

#[test]
fn tables_merge_and_arrays_are_replaced() {
    let home = Home::new()
        .global("[tools]\na = 1\nlist = [\"x\", \"y\"]\n[tools.deep.er]\nb = 1\nc = 1\n")
        .project("[tools]\nlist = [\"z\"]\ndeep.er.c = 2\n");
    let read = home.read(|reader| {
        let tools = reader.section("tools");
        let deeper = tools.subsection("deep").subsection("er");
        assert_eq!(tools.integer("a", 0, 0..=9), 1);
        assert_eq!(tools.string_list("list", &[]), ["z"]);
        assert_eq!((deeper.integer("b", 0, 0..=9), deeper.integer("c", 0, 0..=9)), (1, 2));
        tools.finish();
    });
    assert_eq!(read, Ok(Vec::new()));
}

#[test]
fn variables_take_the_kind_the_key_wants() {
    let home = Home::new()
        .variable("TUTTI_TOOLS__TEXT", "7")
        .variable("TUTTI_TOOLS__NUMBER", "7")
        .variable("TUTTI_TOOLS__LIST", "[\"a\", \"b\"]")
        .variable("TUTTI_TOOLS__FLAG", "true")
        .variable("TUTTI_BACKENDS__LOCAL_GPU__MAX_OUTPUT_TOKENS", "9")
        .variable("TUTTI_EMPTY__KEY", "")
        .global("[backends.Local-GPU]\nprovider = \"ollama\"\nmodel = \"m\"\n");
    let all = home.all().unwrap();
    assert_eq!(all.backends.get("Local-GPU").unwrap().max_output_tokens, 9);
    let read = home.read(|reader| {
        let tools = reader.section("tools");
        assert_eq!(tools.string("text", ""), "7");
        assert_eq!(tools.integer("number", 0, 0..=9), 7);
        assert_eq!(tools.string_list("list", &[]), ["a", "b"]);
        assert!(tools.bool("flag", false));
        tools.finish();
    });
    assert_eq!(read, Ok(Vec::new()));
}

#[test]
fn wrong_variables_and_flags_are_named() {
    let home = Home::new()
        .variable("TUTTI_TOLS__KEY", "1")
        .variable("TUTTI_TOOLS__", "1")
        .variable("TUTTI_GENERAL__LOG_FORMAT", "yaml")
        .variable("TUTTI_A__B__C__D__E__F__G__H__I", "1")
        .variable("TUTTI_SERVER_LISTEN", "1")
        .variable("TUTTI_API_KEY", "1");
    let config = home.loader().flag("listen", 1).load().unwrap();
    let reader = config.reader();
    let format = tutti_config::GeneralConfig::read(&reader).log_format;
    assert_eq!(format, LogFormat::Text);
    let expected = [
        "environment variable TUTTI_A__B__C__D__E__F__G__H__I: this names a key nested too deeply",
        "environment variable TUTTI_GENERAL__LOG_FORMAT: general.log_format: expected \"text\" or \"json\", \
         found \"yaml\"",
        "environment variable TUTTI_TOLS__KEY: tols: unknown section; did you mean \"tools\"?",
        "environment variable TUTTI_TOOLS__: this names no key; a section and a key are needed",
        "flag for listen: this names no key; a section and a key are needed",
    ];
    assert_eq!(home.lines(&reader.finish().unwrap_err()), expected);
    let forgotten = Home::new().variable("TUTTI_SERVER_LISTEN", "1").variable("TUTTI_API_KEY", "1");
    let warning = "environment variable TUTTI_SERVER_LISTEN: ignored; did you mean TUTTI_SERVER__LISTEN?";
    assert_eq!(forgotten.read(|_| ()).unwrap(), [warning]);
}

#[test]
fn folders_are_found_by_the_environment_and_by_walking_up() {
    let home = Home::new()
        .file("xdg/tutti/config.toml", "[tools]\nkey = \"xdg\"\n")
        .file(".config/tutti/config.toml", "[tools]\nkey = \"home\"\n")
        .project("");
    let at_home = Env::from_map([("HOME", home.path("").display().to_string())]);
    let xdg = Env::from_map([("XDG_CONFIG_HOME", home.path("xdg").display().to_string())]);
    let loader = || Loader::new().start_dir(home.path("project/src"));
    assert_eq!(value(&home, loader().env(at_home)).0, "home");
    assert_eq!(value(&home, loader().env(xdg.clone())).0, "xdg");
    let config = loader().env(xdg).load().unwrap();
    assert_eq!(config.config_dir(), Some(home.path("xdg/tutti").as_path()));
    assert_eq!(config.project_dir(), Some(home.path("project/.tutti").as_path()));
    assert_eq!(config.project_root(), home.path("project"));
    let outside = Loader::new().start_dir(home.path("global")).load().unwrap();
    assert_eq!((outside.project_dir(), outside.project_root()), (None, home.path("global").as_path()));
}

#[test]
fn defaults_of_general_and_server_hold_without_any_file() {
    let home = Home::new();
    let all = home.all().unwrap();
    assert_eq!((all.general.log_level.as_str(), all.general.version.as_str()), ("info", "1.0.0"));
    assert_eq!((all.general.log_file, all.general.log_format), (None, LogFormat::Text));
    assert_eq!(all.server.listen.to_string(), "127.0.0.1:7070");
    assert_eq!(all.server.data_dir, home.path(".local/share/tutti"));
    assert!(!all.server.allow_insecure_bind);
    assert_eq!((all.server.shutdown_grace.as_secs(), all.server.request_timeout.as_secs()), (10, 300));
    assert!(all.warnings.is_empty());
}

#[test]
fn wrong_general_and_server_values_are_named() {
    let home = Home::new().global(
        "[general]\nlog_level = \"inof\"\nlog_file = \"\"\n[server]\nlisten = \"7070\"\nrequest_timeout = 0\ndata_dir = 1\n",
    );
    let expected = [
        "global/config.toml:2: general.log_level: unknown log level \"inof\"; did you mean \"info\"?",
        "global/config.toml:3: general.log_file: must not be empty",
        "global/config.toml:5: server.listen: expected an address such as 127.0.0.1:7070, found \"7070\"",
        "global/config.toml:6: server.request_timeout: expected a duration above zero",
        "global/config.toml:7: server.data_dir: expected a path, found an integer",
    ];
    assert_eq!(home.all_problems(), expected);
    let directives = Home::new().global("[general]\nlog_level = \"info,router=debug\"\n");
    assert_eq!(directives.all().unwrap().general.log_level, "info,router=debug");
}

#[test]
fn a_tools_file_is_not_silently_ignored() {
    let home = Home::new().file("project/.tutti/tools.toml", "");
    let warning = "project/.tutti/tools.toml: not read yet; put these settings under [tools] in config.toml";
    assert_eq!(home.read(|_| ()).unwrap(), [warning]);
}
