//! SQLite in a data folder: one process at a time, one writer, many readers.

use std::{
    fs::{File, OpenOptions},
    path::Path,
    sync::Arc,
    time::Duration,
};

use nix::fcntl::{Flock, FlockArg};
use sqlx::{
    SqlitePool,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tutti_error::{Error, Reason, Result};

/// An open database. Cheap to clone. The lock on its folder lives as long as the last clone.
#[derive(Debug, Clone)]
pub struct Sqlite {
    writer: SqlitePool,
    readers: SqlitePool,
    _lock: Arc<Flock<File>>,
}

impl Sqlite {
    /// Opens `<dir>/<name>.db`, makes what is missing (folder 0700, database 0600), and migrates it.
    ///
    /// Commits are durable (`synchronous = FULL`, WAL).
    ///
    /// # Errors
    /// STORE_UNAVAILABLE with the reason: the folder is in use by another process, can't be written, or holds a newer
    /// schema than this binary knows.
    pub async fn open(dir: &Path, name: &str, migrator: &Migrator) -> Result<Self> {
        let shown = dir.display().to_string();
        make_folder(dir).map_err(|e| failed(format!("can't make the data folder {shown}: {e}")))?;
        let lock = lock(&dir.join(format!("{name}.lock")))
            .map_err(|e| failed(format!("can't lock {shown}: {e}")))?
            .ok_or_else(|| {
                failed(format!("{shown} is in use by another process; stop it or choose another --data-dir"))
            })?;
        let file = dir.join(format!("{name}.db"));
        // SQLite gives its journals the mode of the database.
        open_private(&file).map_err(|e| failed(format!("can't make {name}.db in {shown}: {e}")))?;
        let options = SqliteConnectOptions::new()
            .filename(file)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            // What a large statement may have to undo; else it goes through files in the system's folder.
            .pragma("temp_store", "memory")
            .busy_timeout(Duration::from_secs(5));
        let pool = |size| SqlitePoolOptions::new().max_connections(size).acquire_timeout(Duration::from_secs(10));
        let opened = |e: sqlx::Error| failed(format!("can't open {name}.db in {shown}: {e}"));
        let writer = pool(1).connect_with(options.clone()).await.map_err(opened)?;
        migrator.run(&writer).await.map_err(|e| {
            failed(format!("can't migrate {name}.db in {shown}: {e}; a newer version of tutti may have written it"))
        })?;
        let readers = pool(4).connect_with(options.read_only(true)).await.map_err(opened)?;
        Ok(Self { writer, readers, _lock: Arc::new(lock) })
    }

    /// The one connection that writes. Keep transactions short: everybody waits for it.
    pub fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    /// Connections that only read, and see what was committed.
    pub fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// Closes both pools, after what is running on them.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

fn failed(message: String) -> Error {
    Error::new(Reason::StoreUnavailable, message)
}

fn make_folder(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Opens a file, made with the mode 0600 when it is new.
fn open_private(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

/// `None` when somebody else holds it.
fn lock(path: &Path) -> std::io::Result<Option<Flock<File>>> {
    match Flock::lock(open_private(path)?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_migrations() -> Migrator {
        Migrator::DEFAULT
    }

    #[tokio::test]
    async fn a_second_opener_is_refused_and_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let first = Sqlite::open(dir.path(), "a", &no_migrations()).await.unwrap();
        let second = Sqlite::open(dir.path(), "a", &no_migrations()).await.unwrap_err();
        assert!(second.message().contains("in use by another process"), "{second}");
        first.close().await;
        drop(first);
        Sqlite::open(dir.path(), "a", &no_migrations()).await.unwrap();
    }

    #[tokio::test]
    async fn only_the_owner_can_read_what_is_stored() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let db = Sqlite::open(dir.path(), "a", &no_migrations()).await.unwrap();
        sqlx::query("CREATE TABLE t (x INTEGER)").execute(db.writer()).await.unwrap();
        for file in ["a.db", "a.db-wal", "a.lock"] {
            let mode = std::fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }

    #[tokio::test]
    async fn commits_are_durable_and_readers_see_them() {
        let dir = tempfile::tempdir().unwrap();
        let db = Sqlite::open(dir.path(), "a", &no_migrations()).await.unwrap();
        let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(db.writer()).await.unwrap();
        assert_eq!(synchronous, 2);
        sqlx::query("CREATE TABLE t (x INTEGER)").execute(db.writer()).await.unwrap();
        sqlx::query("INSERT INTO t VALUES (7)").execute(db.writer()).await.unwrap();
        let x: i64 = sqlx::query_scalar("SELECT x FROM t").fetch_one(db.readers()).await.unwrap();
        assert_eq!(x, 7);
        assert!(sqlx::query("DELETE FROM t").execute(db.readers()).await.is_err());
    }
}
