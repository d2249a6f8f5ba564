//! `Generate`, `GenerateStream` and `Embed`.

use std::sync::Arc;

use futures::StreamExt as _;
use tonic::Status;
use tutti_error::{Error, Result};
use tutti_layers::CallContext;
use tutti_proto::gateway::v1::{EmbedRequest, EmbedResponse, GenerateRequest, GenerateResponse, GenerateStreamRequest};

use super::EventStream;
use crate::{
    app::Gateway,
    calls::{self, Generating},
    plan,
};

pub(super) async fn generate(
    gateway: &Gateway,
    request: &GenerateRequest,
    context: CallContext,
) -> Result<GenerateResponse> {
    let backend = gateway.backends.get(&request.backend)?;
    let (plan, expectation) = plan::generation(backend, &gateway.catalogue, request, context, false)?;
    Box::pin(calls::generate(gateway, plan, &expectation)).await
}

pub(super) async fn generate_stream(
    gateway: &Arc<Gateway>,
    request: GenerateStreamRequest,
    context: CallContext,
) -> Result<EventStream> {
    let request = request.generate.ok_or_else(|| Error::invalid("generate", "is required"))?;
    let backend = gateway.backends.get(&request.backend)?;
    let (plan, expectation) = plan::generation(backend, &gateway.catalogue, &request, context, true)?;
    let generating = Generating::open(gateway, plan, expectation).await?;
    Ok(Box::pin(generating.into_stream().map(|event| event.map_err(Status::from))))
}

pub(super) async fn embed(gateway: &Gateway, request: &EmbedRequest, context: CallContext) -> Result<EmbedResponse> {
    let backend = gateway.backends.get(&request.backend)?;
    let plan = plan::embedding(backend, &gateway.catalogue, request, context)?;
    Box::pin(calls::embed(gateway, plan, request.inputs.len())).await
}
