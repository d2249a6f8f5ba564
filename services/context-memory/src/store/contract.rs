//! What every store of sessions does. Each behaviour is one function over the trait; each adapter runs them all.

use std::time::SystemTime;

use tutti_error::Reason;
use tutti_proto::{
    llm::v1::{Message, Role},
    memory::v1::{TurnState, history_entry::Kind},
};
use tutti_types::{Scope, time};

use super::{Append, Store, ViewQuery};

fn scope(org: &str) -> Scope {
    Scope { org: org.into(), principal: "tester".into() }
}

fn message(role: Role, text: &str) -> (Message, i64) {
    (Message { role: role.into(), text: text.into(), ..Default::default() }, 5)
}

fn append(turn: &str, index: u32, backend: &str, state: TurnState, messages: Vec<(Message, i64)>) -> Append {
    let (session_id, turn_id, backend) = ("s".into(), turn.into(), backend.into());
    Append { session_id, turn_id, index, backend, model: "m".into(), messages, state }
}

fn query(backend: &str, own_turns_only: bool) -> ViewQuery {
    ViewQuery { session_id: "s".into(), backend: backend.into(), own_turns_only, turn_id: String::new(), newest: 100 }
}

async fn seen(store: &dyn Store, query: &ViewQuery) -> Vec<String> {
    let visible = store.visible(&scope("a"), query).await.unwrap();
    visible.messages.into_iter().map(|(m, _)| m.text).collect()
}

async fn turn(store: &dyn Store, turn: &str, backend: &str) {
    let user = append(turn, 0, "", TurnState::Open, vec![message(Role::User, &format!("{turn}?"))]);
    store.append(&scope("a"), user).await.unwrap();
    let answer = append(turn, 1, backend, TurnState::Complete, vec![message(Role::Assistant, &format!("{turn}!"))]);
    store.append(&scope("a"), answer).await.unwrap();
}

pub(crate) async fn a_repeated_append_changes_nothing(store: &dyn Store) {
    let once = append("t", 0, "", TurnState::Open, vec![message(Role::User, "q"), message(Role::User, "r")]);
    let first = store.append(&scope("a"), once.clone()).await.unwrap();
    assert_eq!((first.first_seq, first.last_seq, first.existing), (1, 2, false));
    let again = store.append(&scope("a"), once).await.unwrap();
    assert_eq!((again.first_seq, again.last_seq, again.existing), (1, 2, true));
    assert_eq!(seen(store, &query("b", false)).await, ["q", "r"]);
}

pub(crate) async fn a_closed_turn_takes_no_more(store: &dyn Store) {
    turn(store, "t", "claude").await;
    let late = append("t", 2, "claude", TurnState::Complete, vec![message(Role::Assistant, "late")]);
    let refused = store.append(&scope("a"), late).await.unwrap_err();
    assert_eq!(refused.fields()[0].0, "turn_id");
    let repeated = append("t", 1, "claude", TurnState::Complete, vec![message(Role::Assistant, "t!")]);
    assert!(store.append(&scope("a"), repeated).await.unwrap().existing);
    assert_eq!(seen(store, &query("b", false)).await, ["t?", "t!"]);
}

pub(crate) async fn a_reset_hides_but_keeps(store: &dyn Store) {
    turn(store, "one", "claude").await;
    assert_eq!(store.reset(&scope("a"), "s", "claude").await.unwrap(), 3);
    turn(store, "two", "claude").await;
    assert_eq!(seen(store, &query("claude", false)).await, ["two?", "two!"]);
    assert_eq!(seen(store, &query("openai", false)).await, ["one?", "one!", "two?", "two!"]);
    store.reset(&scope("a"), "s", "").await.unwrap();
    assert!(seen(store, &query("openai", false)).await.is_empty());
    let log = store.history(&scope("a"), "s", 0, 100).await.unwrap();
    assert_eq!(log.len(), 6);
    assert_eq!(log[2].kind, Some(Kind::Reset(true)));
    assert_eq!((log[2].backend.as_str(), log[3].turn_state()), ("claude", TurnState::Complete));
}

