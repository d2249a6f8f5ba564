//! `credentials.toml`, `.env` and the vendors' variables.

use tutti_config::{BackendConfig, Credentials, ExposeSecret as _, ProviderKind, SecretString, masked};

use crate::support::{Home, set_mode};

const LONG: &str = "sk-0123456789abcdefghij";

/// The first key of a section.
fn key(credentials: &Credentials, section: &str) -> Option<String> {
    let key = credentials.get(section)?.api_keys.first()?;
    Some(key.expose_secret().to_owned())
}

#[test]
fn all_fields_are_read_and_none_is_shown() {
    let home = Home::new().credentials(&format!(
        "[openai]\napi_keys = [\"{LONG}\", \"short\"]\norganization_id = \"org\"\nproject_id = \"prj\"\n\
         base_url = \"https://example.com/v1/\"\n[claude]\napi_key = \"{LONG}\"\nversion = \"2023-06-01\"\nmodel = \"m\"\n\
         [ollama]\nbase_url = \"http://localhost:11434\"\n"
    ));
    let credentials = home.all().unwrap().credentials;
    let openai = credentials.get("openai").unwrap();
    assert_eq!(openai.api_keys.len(), 2);
    assert_eq!((openai.organization_id.as_deref(), openai.project_id.as_deref()), (Some("org"), Some("prj")));
    assert_eq!(openai.base_url.as_deref(), Some("https://example.com/v1"));
    assert_eq!(credentials.get("claude").unwrap().version.as_deref(), Some("2023-06-01"));
    assert!(credentials.get("ollama").unwrap().api_keys.is_empty());
    let shown = format!("{credentials:?}");
    assert!(shown.contains("sk-…ghij") && !shown.contains("0123456789"), "{shown}");
}

#[test]
fn masks_show_only_the_ends_of_long_keys() {
    assert_eq!(masked(&SecretString::from(LONG)), "sk-…ghij");
    assert_eq!(masked(&SecretString::from("sk-0123456789")), "…");
    assert_eq!(masked(&SecretString::from("")), "…");
}

#[test]
fn the_real_environment_wins_over_dotenv_and_that_over_the_file() {
    let home = Home::new()
        .credentials("[openai]\napi_keys = [\"file\", \"more\"]\nproject_id = \"kept\"\n[groq]\napi_key = \"file\"\n")
        .file("project/.tutti/config.toml", "")
        .file("project/.env", "OPENAI_API_KEY=dotenv\nexport GROQ_API_KEY='dotenv'\nUNRELATED=1\n");
    let credentials = home.all().unwrap().credentials;
    assert_eq!(key(&credentials, "openai").as_deref(), Some("dotenv"));
    assert_eq!(credentials.get("openai").unwrap().api_keys.len(), 1);
    assert_eq!(credentials.get("openai").unwrap().project_id.as_deref(), Some("kept"));
    let home = home.variable("OPENAI_API_KEY", "real").variable("GROQ_API_KEY", "");
    let credentials = home.all().unwrap().credentials;
    assert_eq!(key(&credentials, "openai").as_deref(), Some("real"));
    assert_eq!(key(&credentials, "groq").as_deref(), Some("dotenv"));
}

#[test]
fn every_documented_variable_is_read() {
    for (variable, section) in [
        ("OPENAI_API_KEY", "openai"),
        ("ANTHROPIC_API_KEY", "anthropic"),
        ("GOOGLE_API_KEY", "gemini"),
        ("GEMINI_API_KEY", "gemini"),
        ("KIMI_API_KEY", "kimi"),
        ("MOONSHOT_API_KEY", "moonshot"),
        ("DEEPSEEK_API_KEY", "deepseek"),
        ("MISTRAL_API_KEY", "mistral"),
        ("GROQ_API_KEY", "groq"),
        ("TOGETHER_API_KEY", "together"),
        ("OPENROUTER_API_KEY", "openrouter"),
    ] {
        let credentials = Home::new().variable(variable, "k").all().unwrap().credentials;
        assert_eq!(key(&credentials, section).as_deref(), Some("k"), "{variable}");
    }
}

#[test]
fn the_sections_of_one_vendor_stand_in_for_each_other() {
    let backends = |home: &Home| {
        let all = home.all().unwrap();
        let used = |name: &str| {
            let credential = all.credentials.for_backend(all.backends.get(name).unwrap())?;
            Some(credential.name.clone())
        };
        (used("claude"), used("opus"), used("gemini"), used("openai"))
    };
    let name = |name: &str| Some(name.to_owned());
    let home = Home::new().credentials("[claude]\napi_key = \"a\"\n[google]\napi_key = \"b\"\n");
    assert_eq!(backends(&home), (name("claude"), name("claude"), name("google"), None));
    let home = home.credentials("[claude]\nbase_url = \"https://example.com\"\n[opus_self]\napi_key = \"a\"\n");
    assert_eq!(backends(&home), (name("opus_self"), name("opus_self"), None, None));
    let home = Home::new().variable("ANTHROPIC_API_KEY", "a");
    assert_eq!(backends(&home), (name("anthropic"), name("anthropic"), None, None));
    let home = home.credentials("[claude]\napi_key = \"file\"\n");
    assert_eq!(key(&home.all().unwrap().credentials, "claude").as_deref(), Some("a"));
    let backend = BackendConfig { credentials: "own".to_owned(), ..BackendConfig::new("x", ProviderKind::OpenAi, "m") };
    assert!(home.all().unwrap().credentials.for_backend(&backend).is_none());
}

