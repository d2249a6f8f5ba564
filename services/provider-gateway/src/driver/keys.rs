//! A backend's keys: they take turns, and one that the provider refused rests while others are left.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tutti_config::{ExposeSecret as _, SecretString};

/// How long a refused key is not used: somebody has to pay a bill, or to replace it.
const REST: Duration = Duration::from_secs(300);

/// One of a backend's keys.
#[derive(Clone, Default)]
pub(crate) struct Key {
    secret: Option<SecretString>,
    /// As it may be shown; empty without a key.
    pub(crate) masked: String,
    /// Its place among the backend's keys.
    place: usize,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.masked)
    }
}

impl Key {
    /// A key of this credentials section.
    pub(crate) fn new(section: &str, secret: SecretString) -> Self {
        let masked = format!("{section}/{}", tutti_config::masked(&secret));
        Self { secret: Some(secret), masked, place: 0 }
    }

    /// What is sent, if there is a key.
    pub(super) fn secret(&self) -> Option<&str> {
        self.secret.as_ref().map(|secret| secret.expose_secret())
    }
}

/// All keys of a backend; it may have none.
#[derive(Debug)]
pub(super) struct Keys {
    all: Vec<Key>,
    turns: Mutex<Turns>,
}

#[derive(Debug)]
struct Turns {
    next: usize,
    /// Until when each key rests, by its place.
    resting: Vec<Option<Instant>>,
}

impl Keys {
    /// These, all awake.
    pub(super) fn new(mut all: Vec<Key>) -> Self {
        for (place, key) in all.iter_mut().enumerate() {
            key.place = place;
        }
        let turns = Turns { next: 0, resting: vec![None; all.len()] };
        Self { all, turns: Mutex::new(turns) }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// The next in turn that does not rest; when all do, the next in turn: a refusal is better than no answer, and one
    /// of them may be good again.
    pub(super) fn next(&self, now: Instant) -> Key {
        let count = self.all.len();
        if count == 0 {
            return Key::default();
        }
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let in_turn = turns.next;
        let is_awake = |place: &usize| turns.resting[*place].is_none_or(|until| until <= now);
        let place = (0..count).map(|step| (in_turn + step) % count).find(is_awake).unwrap_or(in_turn);
        turns.next = (place + 1) % count;
        self.all[place].clone()
    }

    /// The provider refused this key.
    pub(super) fn rest(&self, key: &Key, now: Instant) {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(resting) = turns.resting.get_mut(key.place) {
            *resting = Some(now + REST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(keys: &Keys, now: Instant) -> [usize; 4] {
        std::array::from_fn(|_| keys.next(now).place)
    }

    #[test]
    fn a_refused_key_rests_while_others_are_left() {
        let key = |name: &str| Key::new("s", SecretString::from(name));
        let keys = Keys::new(vec![key("a"), key("b"), key("c")]);
        let now = Instant::now();
        assert_eq!(places(&keys, now), [0, 1, 2, 0]);
        keys.rest(&keys.all[1], now);
        assert_eq!(places(&keys, now), [2, 0, 2, 0]);
        keys.rest(&keys.all[2], now);
        assert_eq!(places(&keys, now), [0, 0, 0, 0]);
        // All are refused: all are tried again.
        keys.rest(&keys.all[0], now);
        assert_eq!(places(&keys, now), [1, 2, 0, 1]);
        assert_eq!(places(&keys, now + REST), [2, 0, 1, 2]);
        assert_eq!(Keys::new(Vec::new()).next(now).secret(), None);
    }
}
