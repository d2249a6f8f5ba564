//! The command line against a mesh that speaks TLS.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tutti_simulator::{SimConfig, Simulator};
use tutti_testkit::Process;

use crate::support::{PATIENCE, configure, listening, tutti_up};

/// Writes an authority, and a certificate of it for this machine: `ca.pem`, `cert.pem`, `key.pem`.
fn certify(dir: &Path) {
    let mut authority = CertificateParams::new(Vec::<String>::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let (of_authority, own) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    fs::write(dir.join("ca.pem"), authority.self_signed(&of_authority).unwrap().pem()).unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&own, &Issuer::new(authority, of_authority)).unwrap();
    fs::write(dir.join("cert.pem"), certificate.pem()).unwrap();
    fs::write(dir.join("key.pem"), own.serialize_pem()).unwrap();
}

/// Runs `tutti` to its end: whether it went well, and all it wrote.
async fn tutti(words: &[&str], address: &str, more: &[&str]) -> (bool, String) {
    let mut process = Process::binary("tutti").args(words).args(["--addr", address]).args(more).start();
    let status = process.wait(PATIENCE).await;
    (status.success(), process.stdout() + &process.stderr())
}

#[tokio::test]
async fn every_command_speaks_tls() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    dirs.iter().for_each(|dir| certify(dir.path()));
    let file = |name: &str| dirs[0].path().join(name).display().to_string();
    let sim = Simulator::start(SimConfig::new()).await.unwrap();
    let builder = tutti_up();
    let tls = format!("[server.tls]\ncert = \"{}\"\nkey = \"{}\"\n", file("cert.pem"), file("key.pem"));
    configure(&builder, &sim, &tls);
    let mut up = builder.start();
    let address = listening(&mut up).await;
    assert!(address.starts_with("https://127.0.0.1:"), "{address}");

    let ca = file("ca.pem");
    let expected = [
        (&["chat", "--backend", "openai", "hello"][..], "Echo: hello"),
        (&["backends"], "openai"),
        (&["stats"], "openai"),
        (&["health"], "tutti.ledger.v1.LedgerService"),
        (&["route", "hello"], "openai"),
    ];
    for (words, text) in expected {
        let (ok, said) = tutti(words, &address, &["--ca", &ca]).await;
        assert!(ok && said.contains(text), "{words:?}: {said}");
    }
    // Our own certificate may be shown, and is looked at when it can't be used.
    let own = ["--ca", &ca, "--cert", &file("cert.pem"), "--key", &file("key.pem")];
    assert!(tutti(&["backends"], &address, &own).await.0);
    let (ok, said) = tutti(&["backends"], &address, &["--ca", &file("key.pem")]).await;
    assert!(!ok && said.contains("key.pem can't be used for TLS"), "{said}");
    // Another authority, and those of the system.
    let other = dirs[1].path().join("ca.pem").display().to_string();
    for trusted in [&["--ca", &other][..], &[]] {
        let (ok, said) = tutti(&["backends"], &address, trusted).await;
        assert!(!ok && said.contains("with a certificate that --ca trusts?"), "{said}");
    }
    assert!(up.terminate(PATIENCE).await.success());
}
