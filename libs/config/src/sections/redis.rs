//! `[redis]`: the state that replicas share and may lose.

use secrecy::{ExposeSecret as _, SecretString};

use crate::reader::Reader;
use crate::section::Section;

/// The section of credentials.toml with its address.
pub(crate) const CREDENTIALS: &str = "redis";

/// Where replicas share what they may lose: rate limits.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// `redis://[user[:password]@]host[:port][/database]`.
    pub url: SecretString,
    /// Begins the name of every key. Default "tutti".
    pub prefix: String,
}

impl RedisConfig {
    /// Reads `[redis]`; `None` without an address: each process counts for itself.
    pub fn read(reader: &Reader) -> Option<Self> {
        let section = reader.section("redis");
        let written = section.opt_secret("url");
        let of_file = if section.has("url_file") { section.secret_file("url_file") } else { None };
        if section.has("url") && section.has("url_file") {
            section.problem("url_file", "give one of url and url_file");
        }
        let here = written.map(|url| ("url", url)).or(of_file.map(|url| ("url_file", url)));
        let credentials = reader.section("credentials");
        let table = credentials.subsection(CREDENTIALS);
        let there = url_of_credentials(&table);
        let url = match here {
            Some((key, url)) => check(&section, key, &url).then_some(url),
            None => there.filter(|url| check(&table, "url", url)),
        };
        let prefix = section.string("prefix", "tutti");
        section.finish();
        Some(Self { url: url?, prefix })
    }
}

/// The address, if given.
pub(crate) fn url_of_credentials(table: &Section<'_>) -> Option<SecretString> {
    table.opt_secret("url")
}

/// Whether it can be an address of Redis. Never shows it.
fn check(section: &Section<'_>, key: &str, url: &SecretString) -> bool {
    let url = url.expose_secret();
    let fits = url.len() > "redis://".len() && url.starts_with("redis://");
    if !fits {
        section.problem(key, "expected an address such as redis://user:password@host:6379/0");
    }
    fits
}
