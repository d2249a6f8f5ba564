//! The ledger's rows, joined with what the simulator saw on the attempt's id.

use std::{
    collections::{HashMap, HashSet},
    future::ready,
};

use tutti_proto::{
    ledger::v1::{ListUsageRequest, UsageFilter, UsageRecord, UsageState},
    llm::v1::AttemptOutcome,
};
use tutti_simulator::{RequestRecord, RequestState};
use tutti_testkit::wait_for;
use tutti_types::time;

use crate::support::{Cluster, PATIENCE, patient};

impl Cluster {
    /// All rows, or those in a state.
    pub(crate) async fn usage(&self, states: &[UsageState]) -> Vec<UsageRecord> {
        let states = states.iter().map(|state| i32::from(*state)).collect();
        let filter = UsageFilter { states, ..Default::default() };
        let (mut records, mut page_token) = (Vec::new(), String::new());
        loop {
            let asked = ListUsageRequest { filter: Some(filter.clone()), page_size: 1000, page_token };
            let page = self.ledger().list_usage(patient(asked)).await.unwrap().into_inner();
            records.extend(page.records);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return records;
            }
        }
    }

    /// Every attempt that the simulator served has exactly one row, settled with what it used; a row that the simulator
    /// knows nothing of was released.
    pub(crate) async fn assert_books_agree(&self) {
        let lost = self.assert_books_agree_but_for(None).await;
        assert!(lost.is_empty());
    }

    /// The same after gateways were killed, the last one before this moment (microseconds since 1970): what they held and could not settle any more
    /// becomes ASSUMED, the worst case. The ids of those attempts.
    pub(crate) async fn assert_books_agree_but_for(&self, killed: Option<i64>) -> HashSet<String> {
        wait_for(PATIENCE, || ready(self.sim.stats().in_progress == 0)).await;
        // Settlement is off the caller's path. Of what was reserved before a gateway died, nobody may be left to settle it.
        let waits = |record: &UsageRecord| killed.is_none_or(|killed| created(record) > killed);
        wait_for(PATIENCE, async || {
            let held = self.usage(&[UsageState::Reserved]).await;
            let waiting: Vec<_> = held.into_iter().filter(waits).collect();
            if waiting.is_empty() { Ok(()) } else { Err(waiting) }
        })
        .await;
        if killed.is_some() {
            // Not to wait until the deadlines of lost calls have passed.
            self.postgres.sql(&self.database, "UPDATE ledger.records SET expires_at = created_at WHERE state = 1");
            wait_for(PATIENCE, async || self.usage(&[UsageState::Reserved]).await.is_empty()).await;
        }
        let records = self.usage(&[]).await;
        let seen = self.sim.requests();
        join(&records, &seen)
    }
}

fn created(record: &UsageRecord) -> i64 {
    record.created_at.as_ref().map(time::to_unix_micros).unwrap_or_default()
}

/// Holds every row against its attempt. The attempts whose worst case was assumed.
fn join(records: &[UsageRecord], seen: &[RequestRecord]) -> HashSet<String> {
    let rows: HashMap<&str, &UsageRecord> = records.iter().map(|row| (row.attempt_id.as_str(), row)).collect();
    assert_eq!(rows.len(), records.len(), "an attempt has two rows");
    let mut attempts = HashSet::new();
    for upstream in seen {
        let attempt = upstream.attempt.as_deref().expect("every request has the attempt's id");
        assert!(attempts.insert(attempt), "the attempt {attempt} was sent twice");
        let row = rows.get(attempt).unwrap_or_else(|| panic!("{upstream:?} has no row"));
        match row.state() {
            UsageState::Settled => agree(row, upstream),
            UsageState::Assumed => assert_eq!(row.cost_nano_usd, row.held_nano_usd, "{row:?}"),
            other => panic!("{other:?}: {row:?} of {upstream:?}"),
        }
    }
    for row in records.iter().filter(|row| !attempts.contains(row.attempt_id.as_str())) {
        assert!(matches!(row.state(), UsageState::Released | UsageState::Assumed), "never sent, and yet {row:?}");
    }
    let assumed = records.iter().filter(|row| row.state() == UsageState::Assumed);
    assumed.map(|row| row.attempt_id.clone()).collect()
}

/// What was answered whole is booked to the token.
fn agree(row: &UsageRecord, upstream: &RequestRecord) {
    let tokens = row.tokens.unwrap_or_default();
    let output = u64::try_from(tokens.visible_output + tokens.reasoning).unwrap();
    let input = tokens.fresh_input + tokens.cache_read + tokens.cache_write_5m + tokens.cache_write_1h;
    match (upstream.state, row.outcome()) {
        (RequestState::Finished, AttemptOutcome::Ok) => {
            let told = (upstream.input_tokens, upstream.output_tokens);
            assert_eq!((u64::try_from(input).unwrap(), output), told, "{row:?} of {upstream:?}");
        }
        (RequestState::Disconnected | RequestState::Finished, AttemptOutcome::Cancelled) => {
            assert!(output <= upstream.output_tokens, "{row:?} of {upstream:?}");
        }
        other => panic!("{other:?}: {row:?} of {upstream:?}"),
    }
}
