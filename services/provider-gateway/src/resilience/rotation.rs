//! Credentials that change while the process runs: their files are looked at every now and then, and read again as at the
//! start. What can't be used changes nothing.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tutti_config::{Config, Credentials};

use crate::{app::Gateway, backends::Backends};

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(2);

/// Time and length of each file; `None` for one that isn't there.
type Stamps = Vec<(PathBuf, Option<(SystemTime, u64)>)>;

/// Follows the files of the credentials for as long as the gateway runs.
pub(crate) async fn follow(gateway: Arc<Gateway>, source: Config) {
    let stopping = gateway.tasks.stopping().clone();
    let looking = async {
        // The first look reads them again: they may have changed since the start read them.
        let mut seen = None;
        loop {
            tokio::time::sleep(EVERY).await;
            let now = look(&source).await;
            if now.is_some() && now != seen {
                seen = now;
                read_again(&gateway.backends, source.clone()).await;
            }
        }
    };
    stopping.run_until_cancelled(looking).await;
}

async fn look(source: &Config) -> Option<Stamps> {
    let source = source.clone();
    let stamps = move || {
        let stamp = |path: &PathBuf| std::fs::metadata(path).and_then(|file| Ok((file.modified()?, file.len()))).ok();
        source.credential_files().into_iter().map(|path| (path.clone(), stamp(&path))).collect()
    };
    tokio::task::spawn_blocking(stamps).await.ok()
}

async fn read_again(backends: &Backends, source: Config) {
    match tokio::task::spawn_blocking(move || Credentials::read_again(&source)).await {
        Ok(Ok(credentials)) => {
            if backends.rotate(&credentials) {
                tracing::info!("the credentials changed and were read again");
            }
        }
        // Problems never show a value.
        Ok(Err(problems)) => tracing::warn!(%problems, "the credentials changed and can't be used; the old ones stay"),
        Err(error) => tracing::warn!(%error, "the credentials could not be read again"),
    }
}
