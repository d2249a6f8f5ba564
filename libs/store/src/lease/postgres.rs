//! Leases in Postgres, by the clock of the database.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::AssertSqlSafe;
use tutti_error::Result;

use super::{Lease, Leases, micros};
use crate::{Failure, Postgres, Schema, retry};

/// Leases in the table `leases` of a schema, which a migration of that schema makes:
///
/// ```sql
/// CREATE TABLE NAME.leases (
///     org        TEXT COLLATE "C" NOT NULL,
///     name       TEXT COLLATE "C" NOT NULL,
///     owner      TEXT        NOT NULL,
///     fencing    BIGINT      NOT NULL,
///     expires_at TIMESTAMPTZ NOT NULL,
///     PRIMARY KEY (org, name)
/// );
/// ```
#[derive(Debug, Clone)]
pub struct PostgresLeases {
    database: Postgres,
    table: String,
}

/// The moment `$n` microseconds from now. Not `now()`, which is that of the transaction's beginning.
const LATER: &str = "clock_timestamp() + $1 * interval '1 microsecond'";

impl PostgresLeases {
    /// The leases of this schema.
    pub fn new(database: Postgres, schema: &Schema) -> Self {
        Self { database, table: format!("{}.leases", schema.name()) }
    }

    async fn try_acquire(&self, org: &str, name: &str, owner: &str, micros: i64) -> Result<Option<i64>, Failure> {
        let sql = format!(
            "INSERT INTO {} AS l (org, name, owner, fencing, expires_at) VALUES ($2, $3, $4, 1, {LATER})
             ON CONFLICT (org, name) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at,
                 fencing = l.fencing + CASE WHEN l.owner = excluded.owner AND l.expires_at > clock_timestamp()
                                            THEN 0 ELSE 1 END
             WHERE l.owner = excluded.owner OR l.expires_at <= clock_timestamp() RETURNING fencing",
            self.table
        );
        let mut transaction = self.database.begin().await?;
        let fencing = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(micros)
            .bind(org)
            .bind(name)
            .bind(owner)
            .persistent(self.database.prepares())
            .fetch_optional(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(fencing)
    }

    /// Sets when a lease ends, while it is held. Whether it is.
    async fn try_extend(&self, lease: &Lease, micros: i64) -> Result<bool, Failure> {
        let sql = format!(
            "UPDATE {} SET expires_at = {LATER}
             WHERE org = $2 AND name = $3 AND owner = $4 AND fencing = $5 AND expires_at > clock_timestamp()",
            self.table
        );
        let mut transaction = self.database.begin().await?;
        let done = sqlx::query(AssertSqlSafe(sql))
            .bind(micros)
            .bind(&lease.org)
            .bind(&lease.name)
            .bind(&lease.owner)
            .bind(lease.fencing)
            .persistent(self.database.prepares())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    async fn try_holds(&self, lease: &Lease) -> Result<bool, Failure> {
        let sql = format!(
            "SELECT EXISTS (SELECT FROM {} WHERE org = $1 AND name = $2 AND owner = $3 AND fencing = $4
                                             AND expires_at > clock_timestamp())",
            self.table
        );
        let mut transaction = self.database.begin().await?;
        let holds = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(&lease.org)
            .bind(&lease.name)
            .bind(&lease.owner)
            .bind(lease.fencing)
            .persistent(self.database.prepares())
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(holds)
    }
}

#[async_trait]
impl Leases for PostgresLeases {
    async fn acquire(&self, org: &str, name: &str, owner: &str, duration: Duration) -> Result<Option<Lease>> {
        let micros = micros(duration);
        let fencing = retry("acquire a lease", || self.try_acquire(org, name, owner, micros)).await?;
        let (org, name, owner) = (org.to_owned(), name.to_owned(), owner.to_owned());
        Ok(fencing.map(|fencing| Lease { org, name, owner, fencing }))
    }

    async fn renew(&self, lease: &Lease, duration: Duration) -> Result<bool> {
        retry("renew a lease", || self.try_extend(lease, micros(duration))).await
    }

    async fn holds(&self, lease: &Lease) -> Result<bool> {
        retry("look at a lease", || self.try_holds(lease)).await
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        retry("release a lease", || self.try_extend(lease, 0)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use sqlx::migrate::Migrator;
    use tutti_config::PostgresConfig;
    use tutti_telemetry::Readiness;
    use tutti_testkit::TestPostgres;

    use super::*;

    static MIGRATIONS: Migrator = sqlx::migrate!("tests/migrations");

    /// Two processes' leases of one new database.
    async fn open() -> (PostgresLeases, PostgresLeases, ()) {
        let config = PostgresConfig::new(TestPostgres::shared().database());
        let schema = Schema::new("leasing", &MIGRATIONS);
        schema.migrate(&config).await.unwrap();
        let leases = async || {
            let database = Postgres::connect_waiting(&config, &schema, &Readiness::default()).await.unwrap();
            PostgresLeases::new(database, &schema)
        };
        (leases().await, leases().await, ())
    }

    super::super::contract::suite!(open);
}
