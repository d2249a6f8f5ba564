//! What the books are: records and how they change, and what can be asked of them. Pure.

mod query;
mod record;

pub use query::{Cursor, Dimension, Filter, Group, Page, Totals};
pub use record::{Micros, Record, Refusal, Release, Reservation, Reserved, Settled, Settlement, State};
