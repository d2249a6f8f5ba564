//! `SessionService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use tutti_error::{Error, Result};
use tutti_layers::CallContext;
use tutti_proto::{
    llm::v1::{Message, Role},
    memory::v1::{
        AppendMessagesRequest, AppendMessagesResponse, BuildContextRequest, BuildContextResponse, ContextScope,
        DeleteSessionRequest, DeleteSessionResponse, GetHistoryRequest, GetHistoryResponse, ListSessionsRequest,
        ListSessionsResponse, ResetContextRequest, ResetContextResponse, TurnState,
        session_service_server::SessionService,
    },
};
use tutti_types::time;

use crate::{
    domain::{Caps, LogMessage, build, estimate},
    store::{Append, Store, ViewQuery},
};

/// How many more messages than the cap are looked at, so that a long tool exchange at the edge is seen whole.
const LOOK_BEHIND: usize = 200;
/// The longest id of a session or turn.
const MAX_ID: usize = 128;

/// The handlers of `SessionService`.
pub(crate) struct Sessions {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) caps: Caps,
}

#[tonic::async_trait]
impl SessionService for Sessions {
    async fn append_messages(
        &self,
        request: Request<AppendMessagesRequest>,
    ) -> Result<Response<AppendMessagesResponse>, Status> {
        let scope = CallContext::of(&request).scope;
        let append = append_of(request.into_inner())?;
        let done = self.store.append(&scope, append).await?;
        let (first_seq, last_seq, existing) = (done.first_seq, done.last_seq, done.existing);
        Ok(Response::new(AppendMessagesResponse { first_seq, last_seq, existing }))
    }

    async fn build_context(
        &self,
        request: Request<BuildContextRequest>,
    ) -> Result<Response<BuildContextResponse>, Status> {
        let scope = CallContext::of(&request).scope;
        let asked = request.into_inner();
        id("session_id", &asked.session_id)?;
        if asked.backend.is_empty() {
            return Err(Error::invalid("backend", "is required").into());
        }
        if asked.max_tokens < 0 {
            return Err(Error::invalid("max_tokens", "must not be negative").into());
        }
        let query = ViewQuery {
            session_id: asked.session_id.clone(),
            own_turns_only: asked.scope() == ContextScope::Backend,
            backend: asked.backend,
            turn_id: asked.turn_id,
            newest: self.caps.messages + LOOK_BEHIND,
        };
        let visible = self.store.visible(&scope, &query).await?;
        let log = visible.messages.into_iter().map(|(message, tokens)| LogMessage { message, tokens }).collect();
        let new_tokens = asked.new_messages.iter().map(estimate).sum();
        let tokens = if asked.max_tokens == 0 { self.caps.tokens } else { asked.max_tokens.min(self.caps.tokens) };
        let view = build(log, &asked.new_messages, new_tokens, Caps { tokens, ..self.caps });
        let dropped = i64::try_from(view.dropped).unwrap_or(i64::MAX).saturating_add(visible.older);
        Ok(Response::new(BuildContextResponse {
            messages: view.messages,
            tokens: view.tokens,
            dropped_messages: dropped,
        }))
    }

    async fn get_history(&self, request: Request<GetHistoryRequest>) -> Result<Response<GetHistoryResponse>, Status> {
        let scope = CallContext::of(&request).scope;
        let asked = request.into_inner();
        id("session_id", &asked.session_id)?;
        let after = match asked.page_token.as_str() {
            "" => 0,
            token => token.parse().map_err(|_| bad_token())?,
        };
        let limit = page_size(asked.page_size)?;
        let entries = self.store.history(&scope, &asked.session_id, after, limit).await?;
        let next_page_token = match entries.last() {
            Some(last) if is_full(&entries, limit) => last.seq.to_string(),
            _ => String::new(),
        };
        Ok(Response::new(GetHistoryResponse { entries, next_page_token }))
    }

    async fn reset_context(
        &self,
        request: Request<ResetContextRequest>,
    ) -> Result<Response<ResetContextResponse>, Status> {
        let scope = CallContext::of(&request).scope;
        let asked = request.into_inner();
        id("session_id", &asked.session_id)?;
        let seq = self.store.reset(&scope, &asked.session_id, &asked.backend).await?;
        Ok(Response::new(ResetContextResponse { seq }))
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        let scope = CallContext::of(&request).scope;
        let asked = request.into_inner();
        let before = match asked.page_token.as_str() {
            "" => None,
            token => {
                let (used, session) = token.split_once(' ').ok_or_else(bad_token)?;
                Some((used.parse().map_err(|_| bad_token())?, session.to_owned()))
            }
        };
        let limit = page_size(asked.page_size)?;
        let sessions = self.store.sessions(&scope, before, limit).await?;
        let next_page_token = match sessions.last() {
            Some(last) if is_full(&sessions, limit) => {
                let used = last.updated_at.as_ref().map_or(0, time::to_unix_micros);
                format!("{used} {}", last.session_id)
            }
            _ => String::new(),
        };
        Ok(Response::new(ListSessionsResponse { sessions, next_page_token }))
    }

    async fn delete_session(
        &self,
        request: Request<DeleteSessionRequest>,
    ) -> Result<Response<DeleteSessionResponse>, Status> {
        let scope = CallContext::of(&request).scope;
        let session_id = request.into_inner().session_id;
        id("session_id", &session_id)?;
        let messages = self.store.delete(&scope, &session_id).await?;
        Ok(Response::new(DeleteSessionResponse { messages }))
    }
}

fn append_of(asked: AppendMessagesRequest) -> Result<Append> {
    id("session_id", &asked.session_id)?;
    id("turn_id", &asked.turn_id)?;
    let state = match asked.state() {
        TurnState::Unspecified => TurnState::Open,
        state => state,
    };
    for (index, message) in asked.messages.iter().enumerate() {
        check(message, index)?;
    }
    Ok(Append {
        session_id: asked.session_id,
        turn_id: asked.turn_id,
        index: asked.index,
        backend: asked.backend,
        model: asked.model,
        messages: asked.messages.into_iter().map(|m| (estimate(&m), m)).map(|(tokens, m)| (m, tokens)).collect(),
        state,
    })
}

/// A turn comes in pieces, so results may stand without their call here; what the router validated is not validated
/// again.
fn check(message: &Message, index: usize) -> Result<()> {
    if message.role() == Role::Unspecified {
        return Err(Error::invalid(format!("messages[{index}].role"), "is required"));
    }
    if message.role() == Role::Tool && message.tool_call_id.is_empty() {
        return Err(Error::invalid(format!("messages[{index}].tool_call_id"), "is required"));
    }
    Ok(())
}

fn id(field: &str, value: &str) -> Result<()> {
    if (1..=MAX_ID).contains(&value.len()) && !value.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Error::invalid(field, format!("must be 1 to {MAX_ID} characters, none of them a control character")))
}

fn page_size(asked: i32) -> Result<i64> {
    match asked {
        0 => Ok(100),
        1..=1000 => Ok(i64::from(asked)),
        _ => Err(Error::invalid("page_size", "must be 1 to 1000")),
    }
}

fn is_full<T>(page: &[T], limit: i64) -> bool {
    i64::try_from(page.len()).is_ok_and(|len| len == limit)
}

fn bad_token() -> Error {
    Error::invalid("page_token", "is not one that this call gave")
}
