#![cfg(test)]

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A breaker with its clock.
struct Bench {
    config: BreakerConfig,
    breaker: Breaker,
    now: Instant,
}

impl Bench {
    fn new(config: BreakerConfig) -> Self {
        let now = Instant::now();
        Self { config, breaker: Breaker::new(now), now }
    }

    fn admit(&mut self) -> Result<Permit, Duration> {
        self.breaker.admit(&self.config, self.now)
    }

    fn end(&mut self, permit: Permit, ending: Ending) -> bool {
        self.breaker.ended(&self.config, permit, ending, self.now)
    }

    /// A whole call.
    fn call(&mut self, ending: Ending) -> bool {
        let permit = self.admit().unwrap();
        self.end(permit, ending)
    }

    fn calls(&mut self, count: u32, ending: Ending) {
        for _ in 0..count {
            self.call(ending);
        }
    }

    fn state(&self) -> State {
        self.breaker.state(self.now)
    }

    /// Open, and its time over.
    fn half_open() -> Self {
        let mut bench = Self::new(BreakerConfig::default());
        bench.calls(5, Ending::Failed);
        bench.now += bench.config.open_for;
        assert_eq!(bench.state(), State::HalfOpen);
        bench
    }
}

#[test]
fn failures_in_a_row_open_it_and_a_success_clears_the_count() {
    let mut bench = Bench::new(BreakerConfig::default());
    bench.calls(4, Ending::Failed);
    bench.call(Ending::Ok);
    bench.calls(4, Ending::Failed);
    bench.call(Ending::Nothing);
    assert_eq!(bench.state(), State::Closed);
    assert!(bench.call(Ending::Failed));
    assert_eq!(bench.state(), State::Open(30 * SECOND));
    bench.now += 12 * SECOND;
    assert_eq!(bench.admit(), Err(18 * SECOND));
    let Counters { total, ok, failed, rejected, .. } = bench.breaker.counters();
    assert_eq!((total, ok, failed, rejected), (11, 1, 9, 1));
}

