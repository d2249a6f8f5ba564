//! OpenAI Chat Completions, embeddings and models, with the dialects of compatible servers
//! (chosen by the model's name).

mod ask;
mod dialect;
mod encode;
mod errors;
mod history;
mod unary;
mod validate;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::ask::{Ask, tokens_of};
use crate::embed::{MAX_DIMENSIONS, embed};
use crate::format::Endpoint;
use crate::json;
use crate::plan::Plan;
use crate::problem::{ErrorKind, Problem, Rendered};
use crate::serve::{Call, Wire};
use crate::stream::Encoder;

/// Models listed; others are served too.
const MODELS: [(&str, &str); 10] = [
    ("sim-echo", "tutti-simulator"),
    ("gpt-6.1-sol", "openai"),
    ("gpt-5.4", "openai"),
    ("gpt-5.4-mini", "openai"),
    ("gpt-4.1", "openai"),
    ("kimi-k3", "moonshot"),
    ("deepseek-v4-pro", "deepseek"),
    ("mistral-large-2512", "mistralai"),
    ("text-embedding-3-small", "openai"),
    ("text-embedding-3-large", "openai"),
];

/// Most inputs of one embeddings call.
const MAX_INPUTS: usize = 2048;

/// The format.
pub(crate) struct OpenAi;

impl Wire for OpenAi {
    fn authorise(&self, call: &Call<'_>) -> Result<(), Problem> {
        let header = call.headers.get(http::header::AUTHORIZATION);
        let key = header
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .map(str::trim)
            .unwrap_or_default();
        if key.is_empty() {
            return Err(Problem::new(401, ErrorKind::Auth, errors::NO_KEY));
        }
        if key.starts_with("invalid") {
            return Err(Problem::new(401, ErrorKind::Auth, "").code("invalid_api_key"));
        }
        Ok(())
    }

    fn not_json(&self) -> Problem {
        Problem::invalid(
            "We could not parse the JSON body of your request. (HINT: This likely means you \
             aren't using your HTTP library correctly. The OpenAI API expects a JSON payload, \
             but what was sent was not valid JSON.)",
        )
    }

    fn not_found(&self, call: &Call<'_>, model: Option<&str>) -> Problem {
        match model {
            Some(model) => {
                let message = format!("The model `{model}` does not exist or you do not have access to it.");
                Problem::new(404, ErrorKind::NotFound, message).code("model_not_found")
            }
            None => {
                let message = format!("Invalid URL ({})", call.route.action);
                Problem::new(404, ErrorKind::Invalid, message)
            }
        }
    }

    fn ask(&self, call: &Call<'_>) -> Ask {
        ask::read(call.body)
    }

    fn validate(&self, call: &Call<'_>) -> Result<(), Problem> {
        validate::request(call.body)
    }

    fn unary(&self, _: &Call<'_>, plan: &Plan) -> Value {
        unary::completion(plan)
    }

    fn encoder(&self, call: &Call<'_>, plan: &Plan) -> (&'static str, Box<dyn Encoder>) {
        let options = call.body.get("stream_options").unwrap_or(&Value::Null);
        let asked = json::flag(options, "include_usage");
        ("text/event-stream; charset=utf-8", Box::new(encode::ChunkEncoder::new(plan, asked)))
    }

    fn inputs(&self, call: &Call<'_>) -> Vec<String> {
        inputs(call.body)
    }

    fn other(&self, call: &Call<'_>) -> Result<Value, Problem> {
        match call.route.endpoint {
            Endpoint::Embed => embeddings(call.body),
            _ => Ok(models(call.route.model.as_deref())),
        }
    }

    fn error(&self, _: &Call<'_>, problem: &Problem, seq: u64) -> Rendered {
        errors::render(problem, seq)
    }

    fn headers(&self, seq: u64) -> Vec<(&'static str, String)> {
        errors::headers(seq)
    }
}

fn model(id: &str, owner: &str) -> Value {
    json!({"id": id, "object": "model", "created": 1_767_225_600, "owned_by": owner})
}

fn models(one: Option<&str>) -> Value {
    if let Some(id) = one {
        let owner = MODELS.iter().find(|(known, _)| *known == id).map_or("openai", |(_, who)| who);
        return model(id, owner);
    }
    let list: Vec<Value> = MODELS.iter().map(|(id, owner)| model(id, owner)).collect();
    json!({"object": "list", "data": list})
}

/// Inputs as texts; token arrays become a text that stands for them, one word a token.
fn inputs(body: &Value) -> Vec<String> {
    let tokens = |ids: &[Value]| ids.iter().map(|id| format!("{:>4}", id)).collect::<Vec<_>>().concat();
    match body.get("input") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) if many.iter().all(Value::is_number) => vec![tokens(many)],
        Some(Value::Array(many)) => many
            .iter()
            .map(|item| match item {
                Value::Array(ids) => tokens(ids),
                other => other.as_str().unwrap_or_default().to_owned(),
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn embeddings(body: &Value) -> Result<Value, Problem> {
    let name = json::text(body, "model");
    if name.is_empty() {
        return Err(Problem::invalid("you must provide a model parameter"));
    }
    let known = ["model", "input", "dimensions", "encoding_format", "user"];
    if let Some(key) = json::unknown_key(body, &known).filter(|_| name.starts_with("text-")) {
        return Err(validate::unknown(key));
    }
    let inputs = inputs(body);
    if inputs.is_empty() || inputs.iter().any(String::is_empty) {
        return Err(Problem::invalid(
            "'$.input' is invalid. Please check the API reference: \
             https://platform.openai.com/docs/api-reference.",
        ));
    }
    if inputs.len() > MAX_INPUTS {
        let message = format!(
            "Invalid 'input': array too long. Expected an array with maximum length {MAX_INPUTS}, \
             but got an array with length {} instead.",
            inputs.len()
        );
        return Err(Problem::invalid(message).at("input").code("array_above_max_length"));
    }
    let full = if name.ends_with("-large") { 3072 } else { 1536 };
    let dimensions = match json::given(body, "dimensions") {
        None => full,
        Some(asked) => asked
            .as_u64()
            .and_then(|asked| usize::try_from(asked).ok())
            .filter(|asked| (1..=MAX_DIMENSIONS).contains(asked))
            .ok_or_else(|| Problem::invalid(format!("Invalid value for 'dimensions' = {asked}.")).at("dimensions"))?,
    };
    let as_base64 = match json::text(body, "encoding_format") {
        "" | "float" => false,
        "base64" => true,
        other => {
            let message = format!("Invalid value: '{other}'. Supported values are: 'float' and 'base64'.");
            return Err(Problem::invalid(message).at("encoding_format").code("invalid_value"));
        }
    };
    let data = inputs.iter().enumerate().map(|(index, text)| {
        let vector = embed(text, dimensions);
        let embedding = if as_base64 { encoded(&vector) } else { json!(vector) };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    });
    let data: Vec<Value> = data.collect();
    let tokens: u64 = inputs.iter().map(|text| tokens_of(text.chars().count())).sum();
    Ok(json!({"object": "list", "data": data, "model": name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}))
}

/// Base64 of little-endian 32-bit floats.
fn encoded(vector: &[f32]) -> Value {
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    Value::String(STANDARD.encode(bytes))
}
