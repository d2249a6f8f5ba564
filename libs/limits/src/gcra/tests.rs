use std::time::Duration;

use proptest::{collection::vec, prelude::*};

use super::*;

const NOW: u64 = 1_790_000_000_000_000;

fn window(limit: u64, per_ms: u64, burst: u64) -> Window {
    Window::new(Unit::Requests, limit, Duration::from_millis(per_ms), burst).unwrap()
}

fn cost(requests: u64) -> Amount {
    Amount { requests, tokens: 0 }
}

/// All that was allowed of `calls` (pause before it in µs, cost), by one of `replicas`.
fn allowed(window: &Window, calls: &[(u64, u64)], replicas: u64) -> Vec<(u64, u64)> {
    let (mut now, mut paid) = (NOW, 0);
    let mut allowed = Vec::new();
    for &(pause, amount) in calls {
        now += pause;
        if let Ok(next) = Charge::take(window, cost(amount), replicas).apply(now, paid) {
            paid = next;
            allowed.push((now, amount));
        }
    }
    allowed
}

/// The most in any span shorter than the window: it may as well begin with a call.
fn most(window: &Window, allowed: &[(u64, u64)]) -> u64 {
    let per = u64::try_from(window.per.as_micros()).unwrap();
    let from = |start: u64| allowed.iter().filter(move |(at, _)| (start..start + per).contains(at));
    allowed.iter().map(|(start, _)| from(*start).map(|(_, amount)| amount).sum()).max().unwrap_or(0)
}

proptest! {
    #[test]
    fn never_more_than_limit_and_burst(
        limit in 1..2_000_u64, per_ms in 1..400_u64, burst in 0..300_u64, largest in 1..500_u64,
        calls in vec((0..20_000_u64, 0..u64::MAX), 1..300),
    ) {
        let window = window(limit, per_ms, burst);
        let calls: Vec<_> = calls.into_iter().map(|(pause, seed)| (pause, 1 + seed % largest)).collect();
        prop_assert!(most(&window, &allowed(&window, &calls, 1)) <= limit + burst.max(largest - 1));
    }

    #[test]
    fn the_shares_of_all_replicas_are_no_more_than_the_whole(
        limit in 1..2_000_u64, per_ms in 1..400_u64, burst in 0..300_u64, replicas in 1..9_u64,
        calls in vec(0..20_000_u64, 1..300),
    ) {
        let window = window(limit, per_ms, burst);
        let calls: Vec<_> = calls.into_iter().map(|pause| (pause, 1)).collect();
        let one = most(&window, &allowed(&window, &calls, replicas));
        // The one call that is always allowed is each replica's own.
        prop_assert!(one * replicas <= limit + burst + replicas, "{one} of {replicas}");
    }

    #[test]
    fn who_waits_as_told_is_allowed(
        limit in 1..u64::MAX, per_ms in 1..100_000_000_u64, burst in any::<u64>(), owed in 0..HORIZON,
        amount in any::<u64>(), replicas in 1..100_u64,
    ) {
        let charge = Charge::take(&window(limit, per_ms, burst), cost(amount), replicas);
        prop_assume!(charge.time.unsigned_abs() + owed < HORIZON);
        if let Err(wait) = charge.apply(NOW, NOW + owed) {
            prop_assert!(charge.apply(NOW + wait - 1, NOW + owed).is_err());
            prop_assert!(charge.apply(NOW + wait, NOW + owed).is_ok());
        }
    }

    #[test]
    fn what_remains_can_be_taken_and_no_more(limit in 1..50_000_u64, per_ms in 1..90_000_u64, burst in 0..5_000_u64) {
        let window = window(limit, per_ms, burst);
        let debt = Charge::take(&window, cost(1), 1).apply(NOW, 0).unwrap();
        let left = remaining(&[window], &[debt - NOW], 1).requests;
        prop_assert!(left <= burst && left + 1 >= burst, "{left} of {burst}");
        if left > 0 {
            prop_assert!(Charge::take(&window, cost(left), 1).apply(NOW, debt).is_ok());
        }
    }

    #[test]
    fn nothing_overflows(
        limit in 1..u64::MAX, per_ms in 1..31_622_400_000_u64, burst in any::<u64>(), replicas in any::<u64>(),
        amount in any::<u64>(), delta in any::<i64>(), paid in 0..NOW + HORIZON,
    ) {
        let window = window(limit, per_ms, burst);
        for charge in [
            Charge::take(&window, cost(amount), replicas),
            Charge::correct(&window, Correction { requests: delta, tokens: 0 }, replicas),
        ] {
            // Exact in a double.
            prop_assert!(charge.apply(NOW, paid).unwrap_or_default() < 1 << 53);
        }
    }
}

#[test]
fn calls_without_a_burst_are_evenly_spaced() {
    let window = window(10, 1000, 0);
    let eager: Vec<_> = (0..3_000).map(|_| (1_000, 1)).collect();
    let times: Vec<u64> = allowed(&window, &eager, 1).iter().map(|(at, _)| at - NOW).collect();
    assert_eq!(times.len(), 30);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 100_000), "{times:?}");
}

#[test]
fn a_call_beyond_the_burst_is_paid_for_by_those_after_it() {
    let window = window(100, 1000, 9);
    let large = Charge::take(&window, cost(50), 1);
    let paid = large.apply(NOW, 0).unwrap();
    assert_eq!(paid - NOW, 500_000);
    // One more is allowed when only the burst is still owed; another large one when nothing is.
    assert_eq!(Charge::take(&window, cost(1), 1).apply(NOW, paid), Err(410_000));
    assert_eq!(large.apply(NOW, paid), Err(500_000));
}

#[test]
fn corrections_move_the_debt_both_ways_and_never_below_none() {
    let window = window(100, 1000, 9);
    let correct = |requests, paid| {
        Charge::correct(&window, Correction { requests, tokens: 7 }, 1).apply(NOW, paid).map(|next| next - NOW)
    };
    assert_eq!(correct(3, NOW + 10_000), Ok(40_000));
    assert_eq!(correct(-3, NOW + 50_000), Ok(20_000));
    assert_eq!(correct(-3, NOW + 10_000), Ok(0));
    assert_eq!(correct(0, NOW + 10_000), Ok(10_000));
    assert_eq!(correct(1_000, 0), Ok(10_000_000));
}
