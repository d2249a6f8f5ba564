//! One cap on paid attempts over all layers that try again.

use std::sync::atomic::Ordering;

use tonic::Code;
use tutti_layers::{Attempts, CallContext, Callers, MeshSecret};
use tutti_proto::gateway::v1::{GenerateRequest, gateway_service_client::GatewayServiceClient};
use tutti_server::ServeOptions;
use tutti_testkit::{Fault, FaultProxy, wait_for};
use tutti_types::{Deadline, Scope};

use crate::{
    proofs::{OURS, with_secret},
    support::{PATIENCE, Running, TRIES},
};

/// How often the caller tries.
const CALLS: usize = 10;

/// How many calls of a provider a run has made: its caller tries ten times, the client library sends again what was lost,
/// and the gateway tries up to [`TRIES`] times before its connection breaks.
async fn upstream_calls(run: &Attempts) -> usize {
    let secret = MeshSecret::new([OURS]);
    let gateway =
        Running::start("one", ServeOptions { callers: Callers::Peers, secret, ..ServeOptions::default() }).await;
    gateway.close_gate();
    let mortal = FaultProxy::start(gateway.address).await;
    let channel = with_secret(OURS).connect(&format!("http://{}", mortal.address())).unwrap();
    let calls = async {
        for _ in (0..CALLS).take_while(|_| run.left() != Some(0)) {
            let call = CallContext::new(Scope::default(), Deadline::after(PATIENCE)).with_attempts(run.clone());
            let request = tutti_client::request(GenerateRequest::default(), &call);
            let status = GatewayServiceClient::new(channel.clone()).generate(request).await.unwrap_err();
            assert_ne!(status.code(), Code::DeadlineExceeded, "{status:?}");
        }
    };
    let begun = || gateway.fake.begun.load(Ordering::SeqCst);
    let kill = async {
        let mut before = 0;
        loop {
            wait_for(PATIENCE, async || begun() > before).await;
            before = begun();
            mortal.set(Fault::Refuse).await;
            mortal.set(Fault::Pass).await;
        }
    };
    tokio::select! {
        () = calls => gateway.fake.upstream.load(Ordering::SeqCst),
        () = kill => unreachable!("killing goes on"),
    }
}

#[tokio::test]
async fn retries_of_three_layers_keep_within_one_cap() {
    for cap in [1, 6] {
        let run = Attempts::at_most(cap);
        let made = upstream_calls(&run).await;
        assert!((1..=usize::try_from(cap).unwrap()).contains(&made), "{made} of {cap}");
    }
    // What they would make of it without one.
    let made = upstream_calls(&Attempts::default()).await;
    assert!(made >= CALLS / 2 * TRIES, "{made}");
}