pub(crate) async fn a_view_of_own_turns_has_their_questions_too(store: &dyn Store) {
    turn(store, "one", "claude").await;
    turn(store, "two", "openai").await;
    assert_eq!(seen(store, &query("openai", true)).await, ["two?", "two!"]);
    let without = ViewQuery { turn_id: "two".into(), ..query("openai", false) };
    assert_eq!(seen(store, &without).await, ["one?", "one!"]);
}

pub(crate) async fn old_messages_are_counted_but_system_ones_stay(store: &dyn Store) {
    let rules = append("zero", 0, "", TurnState::Complete, vec![message(Role::System, "rules")]);
    store.append(&scope("a"), rules).await.unwrap();
    turn(store, "one", "claude").await;
    turn(store, "two", "claude").await;
    let newest = ViewQuery { newest: 2, ..query("claude", false) };
    let visible = store.visible(&scope("a"), &newest).await.unwrap();
    let texts: Vec<_> = visible.messages.iter().map(|(m, _)| m.text.as_str()).collect();
    assert_eq!((texts.as_slice(), visible.older), (["rules", "two?", "two!"].as_slice(), 2));
}

pub(crate) async fn tenants_do_not_see_each_other(store: &dyn Store) {
    turn(store, "one", "claude").await;
    assert!(store.visible(&scope("b"), &query("claude", false)).await.unwrap().messages.is_empty());
    assert!(store.sessions(&scope("b"), None, 10).await.unwrap().is_empty());
    assert_eq!(store.delete(&scope("b"), "s").await.unwrap_err().reason(), Reason::UnknownSession);
    assert_eq!(seen(store, &query("claude", false)).await.len(), 2);
}

pub(crate) async fn deleting_takes_everything(store: &dyn Store) {
    turn(store, "one", "claude").await;
    assert_eq!(store.delete(&scope("a"), "s").await.unwrap(), 2);
    for result in [
        store.history(&scope("a"), "s", 0, 10).await.map(drop),
        store.reset(&scope("a"), "s", "").await.map(drop),
        store.delete(&scope("a"), "s").await.map(drop),
    ] {
        assert_eq!(result.unwrap_err().reason(), Reason::UnknownSession);
    }
    turn(store, "one", "claude").await;
    assert_eq!(store.history(&scope("a"), "s", 0, 10).await.unwrap()[0].seq, 1);
}

pub(crate) async fn an_abandoned_turn_becomes_incomplete(store: &dyn Store) {
    turn(store, "whole", "claude").await;
    for org in ["a", "b"] {
        let open = append("left", 0, "", TurnState::Open, vec![message(Role::User, "q")]);
        store.append(&scope(org), open).await.unwrap();
    }
    let states = async || -> Vec<TurnState> {
        let log = store.history(&scope("a"), "s", 0, 10).await.unwrap();
        log.iter().map(|entry| entry.turn_state()).collect()
    };
    let now = time::unix_micros(SystemTime::now());
    assert_eq!(store.close_abandoned(now - 60_000_000).await.unwrap(), 0);
    assert_eq!(states().await, [TurnState::Complete, TurnState::Complete, TurnState::Open]);
    assert_eq!(store.close_abandoned(now + 60_000_000).await.unwrap(), 2);
    assert_eq!(states().await, [TurnState::Complete, TurnState::Complete, TurnState::Incomplete]);
    let late = append("left", 1, "claude", TurnState::Complete, vec![message(Role::Assistant, "late")]);
    assert_eq!(store.append(&scope("a"), late).await.unwrap_err().fields()[0].0, "turn_id");
    assert_eq!(store.close_abandoned(now + 60_000_000).await.unwrap(), 0);
}

pub(crate) async fn lists_are_paged(store: &dyn Store) {
    for n in 0..5 {
        let mut one = append("t", 0, "", TurnState::Complete, vec![message(Role::User, "q")]);
        one.session_id = format!("s{n}");
        store.append(&scope("a"), one).await.unwrap();
    }
    let mut names = Vec::new();
    let mut before = None;
    loop {
        let page = store.sessions(&scope("a"), before.take(), 2).await.unwrap();
        names.extend(page.iter().map(|s| s.session_id.clone()));
        let Some(last) = page.last() else { break };
        let used = tutti_types::time::to_unix_micros(last.updated_at.as_ref().unwrap());
        before = Some((used, last.session_id.clone()));
    }
    names.sort();
    assert_eq!(names, ["s0", "s1", "s2", "s3", "s4"]);
}

