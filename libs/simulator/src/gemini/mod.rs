//! Google Gemini: `generateContent` and its relatives, under `/v1` and `/v1beta`.

mod ask;
mod encode;
mod errors;
mod history;
mod naming;
mod unary;
mod validate;

use serde_json::{Value, json};

use crate::ask::Ask;
use crate::embed::{MAX_DIMENSIONS, embed};
use crate::format::Endpoint;
use crate::json;
use crate::plan::Plan;
use crate::problem::{ErrorKind, Problem, Rendered};
use crate::serve::{Call, Wire};
use crate::stream::Encoder;

/// Models listed; others are served too.
const MODELS: [(&str, &str); 5] = [
    ("gemini-3.8-flash", "Gemini 3.8 Flash"),
    ("gemini-3.1-pro-preview", "Gemini 3.1 Pro Preview"),
    ("gemini-2.5-flash", "Gemini 2.5 Flash"),
    ("gemini-embedding-001", "Gemini Embedding 001"),
    ("gemini-embedding-2", "Gemini Embedding 2"),
];

/// Dimensions of a full embedding.
const FULL_DIMENSIONS: usize = 3072;

/// Shortened embeddings are not normalised; theirs is the length that remains.
const SHORTENED: f32 = 0.8;

/// Most texts of one batch.
const MAX_BATCH: usize = 100;

/// The format.
pub(crate) struct Gemini;

/// Whether `model` checks the signatures of its thoughts.
pub(crate) fn signs(model: &str) -> bool {
    model.starts_with("gemini-3")
}

/// Whether the answer is a list of JSON objects instead of server-sent events.
fn as_list(call: &Call<'_>) -> bool {
    call.route.action == "streamGenerateContent" && !call.query.split('&').any(|p| p == "alt=sse")
}

impl Wire for Gemini {
    fn authorise(&self, call: &Call<'_>) -> Result<(), Problem> {
        let header = |name: &str| call.headers.get(name).and_then(|value| value.to_str().ok());
        let in_query = call.query.split('&').find_map(|pair| pair.strip_prefix("key="));
        let bearer = header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        match header("x-goog-api-key").or(in_query).or(bearer).unwrap_or_default() {
            "" => Err(Problem::new(403, ErrorKind::Permission, errors::NO_KEY)),
            key if key.starts_with("invalid") => Err(Problem::new(400, ErrorKind::Auth, "")),
            _ => Ok(()),
        }
    }

    fn not_json(&self) -> Problem {
        Problem::invalid("Invalid JSON payload received. Unexpected token.\n^")
    }

    fn not_found(&self, _: &Call<'_>, model: Option<&str>) -> Problem {
        let message = match model {
            Some(model) => format!(
                "models/{model} is not found for API version v1, or is not supported for \
                 generateContent. Call ListModels to see the list of available models and their \
                 supported methods."
            ),
            None => "The requested URL was not found on this server.".to_owned(),
        };
        Problem::new(404, ErrorKind::NotFound, message)
    }

    fn ask(&self, call: &Call<'_>) -> Ask {
        let model = call.route.model.as_deref().unwrap_or_default();
        let mut ask = ask::read(&naming::camel(call.body), model);
        ask.stream = call.route.action == "streamGenerateContent";
        ask
    }

    fn validate(&self, call: &Call<'_>) -> Result<(), Problem> {
        let model = call.route.model.as_deref().unwrap_or_default();
        validate::request(&naming::camel(call.body), model)
    }

    fn unary(&self, _: &Call<'_>, plan: &Plan) -> Value {
        unary::response(plan)
    }

    fn encoder(&self, call: &Call<'_>, plan: &Plan) -> (&'static str, Box<dyn Encoder>) {
        let as_list = as_list(call);
        let kind = if as_list { "application/json; charset=UTF-8" } else { "text/event-stream" };
        (kind, Box::new(encode::ResponseEncoder::new(plan, as_list)))
    }

    fn inputs(&self, call: &Call<'_>) -> Vec<String> {
        let body = naming::camel(call.body);
        match body.get("requests") {
            Some(Value::Array(requests)) => requests.iter().map(content_text).collect(),
            _ => vec![content_text(&body)],
        }
    }

