//! Proof of belonging to the mesh by its shared secret: a MAC in the metadata of each call.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::Sha256;

use tutti_config::{ExposeSecret as _, MeshConfig, read_keys};

use crate::PEER_HEADERS;

/// The metadata that carries the MAC: `1.<unix seconds>.<hex>`.
pub const MAC_HEADER: HeaderName = HeaderName::from_static("x-tutti-mac");
/// How far the clocks of two peers may be apart, in seconds. A call can be played again for as long.
const WINDOW: u64 = 60;
/// Version of what is signed.
const VERSION: &str = "1";

/// The shared secret of a mesh. The first of its keys signs, all are accepted, so that a key can be replaced while
/// processes with the old one and with the new one run. Clones share it.
#[derive(Clone)]
pub struct MeshSecret(Arc<Secret>);

struct Secret {
    keys: ArcSwap<Keys>,
    file: Option<KeyFile>,
}

struct Keys {
    /// Keyed once: keying costs as much as signing.
    keyed: Vec<Hmac<Sha256>>,
    /// Of the file that they came from.
    stamp: Option<Stamp>,
}

/// Time and length of a file.
type Stamp = (SystemTime, u64);

/// Where keys are read again.
struct KeyFile {
    path: PathBuf,
    /// When it was looked at, in Unix seconds.
    looked_at: AtomicU64,
}

impl fmt::Debug for MeshSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MeshSecret")
    }
}

/// What a request proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It carries no MAC.
    Absent,
    /// Its MAC is of another secret, another call, or too long ago.
    Wrong,
    /// Its sender has the secret.
    Valid,
}

impl MeshSecret {
    /// A secret of these keys; `None` without any.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let keys = Keys { keyed: keyed(keys), stamp: None };
        let secret = Secret { keys: ArcSwap::from_pointee(keys), file: None };
        (!secret.keys.load().keyed.is_empty()).then(|| Self(Arc::new(secret)))
    }

    /// The secret of `[mesh]`, if there is one. That of a file is read again when the file has changed: it is looked at once
    /// a second while there are calls, and before a call is refused. What can't be used changes nothing.
    pub fn of(mesh: &MeshConfig) -> Option<Self> {
        let keyed = keyed(mesh.secret.iter().map(|key| key.expose_secret()));
        let file = mesh.secret_file.clone().map(|path| KeyFile { path, looked_at: AtomicU64::new(0) });
        // Without a stamp: the first look reads it again, since it may have changed after the configuration was read.
        let keys = Keys { keyed, stamp: None };
        (!keys.keyed.is_empty()).then(|| Self(Arc::new(Secret { keys: ArcSwap::from_pointee(keys), file })))
    }

    /// Signs a call: its path, the time and all of [`PEER_HEADERS`], which must be complete before.
    pub fn sign(&self, path: &str, headers: &mut HeaderMap) {
        self.sign_at(path, headers, now());
    }

    fn sign_at(&self, path: &str, headers: &mut HeaderMap, seconds: u64) {
        self.0.look_at(seconds);
        let keys = self.0.keys.load();
        let Some(key) = keys.keyed.first() else { return };
        let mac = with_call(key, path, headers, seconds).finalize().into_bytes();
        let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        if let Ok(value) = HeaderValue::from_str(&format!("{VERSION}.{seconds}.{hex}")) {
            headers.insert(MAC_HEADER, value);
        }
    }

    /// Checks a call's MAC, in constant time.
    pub fn verify(&self, path: &str, headers: &HeaderMap) -> Proof {
        self.verify_at(path, headers, now())
    }

    fn verify_at(&self, path: &str, headers: &HeaderMap, seconds: u64) -> Proof {
        let Some(value) = headers.get(MAC_HEADER) else { return Proof::Absent };
        let Some((signed_at, mac)) = value.to_str().ok().and_then(parse) else { return Proof::Wrong };
        if signed_at.abs_diff(seconds) > WINDOW {
            return Proof::Wrong;
        }
        let is_right = |key: &Hmac<Sha256>| with_call(key, path, headers, signed_at).verify_slice(&mac).is_ok();
        let has_right = || self.0.keys.load().keyed.iter().any(is_right);
        self.0.look_at(seconds);
        // A peer may have read the new secret a moment before us.
        if has_right() || (self.0.look() && has_right()) { Proof::Valid } else { Proof::Wrong }
    }
}

