//! What stands between a call and its backend: credentials that rest, a breaker for each of them, rate limits. The rules
//! are in `domain`; here they get their clock, their locks and their log lines.

mod changes;
mod keys;
mod limits;
pub(crate) mod rotation;

pub(crate) use changes::Changes;
pub(crate) use keys::{Key, KeyState, Keys, Pass};
pub(crate) use limits::{Charge, Limits, Room, Rule, Rules, Whose, key_of};
