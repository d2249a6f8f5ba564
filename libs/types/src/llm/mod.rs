//! Validated forms of the wire's messages: what reaches a domain is well-formed.

mod convert;
mod generation;
mod message;
mod validate;

pub use convert::{check_messages, messages_from_wire};
pub use generation::{Completion, Effort, Finish, Format, Generation, Sampling, SchemaFormat};
pub use message::{
    CacheTtl, Content, Media, MediaSource, Message, Part, ProviderState, Reasoning, Tool, ToolCall, ToolChoice,
    ToolMode,
};
pub use validate::generation_from_wire;
