//! `[server]`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::reader::Reader;
use crate::section::Section;

/// How a process listens and where it keeps its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The folder for everything the process stores; it need not exist yet.
    pub data_dir: PathBuf,
    /// Whether a non-loopback address without authentication is accepted.
    pub allow_insecure_bind: bool,
    /// How long running calls may go on after the signal to stop.
    pub shutdown_grace: Duration,
    /// The longest a call may take, whatever its caller asks for.
    pub request_timeout: Duration,
}

impl ServerConfig {
    /// Reads `[server]`.
    pub fn read(reader: &Reader) -> Self {
        let server = reader.section("server");
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 7070));
        let config = Self {
            listen: server.parsed("listen", listen, "an address such as 127.0.0.1:7070"),
            data_dir: data_dir(&server, reader),
            allow_insecure_bind: server.bool("allow_insecure_bind", false),
            shutdown_grace: server.duration("shutdown_grace", Duration::from_secs(10)),
            request_timeout: server.positive_duration("request_timeout", Duration::from_secs(300)),
        };
        server.finish();
        config
    }
}

fn data_dir(server: &Section<'_>, reader: &Reader) -> PathBuf {
    if server.has("data_dir") {
        return server.opt_path("data_dir").unwrap_or_default();
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
    use super::check_bind;

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
