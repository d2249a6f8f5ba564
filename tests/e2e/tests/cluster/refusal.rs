//! Who does not know the secret of the mesh is refused, and counted.

use tonic::{Code, Status};
use tutti_client::{Channel, Connector};
use tutti_error::{Reason, reason_of};
use tutti_proto::{
    gateway::v1::{GenerateRequest, gateway_service_client::GatewayServiceClient},
    ledger::v1::{ReserveRequest, ledger_service_client::LedgerServiceClient},
    llm::v1::{Message, Role},
    memory::v1::{ListSessionsRequest, session_service_client::SessionServiceClient},
    sandbox::v1::{ListToolsRequest, tool_service_client::ToolServiceClient},
};

use crate::support::{Cluster, Service, metric, patient};

/// A call that would do something, were it let in.
async fn call(service: Service, channel: Channel) -> Result<(), Status> {
    let user = Message { role: Role::User.into(), text: "hello".into(), ..Default::default() };
    let generate = GenerateRequest { backend: "openai".into(), messages: vec![user], ..Default::default() };
    match service {
        Service::Gateway => GatewayServiceClient::new(channel).generate(patient(generate)).await.map(drop),
        Service::Ledger => {
            LedgerServiceClient::new(channel).reserve(patient(ReserveRequest::default())).await.map(drop)
        }
        Service::Memory => {
            SessionServiceClient::new(channel).list_sessions(patient(ListSessionsRequest::default())).await.map(drop)
        }
        Service::Sandbox => {
            ToolServiceClient::new(channel).list_tools(patient(ListToolsRequest::default())).await.map(drop)
        }
        Service::Router => unreachable!("anybody may call it"),
    }
}

fn refused(answer: Result<(), Status>) -> Option<(Code, Option<Reason>)> {
    answer.err().map(|status| (status.code(), reason_of(&status)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_secret_opens_no_service_and_is_counted() {
    let cluster = Cluster::start().await;
    let stranger = Connector::new(&cluster.mesh_with_wrong_secret()).unwrap();
    for replica in cluster.replicas.iter().filter(|replica| replica.service != Service::Router) {
        let wrong = async || metric(replica, "tutti_unauthenticated_calls_total{proof=\"wrong\"}").await;
        let none = async || metric(replica, "tutti_unauthenticated_calls_total{proof=\"none\"}").await;
        assert_eq!((wrong().await, none().await), (0.0, 0.0), "{:?}", replica.service);
        let expected = Some((Code::Unauthenticated, Some(Reason::Unauthenticated)));
        for _ in 0..3 {
            let channel = stranger.connect(&replica.url()).unwrap();
            assert_eq!(refused(call(replica.service, channel).await), expected, "{:?}", replica.service);
        }
        let nobody = Channel::connect(&replica.url()).unwrap();
        assert_eq!(refused(call(replica.service, nobody).await), expected, "{:?}", replica.service);
        assert_eq!((wrong().await, none().await), (3.0, 1.0), "{:?}", replica.service);
    }
    assert_eq!(cluster.sim.stats().requests, 0);
    assert!(cluster.usage(&[]).await.is_empty());
}
