//! `[mesh]`: where the services are when each is a process of its own, and how they prove themselves to each other.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

use crate::reader::Reader;
use crate::section::Section;

/// The section of credentials.toml with the shared secret.
pub(crate) const CREDENTIALS: &str = "mesh";

/// The shortest secret that can't be guessed, in characters.
const SHORTEST_SECRET: usize = 16;

/// The services that other services call.
const SERVICES: [&str; 5] = ["router", "gateway", "memory", "sandbox", "ledger"];

/// The PEM files of one side of a TLS connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// Our certificate, with those between it and the authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Our certificate in the mesh, and who signs those of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshTls {
    /// Shown to the services we call, and to callers unless `[server.tls]` names another.
    pub own: CertificateFiles,
    /// The authority that has signed every service's certificate, and nobody else's.
    pub ca: PathBuf,
}

/// `[mesh]`. One file may serve all processes.
#[derive(Clone, Debug, Default)]
pub struct MeshConfig {
    addresses: Vec<(&'static str, String)>,
    /// The shared secret: the first key signs, all are accepted. Empty when there is none.
    pub secret: Vec<SecretString>,
    /// The file that it came from, to be read again with [`read_keys`] when it changes.
    pub secret_file: Option<PathBuf>,
    /// Certificates, when the services speak TLS to each other.
    pub tls: Option<MeshTls>,
}

impl MeshConfig {
    /// Reads `[mesh]`. The addresses of the services in `calls` are required.
    pub fn read(reader: &Reader, calls: &[&str]) -> Self {
        let mesh = reader.section("mesh");
        let address = |name: &'static str| {
            let required = calls.contains(&name);
            let address = if required { Some(mesh.required_string(name)) } else { mesh.opt_string(name) };
            Some((name, address?))
        };
        let addresses = SERVICES.into_iter().filter_map(address).collect();
        let secret_file = mesh.has("secret_file").then(|| mesh.file("secret_file")).flatten();
        let (secret, tls) = (read_secret(reader, &mesh), read_tls(&mesh.subsection("tls")));
        let config = Self { addresses, secret, secret_file, tls };
        mesh.finish();
        config
    }

    /// The addresses of a service's replicas, as written: one that its name stands for, or several with commas between.
    /// Empty when none is given.
    pub fn address(&self, service: &str) -> &str {
        self.addresses.iter().find(|(name, _)| *name == service).map_or("", |(_, address)| address)
    }

    /// Whether services can prove that they belong to the mesh.
    pub fn proves_peers(&self) -> bool {
        self.tls.is_some() || !self.secret.is_empty()
    }
}

/// `[mesh] secret_file`, else `secret` of `[mesh]` in credentials.toml: one key a line.
fn read_secret(reader: &Reader, mesh: &Section<'_>) -> Vec<SecretString> {
    let (section, key, text) = if mesh.has("secret_file") {
        (None, "secret_file", mesh.secret_file("secret_file"))
    } else {
        // Who could have read the file could have read the secret.
        for problem in &reader.config().inner.credential_problems {
            reader.push(problem.clone());
        }
        let credentials = reader.section("credentials").subsection(CREDENTIALS);
        let text = secret_of_credentials(&credentials);
        (Some(credentials), "secret", text)
    };
    let Some(text) = text else { return Vec::new() };
    keys_of(&text).unwrap_or_else(|message| {
        section.as_ref().unwrap_or(mesh).problem(key, &message);
        Vec::new()
    })
}

/// The keys of a `secret_file`, one a line.
///
/// # Errors
/// In words, without a word of the file: it can't be read, or a key in it can be guessed.
pub fn read_keys(path: &Path) -> Result<Vec<SecretString>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("it cannot be read: {error}"))?;
    keys_of(&SecretString::from(text))
}

fn keys_of(text: &SecretString) -> Result<Vec<SecretString>, String> {
    let lines = text.expose_secret().lines().map(str::trim).filter(|line| !line.is_empty());
    let keys: Vec<SecretString> = lines.map(SecretString::from).collect();
    let is_short = |key: &SecretString| key.expose_secret().chars().count() < SHORTEST_SECRET;
    if keys.is_empty() || keys.iter().any(is_short) {
        return Err(format!("a mesh secret has at least {SHORTEST_SECRET} characters; make one: openssl rand -hex 32"));
    }
    Ok(keys)
}

/// The key of the mesh's section of credentials.toml.
pub(crate) fn secret_of_credentials(section: &Section<'_>) -> Option<SecretString> {
    section.opt_secret("secret")
}

fn read_tls(tls: &Section<'_>) -> Option<MeshTls> {
    if !tls.is_present() {
        return None;
    }
    let own = read_certificate(tls);
    let ca = required_path(tls, "ca");
    Some(MeshTls { own: own?, ca: ca? })
}

/// `cert` and `key`, both required where the table is present.
pub(crate) fn read_certificate(tls: &Section<'_>) -> Option<CertificateFiles> {
    if !tls.is_present() {
        return None;
    }
    let (cert, key) = (required_path(tls, "cert"), required_path(tls, "key"));
    Some(CertificateFiles { cert: cert?, key: key? })
}

fn required_path(section: &Section<'_>, key: &str) -> Option<PathBuf> {
    if !section.has(key) {
        section.problem(key, "missing key");
    }
    section.opt_path(key)
}
