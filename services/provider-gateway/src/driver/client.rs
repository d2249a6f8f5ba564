//! HTTP clients: never a proxy, never a redirect, never a retry of their own.

use std::{collections::HashMap, time::Duration};

use reqwest::{Client, ClientBuilder, redirect, retry};
use tutti_error::{Error, Result};

/// A stalled reader must not stall its neighbours on the same connection.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * STREAM_WINDOW;

/// Clients by their connect timeout, which is a property of a client. Connections are pooled per client and host.
#[derive(Debug, Default)]
pub(crate) struct Clients(HashMap<Duration, Client>);

impl Clients {
    /// The client with this connect timeout.
    ///
    /// # Errors
    /// INTERNAL when TLS can't be set up.
    pub(crate) fn with_connect_timeout(&mut self, timeout: Duration) -> Result<Client> {
        if let Some(client) = self.0.get(&timeout) {
            return Ok(client.clone());
        }
        let client = build(timeout)?;
        self.0.insert(timeout, client.clone());
        Ok(client)
    }
}

fn build(connect_timeout: Duration) -> Result<Client> {
    // The HTTP client would panic without one.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err(Error::internal("no TLS provider is installed in this process"));
    }
    builder(connect_timeout).build().or_else(|first| {
        // A machine without CA certificates can still call plain http, for instance a local server.
        let bare = builder(connect_timeout).tls_certs_only([]).build();
        let bare = bare.map_err(|error| Error::internal(format!("no HTTP client: {error}; {first}")))?;
        tracing::warn!("no CA certificates on this machine: providers can't be reached over https");
        Ok(bare)
    })
}

fn builder(connect_timeout: Duration) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("tutti/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect_timeout)
        // A credential goes where it was configured to go, and nowhere else.
        .no_proxy()
        .redirect(redirect::Policy::none())
        .referer(false)
        // One attempt is one HTTP call, reserved and settled as such.
        .retry(retry::never())
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(30))
        .pool_idle_timeout(Duration::from_secs(90))
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .http2_keep_alive_timeout(Duration::from_secs(10))
}
