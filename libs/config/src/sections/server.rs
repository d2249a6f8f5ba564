//! `[server]`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::reader::Reader;
use crate::section::Section;
use crate::sections::mesh::{CertificateFiles, read_certificate};

/// How a process listens and where it keeps its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The address to listen on for plain HTTP clients (the router's OpenAI-compatible door); without one, `listen`
    /// takes them too.
    pub http_listen: Option<SocketAddr>,
    /// The address for metrics and probes; without one there are none.
    pub admin_listen: Option<SocketAddr>,
    /// The folder for everything the process stores; it need not exist yet.
    pub data_dir: PathBuf,
    /// Whether a non-loopback address without authentication is accepted.
    pub allow_insecure_bind: bool,
    /// How long running calls may go on after the signal to stop.
    pub shutdown_grace: Duration,
    /// The longest a call may take, whatever its caller asks for.
    pub request_timeout: Duration,
    /// How many calls may run at a time; more are refused.
    pub max_concurrent_calls: usize,
    /// When a connection is asked to end, so that new replicas get their share; running calls go on.
    pub max_connection_age: Duration,
    /// The certificate to listen with, when it is another than that of `[mesh.tls]`.
    pub tls: Option<CertificateFiles>,
}

impl ServerConfig {
    /// Reads `[server]`.
    pub fn read(reader: &Reader) -> Self {
        let server = reader.section("server");
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 7070));
        let config = Self {
            listen: server.parsed("listen", listen, "an address such as 127.0.0.1:7070"),
            http_listen: server.opt_parsed("http_listen", "an address such as 127.0.0.1:8080"),
            admin_listen: server.opt_parsed("admin_listen", "an address such as 127.0.0.1:9464"),
            data_dir: data_dir(&server, reader),
            allow_insecure_bind: server.bool("allow_insecure_bind", false),
            shutdown_grace: server.duration("shutdown_grace", Duration::from_secs(10)),
            request_timeout: server.positive_duration("request_timeout", Duration::from_secs(300)),
            max_concurrent_calls: server.integer("max_concurrent_calls", 4096, 1..=1_000_000),
            max_connection_age: server.positive_duration("max_connection_age", Duration::from_secs(300)),
            tls: read_certificate(&server.subsection("tls")),
        };
        server.finish();
        config
    }
}

fn data_dir(server: &Section<'_>, reader: &Reader) -> PathBuf {
    if server.has("data_dir") {
        let dir = server.opt_path("data_dir").unwrap_or_default();
        // Tools get paths below it, and their working folder is another one.
        return std::path::absolute(&dir).unwrap_or(dir);
    }
    let Some(default) = reader.config().env().data_dir() else {
        server.problem("data_dir", "missing key, and there is no home folder to put data in");
        return PathBuf::new();
    };
    // Asked for by its text, so that the dump shows it.
    PathBuf::from(server.string("data_dir", &default.display().to_string()))
}

/// Refuses an address that others can reach while callers are not authenticated.
///
/// # Errors
/// The refusal, with the ways out of it, unless `allow` waives it.
pub fn check_bind(addr: SocketAddr, authenticated: bool, allow: bool) -> Result<(), String> {
    if authenticated || allow || addr.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    let port = addr.port();
    Err(format!(
        "refusing to listen on {addr}: other machines could reach it and callers are not \
         authenticated; listen on 127.0.0.1:{port}, turn on authentication, or accept the risk \
         with server.allow_insecure_bind = true"
    ))
}

#[cfg(test)]
mod tests {
    use super::{ServerConfig, check_bind};
    use crate::{env::Env, loader::Loader};

    #[test]
    fn a_relative_data_folder_is_made_absolute() {
        let none: [(&str, &str); 0] = [];
        let config = Loader::new().env(Env::from_map(none)).flag("server.data_dir", "d4").load().unwrap();
        let dir = ServerConfig::read(&config.reader()).data_dir;
        assert!(dir.is_absolute() && dir.ends_with("d4"), "{}", dir.display());
    }

    #[test]
    fn only_loopback_is_open_to_strangers() {
        let check = |addr: &str, authenticated, allow| check_bind(addr.parse().unwrap(), authenticated, allow);
        for addr in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(check(addr, false, false), Ok(()), "{addr}");
        }
        for addr in ["0.0.0.0:1", "[::]:1", "192.168.0.1:1", "[::ffff:10.0.0.1]:1"] {
            assert!(check(addr, false, false).is_err(), "{addr}");
            assert_eq!(check(addr, true, false), Ok(()), "{addr}");
            assert_eq!(check(addr, false, true), Ok(()), "{addr}");
        }
        let text = check("0.0.0.0:7070", false, false).unwrap_err();
        assert!(text.starts_with("refusing to listen on 0.0.0.0:7070: "), "{text}");
        assert!(text.contains("server.allow_insecure_bind = true"), "{text}");
    }
}
