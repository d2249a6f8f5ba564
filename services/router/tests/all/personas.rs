//! The `PersonaService`.

use http::uri::PathAndQuery;
use tonic::{Code, Request, client::Grpc};
use tonic_prost::ProstCodec;
use tutti_error::Reason;
use tutti_proto::router::v1::{
    ChatRequest, GetPersonaRequest, ListPersonasRequest, ListPersonasResponse, ThinkingStyle,
};

use crate::mesh::{Mesh, chat, refusal};

#[tokio::test]
async fn the_built_in_personas_come_by_id() {
    let mesh = Mesh::start().await;
    let listed = mesh.personas().list_personas(ListPersonasRequest {}).await.unwrap().into_inner();
    let ids: Vec<_> = listed.personas.iter().map(|p| p.id.as_str()).collect();
    assert!(ids.is_sorted() && ids.len() == 8, "{ids:?}");
    assert_eq!(listed.default_persona, "default");
    let get = GetPersonaRequest { id: "architect".into() };
    let architect = mesh.personas().get_persona(get).await.unwrap().into_inner().persona.unwrap();
    assert_eq!((architect.max_tokens, architect.source.as_str()), (16_000, "built-in"));
    assert_eq!(architect.thinking_style(), ThinkingStyle::DeepReasoning);
}

#[tokio::test]
async fn an_unknown_persona_is_not_found_with_the_nearest() {
    let mesh = Mesh::start().await;
    let get = |id: &str| GetPersonaRequest { id: id.into() };
    let status = mesh.personas().get_persona(get("reviewr")).await.unwrap_err();
    assert_eq!((status.code(), refusal(&status).0), (Code::NotFound, Reason::UnknownPersona));
    assert!(status.message().contains("\"reviewer\""));
    assert_eq!(refusal(&mesh.personas().get_persona(get("")).await.unwrap_err()).1, "id");
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused() {
    let mesh = Mesh::start().await;
    let mut client = Grpc::new(mesh.channel());
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/tutti.router.v1.PersonaService/ListPersonas");
    let codec = ProstCodec::<ChatRequest, ListPersonasResponse>::default();
    let large = chat(&"x".repeat(33 << 20));
    let status = client.unary(Request::new(large), path, codec).await.unwrap_err();
    assert_eq!((status.code(), refusal(&status).0), (Code::InvalidArgument, Reason::MessageTooLarge));
}
