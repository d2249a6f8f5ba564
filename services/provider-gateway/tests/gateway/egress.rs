//! The way out: by a proxy of the configuration, to servers of an authority of its own, over HTTP/2 where it is spoken.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, rustls};
use tutti_config::EgressConfig;
use tutti_error::Reason;

use crate::support::{World, ask, reason};

/// A name that nobody resolves but our proxy.
const HOST: &str = "provider.test";

/// Who listens, and what was seen.
struct Way {
    proxy: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    ca: tempfile::NamedTempFile,
    _tasks: JoinSet<()>,
}

impl Way {
    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// A proxy that leads to a TLS server, which speaks these protocols and hands on to the simulator.
    async fn to(simulator: SocketAddr, protocols: &[&[u8]]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (ca, server) = certified(protocols);
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let tls = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, tls_seen) = (tls.local_addr().unwrap(), Arc::clone(&seen));
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = tls.accept().await.unwrap();
                let (acceptor, seen) = (acceptor.clone(), Arc::clone(&tls_seen));
                connections.spawn(async move {
                    let Ok(mut stream) = acceptor.accept(socket).await else { return };
                    let protocol = stream.get_ref().1.alpn_protocol().unwrap_or_default().to_vec();
                    seen.lock().unwrap().push(format!("tls {}", String::from_utf8(protocol).unwrap()));
                    let mut onward = TcpStream::connect(simulator).await.unwrap();
                    let _ = copy_bidirectional(&mut stream, &mut onward).await;
                });
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = listener.local_addr().unwrap();
        let proxy_seen = Arc::clone(&seen);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                connections.spawn(tunnel(socket, at, Arc::clone(&proxy_seen)));
            }
        });
        Self { proxy, seen, ca, _tasks: tasks }
    }

    async fn world(&self, egress: EgressConfig) -> World {
        World::with(|backend| {
            backend.base_url = Some(format!("https://{HOST}/v1"));
            backend.timeouts.connect = Duration::from_secs(5);
            backend.egress = egress.clone();
        })
        .await
    }

    fn egress(&self) -> EgressConfig {
        EgressConfig { proxy: Some(format!("http://{}", self.proxy)), ca_file: Some(self.ca.path().into()) }
    }
}

/// Reads one CONNECT and leads to `onward`, whoever was asked for.
async fn tunnel(socket: TcpStream, onward: SocketAddr, seen: Arc<Mutex<Vec<String>>>) {
    let mut socket = BufReader::new(socket);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if socket.read_line(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    seen.lock().unwrap().push(head.lines().next().unwrap().to_owned());
    socket.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
    let mut onward = TcpStream::connect(onward).await.unwrap();
    let _ = copy_bidirectional(&mut socket, &mut onward).await;
}

/// The file of an authority, and a server with a certificate of it for [`HOST`].
fn certified(protocols: &[&[u8]]) -> (tempfile::NamedTempFile, rustls::ServerConfig) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let root = authority.self_signed(&key).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), root.pem()).unwrap();
    let own_key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    let leaf = leaf.signed_by(&own_key, &Issuer::new(authority, key)).unwrap();
    let private = rustls::pki_types::PrivateKeyDer::try_from(own_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder().with_no_client_auth();
    let mut server = server.with_single_cert(vec![leaf.der().clone()], private).unwrap();
    server.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    (file, server)
}

#[tokio::test]
async fn calls_go_through_the_proxy_to_a_server_of_an_authority_of_ours() {
    let sim = World::start().await.sim;
    let way = Way::to(sim.addr(), &[b"http/1.1"]).await;
    let world = way.world(way.egress()).await;
    for _ in 0..3 {
        world.generate(ask("openai", "hi")).await.unwrap();
    }
    let (events, ended) = world.stream(ask("openai", "[[words 20]]")).await;
    ended.unwrap();
    assert!(events.len() > 3);
    // One connection is kept for all.
    assert_eq!(way.seen(), [format!("CONNECT {HOST}:443 HTTP/1.1"), "tls http/1.1".to_owned()]);
    assert_eq!(sim.stats().requests, 4);
}

#[tokio::test]
async fn a_server_of_an_unknown_authority_is_refused() {
    let sim = World::start().await.sim;
    let way = Way::to(sim.addr(), &[b"http/1.1"]).await;
    let world = way.world(EgressConfig { ca_file: None, ..way.egress() }).await;
    assert_eq!(reason(&world.generate(ask("openai", "hi")).await.unwrap_err()), Reason::ConnectionFailed);
    assert_eq!((way.seen(), sim.stats().requests), (vec![format!("CONNECT {HOST}:443 HTTP/1.1")], 0));
    world.ledger.balanced().await;
    assert_eq!(world.ledger.books().settled.len(), 0);
}

#[tokio::test]
async fn http_2_is_spoken_where_it_is_offered() {
    // It takes the connection and then says nothing more.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let way = Way::to(silent.local_addr().unwrap(), &[b"h2", b"http/1.1"]).await;
    let world = way.world(way.egress()).await;
    let mut client = world.client.clone();
    let mut call = Box::pin(client.generate(ask("openai", "hi")));
    let mut preface = [0; 24];
    let arrived = async {
        let (mut socket, _) = silent.accept().await.unwrap();
        socket.read_exact(&mut preface).await.unwrap();
    };
    tokio::select! {
        ended = &mut call => panic!("{ended:?}"),
        () = arrived => {}
    }
    assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert_eq!(way.seen()[1], "tls h2");
}

#[tokio::test]
async fn what_is_near_needs_no_proxy() {
    let world = World::with(|backend| backend.egress.proxy = Some("http://127.0.0.1:1".into())).await;
    world.generate(ask("openai", "hi")).await.unwrap();
}
