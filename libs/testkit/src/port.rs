//! Fixed ports for servers that can't take port 0.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

/// Below the range from which Linux takes the ports of outgoing connections, which begins at 32768: a port found free
/// here isn't taken by a client of another test in between.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// A loopback port below 32768 that was free a moment ago; no two calls of a process get the same one until all have
/// been used. Prefer port 0 where the server can say what it got.
///
/// # Panics
/// When none is free.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run side by side begin far apart.
    let start = (std::process::id() % u32::from(COUNT)) * 7919 % u32::from(COUNT);
    for _ in 0..COUNT {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let offset = u16::try_from((start + step) % u32::from(COUNT)).unwrap_or_default();
        let port = FIRST + offset;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {FIRST} to {}", FIRST + COUNT - 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_low_distinct_and_not_taken() {
        let first = free_port();
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
        let more: Vec<u16> = (0..50).map(|_| free_port()).collect();
        assert!(more.iter().all(|port| *port < 32_768 && *port != first), "{more:?}");
        let mut distinct = more.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), more.len());
        drop(held);
    }
}
