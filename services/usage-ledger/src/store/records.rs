//! The records of one transaction: each is read once and written once, at the end. A batch of changes costs a store a few
//! statements then, not a few for each change.

use std::collections::BTreeMap;

use tutti_types::AttemptId;

use crate::domain::Record;

/// What a transaction knows of the books, in the order of orgs and attempts.
#[derive(Debug, Default)]
pub(super) struct Records(BTreeMap<String, BTreeMap<AttemptId, Known>>);

#[derive(Debug)]
struct Known {
    /// None: there is no record of this attempt.
    record: Option<Record>,
    /// Whether the store has a record of it, perhaps an older one.
    stored: bool,
    changed: bool,
}

impl Records {
    /// The record as this transaction sees it: `None` when it has not been read yet, `Some(None)` when there is none.
    pub(super) fn get(&self, org: &str, attempt: AttemptId) -> Option<Option<&Record>> {
        self.0.get(org)?.get(&attempt).map(|known| known.record.as_ref())
    }

    /// Notes what was found of these attempts. What this transaction has changed already stays.
    pub(super) fn read(&mut self, asked: &[(&str, AttemptId)], found: Vec<(String, Record)>) {
        for (org, record) in found {
            self.note(&org, record.attempt_id(), Some(record));
        }
        for (org, attempt) in asked {
            self.note(org, *attempt, None);
        }
    }

    fn note(&mut self, org: &str, attempt: AttemptId, record: Option<Record>) {
        let stored = record.is_some();
        self.of(org).entry(attempt).or_insert(Known { record, stored, changed: false });
    }

    /// A new state of a record.
    pub(super) fn change(&mut self, org: &str, record: &Record) {
        let records = self.of(org);
        let stored = records.get(&record.attempt_id()).is_none_or(|known| known.stored);
        records.insert(record.attempt_id(), Known { record: Some(record.clone()), stored, changed: true });
    }

    /// The records that the store does not have yet, with their orgs.
    pub(super) fn take_new(&mut self) -> Vec<(String, Record)> {
        self.take(|known| !known.stored)
    }

    /// What has to be written, with its org, new records included unless they were taken.
    pub(super) fn take_changed(&mut self) -> Vec<(String, Record)> {
        self.take(|_| true)
    }

    fn take(&mut self, wanted: impl Fn(&Known) -> bool) -> Vec<(String, Record)> {
        let mut taken = Vec::new();
        for (org, records) in &mut self.0 {
            for known in records.values_mut().filter(|known| known.changed && wanted(known)) {
                (known.changed, known.stored) = (false, true);
                taken.extend(known.record.clone().map(|record| (org.clone(), record)));
            }
        }
        taken
    }

    fn of(&mut self, org: &str) -> &mut BTreeMap<AttemptId, Known> {
        if !self.0.contains_key(org) {
            self.0.insert(org.to_owned(), BTreeMap::new());
        }
        self.0.entry(org.to_owned()).or_default()
    }
}
