//! What stands between a call and a backend that fails: credentials that rest, and a breaker for each of them. The rules
//! are in `domain`; here they get their clock, their locks and their log lines.

mod changes;
mod keys;

pub(crate) use changes::Changes;
pub(crate) use keys::{Key, KeyState, Keys, Pass};
