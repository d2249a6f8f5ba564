//! Every call ends at its caller's deadline, whatever it waits for: here for its own message, which never comes.

use std::time::Duration;

use futures::stream;
use tonic::{Code, Request, client::Grpc};
use tonic_prost::ProstCodec;
use tutti_error::Reason;
use tutti_proto::router::v1::{
    CancelRequest, CancelResponse, ChatRequest, ChatResponse, GetPersonaRequest, GetPersonaResponse,
    ListBackendsRequest, ListBackendsResponse, ListPersonasRequest, ListPersonasResponse, RouteRequest, RouteResponse,
};

use crate::mesh::{Mesh, refusal};

/// Calls a method and never sends its message.
async fn end_of<Q, A>(mesh: &Mesh, path: &'static str)
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + std::fmt::Debug + 'static,
{
    let mut client = Grpc::new(mesh.channel());
    client.ready().await.unwrap();
    let mut request = Request::new(stream::pending::<Q>());
    request.set_timeout(Duration::from_millis(50));
    let path = http::uri::PathAndQuery::from_static(path);
    let status = client.client_streaming(request, path, ProstCodec::<Q, A>::default()).await.unwrap_err();
    assert_eq!((status.code(), refusal(&status).0), (Code::DeadlineExceeded, Reason::DeadlineExceeded));
}

#[tokio::test]
async fn every_call_ends_at_its_deadline() {
    let mesh = Mesh::start().await;
    tokio::join!(
        end_of::<ChatRequest, ChatResponse>(&mesh, "/tutti.router.v1.RouterService/Chat"),
        end_of::<CancelRequest, CancelResponse>(&mesh, "/tutti.router.v1.RouterService/Cancel"),
        end_of::<RouteRequest, RouteResponse>(&mesh, "/tutti.router.v1.RouterService/Route"),
        end_of::<ListBackendsRequest, ListBackendsResponse>(&mesh, "/tutti.router.v1.RouterService/ListBackends"),
        end_of::<ListPersonasRequest, ListPersonasResponse>(&mesh, "/tutti.router.v1.PersonaService/ListPersonas"),
        end_of::<GetPersonaRequest, GetPersonaResponse>(&mesh, "/tutti.router.v1.PersonaService/GetPersona"),
    );
}
