//! `tutti migrate`, and services whose tables are missing or too new.

use tutti_testkit::TestPostgres;

use crate::support::{LEDGER, PATIENCE, Service, migrate, on_postgres};

const SERVICES: [&str; 4] = ["usage-ledger", "context-memory", "tool-sandbox", "router"];

/// The name of the database in an address.
fn name(url: &str) -> &str {
    url.rsplit('/').next().unwrap()
}

/// Starts a service that refuses to: what it says.
async fn refusal(program: &str, url: &str) -> String {
    let mut process = on_postgres(program, url).args(["--listen", "127.0.0.1:0"]).start();
    let status = process.wait(PATIENCE).await;
    assert_eq!(status.code(), Some(1), "{}", process.stderr());
    process.stderr()
}

#[tokio::test]
async fn a_fresh_database_is_made_once() {
    let url = TestPostgres::shared().database();
    for program in SERVICES {
        let said = refusal(program, &url).await;
        assert!(said.contains("the database lacks migration 1 of schema "), "{said}");
        assert!(said.contains("run `tutti migrate`"), "{said}");
    }
    let (ok, out, err) = migrate(&url).await;
    assert!(ok, "{err}");
    for schema in ["ledger", "memory", "router", "sandbox"] {
        assert!(out.contains(&format!("{schema}: made (migration ")), "{out}");
    }
    let (ok, out, err) = migrate(&url).await;
    assert!(ok, "{err}");
    assert_eq!(out.matches(": up to date (migration ").count(), 4, "{out}");
}

#[tokio::test]
async fn processes_that_migrate_at_the_same_time_wait_for_each_other() {
    let postgres = TestPostgres::shared();
    let url = postgres.database();
    let (one, other) = tokio::join!(migrate(&url), migrate(&url));
    for (ok, _, err) in [&one, &other] {
        assert!(ok, "{err}");
    }
    // Each migration was made by one of them, and is in the books once.
    let doubles = "SELECT count(*) - count(DISTINCT version) FROM ledger._sqlx_migrations";
    assert_eq!(postgres.sql(name(&url), doubles), "0");
    let mut ledger = Service::start("usage-ledger", &url).await;
    ledger.process.wait_for_stderr(PATIENCE, |line| line.contains("listening").then_some(())).await;
    assert_eq!(ledger.usage().await, Ok(()));
    assert_eq!(ledger.probe("/readyz").await.0, 200);
    assert!(ledger.health(LEDGER).await.is_ok());
}

#[tokio::test]
async fn nobody_works_on_tables_that_are_newer() {
    let postgres = TestPostgres::shared();
    let url = postgres.database();
    assert!(migrate(&url).await.0);
    for (program, schema) in SERVICES.into_iter().zip(["ledger", "memory", "sandbox", "router"]) {
        let newer = format!(
            "INSERT INTO {schema}._sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (9999, 'from the future', true, '', 0)"
        );
        postgres.sql(name(&url), &newer);
        let said = refusal(program, &url).await;
        assert!(said.contains(&format!("the database has migration 9999 of schema {schema}")), "{said}");
        assert!(said.contains("start the version of Tutti whose `tutti migrate` made it"), "{said}");
    }
    let (ok, _, err) = migrate(&url).await;
    assert!(!ok && err.contains("the database has migration 9999 of schema ledger"), "{err}");
}