/// Makes one test of each behaviour. `$open` is an async function that gives a new empty store and what keeps it.
macro_rules! suite {
    ($open:path) => {
        crate::store::contract::suite!($open:
            a_repeated_append_changes_nothing,
            a_closed_turn_takes_no_more,
            a_reset_hides_but_keeps,
            a_view_of_own_turns_has_their_questions_too,
            old_messages_are_counted_but_system_ones_stay,
            tenants_do_not_see_each_other,
            deleting_takes_everything,
            an_abandoned_turn_becomes_incomplete,
            lists_are_paged,
        );
    };
    ($open:path: $($behaviour:ident,)*) => {
        $(#[tokio::test]
        async fn $behaviour() {
            let (store, _keep) = $open().await;
            crate::store::contract::$behaviour(&store).await;
        })*
    };
}
pub(crate) use suite;

mod sqlite {
    use crate::store::SqliteStore;

    /// The store and the folder that it lives in.
    async fn open() -> (SqliteStore, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (SqliteStore::open(dir.path()).await.unwrap(), dir)
    }

    super::suite!(open);
}

/// And what replicas do to each other; SQLite has one process only.
mod postgres {
    use tutti_config::PostgresConfig;
    use tutti_server::Readiness;
    use tutti_testkit::TestPostgres;

    use super::{Role, Store as _, TurnState, append, message, scope};
    use crate::store::{PostgresStore, schema};

    async fn database() -> PostgresConfig {
        let config = PostgresConfig::new(TestPostgres::shared().database());
        schema().migrate(&config).await.unwrap();
        config
    }

    async fn open() -> (PostgresStore, ()) {
        (PostgresStore::open(&database().await, &Readiness::default()).await.unwrap(), ())
    }

    super::suite!(open);

    #[tokio::test]
    async fn replicas_append_to_one_session_without_gaps_or_doubles() {
        let config = database().await;
        let (one, other) = (
            PostgresStore::open(&config, &Readiness::default()).await.unwrap(),
            PostgresStore::open(&config, &Readiness::default()).await.unwrap(),
        );
        // Twenty turns at once, each append twice, once over either replica.
        let turns: Vec<_> = (0..20)
            .map(|n| {
                append(
                    &format!("t{n}"),
                    0,
                    "",
                    TurnState::Open,
                    vec![message(Role::User, "q"), message(Role::User, "r")],
                )
            })
            .collect();
        let over = async |store: &PostgresStore| {
            let org = scope("a");
            let appended = turns.iter().map(|turn| store.append(&org, turn.clone()));
            futures::future::join_all(appended).await.into_iter().collect::<Result<Vec<_>, _>>().unwrap()
        };
        let (a, b) = tokio::join!(over(&one), over(&other));
        for (a, b) in a.iter().zip(&b) {
            assert_ne!(a.existing, b.existing, "one of them made it");
            assert_eq!((a.first_seq, a.last_seq), (b.first_seq, b.last_seq), "and both say where");
        }
        let log = other.history(&scope("a"), "s", 0, 1000).await.unwrap();
        assert_eq!(log.iter().map(|entry| entry.seq).collect::<Vec<_>>(), (1..=40).collect::<Vec<_>>());
        let session = &one.sessions(&scope("a"), None, 10).await.unwrap()[0];
        assert_eq!((session.messages, session.turns), (40, 20));
    }

    #[tokio::test]
    async fn it_works_behind_a_pgbouncer() {
        let config = PostgresConfig { pgbouncer: true, ..database().await };
        let store = PostgresStore::open(&config, &Readiness::default()).await.unwrap();
        super::turn(&store, "one", "claude").await;
        assert_eq!(super::seen(&store, &super::query("claude", false)).await, ["one?", "one!"]);
        store.reset(&scope("a"), "s", "").await.unwrap();
        assert_eq!(store.delete(&scope("a"), "s").await.unwrap(), 2);
    }
}
