//! What a server tells of itself.

use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use tutti_client::Channel;
use tutti_server::ServeOptions;

use crate::support::{PATIENCE, Running};

/// The messages of tools and the details of errors: without these a tool shows bytes.
#[tokio::test]
async fn tools_learn_the_messages_and_the_details_of_errors() {
    let server = Running::start("one", ServeOptions::default()).await;
    let mut client = ServerReflectionClient::new(Channel::connect(&server.url()).unwrap());
    let symbols = [
        "tutti.gateway.v1.GatewayService",
        "grpc.health.v1.Health",
        "google.rpc.ErrorInfo",
        "google.rpc.RetryInfo",
        "google.rpc.BadRequest",
    ];
    for symbol in symbols {
        let message_request = Some(MessageRequest::FileContainingSymbol(symbol.to_owned()));
        let asked = ServerReflectionRequest { message_request, ..Default::default() };
        let told = async {
            let mut answers = client.server_reflection_info(tokio_stream::once(asked)).await.unwrap().into_inner();
            answers.message().await.unwrap().unwrap().message_response.unwrap()
        };
        let told = tokio::time::timeout(PATIENCE, told).await.unwrap();
        assert!(matches!(told, MessageResponse::FileDescriptorResponse(_)), "{symbol}: {told:?}");
    }
}
