//! `[egress]`: the way to the providers.

use std::path::PathBuf;

use crate::reader::Reader;
use crate::section::Section;

/// How providers are reached. The environment has no say in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EgressConfig {
    /// An HTTP proxy, `http://host:port`; this machine itself is never called through it.
    pub proxy: Option<String>,
    /// A PEM file of authorities that are trusted besides those of the system.
    pub ca_file: Option<PathBuf>,
}

impl EgressConfig {
    /// Reads `[egress]`.
    pub(crate) fn shared(reader: &Reader) -> Self {
        let section = reader.section("egress");
        let config = Self::read(&section, &Self::default());
        section.finish();
        config
    }

    /// The keys `proxy` and `ca_file` of a table; an empty `proxy` is none.
    pub(crate) fn read(table: &Section<'_>, shared: &Self) -> Self {
        let proxy = match table.opt_string("proxy") {
            None => shared.proxy.clone(),
            Some(none) if none.is_empty() => None,
            Some(proxy) => check(table, &proxy).then_some(proxy),
        };
        Self { proxy, ca_file: table.file("ca_file").or_else(|| shared.ca_file.clone()) }
    }
}

fn check(table: &Section<'_>, proxy: &str) -> bool {
    let host = ["http://", "https://"].into_iter().find_map(|scheme| proxy.strip_prefix(scheme));
    let message = match host {
        None | Some("") => "expected an address such as http://proxy.example.com:3128",
        Some(host) if host.contains('@') => "a proxy that wants a password is not supported",
        Some(host) if host.contains(|c: char| c.is_whitespace() || c.is_control()) => "an address has no blanks",
        Some(_) => return true,
    };
    table.problem("proxy", message);
    false
}
