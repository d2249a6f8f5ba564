//! What the gateway knows of backends and models, remembered for a moment.

use std::{sync::Arc, time::Duration};

use moka::future::Cache;
use tutti_error::{Error, Result};
use tutti_layers::CallContext;
use tutti_proto::gateway::v1::{BackendStatus, Model};
use tutti_types::{Deadline, Scope};

use super::Gateway;

/// How long the state of the backends is believed.
const BACKENDS_TTL: Duration = Duration::from_secs(2);
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

fn refresh_context() -> CallContext {
    CallContext::new(Scope::default(), Deadline::after(REFRESH))
}
