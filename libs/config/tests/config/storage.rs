//! `[storage]` and where the database's address may stand.

use tutti_config::{ExposeSecret as _, PostgresConfig, Problems, StorageConfig};

use crate::support::{Home, set_mode};

const URL: &str = "postgres://tutti:s3cret-word@db.example:5432/tutti?sslmode=verify-full";

fn read(home: &Home) -> Result<StorageConfig, Problems> {
    let config = home.load();
    let reader = config.reader();
    let storage = StorageConfig::read(&reader);
    reader.finish().map(|_| storage)
}

fn postgres(home: &Home) -> PostgresConfig {
    match read(home).unwrap() {
        StorageConfig::Postgres(config) => config,
        StorageConfig::Sqlite => unreachable!("SQLite"),
    }
}

fn refusal(home: &Home) -> String {
    let text = read(home).unwrap_err().to_string();
    assert!(!text.contains("s3cret-word"), "{text}");
    text
}

#[test]
fn sqlite_unless_told_otherwise() {
    assert!(matches!(read(&Home::new()).unwrap(), StorageConfig::Sqlite));
}

#[test]
fn all_keys_are_read() {
    let home = Home::new().global(&format!(
        "[storage]\nkind = \"postgres\"\nurl = \"{URL}\"\nmax_connections = 20\nacquire_timeout = \"500ms\"\npgbouncer = true\n"
    ));
    let config = postgres(&home);
    assert_eq!((config.url.expose_secret(), config.max_connections, config.pgbouncer), (URL, 20, true));
    assert_eq!(config.acquire_timeout.as_millis(), 500);
}

#[test]
fn the_address_may_stand_in_a_file_or_with_the_credentials() {
    let file = Home::new()
        .global("[storage]\nkind = \"postgres\"\nurl_file = \"database\"\n")
        .file("global/database", format!("{URL}\n"));
    assert_eq!(postgres(&file).url.expose_secret(), URL);
    let credentials = Home::new()
        .global("[storage]\nkind = \"postgres\"\n")
        .credentials(&format!("[postgres]\nurl = \"{URL}\"\n[openai]\napi_key = \"sk-1\"\n"));
    assert_eq!(postgres(&credentials).url.expose_secret(), URL);
    // Those who read the providers' keys know this section too.
    credentials.all().unwrap();
}

#[test]
fn the_address_is_never_shown() {
    let home = Home::new().global(&format!("[storage]\nkind = \"postgres\"\nurl = \"{URL}\"\n"));
    let config = home.load();
    let reader = config.reader();
    let read = format!("{:?}", StorageConfig::read(&reader));
    let dump = config.dump();
    assert!(!read.contains("s3cret-word") && !dump.contains("s3cret-word"), "{read}\n{dump}");
}

#[test]
fn mistakes_are_named() {
    let refused = |toml: &str| refusal(&Home::new().global(&format!("[storage]\nkind = \"postgres\"\n{toml}\n")));
    assert!(refused("").contains("Postgres needs an address"));
    assert!(refused("url = \"mysql://s3cret-word\"").contains("config.toml:3"));
    assert!(refused("url_file = \"nowhere\"").contains("cannot be read"));
    let both = refused(&format!("url = \"{URL}\"\nurl_file = \"nowhere\""));
    assert!(both.contains("give one of url and url_file"), "{both}");
    assert!(refused(&format!("url = \"{URL}\"\nmax_connections = 0")).contains("max_connections"));
    assert!(refused(&format!("url = \"{URL}\"\nadress = 1")).contains("unknown key"));
}

#[test]
fn credentials_that_others_can_read_are_refused_when_they_are_needed() {
    let home =
        Home::new().global("[storage]\nkind = \"postgres\"\n").credentials(&format!("[postgres]\nurl = \"{URL}\"\n"));
    set_mode(&home.path("global/credentials.toml"), 0o644);
    let text = refusal(&home);
    assert!(text.contains("credentials.toml") && !text.contains("needs an address"), "{text}");
}