    fn other(&self, call: &Call<'_>) -> Result<Value, Problem> {
        match call.route.endpoint {
            Endpoint::Embed => embeddings(call, &self.inputs(call)),
            Endpoint::Count => count(call),
            _ => models(call),
        }
    }

    fn error(&self, call: &Call<'_>, problem: &Problem, _: u64) -> Rendered {
        errors::render(problem, as_list(call))
    }

    fn headers(&self, _: u64) -> Vec<(&'static str, String)> {
        vec![("server", "scaffolding on HTTPServer2".into()), ("server-timing", "gfet4t7; dur=1".into())]
    }
}

/// The text of `content.parts`.
fn content_text(request: &Value) -> String {
    let content = request.get("content").unwrap_or(&Value::Null);
    json::list(content, "parts").iter().map(|part| json::text(part, "text")).collect()
}

fn embeddings(call: &Call<'_>, inputs: &[String]) -> Result<Value, Problem> {
    let body = naming::camel(call.body);
    let one = std::slice::from_ref(&body);
    let batch = call.route.action == "batchEmbedContents";
    let requests = if batch { json::list(&body, "requests") } else { one };
    if requests.len() > MAX_BATCH {
        let message = format!(
            "* BatchEmbedContentsRequest.requests: at most {MAX_BATCH} requests can be in one \
             batch\n"
        );
        return Err(Problem::invalid(message));
    }
    if requests.is_empty() || inputs.iter().any(String::is_empty) {
        return Err(Problem::invalid("* EmbedContentRequest.content: contents is not specified\n"));
    }
    let mut vectors = Vec::with_capacity(requests.len());
    for (request, text) in requests.iter().zip(inputs) {
        let asked = request.get("outputDimensionality").and_then(Value::as_u64);
        let dimensions = asked.and_then(|n| usize::try_from(n).ok()).unwrap_or(FULL_DIMENSIONS);
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            let message = "* EmbedContentRequest.output_dimensionality: out of range\n";
            return Err(Problem::invalid(message));
        }
        let mut vector = embed(text, dimensions);
        if dimensions < FULL_DIMENSIONS {
            vector.iter_mut().for_each(|x| *x *= SHORTENED);
        }
        vectors.push(json!({"values": vector}));
    }
    Ok(match vectors.pop() {
        Some(only) if !batch => json!({"embedding": only}),
        Some(last) => {
            vectors.push(last);
            json!({"embeddings": vectors})
        }
        None => json!({"embeddings": []}),
    })
}

fn count(call: &Call<'_>) -> Result<Value, Problem> {
    let body = naming::camel(call.body);
    let request = body.get("generateContentRequest").unwrap_or(&body);
    if json::list(request, "contents").is_empty() {
        return Err(Problem::invalid("* CountTokensRequest.contents: contents is not specified\n"));
    }
    let total = ask::read(request, "").input_tokens();
    Ok(json!({"totalTokens": total,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": total}]}))
}

fn model(id: &str, name: &str) -> Value {
    let methods: &[&str] = match id.contains("embedding") {
        true => &["embedContent", "countTokens"],
        false => &["generateContent", "countTokens"],
    };
    json!({"name": format!("models/{id}"), "version": "001", "displayName": name,
        "description": "Simulated.", "inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536,
        "supportedGenerationMethods": methods})
}

fn models(call: &Call<'_>) -> Result<Value, Problem> {
    if let Some(id) = call.route.model.as_deref() {
        let known = MODELS.iter().find(|(known, _)| *known == id);
        return known.map(|(id, name)| model(id, name)).ok_or_else(|| {
            let message = format!("models/{id} is not found");
            Problem::new(404, ErrorKind::NotFound, message)
        });
    }
    let parameter = |name: &str| {
        let pair = call.query.split('&').find_map(|pair| pair.strip_prefix(name));
        pair.and_then(|value| value.strip_prefix('=')).and_then(|value| value.parse::<usize>().ok())
    };
    let from = parameter("pageToken").unwrap_or(0).min(MODELS.len());
    let size = parameter("pageSize").filter(|size| *size > 0).unwrap_or(50);
    let page: Vec<Value> = MODELS[from..].iter().take(size).map(|(id, name)| model(id, name)).collect();
    let next = from + page.len();
    let mut answer = json!({"models": page});
    if next < MODELS.len() {
        answer["nextPageToken"] = json!(next.to_string());
    }
    Ok(answer)
}
