//! Who is believed to be of the mesh.

use std::{fs, path::Path, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tutti_client::{Channel, Connector};
use tutti_config::{Env, Loader, MeshConfig};
use tutti_error::{Reason, reason_of};
use tutti_layers::{CallContext, Callers, MeshSecret, ServerTls, TlsFiles};
use tutti_proto::gateway::v1::{GenerateRequest, gateway_service_client::GatewayServiceClient};
use tutti_server::ServeOptions;
use tutti_testkit::wait_for;
use tutti_types::{Deadline, Scope};

use crate::support::{PATIENCE, Running};

pub(crate) const OURS: &str = "0123456789abcdef-ours";
const THEIRS: &str = "0123456789abcdef-theirs";

/// `[mesh]` of a file.
fn mesh(text: &str) -> MeshConfig {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.toml"), text).unwrap();
    let none: [(&str, &str); 0] = [];
    let config = Loader::new().config_dir(Some(dir.path().to_owned())).env(Env::from_map(none)).load().unwrap();
    let reader = config.reader();
    let mesh = MeshConfig::read(&reader, &[]);
    reader.finish().unwrap();
    mesh
}

pub(crate) fn with_secret(secret: &str) -> Connector {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    fs::write(&path, secret).unwrap();
    Connector::new(&mesh(&format!("[mesh]\nsecret_file = \"{}\"\n", path.display()))).unwrap()
}

/// The org that the server believes when we say `acme`, or the refusal.
async fn org_seen(channel: Channel) -> Result<String, (Code, Option<Reason>)> {
    let scope = Scope { org: "acme".into(), ..Scope::default() };
    let context = CallContext::new(scope, Deadline::after(PATIENCE));
    let request: Request<GenerateRequest> = tutti_client::request(GenerateRequest::default(), &context);
    let answer = GatewayServiceClient::new(channel).generate(request).await;
    answer.map(|answer| answer.into_inner().raw).map_err(|status| (status.code(), reason_of(&status)))
}

const REFUSED: Result<String, (Code, Option<Reason>)> = Err((Code::Unauthenticated, Some(Reason::Unauthenticated)));

#[tokio::test]
async fn the_secret_proves_a_peer_and_a_wrong_one_is_refused() {
    let secret = MeshSecret::new([OURS]);
    let below = ServeOptions { callers: Callers::Peers, secret: secret.clone(), ..ServeOptions::default() };
    let below = Running::start("below", below).await;
    assert_eq!(org_seen(with_secret(OURS).connect(&below.url()).unwrap()).await, Ok("acme".into()));
    assert_eq!(org_seen(with_secret(THEIRS).connect(&below.url()).unwrap()).await, REFUSED);
    assert_eq!(org_seen(Channel::connect(&below.url()).unwrap()).await, REFUSED);
    // Probes have no secret.
    let mut probe = HealthClient::new(Channel::connect(&below.url()).unwrap());
    assert!(probe.check(HealthCheckRequest::default()).await.is_ok());

    let door = Running::start("door", ServeOptions { secret, ..ServeOptions::default() }).await;
    let default_org = Scope::default().org;
    assert_eq!(org_seen(with_secret(OURS).connect(&door.url()).unwrap()).await, Ok("acme".into()));
    assert_eq!(org_seen(Channel::connect(&door.url()).unwrap()).await, Ok(default_org));
    assert_eq!(org_seen(with_secret(THEIRS).connect(&door.url()).unwrap()).await, REFUSED);
}

/// The secret as operators replace it, while calls run. None may fail.
#[tokio::test]
async fn a_secret_is_replaced_without_a_failed_call() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, keys: &[&str]| {
        let (new, path) = (dir.path().join("new"), dir.path().join(name));
        fs::write(&new, keys.join("\n")).unwrap();
        fs::rename(new, &path).unwrap();
        format!("[mesh]\nsecret_file = \"{}\"\n", path.display())
    };
    let options = |text: &str| ServeOptions {
        callers: Callers::Peers,
        secret: MeshSecret::of(&mesh(text)),
        ..ServeOptions::default()
    };
    let server = Running::start("below", options(&write("server", &[OURS]))).await;
    let connector = Connector::new(&mesh(&write("client", &[OURS]))).unwrap();
    // It tells which key the client signs with: it knows the new one only.
    let witness = Running::start("witness", options(&write("witness", &[THEIRS]))).await;
    let (channel, to_witness) = (connector.connect(&server.url()).unwrap(), connector.connect(&witness.url()).unwrap());
    assert_eq!(org_seen(to_witness.clone()).await, REFUSED);

    let rotated = CancellationToken::new();
    let calls = async {
        let mut count = 0;
        while !rotated.is_cancelled() {
            assert_eq!(org_seen(channel.clone()).await, Ok("acme".into()), "call {count}");
            count += 1;
        }
        count
    };
    let rotation = async {
        write("server", &[OURS, THEIRS]);
        write("client", &[THEIRS, OURS]);
        wait_for(PATIENCE, async || org_seen(to_witness.clone()).await.is_ok()).await;
        write("server", &[THEIRS]);
        write("client", &[THEIRS]);
        // From now on the old one proves nothing.
        wait_for(PATIENCE, async || org_seen(with_secret(OURS).connect(&server.url()).unwrap()).await == REFUSED).await;
        rotated.cancel();
    };
    let (count, ()) = tokio::join!(calls, rotation);
    assert!(count > 0);
}

