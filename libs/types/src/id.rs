//! Typed ids. Those we make are UUIDv7, so that they sort by time.

use std::fmt;

use tutti_error::{Error, Result};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id.
            // The one place that makes ids.
            #[allow(clippy::disallowed_methods)]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// Reads an id from a request.
            ///
            /// # Errors
            /// INVALID_REQUEST naming the field, unless `text` is a UUID.
            pub fn parse(text: &str) -> Result<Self> {
                text.parse().map(Self).map_err(|_| Error::invalid($field, "must be a UUID"))
            }

            /// Reads an id from a request, or makes one when the field is empty.
            ///
            /// # Errors
            /// INVALID_REQUEST naming the field, unless `text` is empty or a UUID.
            pub fn parse_or_generate(text: &str) -> Result<Self> {
                if text.is_empty() { Ok(Self::generate()) } else { Self::parse(text) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// One request of a caller.
    RequestId,
    "request_id"
);
id!(
    /// One paid HTTP call.
    AttemptId,
    "attempt_id"
);
id!(
    /// A user message with everything until the answer.
    TurnId,
    "turn_id"
);
