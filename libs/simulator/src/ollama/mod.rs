//! Ollama's native API. No credentials, errors of one text, streams of one JSON object a line.

mod ask;
mod encode;
mod validate;

use serde_json::{Value, json};

use crate::ask::{Ask, tokens_of};
use crate::embed::{MAX_DIMENSIONS, embed};
use crate::json;
use crate::plan::Plan;
use crate::problem::{ErrorKind, Problem, Rendered};
use crate::serve::{Call, Wire};
use crate::stream::Encoder;

/// Models listed; others are served too.
const MODELS: [(&str, &str); 4] = [
    ("sim-echo:latest", "sim"),
    ("qwen3:8b", "qwen3"),
    ("llama3.3:latest", "llama"),
    ("nomic-embed-text:latest", "nomic-bert"),
];

/// Dimensions of an embedding unless asked otherwise.
const DIMENSIONS: usize = 768;

/// The version of which the behaviour is.
const VERSION: &str = "0.14.0";

/// The format.
pub(crate) struct Ollama;

impl Wire for Ollama {
    fn authorise(&self, _: &Call<'_>) -> Result<(), Problem> {
        Ok(())
    }

    fn not_json(&self) -> Problem {
        Problem::invalid("invalid character looking for beginning of value")
    }

    fn not_found(&self, _: &Call<'_>, model: Option<&str>) -> Problem {
        let message = match model {
            Some(model) => format!("model '{model}' not found"),
            None => "404 page not found".to_owned(),
        };
        Problem::new(404, ErrorKind::NotFound, message)
    }

    fn ask(&self, call: &Call<'_>) -> Ask {
        ask::read(call.body)
    }

    fn validate(&self, call: &Call<'_>) -> Result<(), Problem> {
        validate::chat(call.body)
    }

    fn unary(&self, call: &Call<'_>, plan: &Plan) -> Value {
        encode::response(plan, ask::is_load(call.body))
    }

    fn encoder(&self, call: &Call<'_>, plan: &Plan) -> (&'static str, Box<dyn Encoder>) {
        let load = ask::is_load(call.body);
        ("application/x-ndjson", Box::new(encode::LineEncoder::new(plan, load)))
    }

    fn inputs(&self, call: &Call<'_>) -> Vec<String> {
        let texts = json::texts(call.body, "input");
        if texts.is_empty() { json::texts(call.body, "prompt") } else { texts }
    }

    fn other(&self, call: &Call<'_>) -> Result<Value, Problem> {
        let named = json::text(call.body, "model");
        match call.route.action.as_str() {
            "embed" => embeddings(call.body, &self.inputs(call)),
            "embeddings" => {
                let text = self.inputs(call).into_iter().next().unwrap_or_default();
                validate::model(call.body)?;
                Ok(json!({"embedding": embed(&text, DIMENSIONS)}))
            }
            "tags" => Ok(tags()),
            "ps" => Ok(json!({"models": []})),
            "show" => validate::model(call.body).map(|()| show(named)),
            _ => Ok(json!({"version": VERSION})),
        }
    }

    fn error(&self, _: &Call<'_>, problem: &Problem, _: u64) -> Rendered {
        let mut headers = Vec::new();
        if let Some(seconds) = problem.retry_after {
            headers.push(("retry-after", format!("{}", seconds.ceil())));
        }
        Rendered { headers, body: error_body(problem) }
    }

    fn headers(&self, _: u64) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

fn error_body(problem: &Problem) -> Value {
    let usual = match problem.kind {
        ErrorKind::Auth => "unauthorized",
        ErrorKind::Permission => "forbidden",
        ErrorKind::Billing | ErrorKind::Quota => "you've reached your usage limit, please upgrade to continue",
        ErrorKind::RateLimit => "too many requests, please try again later",
        ErrorKind::Context => "the input length exceeds the context length",
        ErrorKind::ContentPolicy | ErrorKind::Invalid => "invalid request",
        ErrorKind::NotFound => "model not found",
        ErrorKind::TooLarge => "request body too large",
        ErrorKind::Server => "llama runner process has terminated: exit status 2",
        ErrorKind::Overloaded => "server busy, please try again.  maximum pending requests exceeded",
        ErrorKind::Timeout => "timed out waiting for llama runner to start",
    };
    json!({"error": problem.message_or(usual)})
}

fn embeddings(body: &Value, inputs: &[String]) -> Result<Value, Problem> {
    validate::model(body)?;
    let asked = body.get("dimensions").and_then(Value::as_u64).filter(|n| *n > 0);
    let dimensions = asked.and_then(|n| usize::try_from(n).ok()).unwrap_or(DIMENSIONS);
    let vectors: Vec<Vec<f32>> = inputs.iter().map(|text| embed(text, dimensions.min(MAX_DIMENSIONS))).collect();
    let tokens: u64 = inputs.iter().map(|text| tokens_of(text.chars().count())).sum();
    let mut answer = json!({"model": json::text(body, "model"), "embeddings": vectors,
        "total_duration": 1_000_000, "load_duration": 100_000});
    if tokens > 0 {
        answer["prompt_eval_count"] = json!(tokens);
    }
    Ok(answer)
}

fn details(family: &str) -> Value {
    json!({"parent_model": "", "format": "gguf", "family": family, "families": [family],
        "parameter_size": "8.0B", "quantization_level": "Q4_K_M"})
}

fn tags() -> Value {
    let models: Vec<Value> = MODELS
        .iter()
        .map(|(name, family)| {
            let digest = format!("{:016x}", crate::digest::hash(name.as_bytes())).repeat(4);
            json!({"name": name, "model": name, "modified_at": "2026-09-01T00:00:00Z",
                "size": 5_000_000_000_u64, "digest": digest, "details": details(family)})
        })
        .collect();
    json!({"models": models})
}

fn show(model: &str) -> Value {
    let mut capabilities = vec!["completion"];
    if model.contains("embed") {
        capabilities = vec!["embedding"];
    } else {
        if validate::has_tools(model) {
            capabilities.push("tools");
        }
        if validate::has_thinking(model) {
            capabilities.push("thinking");
        }
    }
    json!({"license": "", "modelfile": format!("FROM {model}"), "parameters": "",
        "template": "{{ .Prompt }}", "details": details("sim"),
        "model_info": {"general.architecture": "sim", "sim.context_length": 131_072},
        "capabilities": capabilities, "modified_at": "2026-09-01T00:00:00Z"})
}
