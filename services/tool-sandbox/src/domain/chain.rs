//! The hash chain of the books: a row that was changed, taken out or put in later no longer fits.
//!
//! Each org has a chain of its own. A row's hash is the SHA-256 of the hash before it and the row's canonical form: its
//! position in the chain, then its fields, each with its length in front. Who can rewrite all rows and the chain's head
//! can make another chain that fits: against that only a copy of a head elsewhere helps.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use tutti_types::Scope;

use super::{Ending, NewRecord};

/// The end of a chain so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The rows in it.
    pub(crate) link: i64,
    /// The last row's hash; empty when there is none.
    pub(crate) hash: Vec<u8>,
}

impl Head {
    /// The head after this row.
    pub(crate) fn with(&self, row: &Canonical) -> Self {
        let link = self.link + 1;
        let hash = Sha256::new().chain_update(&self.hash).chain_update(link.to_be_bytes()).chain_update(&row.0);
        Self { link, hash: hash.finalize().to_vec() }
    }
}

/// What is hashed of a row: the same for all stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Canonical(Vec<u8>);

impl Canonical {
    /// Of a call that begins.
    pub(crate) fn started(scope: &Scope, seq: i64, call: &NewRecord) -> Self {
        let mut row = Self::of("started", &scope.org, seq);
        let attribution = &call.attribution;
        let decision = call.verdict.decision.name();
        for text in [&scope.principal, &call.request_id, &call.tool_call_id, &call.tool, &call.workspace]
            .into_iter()
            .chain([&call.arguments_json, &call.verdict.because, &call.isolation])
            .chain([&attribution.team, &attribution.project, &attribution.job, &attribution.node])
            .chain([&attribution.run_id, &attribution.agent, &attribution.session_id, &attribution.task_id])
            .chain([&attribution.phase])
        {
            row.field(text.as_bytes());
        }
        row.field(decision.as_bytes());
        row.field(&call.started_at.to_be_bytes());
        // Their order on the wire is chance.
        for (label, value) in attribution.tags.iter().collect::<BTreeMap<_, _>>() {
            row.field(label.as_bytes());
            row.field(value.as_bytes());
        }
        row
    }

    /// Of a call's end.
    pub(crate) fn finished(scope: &Scope, seq: i64, ending: &Ending) -> Self {
        let mut row = Self::of("finished", &scope.org, seq);
        row.field(&[u8::from(ending.success)]);
        row.field(ending.reason.map_or("", |reason| reason.as_str_name()).as_bytes());
        row.field(ending.error.as_bytes());
        row.field(ending.exit_code.map(i32::to_be_bytes).as_ref().map_or(&[], |code| code.as_slice()));
        row.field(&ending.output_bytes.to_be_bytes());
        // As the stores keep it.
        row.field(&ending.duration.as_micros().to_be_bytes());
        row
    }

    fn of(kind: &str, org: &str, seq: i64) -> Self {
        let mut row = Self(Vec::new());
        row.field(kind.as_bytes());
        row.field(org.as_bytes());
        row.field(&seq.to_be_bytes());
        row
    }

    fn field(&mut self, value: &[u8]) {
        self.0.extend((value.len() as u64).to_be_bytes());
        self.0.extend(value);
    }
}

/// A row as it is in the books, read to be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChainedRow {
    /// Its place in the chain, from 1.
    pub(crate) link: i64,
    /// Its hash.
    pub(crate) hash: Vec<u8>,
    /// What the hash is of; `None` when the row can't be read as one of ours.
    pub(crate) canonical: Option<Canonical>,
}

/// What came of checking a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Integrity {
    /// Every row fits.
    Intact {
        /// So many.
        rows: i64,
    },
    /// A row was changed, is missing, or came later.
    Broken {
        /// The first place where the chain doesn't fit.
        link: i64,
    },
}

/// Checks rows that follow `head`, ordered by their place.
///
/// # Errors
/// The first place where they don't fit.
pub(crate) fn follow(head: Head, rows: &[ChainedRow]) -> Result<Head, Integrity> {
    rows.iter().try_fold(head, |head, row| {
        let next = row.canonical.as_ref().map(|canonical| head.with(canonical));
        let fits = |next: &Head| next.link == row.link && next.hash == row.hash;
        next.filter(fits).ok_or(Integrity::Broken { link: head.link + 1 })
    })
}
