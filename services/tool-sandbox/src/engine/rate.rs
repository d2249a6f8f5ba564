//! How often an org may call a tool: counted in this process.

use std::time::Duration;

use tutti_error::{Error, Reason, Result};
use tutti_limits::{Amount, Decision, Limiter as _, Local, Unit, Window};

/// The rate of each tool, for each org by itself.
#[derive(Debug)]
pub(super) struct Rate {
    window: Option<Window>,
    limiter: Local,
}

impl Rate {
    /// So many calls a minute, at once or spread; 0 for no limit.
    pub(super) fn new(per_minute: u32) -> Self {
        // Only a limit of 0 is refused: no window.
        let burst = per_minute.saturating_sub(1).into();
        let window = Window::new(Unit::Requests, per_minute.into(), Duration::from_secs(60), burst).ok();
        Self { window, limiter: Local::new() }
    }

    /// Takes a call.
    ///
    /// # Errors
    /// RATE_LIMITED with the time to wait.
    pub(super) async fn take(&self, org: &str, tool: &str) -> Result<()> {
        let Some(window) = &self.window else { return Ok(()) };
        // No name of a tool has a slash.
        let key = format!("{tool}/{org}");
        match self.limiter.take(&key, Amount::request(0), std::slice::from_ref(window)).await {
            Decision::Allowed { .. } => Ok(()),
            Decision::Wait(wait) => {
                let message = format!("the tool \"{tool}\" was called too often (tools.rate_per_minute)");
                Err(Error::new(Reason::RateLimited, message).retry_after(wait))
            }
        }
    }
}
