//! What unit tests share.

/// As `main` does; a second call changes nothing.
pub(crate) fn install_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
