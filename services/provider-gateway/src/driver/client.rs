//! HTTP clients: never a redirect, never a retry of their own, a proxy only from the configuration.

use std::{collections::HashMap, path::Path, time::Duration};

use reqwest::{Certificate, Client, ClientBuilder, NoProxy, Proxy, redirect, retry};
use tutti_config::EgressConfig;
use tutti_error::{Error, Result};

/// A stalled reader must not stall its neighbours on the same connection.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * STREAM_WINDOW;

/// Clients by what is a property of a client. Connections are pooled per client and host, and kept alive.
#[derive(Debug, Default)]
pub(crate) struct Clients(HashMap<(Duration, EgressConfig), Client>);

impl Clients {
    /// The client with this connect timeout and way out, or why there is none.
    ///
    /// # Errors
    /// INTERNAL when TLS can't be set up.
    pub(crate) fn client(&mut self, timeout: Duration, egress: &EgressConfig) -> Result<Result<Client, String>> {
        let key = (timeout, egress.clone());
        if let Some(client) = self.0.get(&key) {
            return Ok(Ok(client.clone()));
        }
        let way = match Way::of(egress) {
            Ok(way) => way,
            Err(why) => return Ok(Err(why)),
        };
        let client = build(timeout, &way)?;
        self.0.insert(key, client.clone());
        Ok(Ok(client))
    }
}

/// Proxy and authorities, read.
struct Way {
    proxy: Option<Proxy>,
    authorities: Vec<Certificate>,
}

impl Way {
    fn of(egress: &EgressConfig) -> Result<Self, String> {
        let wrong = |proxy: &str, error| format!("its proxy {proxy} can't be used: {error}");
        let proxy = egress.proxy.as_ref().map(|proxy| Proxy::all(proxy).map_err(|error| wrong(proxy, error)));
        let authorities = egress.ca_file.as_deref().map(authorities).transpose()?.unwrap_or_default();
        // This machine itself is near.
        let near = NoProxy::from_string("localhost,127.0.0.0/8,::1");
        Ok(Self { proxy: proxy.transpose()?.map(|proxy| proxy.no_proxy(near)), authorities })
    }
}

fn authorities(file: &Path) -> Result<Vec<Certificate>, String> {
    let shown = file.display();
    let pem = std::fs::read(file).map_err(|error| format!("its ca_file {shown} can't be read: {error}"))?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(format!("its ca_file {shown} has no certificate")),
        Err(error) => Err(format!("its ca_file {shown} has no certificates that can be read: {error}")),
    }
}

fn build(connect_timeout: Duration, way: &Way) -> Result<Client> {
    // The HTTP client would panic without one.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err(Error::internal("no TLS provider is installed in this process"));
    }
    let trusting = builder(connect_timeout, way).tls_certs_merge(way.authorities.clone());
    trusting.build().or_else(|first| {
        // A machine without CA certificates can still call plain http, for instance a local server.
        let bare = builder(connect_timeout, way).tls_certs_only(way.authorities.clone()).build();
        let bare = bare.map_err(|error| Error::internal(format!("no HTTP client: {error}; {first}")))?;
        tracing::warn!("no CA certificates on this machine: providers can't be reached over https");
        Ok(bare)
    })
}

fn builder(connect_timeout: Duration, way: &Way) -> ClientBuilder {
    let builder = Client::builder()
        .user_agent(concat!("tutti/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect_timeout)
        // A credential goes where it was configured to go, and nowhere else: the environment has no say.
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
        .http2_keep_alive_timeout(Duration::from_secs(10));
    match &way.proxy {
        Some(proxy) => builder.proxy(proxy.clone()),
        None => builder,
    }
}
