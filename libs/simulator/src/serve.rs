//! One request, from its head to its response: route, script, faults, checks, answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use crate::admin;
use crate::ask::{Ask, tokens_of};
use crate::body::{Generation, SimBody};
use crate::fault::Fault;
use crate::format::{Endpoint, Format};
use crate::plan::Plan;
use crate::problem::{ErrorKind, Problem, Rendered};
use crate::record::{Details, RequestGuard};
use crate::route::{self, Route};
use crate::scenario::Seen;
use crate::script::Script;
use crate::server::Shared;
use crate::socket::Ending;
use crate::stream::Encoder;
use crate::{anthropic, gemini, ollama, openai};

/// Largest body accepted, in bytes: Anthropic's documented 32 MB, for all.
const MAX_BODY: usize = 32 << 20;

/// Models whose names begin so do not exist, in any format.
const NO_MODEL: &str = "no-such-";

/// The attempt id that the caller sends upstream.
const ATTEMPT: &str = "x-client-request-id";

/// The connection is closed instead of answering.
#[derive(Debug, thiserror::Error)]
#[error("no answer: the connection is closed")]
pub(crate) struct Closed;

/// A request with its body.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// Where it goes.
    pub(crate) route: &'a Route,
    /// The query text of its address.
    pub(crate) query: &'a str,
    /// Its headers.
    pub(crate) headers: &'a HeaderMap,
    /// Its body, null if it has none.
    pub(crate) body: &'a Value,
}

