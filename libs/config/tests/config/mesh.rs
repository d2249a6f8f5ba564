//! `[mesh]`, `[server.tls]` and the shared secret.

use secrecy::ExposeSecret as _;
use tutti_config::{Credentials, MeshConfig, ServerConfig};

use crate::support::{Home, set_mode};

const KEY: &str = "0123456789abcdef";

fn read(home: &Home, calls: &[&str]) -> Result<MeshConfig, Vec<String>> {
    let mut mesh = None;
    home.read(|reader| mesh = Some(MeshConfig::read(reader, calls)))?;
    Ok(mesh.unwrap())
}

fn secrets(mesh: &MeshConfig) -> Vec<&str> {
    mesh.secret.iter().map(|key| key.expose_secret()).collect()
}

#[test]
fn one_file_serves_all_processes() {
    let home = Home::new().global("[mesh]\nledger = \"http://a:1,http://b:1\"\ngateway = \"http://g:1\"\n");
    let mesh = read(&home, &["ledger"]).unwrap();
    assert_eq!(mesh.address("ledger"), "http://a:1,http://b:1");
    assert_eq!((mesh.address("memory"), mesh.proves_peers()), ("", false));
    assert_eq!(read(&home, &["memory"]).unwrap_err(), ["global/config.toml:1: mesh.memory: missing key"]);
}

#[test]
fn the_secret_comes_from_a_file_of_keys_or_from_the_credentials() {
    let home = Home::new()
        .global("[mesh]\nsecret_file = \"mesh.key\"\n")
        .file("global/mesh.key", format!("{KEY}-new\n\n {KEY}-old \n"));
    assert_eq!(secrets(&read(&home, &[]).unwrap()), [format!("{KEY}-new"), format!("{KEY}-old")]);

    let home = Home::new().credentials(&format!("[mesh]\nsecret = \"{KEY}\"\n"));
    assert_eq!(secrets(&read(&home, &[]).unwrap()), [KEY]);
    // The gateway reads both.
    let both = home.read(|reader| {
        MeshConfig::read(reader, &[]);
        Credentials::read(reader);
    });
    assert_eq!(both, Ok(vec![]));
    set_mode(&home.path("global/credentials.toml"), 0o644);
    assert!(read(&home, &[]).unwrap_err()[0].contains("chmod 600"));
}

#[test]
fn a_secret_that_can_be_guessed_is_refused() {
    let home = Home::new().credentials("[mesh]\nsecret = \"short\"\n");
    let problems = read(&home, &[]).unwrap_err();
    assert!(problems[0].contains("at least 16 characters") && !problems[0].contains("short\""), "{problems:?}");
    let home = Home::new().global("[mesh]\nsecret = \"0123456789abcdef\"\n");
    assert!(read(&home, &[]).unwrap_err()[0].contains("mesh.secret: unknown key"));
}

#[test]
fn certificates_come_whole_or_not_at_all() {
    let home = Home::new().global("[mesh.tls]\ncert = \"c\"\nkey = \"k\"\nca = \"a\"\n[server.tls]\ncert = \"c\"\n");
    let tls = read(&home, &[]).unwrap().tls.unwrap();
    assert_eq!((tls.own.cert.to_str(), tls.ca.to_str()), (Some("c"), Some("a")));
    let problems = home.read(|reader| drop(ServerConfig::read(reader))).unwrap_err();
    assert_eq!(problems, ["global/config.toml:5: server.tls.key: missing key"]);
}
