//! One attempt in the books, and the only ways in which it changes.
//!
//! ```text
//!             ┌─ release ─► Released ─┐ settle
//! Reserved ───┼─ settle ──► Settled ◄─┤
//!             └─ expire ──► Assumed ──┘ (release corrects an assumption, too)
//! ```
//!
//! Settled is final. What the provider was paid for is always recorded: a settlement wins over an assumption, and
//! also over a release, because only a sent attempt has one.

use std::time::Duration;

use tutti_proto::llm::v1::{AttemptOutcome, Attribution, ErrorReason, FinishReason};
use tutti_types::{AttemptId, NanoUsd, TokenCounts, UnitPrices};

/// A moment, in microseconds since 1970.
pub type Micros = i64;

/// State of a record. The numbers are those of `tutti.ledger.v1.UsageState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// A hold; the attempt runs.
    Reserved = 1,
    /// Settled with what was used.
    Settled = 2,
    /// Never sent to the provider; cost 0.
    Released = 3,
    /// The settlement never came: the worst case counts.
    Assumed = 4,
}

impl State {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Reserved, Self::Settled, Self::Released, Self::Assumed];

    /// The state's number on the wire and in the stores.
    pub fn number(self) -> i32 {
        self as i32
    }

    /// The state of that number.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.number() == number)
    }
}

/// A hold that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Reservation {
    /// Unique for every attempt of an org.
    pub attempt_id: AttemptId,
    /// The caller's request.
    pub request_id: String,
    /// The backend.
    pub backend: String,
    /// The provider.
    pub provider: String,
    /// The model.
    pub model: String,
    /// The credential's masked name.
    pub credential: String,
    /// On whose behalf.
    pub attribution: Attribution,
    /// The most that the attempt can use.
    pub worst_case: TokenCounts,
    /// What a token costs.
    pub prices: UnitPrices,
    /// When the hold becomes an assumption.
    pub expires_at: Micros,
}

/// What an attempt really used.
#[derive(Debug, Clone, PartialEq)]
pub struct Settlement {
    /// The attempt.
    pub attempt_id: AttemptId,
    /// What was used.
    pub used: TokenCounts,
    /// Unit prices, when they differ from the reservation's.
    pub prices: Option<UnitPrices>,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// Why it failed.
    pub reason: ErrorReason,
    /// Why the answer ended.
    pub finish_reason: FinishReason,
    /// The tokens were counted by us.
    pub tokens_estimated: bool,
    /// How long the attempt took.
    pub latency: Option<Duration>,
    /// Until the first piece of output.
    pub time_to_first_token: Option<Duration>,
    /// The provider's own id.
    pub provider_request_id: String,
}

/// The end of a hold whose attempt was never sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The attempt.
    pub attempt_id: AttemptId,
    /// Why it was not sent.
    pub reason: ErrorReason,
}

/// Answer to a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved {
    /// What is held.
    pub held: NanoUsd,
    /// The attempt had a hold already.
    pub existing: bool,
}

/// Answer to a settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// What the attempt cost, by its first settlement.
    pub cost: NanoUsd,
    /// The cost is above the hold.
    pub over_hold: bool,
    /// It was settled before.
    pub existing: bool,
}

/// Why a change is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no record of the attempt.
    #[error("unknown attempt \"{0}\"; an attempt is reserved before it is sent")]
    UnknownAttempt(AttemptId),
    /// The attempt was sent and paid.
    #[error("attempt \"{0}\" is settled and can't be released")]
    AlreadySettled(AttemptId),
}

/// One attempt in the books.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// What was asked for when it was reserved. Its prices are those of the settlement when that had its own.
    pub reservation: Reservation,
    /// Who reserved it.
    pub principal: String,
    /// Its state.
    pub state: State,
    /// The cost of the worst case.
    pub held: NanoUsd,
    /// Tokens used; zero while reserved and when released.
    pub tokens: TokenCounts,
    /// What it cost; zero while reserved and when released.
    pub cost: NanoUsd,
    /// The cost is above the hold.
    pub over_hold: bool,
    /// The tokens were counted by us.
    pub tokens_estimated: bool,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// Why it failed or was not sent.
    pub reason: ErrorReason,
    /// Why the answer ended.
    pub finish_reason: FinishReason,
    /// How long it took.
    pub latency: Option<Duration>,
    /// Until the first piece of output.
    pub time_to_first_token: Option<Duration>,
    /// The provider's own id.
    pub provider_request_id: String,
    /// When it was reserved.
    pub created_at: Micros,
    /// When it was settled, released or assumed.
    pub settled_at: Option<Micros>,
}

impl Record {
    /// A hold on the worst case.
    pub fn reserve(reservation: Reservation, principal: &str, now: Micros) -> Self {
        Self {
            principal: principal.to_owned(),
            state: State::Reserved,
            held: reservation.prices.cost(&reservation.worst_case),
            reservation,
            tokens: TokenCounts::default(),
            cost: NanoUsd::default(),
            over_hold: false,
            tokens_estimated: false,
            outcome: AttemptOutcome::Unspecified,
            reason: ErrorReason::Unspecified,
            finish_reason: FinishReason::Unspecified,
            latency: None,
            time_to_first_token: None,
            provider_request_id: String::new(),
            created_at: now,
            settled_at: None,
        }
    }

    /// The attempt.
    pub fn attempt_id(&self) -> AttemptId {
        self.reservation.attempt_id
    }

    /// Records what was used, unless a settlement was recorded before: the first one counts.
    pub fn settle(&mut self, settlement: Settlement, now: Micros) -> Settled {
        let existing = self.state == State::Settled;
        if !existing {
            if let Some(prices) = settlement.prices {
                self.reservation.prices = prices;
            }
            self.tokens = settlement.used;
            self.cost = self.reservation.prices.cost(&self.tokens);
            self.over_hold = self.cost > self.held;
            self.tokens_estimated = settlement.tokens_estimated;
            self.outcome = settlement.outcome;
            self.reason = settlement.reason;
            self.finish_reason = settlement.finish_reason;
            self.latency = settlement.latency;
            self.time_to_first_token = settlement.time_to_first_token;
            self.provider_request_id = settlement.provider_request_id;
            self.end(State::Settled, now);
        }
        Settled { cost: self.cost, over_hold: self.over_hold, existing }
    }

    /// Ends the hold of an attempt that was not sent. True when it was released before.
    ///
    /// # Errors
    /// [`Refusal::AlreadySettled`].
    pub fn release(&mut self, reason: ErrorReason, now: Micros) -> Result<bool, Refusal> {
        match self.state {
            State::Settled => return Err(Refusal::AlreadySettled(self.attempt_id())),
            State::Released => return Ok(true),
            State::Reserved | State::Assumed => (),
        }
        self.tokens = TokenCounts::default();
        self.cost = NanoUsd::default();
        self.reason = reason;
        self.end(State::Released, now);
        Ok(false)
    }

    /// Assumes the worst case of a hold that has expired. True when it did.
    pub fn expire(&mut self, now: Micros) -> bool {
        let due = self.state == State::Reserved && self.reservation.expires_at <= now;
        if due {
            self.tokens = self.reservation.worst_case;
            self.cost = self.held;
            self.tokens_estimated = true;
            self.end(State::Assumed, now);
        }
        due
    }

    fn end(&mut self, state: State, now: Micros) {
        self.state = state;
        self.settled_at = Some(now);
    }
}
