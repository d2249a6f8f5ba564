//! Replicas that come, go and die.

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, atomic::Ordering},
};

use futures::future::join_all;
use tutti_client::{Connector, Resolve};
use tutti_proto::gateway::v1::gateway_service_client::GatewayServiceClient;
use tutti_server::ServeOptions;
use tutti_testkit::{Fault, FaultProxy, wait_for};

use crate::support::{Client, PATIENCE, Running, generate, pieces};

/// Names that the test gives.
#[derive(Debug, Clone, Default)]
struct Names(Arc<Mutex<Vec<SocketAddr>>>);

impl Names {
    fn set(&self, replicas: &[&Running]) {
        *self.0.lock().unwrap() = replicas.iter().map(|replica| replica.address).collect();
    }
}

#[tonic::async_trait]
impl Resolve for Names {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        assert_eq!((host, port), ("gateway", 7070));
        Ok(self.0.lock().unwrap().clone())
    }
}

async fn two() -> (Running, Running) {
    (Running::start("one", ServeOptions::default()).await, Running::start("two", ServeOptions::default()).await)
}

fn client_of(replicas: &[&Running]) -> Client {
    let urls: Vec<String> = replicas.iter().map(|replica| replica.url()).collect();
    GatewayServiceClient::new(Connector::default().connect(&urls.join(",")).unwrap())
}

/// Who answers fifty calls. None may fail.
async fn who_answers(client: &Client) -> BTreeSet<String> {
    join_all((0..50).map(|_| generate(client))).await.into_iter().map(|answer| answer.unwrap().request_id).collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn a_killed_replica_costs_no_call_that_had_produced_nothing() {
    let (one, two) = two().await;
    let mortal = FaultProxy::start(one.address).await;
    let urls = format!("http://{},{}", mortal.address(), two.url());
    let client = GatewayServiceClient::new(Connector::default().connect(&urls).unwrap());
    assert_eq!(who_answers(&client).await, names(&["one", "two"]));

    // Calls hang in the first; streams too, after their heads.
    one.close_gate();
    let (calls, mut streams) = (join_all((0..20).map(|_| generate(&client))), client.clone());
    let waiting = async {
        let stream = streams.generate_stream(pieces(3));
        let (answers, stream) = tokio::join!(calls, stream);
        (answers, stream.unwrap().into_inner())
    };
    let kill = async {
        let before = one.fake.begun.load(Ordering::SeqCst);
        wait_for(PATIENCE, async || one.fake.begun.load(Ordering::SeqCst) > before + 3).await;
        // As `kill -9` does: connections end at once, and there are no new ones.
        mortal.set(Fault::Refuse).await;
    };
    let ((answers, mut stream), ()) = tokio::join!(waiting, kill);
    for answer in answers {
        assert_eq!(answer.unwrap().request_id, "two");
    }
    let mut count = 0;
    while stream.message().await.unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 3);
    assert_eq!(who_answers(&client).await, names(&["two"]));
}

#[tokio::test]
async fn a_rolling_restart_costs_no_call() {
    let (one, two) = two().await;
    let client = client_of(&[&one, &two]);
    let mut replicas = vec![one, two];
    for name in ["three", "four"] {
        let old = replicas.remove(0);
        let load = async {
            let mut seen = BTreeSet::new();
            while !seen.contains(name) {
                seen.extend(who_answers(&client).await);
            }
        };
        let restart = async {
            old.shutdown.cancel();
            old.task.await.unwrap().unwrap();
            Running::at(old.address, name, ServeOptions::default()).await
        };
        let ((), new) = tokio::time::timeout(PATIENCE, async { tokio::join!(load, restart) }).await.unwrap();
        replicas.push(new);
    }
}

#[tokio::test]
async fn names_are_looked_up_again() {
    let (one, two) = two().await;
    let names_now = Names::default();
    names_now.set(&[&one]);
    let connector = Connector::default().resolver(names_now.clone());
    let client = GatewayServiceClient::new(connector.connect("http://gateway:7070").unwrap());
    assert_eq!(who_answers(&client).await, names(&["one"]));
    // A new replica gets its share, and one that is gone from the name gets no more calls.
    names_now.set(&[&one, &two]);
    wait_for(PATIENCE, async || who_answers(&client).await == names(&["one", "two"])).await;
    names_now.set(&[&two]);
    wait_for(PATIENCE, async || who_answers(&client).await == names(&["two"])).await;
}

#[tokio::test]
async fn nobody_at_all_is_unavailable_at_once() {
    let gone = Running::start("gone", ServeOptions::default()).await;
    gone.shutdown.cancel();
    gone.task.await.unwrap().unwrap();
    let client = GatewayServiceClient::new(Connector::default().connect(&format!("http://{}", gone.address)).unwrap());
    let status = generate(&client).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");

    let nowhere = Connector::default().resolver(Names::default()).connect("http://gateway:7070").unwrap();
    let status = generate(&GatewayServiceClient::new(nowhere)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
}
