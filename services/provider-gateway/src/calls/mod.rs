//! The calls that cost: each plans, opens an attempt, exchanges, and closes it.

mod answer;
mod embed;
mod stream;
mod unary;

pub(crate) use embed::embed;
pub(crate) use stream::Generating;
pub(crate) use unary::generate;
