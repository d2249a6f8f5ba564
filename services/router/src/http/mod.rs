//! The OpenAI-compatible door: the same turns as over gRPC, for clients that speak OpenAI's HTTP format.
//!
//! A handler reads OpenAI's JSON into a `ChatRequest`, calls the domain as the RPCs do, and writes OpenAI's JSON. What
//! Tutti has beyond that format comes in headers and goes out in fields of their own: the README of this crate lists them.

mod chat;
mod embeddings;
mod error;
mod models;
mod options;

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header},
    routing::{any, get, post},
};
use bytes::BytesMut;
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use tutti_error::{Error, Reason, Result};
use tutti_layers::{CallContext, MAX_MESSAGE_BYTES};
use tutti_proto::llm::v1::{Attempt, AttemptOutcome};
use tutti_server::HttpRoutes;
use tutti_types::{RequestId, time};

use self::chat::OneOrMany;
use crate::app::Desk;

/// The routes.
pub(crate) fn routes(desk: Arc<Desk>) -> HttpRoutes {
    let router = Router::new()
        .route("/v1/chat/completions", post(complete))
        .route("/v1/embeddings", post(embed))
        .route("/v1/models", get(list_models))
        .route("/v1/models/{*id}", get(get_model))
        .route("/v1", any(no_such_path))
        .route("/v1/{*path}", any(no_such_path))
        .method_not_allowed_fallback(wrong_method)
        .with_state(desk);
    HttpRoutes::new(router, |error| error::response(error, RequestId::generate()))
}

async fn complete(State(desk): State<Arc<Desk>>, mut request: Request) -> Response<Body> {
    let mut call = Call::of(&mut request);
    let answer = tokio::time::timeout_at(call.end(), chat::complete(&desk, &mut call, request)).await;
    call.answer(answer.unwrap_or_else(|_| Err(too_late())))
}

async fn embed(State(desk): State<Arc<Desk>>, mut request: Request) -> Response<Body> {
    let mut call = Call::of(&mut request);
    let answer = tokio::time::timeout_at(call.end(), embeddings::embed(&desk, &mut call, request)).await;
    call.answer(answer.unwrap_or_else(|_| Err(too_late())))
}

async fn list_models(State(desk): State<Arc<Desk>>, mut request: Request) -> Response<Body> {
    let call = Call::of(&mut request);
    let answer = tokio::time::timeout_at(call.end(), models::list(&desk)).await;
    call.answer(answer.unwrap_or_else(|_| Err(too_late())))
}

async fn get_model(State(desk): State<Arc<Desk>>, Path(id): Path<String>, mut request: Request) -> Response<Body> {
    let call = Call::of(&mut request);
    let answer = tokio::time::timeout_at(call.end(), models::get(&desk, &id)).await;
    call.answer(answer.unwrap_or_else(|_| Err(too_late())))
}

async fn no_such_path(mut request: Request) -> Response<Body> {
    let call = Call::of(&mut request);
    let (method, path) = (request.method(), request.uri().path());
    let message =
        format!("there is no {method} {path} here; see POST /v1/chat/completions, POST /v1/embeddings, GET /v1/models");
    // The nearest that the closed list of reasons has; clients go by the status.
    call.answer(Err(Error::new(Reason::UnknownRequest, message)))
}

/// A known path. axum adds the methods that it takes, as `allow`.
async fn wrong_method(mut request: Request) -> Response<Body> {
    let call = Call::of(&mut request);
    let message = format!("{} takes no {}", request.uri().path(), request.method());
    let mut response = call.answer(Err(Error::new(Reason::UnknownRequest, message)));
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

fn too_late() -> Error {
    Error::new(Reason::DeadlineExceeded, "the deadline passed; ask for less")
}

/// One HTTP call.
struct Call {
    id: RequestId,
    context: CallContext,
    arrived: Instant,
    method: String,
}

impl Call {
    fn of(request: &mut Request) -> Self {
        // The context is read the same way for both doors.
        let mut like_grpc = tonic::Request::new(());
        *like_grpc.extensions_mut() = std::mem::take(request.extensions_mut());
        Self {
            id: RequestId::generate(),
            context: CallContext::of(&like_grpc),
            arrived: Instant::now(),
            method: request.uri().path().to_owned(),
        }
    }

    fn end(&self) -> tokio::time::Instant {
        self.context.deadline.instant().into()
    }

    /// The answer, or the failure, with the id of the request; one line in the log.
    fn answer(self, answer: Result<Response<Body>>) -> Response<Body> {
        let micros = self.arrived.elapsed().as_micros();
        let mut response = answer.unwrap_or_else(|error| error::response(&error, self.id));
        put(response.headers_mut(), "x-request-id", &self.id.to_string());
        tracing::debug!(method = self.method, micros, status = response.status().as_u16(), request_id = %self.id, "call");
        response
    }
}

/// Reads a body of at most 32 MiB. The rest of a larger one is read and forgotten, as far as it is not endless: a client
/// that is still writing when the connection closes never sees the refusal.
async fn read_body(body: Body, headers: &HeaderMap) -> Result<Bytes> {
    const PATIENCE: usize = 4 * MAX_MESSAGE_BYTES;
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let mut body = body;
    let mut bytes =
        BytesMut::with_capacity(announced.filter(|length| *length <= MAX_MESSAGE_BYTES).unwrap_or_default());
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|broken| Error::invalid("body", format!("could not be read: {broken}")))?;
        let Ok(data) = frame.into_data() else { continue };
        seen += data.len();
        if seen <= MAX_MESSAGE_BYTES {
            bytes.extend_from_slice(&data);
        } else if seen > PATIENCE {
            break;
        }
    }
    if seen > MAX_MESSAGE_BYTES {
        let message = format!("the body is larger than {} MiB", MAX_MESSAGE_BYTES >> 20);
        return Err(Error::new(Reason::MessageTooLarge, message));
    }
    Ok(bytes.freeze())
}

/// Reads JSON; what is wrong is named with its place.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|wrong| {
        Error::new(Reason::InvalidRequest, format!("the body is not the JSON that this call takes: {wrong}"))
    })
}

/// A JSON answer.
fn json(body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Says which backend answered, and after how many attempts.
fn put_backend(headers: &mut HeaderMap, backend: &str, attempts: usize) {
    put(headers, "x-tutti-backend", backend);
    put(headers, "x-tutti-attempts", &attempts.to_string());
}

/// Sets a header, unless its value can't be one.
fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// Attempts that were really made.
fn sent(attempts: &[Attempt]) -> usize {
    attempts.iter().filter(|attempt| attempt.outcome() != AttemptOutcome::Skipped).count()
}

/// Seconds since 1970, as OpenAI dates things.
fn unix_seconds() -> i64 {
    seconds(time::unix_micros(SystemTime::now()))
}

/// [`unix_seconds`] of microseconds.
fn seconds(micros: i64) -> i64 {
    micros.div_euclid(1_000_000)
}