#[test]
fn a_backend_without_a_model_takes_that_of_its_credentials() {
    let home = Home::new().global("[backends.k]\nprovider = \"kimi\"\n").variable("KIMI_MODEL", "kimi-k2");
    assert_eq!(home.all().unwrap().backends.get("k").unwrap().model, "kimi-k2");
}

#[test]
fn a_key_may_stand_in_a_mounted_file() {
    let home = Home::new()
        .credentials("[openai]\napi_key_file = \"keys/openai\"\n[groq]\napi_key_file = \"keys/groq\"\n")
        .file("global/keys/openai", "from-file\n");
    let problems = home.all_problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    let start = "global/credentials.toml:4: groq.api_key_file: global/keys/groq cannot be read: ";
    assert!(problems[0].starts_with(start), "{problems:?}");
    let home = home.file("global/keys/groq", "other\n");
    let credentials = home.all().unwrap().credentials;
    assert_eq!(key(&credentials, "openai").as_deref(), Some("from-file"));
}

#[test]
fn everything_wrong_with_credentials_is_named_and_no_key_shown() {
    let home = Home::new().credentials(
        "[opnai]\napi_key = \"a\"\n[openai]\napi_key = \"\"\napi_keys = [\"b b\"]\n[groq]\napi_key = 12345\nkey = \"sk-secret\"\n\
         [mistral]\napi_keys = \"sk-secret\"\nbase_url = \"x\"\n",
    );
    let expected = [
        "global/credentials.toml:1: opnai: no provider or backend uses this section; did you mean \"openai\"?",
        "global/credentials.toml:4: openai.api_key: this key is empty",
        "global/credentials.toml:5: openai.api_keys: give one of api_key, api_keys and api_key_file",
        "global/credentials.toml:5: openai.api_keys: this key has blanks or other characters that no key has",
        "global/credentials.toml:7: groq.api_key: expected a string, found an integer",
        "global/credentials.toml:8: groq.key: unknown key; known: api_key, api_key_file, api_keys, base_url, model, \
         organization_id, project_id, version",
        "global/credentials.toml:10: mistral.api_keys: expected an array of strings such as [\"a\", \"b\"], found a string",
        "global/credentials.toml:11: mistral.base_url: expected an address such as https://example.com/v1",
    ];
    assert_eq!(home.all_problems(), expected);
}

#[cfg(unix)]
#[test]
fn a_file_others_can_read_is_refused_by_those_who_need_it() {
    let home = Home::new().credentials("[openai]\napi_key = \"a\"\n").global("[general]\nlog_level = \"x1\"\n");
    let path = home.path("global/credentials.toml");
    for mode in [0o644, 0o640, 0o604, 0o620, 0o601] {
        set_mode(&path, mode);
        let refusal = format!(
            "global/credentials.toml: others can read or change the keys (mode {mode:04o}); run: chmod 600 '{}'",
            path.display()
        );
        let problems = home.all_problems();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert_eq!(problems[1], home.strip(&refusal));
    }
    set_mode(&path, 0o600);
    assert_eq!(home.all_problems().len(), 1);
    set_mode(&path, 0o644);
    let home = home.global("");
    assert_eq!(home.read(|_| ()), Ok(Vec::new()), "a process that needs no keys starts");
}

#[test]
fn a_broken_credentials_file_is_reported_with_the_other_problems() {
    let home = Home::new().credentials("[openai]\napi_key = \"sk-secret\n").global("[general]\nlog_level = \"x1\"\n");
    let problems = home.all_problems();
    assert!(problems[0].starts_with("global/config.toml:2: general.log_level: "), "{problems:?}");
    assert!(problems[1].starts_with("global/credentials.toml:2: "), "{problems:?}");
    assert!(!problems.concat().contains("sk-secret"));
}

#[test]
fn variables_reach_every_field() {
    let home = Home::new().variable("TUTTI_CREDENTIALS__OPENAI__PROJECT_ID", "7");
    let credentials = home.all().unwrap().credentials;
    assert_eq!(credentials.get("openai").unwrap().project_id.as_deref(), Some("7"));
}

#[test]
fn credentials_are_read_again_as_at_a_start() {
    let home = Home::new().credentials("[openai]\napi_key = \"sk-old-0123456789\"\n[gemini]\napi_key_file = \"key\"\n");
    let home = home.file("global/key", "mounted-1");
    let config = home.load();
    let first =
        |credentials: &Credentials, name: &str| credentials.get(name).unwrap().api_keys[0].expose_secret().to_owned();
    let files: Vec<String> =
        config.credential_files().iter().map(|path| home.strip(&path.display().to_string())).collect();
    assert_eq!(files, ["global/credentials.toml", "global/key"]);
    let home = home.credentials("[openai]\napi_key = \"sk-new-0123456789\"\n[gemini]\napi_key_file = \"key\"\n");
    let home = home.file("global/key", "mounted-2");
    let again = Credentials::read_again(&config).unwrap();
    assert_eq!(
        (first(&again, "openai").as_str(), first(&again, "gemini").as_str()),
        ("sk-new-0123456789", "mounted-2")
    );
    let home = home.credentials("[openai]\napi_key = 7\n");
    let problems = Credentials::read_again(&config).unwrap_err();
    assert_eq!(
        home.lines(&problems),
        ["global/credentials.toml:2: openai.api_key: expected a string, found an integer"]
    );
}
