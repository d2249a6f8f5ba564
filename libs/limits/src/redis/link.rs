//! The connection to Redis: who holds it, who gives it up, who brings it back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use rand::RngExt as _;
use redis::{
    AsyncConnectionConfig, Client, IntoConnectionInfo as _, RedisError, RedisResult, aio::MultiplexedConnection,
    io::tcp::TcpSettings,
};
use secrecy::ExposeSecret as _;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{CHARGE, InvalidUrl, RedisOptions};
use crate::counts::{Tally, increment};

/// How often a replica shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A replica that has not shown itself for so long is not counted.
const GONE_AFTER: Duration = Duration::from_secs(15);
/// Before the first attempt after a loss; doubled from attempt to attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// For a connection and its greeting; nobody waits for it.
const CONNECT: Duration = Duration::from_secs(1);

/// The connection while there is one, and what is known of the replicas.
pub(super) struct Link {
    client: Client,
    replica: String,
    /// A sorted set: replica -> its last sign of life, in seconds by the clock of Redis.
    replicas_key: String,
    budget: Duration,
    current: ArcSwapOption<Connection>,
    lost: Notify,
    replicas: AtomicU64,
    pub(super) tally: Tally,
}

/// One connection, shared by all calls: requests and answers follow one another without waiting for each other.
pub(super) struct Connection(MultiplexedConnection);

impl Connection {
    pub(super) fn channel(&self) -> MultiplexedConnection {
        self.0.clone()
    }
}

impl Link {
    pub(super) fn new(options: RedisOptions) -> Result<Self, InvalidUrl> {
        let address = options.url.expose_secret().into_connection_info().map_err(|_| InvalidUrl)?;
        // A small request must not wait for the acknowledgement of the one before: that alone can take 40 ms.
        let address = address.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = Client::open(address).map_err(|_| InvalidUrl)?;
        Ok(Self {
            client,
            replica: options.replica,
            replicas_key: format!("{}:replicas", options.prefix),
            budget: options.budget,
            current: ArcSwapOption::empty(),
            lost: Notify::new(),
            replicas: AtomicU64::new(options.replicas.max(1)),
            tally: Tally::default(),
        })
    }

    /// None while Redis is given up.
    pub(super) fn connection(&self) -> Option<Arc<Connection>> {
        self.current.load_full()
    }

    /// Those seen last, this one among them.
    pub(super) fn replicas(&self) -> u64 {
        self.replicas.load(Ordering::Relaxed)
    }

    /// Gives `connection` up, once: of all calls that fail together on it, the first does.
    pub(super) fn lose(&self, connection: &Arc<Connection>, why: &str) {
        let before = self.current.compare_and_swap(connection, None);
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, connection)) {
            increment(&self.tally.outages);
            tracing::warn!(
                why,
                replicas = self.replicas(),
                "rate limits: Redis is away, going by this replica's share"
            );
            self.lost.notify_one();
        }
    }

    /// Connects, shows that this replica lives, and connects again: for as long as the limiter is there. Calls never
    /// do, so that they don't wait, and Redis isn't met by all of them at once when it comes back.
    pub(super) async fn keep(self: Arc<Self>) {
        let mut pause = Duration::ZERO;
        loop {
            let Some(connection) = self.connection() else {
                sleep(jittered(pause)).await;
                pause = (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                self.connect().await;
                continue;
            };
            tokio::select! {
                () = self.lost.notified() => {}
                () = sleep(jittered(HEARTBEAT)) => match self.show_life(&mut connection.channel()).await {
                    Ok(()) => pause = FIRST_PAUSE,
                    Err(why) => self.lose(&connection, &why),
                },
            }
        }
    }

    async fn connect(&self) {
        match self.greeted().await {
            Ok(channel) => {
                self.current.store(Some(Arc::new(Connection(channel))));
                tracing::info!(replicas = self.replicas(), "rate limits: shared through Redis");
            }
            Err(why) => tracing::debug!(why, "rate limits: Redis is still away"),
        }
    }

    /// A connection over which Redis answers within the budget: else it would be given up again by the first call.
    async fn greeted(&self) -> Result<MultiplexedConnection, String> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(CONNECT));
        let connect = async {
            let mut channel = self.client.get_multiplexed_async_connection_with_config(&config).await?;
            CHARGE.load_async(&mut channel).await?;
            Ok::<_, RedisError>(channel)
        };
        let connected = timeout(CONNECT, connect).await.map_err(|_| "no connection in time")?;
        let mut channel = connected.map_err(|error| error.to_string())?;
        self.show_life(&mut channel).await?;
        Ok(channel)
    }

    /// Writes this replica's sign of life and counts all that are recent, within the budget.
    async fn show_life(&self, channel: &mut MultiplexedConnection) -> Result<(), String> {
        let seen = timeout(self.budget, self.seen(channel)).await.map_err(|_| "no answer in time")?;
        self.replicas.store(seen.map_err(|error| error.to_string())?.max(1), Ordering::Relaxed);
        Ok(())
    }

    async fn seen(&self, channel: &mut MultiplexedConnection) -> RedisResult<u64> {
        let (now, _): (u64, u64) = redis::cmd("TIME").query_async(channel).await?;
        let (replicas,): (u64,) = redis::pipe()
            .atomic()
            .zadd(&self.replicas_key, &self.replica, now)
            .ignore()
            .zrembyscore(&self.replicas_key, "-inf", now.saturating_sub(GONE_AFTER.as_secs()))
            .ignore()
            .cmd("EXPIRE")
            .arg(&self.replicas_key)
            .arg(GONE_AFTER.as_secs())
            .ignore()
            .zcard(&self.replicas_key)
            .query_async(channel)
            .await?;
        Ok(replicas)
    }

    /// Takes this replica out of those that share the limits.
    pub(super) async fn leave(&self, connection: &Connection) -> RedisResult<()> {
        redis::cmd("ZREM").arg(&self.replicas_key).arg(&self.replica).query_async(&mut connection.channel()).await
    }
}

/// From half to one and a half times as long, so that replicas that lost Redis together don't come back together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..1.5))
}

impl std::fmt::Debug for Link {
    /// Without the client, which knows the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Link");
        shown.field("replica", &self.replica).field("replicas", &self.replicas());
        shown.field("connected", &self.current.load().is_some()).finish_non_exhaustive()
    }
}
