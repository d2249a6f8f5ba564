//! The usage ledger: the truth about money. It puts a hold on the worst case of every attempt before it is sent and
//! settles it afterwards, so that no spend is lost and none is counted twice.
//!
//! A change goes through [`group_commit`], which makes it durable together with others; the rules of a record are in
//! [`domain`]; [`store`] keeps the records.

mod app;
pub mod changes;
mod config;
pub mod domain;
mod error;
pub mod group_commit;
mod grpc;
pub mod store;

pub use app::App;
pub use config::Config;
