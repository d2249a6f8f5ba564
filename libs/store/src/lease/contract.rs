//! What leases of every store do. [`suite!`] runs it all against one.

use std::{sync::Arc, time::Duration};

use super::{Lease, Leases};

const LONG: Duration = Duration::from_secs(3600);
/// Over as soon as it begins.
const OVER: Duration = Duration::ZERO;

/// Makes one test of each behaviour. `$open` is an async function that gives two users of a new store, and what keeps
/// it.
macro_rules! suite {
    ($open:path) => {
        crate::lease::contract::suite!($open:
            one_owner_at_a_time,
            its_owner_gets_it_again,
            what_ran_out_is_lost_and_fenced,
            a_released_lease_is_free,
            orgs_and_names_are_apart,
            of_many_who_ask_one_gets_it,
        );
    };
    ($open:path: $($behaviour:ident,)*) => {
        $(#[tokio::test]
        async fn $behaviour() {
            let (one, other, _keep) = $open().await;
            crate::lease::contract::$behaviour(&one, &other).await;
        })*
    };
}
pub(crate) use suite;

async fn acquire(leases: &dyn Leases, owner: &str, duration: Duration) -> Option<Lease> {
    leases.acquire("acme", "it", owner, duration).await.unwrap()
}

pub(crate) async fn one_owner_at_a_time(one: &dyn Leases, other: &dyn Leases) {
    let lease = acquire(one, "a", LONG).await.unwrap();
    assert_eq!((lease.owner.as_str(), lease.fencing), ("a", 1));
    assert_eq!(acquire(other, "b", LONG).await, None);
    assert!(other.holds(&lease).await.unwrap(), "everybody sees who holds it");
    assert!(one.renew(&lease, LONG).await.unwrap());
    let forged = Lease { owner: "b".into(), ..lease.clone() };
    assert!(!other.holds(&forged).await.unwrap());
    assert!(!other.renew(&forged, LONG).await.unwrap());
    other.release(&forged).await.unwrap();
    assert!(one.holds(&lease).await.unwrap());
}

pub(crate) async fn its_owner_gets_it_again(one: &dyn Leases, _: &dyn Leases) {
    let lease = acquire(one, "a", LONG).await.unwrap();
    assert_eq!(acquire(one, "a", LONG).await, Some(lease));
}

pub(crate) async fn what_ran_out_is_lost_and_fenced(one: &dyn Leases, other: &dyn Leases) {
    let late = acquire(one, "a", OVER).await.unwrap();
    assert!(!one.holds(&late).await.unwrap());
    assert!(!one.renew(&late, LONG).await.unwrap(), "nobody knows who had it in between");
    let next = acquire(other, "b", LONG).await.unwrap();
    assert!(next.fencing > late.fencing, "{next:?} after {late:?}");
    one.release(&late).await.unwrap();
    assert!(other.holds(&next).await.unwrap());

    // A lease that the same owner lost and got back is another one.
    let lost = acquire(other, "b", OVER).await.unwrap();
    let again = acquire(other, "b", LONG).await.unwrap();
    assert!(again.fencing > lost.fencing, "{again:?} after {lost:?}");
    assert!(!other.holds(&lost).await.unwrap());
}

pub(crate) async fn a_released_lease_is_free(one: &dyn Leases, other: &dyn Leases) {
    let first = acquire(one, "a", LONG).await.unwrap();
    one.release(&first).await.unwrap();
    assert!(!one.holds(&first).await.unwrap());
    let second = acquire(other, "b", LONG).await.unwrap();
    assert!(second.fencing > first.fencing);
    one.release(&first).await.unwrap();
    assert!(other.holds(&second).await.unwrap());
}

pub(crate) async fn orgs_and_names_are_apart(one: &dyn Leases, other: &dyn Leases) {
    acquire(one, "a", LONG).await.unwrap();
    let elsewhere = other.acquire("other", "it", "b", LONG).await.unwrap().unwrap();
    assert_eq!(elsewhere.fencing, 1);
    assert!(other.acquire("acme", "another", "b", LONG).await.unwrap().is_some());
    assert!(other.acquire("", "it", "b", LONG).await.unwrap().is_some());
}

pub(crate) async fn of_many_who_ask_one_gets_it(one: &dyn Leases, other: &dyn Leases) {
    for round in 1..=5 {
        let asked = Arc::new(tokio::sync::Barrier::new(8));
        let tries = (0..8).map(|n| {
            let leases = if n % 2 == 0 { one } else { other };
            let asked = Arc::clone(&asked);
            async move {
                asked.wait().await;
                acquire(leases, &format!("owner {n}"), LONG).await
            }
        });
        let got: Vec<Lease> = futures::future::join_all(tries).await.into_iter().flatten().collect();
        assert_eq!(got.iter().map(|lease| lease.fencing).collect::<Vec<_>>(), [round], "{got:?}");
        one.release(&got[0]).await.unwrap();
    }
}
