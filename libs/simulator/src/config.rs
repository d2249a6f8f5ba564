//! How a simulator is started.

use std::net::{Ipv4Addr, SocketAddr};

use crate::scenario::Scenario;

/// Options of [`Simulator::start`](crate::Simulator::start).
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Where to listen; by default a free port of 127.0.0.1.
    pub listen: SocketAddr,
    /// The rules to start with; by default none.
    pub scenario: Scenario,
    /// How many requests to remember one by one (counters stay exact beyond); default 10,000.
    pub remember: usize,
    /// Whether to remember request bodies too, for tests that look at them; default `false`.
    pub keep_bodies: bool,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            scenario: Scenario::default(),
            remember: 10_000,
            keep_bodies: false,
        }
    }
}

impl SimConfig {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens on `addr`.
    #[must_use]
    pub fn listen(mut self, addr: SocketAddr) -> Self {
        self.listen = addr;
        self
    }

    /// Starts with `scenario`.
    #[must_use]
    pub fn scenario(mut self, scenario: Scenario) -> Self {
        self.scenario = scenario;
        self
    }

    /// Remembers request bodies.
    #[must_use]
    pub fn keep_bodies(mut self) -> Self {
        self.keep_bodies = true;
        self
    }
}