impl Secret {
    /// Looks at the file, if that was not done in this second.
    fn look_at(&self, seconds: u64) {
        if self.file.as_ref().is_some_and(|file| file.looked_at.swap(seconds, Ordering::Relaxed) != seconds) {
            self.look();
        }
    }

    /// Reads the file again if it has changed. Whether its keys have.
    fn look(&self) -> bool {
        let Some(file) = &self.file else { return false };
        let (current, stamp) = (self.keys.load(), stamp(&file.path));
        if stamp == current.stamp {
            return false;
        }
        let keyed = match read_keys(&file.path) {
            Ok(keys) => keyed(keys.iter().map(|key| key.expose_secret())),
            Err(error) => {
                tracing::warn!("the file of the mesh secret changed and can't be used, the old one stays: {error}");
                current.keyed.clone()
            }
        };
        let has_changed = !are_same(&keyed, &current.keyed);
        if has_changed {
            tracing::info!(keys = keyed.len(), "the mesh secret was read again");
        }
        // Also after a failure: each change is tried and told once.
        self.keys.store(Arc::new(Keys { keyed, stamp }));
        has_changed
    }
}

fn keyed<'a>(keys: impl IntoIterator<Item = &'a str>) -> Vec<Hmac<Sha256>> {
    let keyed = |key: &str| Hmac::new_from_slice(key.as_bytes()).ok();
    keys.into_iter().filter(|key| !key.is_empty()).filter_map(keyed).collect()
}

/// Whether they sign alike, in the same order.
fn are_same(ours: &[Hmac<Sha256>], others: &[Hmac<Sha256>]) -> bool {
    ours.len() == others.len()
        && ours.iter().zip(others).all(|(one, other)| one.clone().finalize() == other.clone().finalize())
}

