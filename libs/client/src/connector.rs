//! How a service reaches the others: where their replicas are, and what it proves itself with.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tonic::transport::Endpoint;
use tower::{BoxError, service_fn};
use tutti_config::MeshConfig;
use tutti_error::{Error, Result};
use tutti_layers::{ClientTls, MeshSecret, TlsFiles};

use crate::{
    Channel,
    balance::Balance,
    replicas::Replica,
    resolve::{Dns, Resolve},
};

/// For a connection, its TLS handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// As many streams as a server takes on one connection, 64 KiB each: no stalled reader stalls its neighbours.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * 4096;

/// Makes channels to other services.
#[derive(Clone)]
pub struct Connector {
    secret: Option<MeshSecret>,
    tls: Option<ClientTls>,
    resolver: Arc<dyn Resolve>,
}

impl Default for Connector {
    /// Proves nothing, and asks the system's resolver.
    fn default() -> Self {
        Self { secret: None, tls: None, resolver: Arc::new(Dns) }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("resolver", &self.resolver).finish_non_exhaustive()
    }
}

impl Connector {
    /// Proves what `[mesh]` has the means for.
    ///
    /// # Errors
    /// INVALID_REQUEST naming the file of `[mesh.tls]` that can't be used.
    pub fn new(mesh: &MeshConfig) -> Result<Self> {
        let files = mesh.tls.as_ref().map(|tls| TlsFiles {
            cert: tls.own.cert.clone(),
            key: tls.own.key.clone(),
            ca: Some(tls.ca.clone()),
        });
        Ok(Self { secret: MeshSecret::of(mesh), tls: files.map(ClientTls::new).transpose()?, ..Self::default() })
    }

    /// Speaks TLS to `https://` addresses in this way, instead of that of `[mesh.tls]`.
    #[must_use]
    pub fn tls(mut self, tls: ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Looks names up with this one.
    #[must_use]
    pub fn resolver(mut self, resolver: impl Resolve + 'static) -> Self {
        self.resolver = Arc::new(resolver);
        self
    }

    /// A channel to a service: `http://name:port`, `https://…` for TLS, or several with commas between. All replicas that
    /// the names stand for get their share; names are looked up again every few seconds. Connects at the first call.
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// INVALID_REQUEST when an address can't be read, or wants TLS without `[mesh.tls]`.
    pub fn connect(&self, addresses: &str) -> Result<Channel> {
        let targets = addresses.split(',').map(|address| self.target(address.trim())).collect::<Result<Vec<_>>>()?;
        Ok(Channel::balanced(Balance::new(targets, Arc::clone(&self.resolver), self.secret.clone())))
    }

    fn target(&self, address: &str) -> Result<Target> {
        let invalid = |why: String| Error::invalid("address", format!("\"{address}\" can't be used: {why}"));
        let uri: Uri = address.parse().map_err(|error| invalid(format!("{error}")))?;
        let tls = match uri.scheme_str() {
            Some("http") => None,
            Some("https") if self.tls.is_some() => self.tls.clone(),
            Some("https") => return Err(invalid("there is no [mesh.tls] to speak TLS with".into())),
            _ => return Err(invalid("expected http:// or https://".into())),
        };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(invalid("there is no host in it".into()));
        }
        let port = uri.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        let endpoint = Endpoint::from(uri)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        Ok(Target { host, port, endpoint, tls })
    }
}

/// A name and how to speak to whom it stands for.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
    endpoint: Endpoint,
    tls: Option<ClientTls>,
}

impl Target {
    /// A replica of this name. Connects at the first call, and again when the connection is lost.
    pub(crate) fn replica(&self, address: SocketAddr) -> Arc<Replica> {
        let (host, tls) = (self.host.clone(), self.tls.clone());
        let connect = service_fn(move |_: Uri| {
            let (host, tls) = (host.clone(), tls.clone());
            async move {
                let stream = tokio::time::timeout(CONNECT_TIMEOUT, open(address, &host, tls.as_ref())).await;
                Ok::<_, BoxError>(TokioIo::new(stream.map_err(io::Error::from)??))
            }
        });
        Replica::new(address, self.endpoint.connect_with_connector_lazy(connect))
    }
}

/// A connection, with or without TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn open(address: SocketAddr, host: &str, tls: Option<&ClientTls>) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(match tls {
        Some(tls) => Box::new(tls.connect(host, stream).await?),
        None => Box::new(stream),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_that_cannot_be_used_say_why() {
        let refusal = |address: &str| Connector::default().connect(address).err().map(|error| error.to_string());
        assert_eq!(refusal("http://gateway:7070, http://127.0.0.1:1,http://[::1]:2"), None);
        assert!(refusal("https://gateway:7070").unwrap().contains("[mesh.tls]"));
        for address in ["", "gateway:7070", "ftp://gateway", "http://a:1,"] {
            assert!(refusal(address).is_some(), "{address}");
        }
    }
}
