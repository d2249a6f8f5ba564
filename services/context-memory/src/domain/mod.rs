//! Pure: how many tokens a message takes, and which messages a backend is shown.

mod tokens;
mod view;

pub(crate) use tokens::estimate;
pub(crate) use view::Caps;
pub(crate) use view::{LogMessage, build};
