//! `WatchBackends`: the state of the backends, and then what changes of it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{Stream, stream};
use tokio::sync::watch;
use tutti_error::Result;
use tutti_proto::gateway::v1::{BackendStatus, CredentialStatus, WatchBackendsRequest, WatchBackendsResponse};
use tutti_types::time;

use super::{backends, status};
use crate::{app::Gateway, backends::Backend};

/// Where nothing will change by itself, it is looked at again after this time all the same.
const SELDOM: Duration = Duration::from_secs(60);
/// What ends in a moment has ended when it is looked at.
const SLACK: Duration = Duration::from_millis(1);

/// The stream. Its reader pulls it, and nothing is queued: it keeps what it told last, and tells the difference.
///
/// # Errors
/// UNKNOWN_BACKEND.
pub(super) fn watch(
    gateway: &Arc<Gateway>,
    request: &WatchBackendsRequest,
) -> Result<impl Stream<Item = WatchBackendsResponse> + Send + use<>> {
    let backends = backends::chosen(gateway, &request.backends)?;
    let changes = gateway.changes.watch();
    let watcher = Watcher { gateway: Arc::clone(gateway), backends, changes, told: None };
    Ok(stream::unfold(watcher, |mut watcher| async move { watcher.next().await.map(|message| (message, watcher)) }))
}

struct Watcher {
    gateway: Arc<Gateway>,
    backends: Vec<Arc<Backend>>,
    changes: watch::Receiver<u64>,
    /// What was told last of each; `None` before the first message.
    told: Option<HashMap<String, Vital>>,
}

/// What decides whether a backend can be called: the rest of its status is no reason for a message.
#[derive(Debug, PartialEq)]
struct Vital {
    usable: bool,
    health: i32,
    credentials: Vec<(String, Option<i32>, bool)>,
}

impl Vital {
    fn of(status: &BackendStatus) -> Self {
        let credential = |credential: &CredentialStatus| {
            let state = credential.breaker.as_ref().map(|breaker| breaker.state);
            (credential.name.clone(), state, credential.resting_for.is_some())
        };
        Self {
            usable: status.usable,
            health: status.health,
            credentials: status.credential_states.iter().map(credential).collect(),
        }
    }
}

impl Watcher {
    async fn next(&mut self) -> Option<WatchBackendsResponse> {
        loop {
            self.changes.mark_unchanged();
            let all: Vec<BackendStatus> = self.backends.iter().map(|b| status::of(&self.gateway, b)).collect();
            let pause = until_next(&all);
            if let Some(message) = self.message(all) {
                return Some(message);
            }
            let stopping = self.gateway.draining.clone();
            tokio::select! {
                changed = self.changes.changed() => changed.ok()?,
                () = tokio::time::sleep(pause) => {}
                () = stopping.cancelled() => return None,
            }
        }
    }

    /// What has changed since the last message, if anything.
    fn message(&mut self, all: Vec<BackendStatus>) -> Option<WatchBackendsResponse> {
        let is_first = self.told.is_none();
        let told = self.told.get_or_insert_default();
        let news = |status: &BackendStatus| {
            let vital = Vital::of(status);
            let is_news = told.get(&status.name) != Some(&vital);
            told.insert(status.name.clone(), vital);
            is_news
        };
        let backends: Vec<_> = all.into_iter().filter(news).collect();
        (is_first || !backends.is_empty()).then_some(WatchBackendsResponse { backends })
    }
}

/// When the next of the breakers and rests ends by itself.
fn until_next(all: &[BackendStatus]) -> Duration {
    let credentials = || all.iter().flat_map(|status| &status.credential_states);
    let open = credentials().filter_map(|credential| credential.breaker.as_ref()?.open_for.as_ref());
    let rests = credentials().filter_map(|credential| credential.resting_for.as_ref());
    open.chain(rests).map(time::from_wire).min().map_or(SELDOM, |left| left + SLACK)
}
