//! The edge: decode, validate, call, encode.

mod audit;
mod tool;

use std::sync::Arc;

use tutti_layers::MAX_MESSAGE_BYTES;
use tutti_proto::sandbox::v1::{audit_service_server::AuditServiceServer, tool_service_server::ToolServiceServer};
use tutti_server::Services;

use crate::{engine::Engine, store::AuditStore, tools::Registry};

/// Both services.
pub(crate) fn services(engine: &Arc<Engine>, registry: &Arc<Registry>, store: &Arc<dyn AuditStore>) -> Services {
    let tools = tool::Handler::new(engine.clone(), registry.clone());
    let audit = audit::Handler::new(store.clone(), registry.clone());
    Services::default()
        .with(
            ToolServiceServer::new(tools)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
        )
        .with(
            AuditServiceServer::new(audit)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
        )
}