/// A certificate authority in a folder.
struct Authority {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(dir.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { dir, issuer: Issuer::new(params, key) }
    }

    /// Writes a certificate for localhost and its key into a folder, beside that of the authority.
    fn issue(&self, dir: &Path) -> TlsFiles {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let files =
            TlsFiles { cert: dir.join("cert.pem"), key: dir.join("key.pem"), ca: Some(self.dir.path().join("ca.pem")) };
        fs::write(&files.key, key.serialize_pem()).unwrap();
        fs::write(&files.cert, params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        files
    }
}

fn with_certificate(files: &TlsFiles) -> Connector {
    let ca = files.ca.as_ref().unwrap();
    let (cert, key, ca) = (files.cert.display(), files.key.display(), ca.display());
    Connector::new(&mesh(&format!("[mesh.tls]\ncert = \"{cert}\"\nkey = \"{key}\"\nca = \"{ca}\"\n"))).unwrap()
}

/// Connections grow old at once, so that the next call shakes hands again.
fn tls_options(files: TlsFiles) -> ServeOptions {
    let tls = Some(ServerTls::new(files).unwrap());
    let max_connection_age = Duration::from_millis(50);
    ServeOptions { callers: Callers::Peers, tls, max_connection_age, ..ServeOptions::default() }
}

#[tokio::test]
async fn a_certificate_of_the_mesh_proves_a_peer() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let dirs: Vec<TempDir> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let server = Running::start("below", tls_options(ours.issue(dirs[0].path()))).await;
    let url = format!("https://localhost:{}", server.address.port());
    let peer = with_certificate(&ours.issue(dirs[1].path()));
    assert_eq!(org_seen(peer.connect(&url).unwrap()).await, Ok("acme".into()));
    // A stranger's authority: neither side accepts the other.
    let stranger = with_certificate(&theirs.issue(dirs[2].path()));
    assert!(org_seen(stranger.connect(&url).unwrap()).await.is_err());
    // Plain text to a TLS port.
    assert!(org_seen(Channel::connect(&server.url()).unwrap()).await.is_err());
}

#[tokio::test]
async fn certificates_are_read_again_when_their_files_change() {
    let (old, new) = (Authority::new(), Authority::new());
    let dirs: Vec<TempDir> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let (server_files, peer_files) = (old.issue(dirs[0].path()), old.issue(dirs[1].path()));
    let server = Running::start("below", tls_options(server_files.clone())).await;
    let url = format!("https://localhost:{}", server.address.port());
    let channel = with_certificate(&peer_files).connect(&url).unwrap();
    assert_eq!(org_seen(channel.clone()).await, Ok("acme".into()));
    // Garbage changes nothing.
    fs::write(&server_files.cert, "no certificate").unwrap();
    let fresh = with_certificate(&peer_files).connect(&url).unwrap();
    assert_eq!(org_seen(fresh).await, Ok("acme".into()));
    // Another authority, with all that it has signed: the first that only knows it is accepted in the end.
    new.issue(dirs[0].path());
    new.issue(dirs[1].path());
    fs::copy(new.dir.path().join("ca.pem"), old.dir.path().join("ca.pem")).unwrap();
    let is_accepted = async || {
        let fresh = with_certificate(&peer_files).connect(&url).unwrap();
        org_seen(fresh).await.is_ok() && org_seen(channel.clone()).await.is_ok()
    };
    wait_for(PATIENCE, is_accepted).await;
}
