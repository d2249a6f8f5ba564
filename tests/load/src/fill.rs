//! Fills a mesh through its own gRPC: usage rows that are settled, and sessions of one message.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use tonic::transport::Channel;
use tutti_proto::{
    ledger::v1::{
        ReserveRequest, SettleManyRequest, SettleRequest, TokenCounts, UnitPrices,
        ledger_service_client::LedgerServiceClient, settle_result::Result::Settled,
    },
    llm::v1::{AttemptOutcome, Attribution, Message, Role},
    memory::v1::{AppendMessagesRequest, TurnState, session_service_client::SessionServiceClient},
};
use tutti_types::{AttemptId, RequestId, TurnId};

use crate::{grpc::timed, plan::MODEL, target::Failure};

/// Calls at a time: a group commit takes up to 256 holds, an append is a commit of its own.
const HOLDS_IN_FLIGHT: usize = 256;
const IN_FLIGHT: usize = 64;
/// Settlements of one call, the most that it takes.
const SETTLEMENTS: usize = 256;
/// Holds end by settlement, long before.
const HOLD: Duration = Duration::from_secs(600);

/// The name of one of the sessions.
pub(crate) fn session(index: usize) -> String {
    format!("growth-{index:06}")
}

/// Makes a settled usage row for each of the numbers, each of the session with its number.
///
/// # Errors
/// When a hold or a settlement is refused.
pub(crate) async fn usage_rows(channel: &Channel, rows: Range<usize>) -> Result<(), Failure> {
    let ledger = LedgerServiceClient::new(channel.clone());
    let attempts: Vec<String> = stream::iter(rows)
        .map(|index| {
            let (mut ledger, hold) = (ledger.clone(), hold(index));
            async move {
                let attempt_id = hold.attempt_id.clone();
                ledger.reserve(timed(hold)).await?;
                Ok::<_, Failure>(attempt_id)
            }
        })
        .buffer_unordered(HOLDS_IN_FLIGHT)
        .try_collect()
        .await?;
    let groups = attempts.chunks(SETTLEMENTS).map(|group| group.iter().map(|attempt| settlement(attempt)).collect());
    stream::iter(groups.collect::<Vec<_>>())
        .map(|settlements| settle(ledger.clone(), settlements))
        .buffer_unordered(IN_FLIGHT)
        .try_collect()
        .await
}

async fn settle(mut ledger: LedgerServiceClient<Channel>, settlements: Vec<SettleRequest>) -> Result<(), Failure> {
    let count = settlements.len();
    let answer = ledger.settle_many(timed(SettleManyRequest { settlements })).await?.into_inner();
    let settled = answer.results.iter().filter(|of| matches!(of.result, Some(Settled(_)))).count();
    if settled == count {
        return Ok(());
    }
    Err(Failure::Refused(format!("{settled} of {count} settlements were recorded")))
}

fn hold(index: usize) -> ReserveRequest {
    ReserveRequest {
        attempt_id: AttemptId::generate().to_string(),
        request_id: RequestId::generate().to_string(),
        backend: "openai".to_owned(),
        provider: "openai".to_owned(),
        model: MODEL.to_owned(),
        attribution: Some(Attribution { session_id: session(index), ..Default::default() }),
        worst_case: Some(TokenCounts { fresh_input: 100, visible_output: 1000, ..Default::default() }),
        prices: Some(UnitPrices {
            input_nano_usd: 2_000_000_000,
            output_nano_usd: 8_000_000_000,
            catalogue_version: "growth".to_owned(),
            ..Default::default()
        }),
        expires_at: Some((SystemTime::now() + HOLD).into()),
        ..Default::default()
    }
}

fn settlement(attempt_id: &str) -> SettleRequest {
    SettleRequest {
        attempt_id: attempt_id.to_owned(),
        used: Some(TokenCounts { fresh_input: 80, visible_output: 200, ..Default::default() }),
        outcome: AttemptOutcome::Ok.into(),
        ..Default::default()
    }
}

/// Makes the session of each of the numbers, with one message.
///
/// # Errors
/// When an append is refused.
pub(crate) async fn sessions(channel: &Channel, sessions: Range<usize>) -> Result<(), Failure> {
    let memory = SessionServiceClient::new(channel.clone());
    stream::iter(sessions)
        .map(|index| {
            let mut memory = memory.clone();
            async move {
                memory.append_messages(timed(first_turn(index))).await?;
                Ok::<_, Failure>(())
            }
        })
        .buffer_unordered(IN_FLIGHT)
        .try_collect()
        .await
}

fn first_turn(index: usize) -> AppendMessagesRequest {
    let message = Message { role: Role::User.into(), text: "Hello".to_owned(), ..Default::default() };
    AppendMessagesRequest {
        session_id: session(index),
        turn_id: TurnId::generate().to_string(),
        messages: vec![message],
        state: TurnState::Complete.into(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_sessions_of_a_number_belong_together() {
        let (row, turn) = (hold(7), first_turn(7));
        assert_eq!(row.attribution.unwrap().session_id, turn.session_id);
        assert_ne!(hold(7).attempt_id, hold(7).attempt_id);
        assert_ne!(session(7), session(8));
    }
}
