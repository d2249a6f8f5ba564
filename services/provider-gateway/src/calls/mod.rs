//! The calls that cost: each opens an attempt, exchanges, and closes it, and does so again while `tries` says so.

mod answer;
mod embed;
mod stream;
mod tries;
mod unary;

pub(crate) use embed::embed;
pub(crate) use stream::Generating;
pub(crate) use unary::generate;