fn stamp(path: &Path) -> Option<Stamp> {
    fs::metadata(path).and_then(|file| Ok((file.modified()?, file.len()))).ok()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Every part with its length before it, so that no two calls give the same bytes.
fn with_call(key: &Hmac<Sha256>, path: &str, headers: &HeaderMap, seconds: u64) -> Hmac<Sha256> {
    let mut mac = key.clone();
    let mut add = |part: &[u8]| {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    };
    add(VERSION.as_bytes());
    add(path.as_bytes());
    add(&seconds.to_be_bytes());
    for name in PEER_HEADERS {
        add(headers.get(name).map_or(b"", HeaderValue::as_bytes));
    }
    mac
}

fn parse(value: &str) -> Option<(u64, Vec<u8>)> {
    let (seconds, hex) = value.strip_prefix(VERSION)?.strip_prefix('.')?.split_once('.')?;
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let mac = hex.as_bytes().chunks(2).map(byte).collect::<Option<_>>()?;
    Some((seconds.parse().ok()?, mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/tutti.ledger.v1.LedgerService/Reserve";

    fn secret(keys: &[&str]) -> MeshSecret {
        MeshSecret::new(keys.iter().copied()).unwrap()
    }

    fn signed(secret: &MeshSecret) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-tutti-org", HeaderValue::from_static("acme"));
        secret.sign_at(PATH, &mut headers, 1_000);
        headers
    }

    #[test]
    fn what_was_signed_is_what_is_accepted() {
        let ours = secret(&["ours"]);
        let headers = signed(&ours);
        assert_eq!(ours.verify_at(PATH, &headers, 1_000), Proof::Valid);
        assert_eq!(ours.verify_at(PATH, &headers, 1_060), Proof::Valid);
        assert_eq!(ours.verify_at(PATH, &headers, 940), Proof::Valid);
        assert_eq!(ours.verify_at(PATH, &headers, 1_061), Proof::Wrong);
        assert_eq!(ours.verify_at(PATH, &headers, 939), Proof::Wrong);
        assert_eq!(ours.verify_at("/other", &headers, 1_000), Proof::Wrong);
        assert_eq!(secret(&["theirs"]).verify_at(PATH, &headers, 1_000), Proof::Wrong);
        assert_eq!(ours.verify_at(PATH, &HeaderMap::new(), 1_000), Proof::Absent);
    }

    #[test]
    fn no_peer_header_can_be_changed_or_added() {
        let ours = secret(&["ours"]);
        for name in PEER_HEADERS {
            let mut headers = signed(&ours);
            headers.insert(name.clone(), HeaderValue::from_static("evil"));
            assert_eq!(ours.verify_at(PATH, &headers, 1_000), Proof::Wrong, "{name}");
        }
    }

    #[test]
    fn a_key_can_be_replaced_while_both_are_in_use() {
        let (old, both) = (secret(&["old"]), secret(&["new", "old"]));
        assert_eq!(both.verify_at(PATH, &signed(&old), 1_000), Proof::Valid);
        assert_eq!(both.verify_at(PATH, &signed(&both), 1_000), Proof::Valid);
        assert_eq!(old.verify_at(PATH, &signed(&both), 1_000), Proof::Wrong);
    }

    #[test]
    fn garbage_is_wrong_and_an_empty_secret_is_none() {
        for value in ["", "1", "1.", "1.1000", "1.1000.", "1.1000.zz", "2.1000.00", "1.x.00"] {
            let mut headers = HeaderMap::new();
            headers.insert(MAC_HEADER, HeaderValue::from_static(value));
            assert_eq!(secret(&["ours"]).verify_at(PATH, &headers, 1_000), Proof::Wrong, "{value}");
        }
        assert!(MeshSecret::new([]).is_none() && MeshSecret::new([""]).is_none());
    }

    const OLD: &str = "0123456789abcdef-old";
    const NEW: &str = "0123456789abcdef-new";

    /// The secret of a file.
    fn of(path: &Path) -> MeshSecret {
        let mut mesh = MeshConfig::default();
        mesh.secret = read_keys(path).unwrap();
        mesh.secret_file = Some(path.to_owned());
        MeshSecret::of(&mesh).unwrap()
    }

    #[test]
    fn only_other_keys_are_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mesh.key");
        fs::write(&path, OLD).unwrap();
        let ours = of(&path);
        assert!(!ours.0.look(), "it is what the configuration had");
        for (text, has_changed) in [(format!("{OLD}\n\n"), false), (format!("{NEW}\n{OLD}"), true), (OLD.into(), true)]
        {
            fs::write(&path, &text).unwrap();
            assert_eq!((ours.0.look(), ours.0.look()), (has_changed, false), "{text}");
        }
    }

    #[test]
    fn a_file_is_read_again_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mesh.key");
        fs::write(&path, OLD).unwrap();
        let ours = of(&path);
        assert_eq!(ours.verify_at(PATH, &signed(&secret(&[NEW])), 1_000), Proof::Wrong);
        // In the same second: a call that would be refused is looked at with the new keys.
        fs::write(&path, format!("{NEW}\n{OLD}\n")).unwrap();
        assert_eq!(ours.verify_at(PATH, &signed(&secret(&[NEW])), 1_000), Proof::Valid);
        assert_eq!(ours.verify_at(PATH, &signed(&secret(&[OLD])), 1_000), Proof::Valid);
        assert_eq!(secret(&[NEW]).verify_at(PATH, &signed(&ours), 1_000), Proof::Valid, "the first signs");
        fs::write(&path, "").unwrap();
        assert_eq!(ours.verify_at(PATH, &signed(&secret(&[OLD])), 1_001), Proof::Valid, "rubbish changes nothing");
        fs::write(&path, NEW).unwrap();
        assert_eq!(ours.verify_at(PATH, &signed(&secret(&[OLD])), 1_002), Proof::Wrong);
    }
}