/// A wire format, as far as the common pipeline needs it.
pub(crate) trait Wire: Sync {
    /// Refuses a request without the credentials and headers that the format demands.
    fn authorise(&self, call: &Call<'_>) -> Result<(), Problem>;
    /// The body, or the format's refusal of what is no JSON.
    fn not_json(&self) -> Problem;
    /// That there is no such model, or (`None`) no such path.
    fn not_found(&self, call: &Call<'_>, model: Option<&str>) -> Problem;
    /// Reads a generation request, leniently.
    fn ask(&self, call: &Call<'_>) -> Ask;
    /// Refuses a generation request that the real provider refuses.
    fn validate(&self, call: &Call<'_>) -> Result<(), Problem>;
    /// The complete answer.
    fn unary(&self, call: &Call<'_>, plan: &Plan) -> Value;
    /// The content type and writer of a streamed answer.
    fn encoder(&self, call: &Call<'_>, plan: &Plan) -> (&'static str, Box<dyn Encoder>);
    /// The texts to embed.
    fn inputs(&self, call: &Call<'_>) -> Vec<String>;
    /// The answer of every endpoint but generation.
    fn other(&self, call: &Call<'_>) -> Result<Value, Problem>;
    /// An error response.
    fn error(&self, call: &Call<'_>, problem: &Problem, seq: u64) -> Rendered;
    /// Headers of a good response.
    fn headers(&self, seq: u64) -> Vec<(&'static str, String)>;
}

fn wire(format: Format) -> &'static dyn Wire {
    match format {
        Format::OpenAi => &openai::OpenAi,
        Format::Anthropic => &anthropic::Anthropic,
        Format::Gemini => &gemini::Gemini,
        Format::Ollama => &ollama::Ollama,
    }
}

/// Answers one request of connection `connection`.
///
/// It is recorded at once, not when the answer is first polled: of a client that leaves right after its request, the
/// connection ends before that.
pub(crate) fn handle(
    shared: Arc<Shared>,
    connection: u64,
    ending: Ending,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<SimBody>, Closed>> {
    let path = request.uri().path();
    let guard = (!path.starts_with("/sim/")).then(|| {
        let attempt = request.headers().get(ATTEMPT).and_then(|id| id.to_str().ok()).map(str::to_owned);
        shared.recorder.begin(connection, attempt, format!("{} {path}", request.method()))
    });
    answer(shared, guard, ending, request)
}

async fn answer(
    shared: Arc<Shared>,
    guard: Option<RequestGuard>,
    ending: Ending,
    request: Request<Incoming>,
) -> Result<Response<SimBody>, Closed> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let query = head.uri.query().unwrap_or_default();
    let Some(guard) = guard else {
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(|_| Closed)?;
        return Ok(admin::answer(&shared, &head.method, path, &body.to_bytes()));
    };
    let found = route::route(&head.method, path, query, &head.headers);
    let missing = found.is_none();
    let route = found.unwrap_or_else(|| Route {
        format: route::guess(path, &head.headers),
        endpoint: Endpoint::Other,
        action: format!("{} {path}", head.method),
        model: None,
    });
    let exchange = Exchange { shared, ending, guard, wire: wire(route.format) };
    let bytes = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            let call = Call { route: &route, query, headers: &head.headers, body: &Value::Null };
            let problem = Problem::new(413, ErrorKind::TooLarge, "");
            return Ok(exchange.refuse(&call, &problem, &Fault::default()));
        }
        // The client left before its request was complete.
        Err(_) => return Err(Closed),
    };
    exchange.guard.body(&bytes);
    let parsed: Option<Value> = match bytes.is_empty() {
        true => Some(Value::Null),
        false => serde_json::from_slice(&bytes).ok(),
    };
    let body = parsed.as_ref().unwrap_or(&Value::Null);
    let call = Call { route: &route, query, headers: &head.headers, body };
    if missing {
        let problem = exchange.wire.not_found(&call, None);
        return Ok(exchange.refuse(&call, &problem, &Fault::default()));
    }
    if parsed.is_none() {
        let problem = exchange.wire.authorise(&call).err();
        let problem = problem.unwrap_or_else(|| exchange.wire.not_json());
        return Ok(exchange.refuse(&call, &problem, &Fault::default()));
    }
    exchange.answer(&call).await
}

/// What is known of a request before any check: enough to let faults strike.
struct Direction {
    ask: Ask,
    script: Script,
    fault: Fault,
}

struct Exchange {
    shared: Arc<Shared>,
    ending: Ending,
    guard: RequestGuard,
    wire: &'static dyn Wire,
}

impl Exchange {
    async fn answer(self, call: &Call<'_>) -> Result<Response<SimBody>, Closed> {
        let direction = self.direct(call);
        let fault = &direction.fault;
        self.guard.details(Details {
            format: call.route.format,
            endpoint: call.route.endpoint,
            model: (!direction.ask.model.is_empty()).then(|| direction.ask.model.clone()),
            stream: direction.ask.stream,
            fault: fault.summary(),
        });
        pause(fault.head_ms.unwrap_or(0)).await;
        if fault.cut_at.is_none() && (fault.close || fault.reset) {
            if fault.reset {
                self.ending.reset();
            }
            self.guard.fault();
            return Err(Closed);
        }
        let problem = fault.problem(call.route.format);
        let streams = direction.ask.stream && call.route.endpoint == Endpoint::Chat;
        if let Some(problem) = &problem
            && !(streams && fault.error_after.is_some())
        {
            return Ok(self.refuse(call, problem, fault));
        }
        if let Err(problem) = self.check(call, &direction) {
            return Ok(self.refuse(call, &problem, &Fault::default()));
        }
        if call.route.endpoint != Endpoint::Chat {
            return Ok(self.simple(call, fault).await);
        }
        let plan = Plan::new(&direction.ask, &direction.script, fault, self.guard.seq());
        if direction.ask.stream {
            Ok(self.stream(call, plan, fault, problem))
        } else {
            Ok(self.unary(call, &plan, fault).await)
        }
    }

    /// Reads the request, its script and every fault that strikes it.
    fn direct(&self, call: &Call<'_>) -> Direction {
        let ask = match call.route.endpoint {
            Endpoint::Chat => self.wire.ask(call),
            _ => {
                let named = call.body.get("model").and_then(Value::as_str);
                Ask::new(named.or(call.route.model.as_deref()).unwrap_or_default())
            }
        };
        let prompt = match call.route.endpoint {
            Endpoint::Embed => self.wire.inputs(call).into_iter().next().unwrap_or_default(),
            _ => ask.prompt().to_owned(),
        };
        let Route { format, endpoint, .. } = *call.route;
        let seen = Seen { format, endpoint, model: &ask.model, prompt: &prompt };
        let (ruled, replaced) = self.shared.stage.direct(&seen);
        let mut script = Script::parse(&prompt);
        if let Some(replaced) = replaced {
            let plain = std::mem::take(&mut script.plain);
            let faults = std::mem::take(&mut script.faults);
            script = Script { plain, ..Script::parse(&replaced) };
            script.faults.extend(faults);
        }
        let mut faults: Vec<(String, Fault)> =
            ruled.into_iter().enumerate().map(|(n, fault)| (format!("rule {n}"), fault)).collect();
        if let Some(text) = call.headers.get("x-sim-fault").and_then(|text| text.to_str().ok()) {
            match Fault::parse(text) {
                Ok(fault) => faults.push((text.to_owned(), fault)),
                Err(error) => script.error = Some(error.to_string()),
            }
        }
        faults.append(&mut script.faults);
        let round = ask.round();
        let mut fault = Fault::default();
        for (text, one) in faults {
            if one.applies(format, &ask.model, round) && self.shared.stage.may_strike(&text, &prompt, one.times) {
                fault = fault.merged(one);
            }
        }
        Direction { ask, script, fault }
    }

    fn check(&self, call: &Call<'_>, direction: &Direction) -> Result<(), Problem> {
        self.wire.authorise(call)?;
        if direction.ask.model.starts_with(NO_MODEL) {
            return Err(self.wire.not_found(call, Some(&direction.ask.model)));
        }
        if call.route.endpoint == Endpoint::Chat {
            self.wire.validate(call)?;
        }
        match &direction.script.error {
            Some(error) => Err(Problem::invalid(format!("simulator: {error}"))),
            None => Ok(()),
        }
    }

    fn stream(self, call: &Call<'_>, plan: Plan, fault: &Fault, problem: Option<Problem>) -> Response<SimBody> {
        self.guard.tokens(plan.truth.input, plan.truth.output);
        let (content_type, encoder) = self.wire.encoder(call, &plan);
        let headers = self.wire.headers(self.guard.seq());
        self.guard.status(200);
        let generation = Generation::new(Arc::new(plan), encoder, fault, problem);
        let body = SimBody::stream(generation, self.guard).faulty(fault, &self.ending);
        respond(200, content_type, headers, body)
    }

    async fn unary(self, call: &Call<'_>, plan: &Plan, fault: &Fault) -> Response<SimBody> {
        let output = plan.truth.output;
        self.guard.tokens(plan.truth.input, output);
        let chunks = output.div_ceil(fault.chunk_tokens.unwrap_or(1).max(1));
        let generating = fault.chunk_ms.unwrap_or(0).saturating_mul(chunks);
        let answer = self.wire.unary(call, plan);
        self.good(&answer, output, generating, fault).await
    }

    async fn simple(self, call: &Call<'_>, fault: &Fault) -> Response<SimBody> {
        if call.route.endpoint == Endpoint::Embed {
            let inputs = self.wire.inputs(call);
            let input = inputs.iter().map(|text| tokens_of(text.chars().count())).sum();
            self.guard.tokens(input, 0);
        }
        match self.wire.other(call) {
            Ok(answer) => self.good(&answer, 0, 0, fault).await,
            Err(problem) => {
                self.guard.tokens(0, 0);
                self.refuse(call, &problem, &Fault::default())
            }
        }
    }

    /// A complete answer, after the time that generating it takes.
    async fn good(self, answer: &Value, tokens: u64, generating_ms: u64, fault: &Fault) -> Response<SimBody> {
        pause(fault.ttft_ms.unwrap_or(0).saturating_add(generating_ms)).await;
        if fault.stall_after.is_some() {
            std::future::pending::<()>().await;
        }
        let mut text = answer.to_string().into_bytes();
        if fault.malformed_after.is_some() || fault.truncate_after.is_some() {
            text.truncate(text.len() / 2);
        }
        let headers = self.wire.headers(self.guard.seq());
        self.guard.status(200);
        let body = SimBody::fixed(Bytes::from(text), tokens, self.guard);
        respond(200, "application/json", headers, body.faulty(fault, &self.ending))
    }

    fn refuse(self, call: &Call<'_>, problem: &Problem, fault: &Fault) -> Response<SimBody> {
        self.guard.details(Details {
            format: call.route.format,
            endpoint: call.route.endpoint,
            model: None,
            stream: false,
            fault: None,
        });
        self.guard.status(problem.status);
        let rendered = self.wire.error(call, problem, self.guard.seq());
        let text = Bytes::from(rendered.body.to_string());
        let body = SimBody::fixed(text, 0, self.guard).faulty(fault, &self.ending);
        respond(problem.status, "application/json", rendered.headers, body)
    }
}

async fn pause(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

/// A response that names the simulator as what it is.
pub(crate) fn respond(
    status: u16,
    content_type: &'static str,
    headers: Vec<(&'static str, String)>,
    body: SimBody,
) -> Response<SimBody> {
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let map = response.headers_mut();
    map.insert("x-tutti-simulator", HeaderValue::from_static("1"));
    map.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            map.insert(name, value);
        }
    }
    response
}
