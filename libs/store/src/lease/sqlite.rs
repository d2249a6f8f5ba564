//! Leases in SQLite, by the clock of the machine, which all who open the file share.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tutti_error::Result;
use tutti_types::time::unix_micros;

use super::{Lease, Leases, micros};
use crate::{Sqlite, unavailable};

/// Leases in the table `leases` of a database.
#[derive(Debug, Clone)]
pub struct SqliteLeases(Sqlite);

impl SqliteLeases {
    /// The leases of this database; makes the table when it is missing.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE.
    pub async fn open(database: Sqlite) -> Result<Self> {
        sqlx::query(
            "CREATE TABLE IF NOT EXISTS leases (
                 org        TEXT    NOT NULL,
                 name       TEXT    NOT NULL,
                 owner      TEXT    NOT NULL,
                 fencing    INTEGER NOT NULL,
                 expires_at INTEGER NOT NULL, -- microseconds since 1970
                 PRIMARY KEY (org, name)
             ) STRICT, WITHOUT ROWID",
        )
        .execute(database.writer())
        .await
        .map_err(unavailable("make the table of leases"))?;
        Ok(Self(database))
    }

    /// Sets when a lease ends, while it is held. Whether it is.
    async fn extend(&self, doing: &'static str, lease: &Lease, duration: Duration) -> Result<bool> {
        let now = now();
        let done = sqlx::query(
            "UPDATE leases SET expires_at = ?
             WHERE org = ? AND name = ? AND owner = ? AND fencing = ? AND expires_at > ?",
        )
        .bind(now.saturating_add(micros(duration)))
        .bind(&lease.org)
        .bind(&lease.name)
        .bind(&lease.owner)
        .bind(lease.fencing)
        .bind(now)
        .execute(self.0.writer())
        .await
        .map_err(unavailable(doing))?;
        Ok(done.rows_affected() == 1)
    }
}

fn now() -> i64 {
    unix_micros(SystemTime::now())
}

#[async_trait]
impl Leases for SqliteLeases {
    async fn acquire(&self, org: &str, name: &str, owner: &str, duration: Duration) -> Result<Option<Lease>> {
        let now = now();
        let fencing: Option<i64> = sqlx::query_scalar(
            "INSERT INTO leases (org, name, owner, fencing, expires_at) VALUES (?1, ?2, ?3, 1, ?4)
             ON CONFLICT (org, name) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at,
                 fencing = fencing + CASE WHEN owner = excluded.owner AND expires_at > ?5 THEN 0 ELSE 1 END
             WHERE owner = excluded.owner OR expires_at <= ?5 RETURNING fencing",
        )
        .bind(org)
        .bind(name)
        .bind(owner)
        .bind(now.saturating_add(micros(duration)))
        .bind(now)
        .fetch_optional(self.0.writer())
        .await
        .map_err(unavailable("acquire a lease"))?;
        let (org, name, owner) = (org.to_owned(), name.to_owned(), owner.to_owned());
        Ok(fencing.map(|fencing| Lease { org, name, owner, fencing }))
    }

    async fn renew(&self, lease: &Lease, duration: Duration) -> Result<bool> {
        self.extend("renew a lease", lease, duration).await
    }

    async fn holds(&self, lease: &Lease) -> Result<bool> {
        sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM leases
                            WHERE org = ? AND name = ? AND owner = ? AND fencing = ? AND expires_at > ?)",
        )
        .bind(&lease.org)
        .bind(&lease.name)
        .bind(&lease.owner)
        .bind(lease.fencing)
        .bind(now())
        .fetch_one(self.0.writer())
        .await
        .map_err(unavailable("look at a lease"))
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        self.extend("release a lease", lease, Duration::ZERO).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use sqlx::migrate::Migrator;

    use super::*;

    /// Two users of one database, and its folder.
    async fn open() -> (SqliteLeases, SqliteLeases, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let database = Sqlite::open(dir.path(), "leases", &Migrator::DEFAULT).await.unwrap();
        let leases = SqliteLeases::open(database).await.unwrap();
        (leases.clone(), leases, dir)
    }

    super::super::contract::suite!(open);
}