#[test]
fn a_half_open_one_lets_three_through_at_a_time_and_two_that_go_well_close_it() {
    let mut bench = Bench::half_open();
    let probes = [bench.admit().unwrap(), bench.admit().unwrap(), bench.admit().unwrap()];
    assert_eq!(bench.admit(), Err(SECOND));
    // One that says nothing gives its place to another.
    assert!(!bench.end(probes[0], Ending::Nothing));
    let fourth = bench.admit().unwrap();
    assert!(bench.admit().is_err());
    assert!(!bench.end(probes[1], Ending::Ok));
    assert!(bench.admit().is_err(), "two are out and one went well");
    assert!(bench.end(fourth, Ending::Ok));
    assert_eq!(bench.state(), State::Closed);
    // The one that is left over began before it closed.
    assert!(!bench.end(probes[2], Ending::Failed));
    bench.calls(4, Ending::Failed);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn any_failure_of_a_half_open_one_opens_it_again() {
    let mut bench = Bench::half_open();
    let (first, second) = (bench.admit().unwrap(), bench.admit().unwrap());
    bench.end(first, Ending::Ok);
    assert!(bench.end(second, Ending::Failed));
    assert_eq!(bench.state(), State::Open(30 * SECOND));
}

#[test]
fn what_began_before_it_opened_says_nothing_afterwards() {
    let mut bench = Bench::new(BreakerConfig::default());
    let old = bench.admit().unwrap();
    bench.calls(5, Ending::Failed);
    bench.now += 30 * SECOND;
    let probe = bench.admit().unwrap();
    assert!(!bench.end(old, Ending::Failed));
    assert_eq!(bench.state(), State::HalfOpen);
    bench.end(probe, Ending::Ok);
    bench.call(Ending::Ok);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn the_error_rate_opens_it_once_there_are_enough_calls() {
    let mut bench = Bench::new(BreakerConfig::default());
    for call in 1..20 {
        bench.call(if call % 2 == 0 { Ending::Ok } else { Ending::Failed });
        assert_eq!(bench.state(), State::Closed, "{call}");
    }
    bench.call(Ending::Ok);
    assert_eq!((bench.state(), bench.breaker.error_rate(&bench.config, bench.now)), (State::Closed, 0.5));
    bench.call(Ending::Failed);
    assert_eq!(bench.state(), State::Open(30 * SECOND));
    // What is older than the window doesn't count.
    let mut bench = Bench::new(BreakerConfig::default());
    for _ in 0..40 {
        bench.calls(1, Ending::Failed);
        bench.calls(1, Ending::Ok);
        bench.now += 8 * SECOND;
    }
    assert_eq!(bench.state(), State::Closed);
    let mut never = Bench::new(BreakerConfig { error_rate: 0.0, ..BreakerConfig::default() });
    for _ in 0..100 {
        never.calls(4, Ending::Failed);
        never.calls(1, Ending::Ok);
    }
    assert_eq!(never.state(), State::Closed);
}

#[test]
fn a_reset_closes_it_and_forgets() {
    let mut bench = Bench::half_open();
    let probe = bench.admit().unwrap();
    bench.breaker.reset();
    assert_eq!((bench.state(), bench.breaker.counters()), (State::Closed, Counters::default()));
    assert!(!bench.end(probe, Ending::Failed));
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn one_that_is_switched_off_only_counts() {
    let mut bench = Bench::new(BreakerConfig { enabled: false, ..BreakerConfig::default() });
    bench.calls(100, Ending::Failed);
    assert_eq!((bench.state(), bench.breaker.counters().failed), (State::Closed, 100));
}

#[derive(Debug, Clone)]
enum Step {
    Begin,
    End(usize, Ending),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ending = prop_oneof![Just(Ending::Ok), Just(Ending::Failed), Just(Ending::Nothing)];
    let step = prop_oneof![
        4 => Just(Step::Begin),
        4 => (any::<usize>(), ending).prop_map(|(which, ending)| Step::End(which, ending)),
        1 => (0u64..40).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    /// Whatever happens: an open one lets nobody through, a half-open one no more than its probes, and each call that
    /// was let through is counted once.
    #[test]
    fn its_promises_hold_in_every_order(steps in steps(), failures in 1u32..6, probes in 2u32..5) {
        let config = BreakerConfig { failures, half_open_calls: probes, ..BreakerConfig::default() };
        let mut bench = Bench::new(config);
        let mut out: Vec<(Permit, bool)> = Vec::new();
        let (mut begun, mut refused, mut ended) = (0, 0, 0);
        for step in steps {
            match step {
                Step::Begin => {
                    let before = bench.state();
                    match bench.admit() {
                        Ok(permit) => {
                            prop_assert!(!matches!(before, State::Open(_)));
                            out.push((permit, before == State::HalfOpen));
                            begun += 1;
                        }
                        Err(wait) => {
                            prop_assert!(before != State::Closed && wait <= bench.config.open_for);
                            refused += 1;
                        }
                    }
                }
                Step::End(..) if out.is_empty() => {}
                Step::End(which, ending) => {
                    let (permit, probe) = out.swap_remove(which % out.len());
                    let before = bench.state();
                    let current = permit.epoch == bench.breaker.epoch;
                    bench.end(permit, ending);
                    ended += u64::from(ending != Ending::Nothing);
                    if current && probe && ending == Ending::Failed {
                        prop_assert!(matches!(bench.state(), State::Open(_)));
                    }
                    prop_assert!(current || bench.state() == before);
                }
                Step::Wait(seconds) => bench.now += Duration::from_secs(seconds),
            }
            let epoch = bench.breaker.epoch;
            if bench.state() == State::HalfOpen {
                let probing = out.iter().filter(|(permit, probe)| *probe && permit.epoch == epoch).count();
                prop_assert!(probing <= probes as usize);
            }
        }
        let Counters { total, ok, failed, rejected, .. } = bench.breaker.counters();
        prop_assert_eq!((total, rejected, ok + failed), (begun, refused, ended));
    }
}
