#![cfg(test)]

use std::collections::BTreeMap;

use super::*;

fn secrets(names: &[&str]) -> Vec<SecretString> {
    names.iter().map(|name| SecretString::from(*name)).collect()
}

fn keys(names: &[&str]) -> Keys {
    Keys::new("b", &BreakerConfig::default(), Changes::new(), "s", &secrets(names))
}

fn taken(keys: &Keys, session: &str) -> String {
    keys.choose(session, Instant::now()).unwrap().key().secret().unwrap().to_owned()
}

fn by_name(keys: &Keys, name: &str) -> Arc<Key> {
    keys.all().iter().find(|key| key.secret() == Some(name)).unwrap().clone()
}

fn open(key: &Arc<Key>) {
    for _ in 0..5 {
        key.admit(Instant::now()).unwrap().end(Ending::Failed);
    }
}

#[test]
fn credentials_take_turns_and_a_refused_one_rests_while_others_are_left() {
    let keys = keys(&["a", "b", "c"]);
    let four = || std::array::from_fn::<_, 4, _>(|_| taken(&keys, ""));
    assert_eq!(four(), ["a", "b", "c", "a"]);
    let b = by_name(&keys, "b");
    assert!(keys.refused(&b, Reason::ProviderAuth, None));
    assert!(!four().contains(&"b".to_owned()));
    assert!(keys.refused(&by_name(&keys, "c"), Reason::ProviderBilling, None));
    assert_eq!(four(), ["a"; 4]);
    // All are refused: all are tried again.
    assert!(!keys.refused(&by_name(&keys, "a"), Reason::ProviderAuth, None));
    assert_eq!(BTreeMap::from_iter(four().map(|name| (name, ()))).len(), 3);
    assert!(b.state(Instant::now()).rest.is_some() && b.state(Instant::now() + REST).rest.is_none());
    keys.reset();
    assert!(b.state(Instant::now()).rest.is_none());
}

#[test]
fn a_limited_one_rests_as_long_as_its_provider_says_but_never_the_only_one() {
    let pair = keys(&["a", "b"]);
    assert!(pair.refused(&by_name(&pair, "a"), Reason::ProviderRateLimited, Some(Duration::from_secs(2))));
    assert_eq!(taken(&pair, ""), "b");
    let only = keys(&["a"]);
    assert!(!only.refused(&by_name(&only, "a"), Reason::ProviderRateLimited, Some(Duration::from_secs(2))));
    assert!(by_name(&only, "a").state(Instant::now()).rest.is_none());
    assert!(!only.refused(&by_name(&only, "a"), Reason::ProviderError, None));
}

#[test]
fn a_session_keeps_its_credential_and_only_those_of_a_lost_one_move() {
    let keys = keys(&["a", "b", "c", "d"]);
    let sessions: Vec<String> = (0..400).map(|n| format!("session-{n}")).collect();
    let homes: Vec<String> = sessions.iter().map(|session| taken(&keys, session)).collect();
    let mut spread = BTreeMap::new();
    for (session, home) in sessions.iter().zip(&homes) {
        assert_eq!(taken(&keys, session), *home);
        *spread.entry(home.clone()).or_insert(0) += 1;
    }
    assert!(spread.len() == 4 && spread.values().all(|count| *count > 50), "{spread:?}");
    keys.replace("s", &secrets(&["a", "b", "d"]));
    for (session, home) in sessions.iter().zip(&homes).filter(|(_, home)| *home != "c") {
        assert_eq!(taken(&keys, session), *home);
    }
}

#[test]
fn one_whose_breaker_is_open_is_left_out_and_when_all_are_nobody_calls() {
    let keys = keys(&["a", "b"]);
    open(&by_name(&keys, "a"));
    assert_eq!([taken(&keys, ""), taken(&keys, ""), taken(&keys, "x")], ["b"; 3]);
    assert_eq!(by_name(&keys, "a").state(Instant::now()).counters.rejected, 0);
    open(&by_name(&keys, "b"));
    let wait = keys.choose("", Instant::now()).unwrap_err();
    assert!(wait <= Duration::from_secs(30) && wait > Duration::from_secs(20), "{wait:?}");
    keys.reset();
    assert!(keys.choose("", Instant::now()).is_ok());
}

#[test]
fn a_rotation_keeps_what_is_known_of_those_that_stay() {
    let keys = keys(&["a", "b"]);
    open(&by_name(&keys, "a"));
    let running = by_name(&keys, "b").admit(Instant::now()).unwrap();
    keys.replace("s", &secrets(&["a", "c"]));
    assert_eq!(taken(&keys, ""), "c");
    assert!(matches!(by_name(&keys, "a").state(Instant::now()).breaker, State::Open(_)));
    assert_eq!((running.key().secret(), keys.count()), (Some("b"), 2));
    keys.replace("s", &[]);
    assert_eq!((keys.count(), keys.choose("", Instant::now()).unwrap().key().secret()), (0, None));
}

#[test]
fn secrets_are_not_shown() {
    let keys = keys(&["sk-a-very-long-secret-0123456789"]);
    let shown = format!("{keys:?} {:?}", keys.choose("", Instant::now()));
    assert!(shown.contains("s/sk-…6789") && !shown.contains("very-long"), "{shown}");
}
