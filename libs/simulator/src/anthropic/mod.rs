//! Anthropic Messages, both API versions.

mod ask;
mod encode;
mod errors;
mod history;
mod model;
mod unary;
mod validate;

use serde_json::{Value, json};

use crate::ask::Ask;
use crate::format::Endpoint;
use crate::json;
use crate::plan::Plan;
use crate::problem::{ErrorKind, Problem, Rendered};
use crate::serve::{Call, Wire};
use crate::stream::Encoder;

/// Models listed; others are served too.
const MODELS: [(&str, &str); 6] = [
    ("claude-fable-5-1", "Claude Fable 5.1"),
    ("claude-opus-5-5", "Claude Opus 5.5"),
    ("claude-sonnet-5-5", "Claude Sonnet 5.5"),
    ("claude-haiku-5-5", "Claude Haiku 5.5"),
    ("claude-sonnet-4-6", "Claude Sonnet 4.6"),
    ("claude-haiku-4-5", "Claude Haiku 4.5"),
];

/// The format.
pub(crate) struct Anthropic;

impl Wire for Anthropic {
    fn authorise(&self, call: &Call<'_>) -> Result<(), Problem> {
        let header = |name: &str| call.headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        // With both, the API uses x-api-key.
        let key = header("x-api-key").or(bearer).unwrap_or_default();
        if key.is_empty() {
            return Err(Problem::new(401, ErrorKind::Auth, "x-api-key header is required"));
        }
        if key.starts_with("invalid") {
            return Err(Problem::new(401, ErrorKind::Auth, "invalid x-api-key"));
        }
        match header("anthropic-version") {
            None => Err(Problem::invalid("anthropic-version: header is required")),
            Some("2023-06-01" | "2026-10-21") => Ok(()),
            Some(other) => Err(Problem::invalid(format!("anthropic-version: \"{other}\" is not a valid version"))),
        }
    }

    fn not_json(&self) -> Problem {
        Problem::invalid("The request body is not valid JSON")
    }

    fn not_found(&self, _: &Call<'_>, model: Option<&str>) -> Problem {
        let message = model.map_or("Not found".to_owned(), |model| format!("model: {model}"));
        Problem::new(404, ErrorKind::NotFound, message)
    }

    fn ask(&self, call: &Call<'_>) -> Ask {
        ask::read(call.body)
    }

    fn validate(&self, call: &Call<'_>) -> Result<(), Problem> {
        validate::request(call.body, version(call))
    }

    fn unary(&self, _: &Call<'_>, plan: &Plan) -> Value {
        unary::message(plan)
    }

    fn encoder(&self, _: &Call<'_>, _: &Plan) -> (&'static str, Box<dyn Encoder>) {
        ("text/event-stream; charset=utf-8", Box::new(encode::EventEncoder::default()))
    }

    fn inputs(&self, _: &Call<'_>) -> Vec<String> {
        Vec::new()
    }

    fn other(&self, call: &Call<'_>) -> Result<Value, Problem> {
        match call.route.endpoint {
            Endpoint::Count => {
                validate::count(call.body)?;
                Ok(json!({"input_tokens": ask::read(call.body).input_tokens()}))
            }
            _ => models(call),
        }
    }

    fn error(&self, _: &Call<'_>, problem: &Problem, seq: u64) -> Rendered {
        errors::render(problem, seq)
    }

    fn headers(&self, seq: u64) -> Vec<(&'static str, String)> {
        errors::headers(seq)
    }
}

/// Whether the request uses the version of 2026, which dropped sampling parameters.
fn version(call: &Call<'_>) -> validate::Version {
    let value = call.headers.get("anthropic-version").and_then(|value| value.to_str().ok());
    match value {
        Some("2023-06-01") => validate::Version::V2023,
        _ => validate::Version::V2026,
    }
}

fn model(id: &str, name: &str) -> Value {
    json!({"id": id, "type": "model", "display_name": name,
        "created_at": "2026-09-01T00:00:00Z", "lifecycle": "active",
        "max_input_tokens": 1_000_000, "max_tokens": 128_000})
}

fn models(call: &Call<'_>) -> Result<Value, Problem> {
    if let Some(id) = call.route.model.as_deref() {
        return match MODELS.iter().find(|(known, _)| *known == id) {
            Some((id, name)) => Ok(model(id, name)),
            None => Err(Problem::new(404, ErrorKind::NotFound, format!("model: {id}"))),
        };
    }
    let parameter = |name: &str| call.query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let limit = parameter("limit").and_then(|text| text.parse().ok()).unwrap_or(20_usize);
    let place = |id: &str| MODELS.iter().position(|(known, _)| *known == id);
    let from = parameter("after_id").and_then(place).map_or(0, |at| at + 1);
    let to = parameter("before_id").and_then(place).unwrap_or(MODELS.len());
    let rest = MODELS.get(from..to).unwrap_or_default();
    let page: Vec<Value> = rest.iter().take(limit.clamp(1, 1000)).map(|(id, name)| model(id, name)).collect();
    let id = |model: Option<&Value>| model.map(|model| json::text(model, "id").to_owned());
    Ok(json!({"has_more": rest.len() > page.len(), "first_id": id(page.first()),
        "last_id": id(page.last()), "data": page}))
}
