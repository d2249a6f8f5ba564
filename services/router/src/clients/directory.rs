//! What the gateway knows of backends and models, remembered for a moment.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use moka::future::Cache;
use tutti_error::{Error, Result};
use tutti_layers::CallContext;
use tutti_proto::gateway::v1::{BackendStatus, Model};
use tutti_server::Tasks;
use tutti_types::{Deadline, Scope};

use super::Gateway;

/// How long the state of the backends is believed.
const BACKENDS_TTL: Duration = Duration::from_secs(2);
/// How long one watch goes on; then the next begins with the whole state.
const WATCH: Duration = Duration::from_secs(300);
/// Between two tries to watch; doubled while they fail.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long the catalogue is believed; it changes with a release.
const MODELS_TTL: Duration = Duration::from_secs(60);
/// Texts that models were looked up by.
const MODELS_ENTRIES: u64 = 256;
/// A refresh serves many callers, so it has its own deadline; each caller waits no longer than its own.
const REFRESH: Duration = Duration::from_secs(10);

/// Cached answers of the gateway. Concurrent callers share one refresh.
pub(crate) struct Directory {
    gateway: Arc<dyn Gateway>,
    backends: Cache<(), Arc<[BackendStatus]>>,
    models: Cache<String, Arc<[Model]>>,
}

impl Directory {
    pub(crate) fn new(gateway: Arc<dyn Gateway>) -> Self {
        Self {
            gateway,
            backends: Cache::builder().max_capacity(1).time_to_live(BACKENDS_TTL).build(),
            models: Cache::builder().max_capacity(MODELS_ENTRIES).time_to_live(MODELS_TTL).build(),
        }
    }

    /// The backends as last known.
    pub(crate) async fn backends(&self) -> Result<Arc<[BackendStatus]>> {
        let refresh = async { Ok(self.gateway.backends(&refresh_context(), false).await?.into()) };
        self.backends.try_get_with((), refresh).await.map_err(|error: Arc<Error>| (*error).clone())
    }

    /// Follows what the gateway says of its backends, so that one that begins to fail is known at once and not only after
    /// [`BACKENDS_TTL`]. A gateway that is away is called again, ever more seldom.
    pub(crate) fn follow(&self, tasks: &Tasks) {
        let (gateway, backends) = (Arc::clone(&self.gateway), self.backends.clone());
        let stopping = tasks.stopping().clone();
        tasks.spawn(async move {
            stopping.run_until_cancelled(follow(&*gateway, &backends)).await;
        });
    }

    /// The backends after their providers were asked; remembered too.
    pub(crate) async fn probe(&self, context: &CallContext) -> Result<Arc<[BackendStatus]>> {
        let backends: Arc<[BackendStatus]> = self.gateway.backends(context, true).await?.into();
        self.backends.insert((), backends.clone()).await;
        Ok(backends)
    }

    /// Models whose id or alias contains this text.
    pub(crate) async fn models(&self, contains: &str) -> Result<Arc<[Model]>> {
        let refresh = async { Ok(self.gateway.models(&refresh_context(), contains).await?.into()) };
        self.models.try_get_with(contains.to_owned(), refresh).await.map_err(|error: Arc<Error>| (*error).clone())
    }
}

async fn follow(gateway: &dyn Gateway, backends: &Cache<(), Arc<[BackendStatus]>>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let context = CallContext { deadline: Deadline::after(WATCH), ..refresh_context() };
        let mut known: Vec<BackendStatus> = Vec::new();
        match gateway.watch(&context).await {
            Ok(mut messages) => {
                while let Some(Ok(news)) = messages.next().await {
                    pause = FIRST_PAUSE;
                    merge(&mut known, news);
                    backends.insert((), known.as_slice().into()).await;
                }
            }
            Err(error) => tracing::debug!(%error, "the backends can't be watched"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Puts what has changed in the place of what was known.
fn merge(known: &mut Vec<BackendStatus>, news: Vec<BackendStatus>) {
    for backend in news {
        match known.iter_mut().find(|known| known.name == backend.name) {
            Some(known) => *known = backend,
            None => known.push(backend),
        }
    }
}

fn refresh_context() -> CallContext {
    CallContext::new(Scope::default(), Deadline::after(REFRESH))
}
