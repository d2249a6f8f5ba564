//! Replicas that are stopped, killed and started again while two hundred conversations go on.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use futures::future::join_all;
use tonic::Code;
use tutti_error::Reason;
use tutti_proto::memory::v1::{GetHistoryRequest, TurnState};
use tutti_types::time::unix_micros;

use crate::{
    load::{Call, Load, failures, session},
    support::{Cluster, REPLICAS, Replica, Service, patient},
};

const CONVERSATIONS: usize = 200;
/// Turns that show that the mesh goes on.
const SOME: usize = 20;
/// Of each conversation, so that two cores can serve so many.
const PACE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_every_service_costs_no_call() {
    let mut cluster = Cluster::start().await;
    let load = Load::start(&cluster, CONVERSATIONS, PACE, false);
    load.goes_on(CONVERSATIONS).await;
    // The first replica of each service, one service after the other.
    for replica in cluster.replicas.iter_mut().step_by(REPLICAS) {
        replica.terminate().await;
        load.goes_on(SOME).await;
        replica.start();
        replica.until_ready().await;
        load.goes_on(SOME).await;
    }
    // The second ones, of all services at the same time.
    join_all(cluster.replicas.iter_mut().skip(1).step_by(REPLICAS).map(Replica::terminate)).await;
    load.goes_on(SOME).await;
    for replica in cluster.replicas.iter_mut().skip(1).step_by(REPLICAS) {
        replica.start();
    }
    for replica in &cluster.replicas {
        replica.until_ready().await;
    }
    load.goes_on(SOME).await;
    let calls = load.end().await;
    let failed = failures(&calls);
    assert!(failed.is_empty(), "{} of {} calls failed: {failed:#?}", failed.len(), calls.len());
    cluster.assert_books_agree().await;
    assert_nothing_is_lost(&cluster, &calls).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_replica_costs_only_streams_that_had_begun() {
    let mut cluster = Cluster::start().await;
    let load = Load::start(&cluster, CONVERSATIONS, PACE, true);
    load.goes_on(CONVERSATIONS).await;
    let mut killed = 0;
    for service in Service::ALL {
        let replica = cluster.replicas.iter_mut().find(|replica| replica.service == service).unwrap();
        replica.kill();
        load.goes_on(SOME).await;
        replica.start();
        replica.until_ready().await;
        if service == Service::Gateway {
            killed = unix_micros(SystemTime::now());
        }
        load.goes_on(SOME).await;
    }
    let calls = load.end().await;
    let failed = failures(&calls);
    for call in &failed {
        let failure = call.failure.as_ref().unwrap();
        assert!(call.had_begun, "it had not begun: {call:#?}");
        let typed = (Code::Unavailable, Reason::ServiceUnavailable);
        assert_eq!((failure.code, failure.reason), typed, "{call:#?}");
    }
    assert!(calls.iter().any(|call| call.tries > 1), "no call was sent again");
    // At most those that the killed router and the killed gateway were streaming.
    assert!(failed.len() < CONVERSATIONS, "{} of {} calls failed: {failed:#?}", failed.len(), calls.len());
    let lost = cluster.assert_books_agree_but_for(Some(killed)).await;
    assert!(lost.len() < CONVERSATIONS, "{} attempts have no settlement: {lost:?}", lost.len());
}

/// Every call is a whole turn of its conversation.
async fn assert_nothing_is_lost(cluster: &Cluster, calls: &[Call]) {
    let conversations: HashSet<usize> = calls.iter().map(|call| call.conversation).collect();
    for conversation in conversations {
        let asked = GetHistoryRequest { session_id: session(conversation), page_size: 1000, ..Default::default() };
        let entries = cluster.memory().get_history(patient(asked)).await.unwrap().into_inner().entries;
        assert!(entries.iter().all(|entry| entry.turn_state() == TurnState::Complete), "{entries:#?}");
        let turns: HashSet<&str> = entries.iter().map(|entry| entry.turn_id.as_str()).collect();
        let made = calls.iter().filter(|call| call.conversation == conversation).count();
        assert_eq!(turns.len(), made, "of conversation {conversation}");
    }
}
