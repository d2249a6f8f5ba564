//! From the name of a service to the addresses of its replicas.

use std::{fmt, io, net::SocketAddr};

use async_trait::async_trait;

/// Looks names up.
#[async_trait]
pub trait Resolve: fmt::Debug + Send + Sync {
    /// All addresses that a name stands for now.
    ///
    /// # Errors
    /// When the name isn't known, or nobody can say.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct Dns;

#[async_trait]
impl Resolve for Dns {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}
