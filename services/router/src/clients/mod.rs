//! The services that the router calls: one port each, owned by the router, and its gRPC client.

mod directory;
mod gateway;
mod memory;
mod sandbox;

use std::sync::Arc;

pub(crate) use directory::Directory;
pub(crate) use gateway::{Gateway, GatewayClient, GatewayEvent};
pub(crate) use memory::{MemoryClient, Sessions};
pub(crate) use sandbox::{SandboxClient, ToolEvent, Tools};
use tonic::Status;
use tutti_error::{Error, Result};
use tutti_layers::CallContext;

/// Everything that a turn needs of other services.
#[derive(Clone)]
pub(crate) struct Ports {
    pub(crate) gateway: Arc<dyn Gateway>,
    pub(crate) sessions: Arc<dyn Sessions>,
    pub(crate) tools: Arc<dyn Tools>,
}

/// The answer of a unary call.
fn unary<T>(result: Result<tonic::Response<T>, Status>, peer: &str, context: &CallContext) -> Result<T> {
    match result {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => Err(tutti_client::error(&status, peer, context)),
    }
}

/// The events of a streaming call, those of unknown kinds left out.
fn events<M, E>(
    stream: tonic::Streaming<M>,
    peer: &'static str,
    context: &CallContext,
    event: fn(M) -> Option<E>,
) -> futures::stream::BoxStream<'static, Result<E, Error>>
where
    M: Send + 'static,
    E: Send + 'static,
{
    use futures::StreamExt as _;
    let context = context.clone();
    stream
        .filter_map(move |message| {
            let read = match message {
                Ok(message) => event(message).map(Ok),
                Err(status) => Some(Err(tutti_client::error(&status, peer, &context))),
            };
            std::future::ready(read)
        })
        .boxed()
}
