//! Mutual TLS between the services of the mesh. Certificates are read again when their files change, without a restart:
//! each handshake looks at the files' times first, which costs little beside it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use tutti_error::{Error, Reason, Result};

use crate::Peer;

/// Of one handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The PEM files of one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Our certificate, with those between it and the authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authority of the mesh: it signs whoever is a peer.
    pub ca: Option<PathBuf>,
}

/// What a server of the mesh shows and asks for.
#[derive(Debug, Clone)]
pub struct ServerTls(Arc<Reloading<ServerConfig>>);

impl ServerTls {
    /// Client certificates are verified against the `ca`, where there is one, but not demanded: health is open, and a
    /// call can prove itself by the shared secret instead.
    ///
    /// # Errors
    /// INVALID_REQUEST naming the file that can't be used.
    pub fn new(files: TlsFiles) -> Result<Self> {
        Ok(Self(Arc::new(Reloading::new(files, server_config)?)))
    }

    /// The server's part of a handshake, and who came: [`Peer::Mesh`] with a certificate of the authority.
    ///
    /// # Errors
    /// Whatever ends the handshake.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<(server::TlsStream<TcpStream>, Peer)> {
        let acceptor = TlsAcceptor::from(self.0.current());
        let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await??;
        let is_certified = stream.get_ref().1.peer_certificates().is_some_and(|chain| !chain.is_empty());
        Ok((stream, if is_certified { Peer::Mesh } else { Peer::Network }))
    }
}

/// What a client of the mesh shows and asks for.
#[derive(Debug, Clone)]
pub struct ClientTls(Arc<Source>);

#[derive(Debug)]
enum Source {
    Files(Reloading<ClientConfig>),
    Fixed(Arc<ClientConfig>),
}

impl ClientTls {
    /// Shows our certificate, and takes only servers that the `ca` has signed.
    ///
    /// # Errors
    /// INVALID_REQUEST naming the file that can't be used.
    pub fn new(files: TlsFiles) -> Result<Self> {
        Ok(Self(Arc::new(Source::Files(Reloading::new(files, client_config)?))))
    }

    /// For a program that is not of the mesh: takes servers that `ca` has signed, else one of the authorities that the
    /// system trusts, and shows its `own` certificate, with its key, if it has one. The files are read once.
    ///
    /// # Errors
    /// INVALID_REQUEST naming the file that can't be used.
    pub fn of_caller(ca: Option<&Path>, own: Option<(&Path, &Path)>) -> Result<Self> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(Error::internal)?
            .with_root_certificates(ca.map_or_else(|| Ok(of_system()), authority)?);
        let mut config = match own {
            Some((cert, key)) => {
                let key = PrivateKeyDer::from_pem_file(key).map_err(unusable(key))?;
                builder.with_client_auth_cert(certificates(cert)?, key).map_err(unusable(cert))?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self(Arc::new(Source::Fixed(Arc::new(config)))))
    }

    /// The client's part of a handshake with the server of this name.
    ///
    /// # Errors
    /// Whatever ends the handshake; also a name that no certificate can have.
    pub async fn connect(&self, name: &str, stream: TcpStream) -> io::Result<client::TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let config = match &*self.0 {
            Source::Files(files) => files.current(),
            Source::Fixed(config) => Arc::clone(config),
        };
        let handshake = TlsConnector::from(config).connect(name, stream);
        tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await?
    }
}

/// A configuration made of files, made again when they change.
#[derive(Debug)]
struct Reloading<C> {
    files: TlsFiles,
    build: fn(&TlsFiles) -> Result<C>,
    current: ArcSwap<(Stamps, Arc<C>)>,
}

/// Time and length of each file.
type Stamps = Vec<Option<(SystemTime, u64)>>;

impl<C> Reloading<C> {
    fn new(files: TlsFiles, build: fn(&TlsFiles) -> Result<C>) -> Result<Self> {
        let stamps = files.stamps();
        let current = ArcSwap::from_pointee((stamps, Arc::new(build(&files)?)));
        Ok(Self { files, build, current })
    }

    /// The configuration of the files as they are; of the last that could be used when they can't be.
    fn current(&self) -> Arc<C> {
        let current = self.current.load();
        let stamps = self.files.stamps();
        if stamps == current.0 {
            return Arc::clone(&current.1);
        }
        let config = match (self.build)(&self.files) {
            Ok(config) => Arc::new(config),
            Err(error) => {
                tracing::warn!("the certificate files changed and can't be used, the old ones stay: {error}");
                Arc::clone(&current.1)
            }
        };
        // Also after a failure: each change is tried and told once.
        self.current.store(Arc::new((stamps, Arc::clone(&config))));
        config
    }
}

impl TlsFiles {
    fn stamps(&self) -> Stamps {
        let stamp = |path: &PathBuf| fs::metadata(path).and_then(|file| Ok((file.modified()?, file.len()))).ok();
        [Some(&self.cert), Some(&self.key), self.ca.as_ref()].into_iter().flatten().map(stamp).collect()
    }

    fn identity(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(unusable(&self.key))?;
        Ok((certificates(&self.cert)?, key))
    }

    fn authority(&self) -> Result<RootCertStore> {
        self.ca.as_deref().map_or_else(|| Ok(RootCertStore::empty()), authority)
    }
}

fn authority(path: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(unusable(path))?;
    }
    Ok(roots)
}

/// Those that the system trusts. What can't be read is not trusted: the handshake fails and says so.
fn of_system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<std::result::Result<Vec<_>, _>>();
    let certificates = read().map_err(unusable(path))?;
    if certificates.is_empty() {
        return Err(unusable(path)("there is no certificate in it"));
    }
    Ok(certificates)
}

fn unusable<E: std::fmt::Display>(path: &Path) -> impl Fn(E) -> Error {
    move |error| Error::new(Reason::InvalidRequest, format!("{} can't be used for TLS: {error}", path.display()))
}

fn server_config(files: &TlsFiles) -> Result<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(Error::internal)?;
    let builder = match &files.ca {
        Some(ca) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(files.authority()?), provider)
                .allow_unauthenticated()
                .build()
                .map_err(unusable(ca))?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let (chain, key) = files.identity()?;
    let mut config = builder.with_single_cert(chain, key).map_err(unusable(&files.cert))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn client_config(files: &TlsFiles) -> Result<ClientConfig> {
    let (chain, key) = files.identity()?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Error::internal)?
        .with_root_certificates(files.authority()?)
        .with_client_auth_cert(chain, key)
        .map_err(unusable(&files.cert))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
