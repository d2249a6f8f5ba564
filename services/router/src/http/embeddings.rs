//! `POST /v1/embeddings`.

use std::fmt;

use axum::{body::Body, extract::Request, http::Response};
use base64::Engine as _;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use tutti_error::{Error, Reason, Result};
use tutti_proto::{
    gateway::v1::{EmbedRequest, EmbedResponse},
    router::v1::ChatRequest,
};

use super::{Call, OneOrMany, json, options, parse, put_backend, read_body, sent};
use crate::{app::Desk, domain::embedding};

#[derive(Debug, Deserialize)]
struct EmbeddingBody {
    model: Option<String>,
    #[serde(default)]
    input: OneOrMany<Input>,
    dimensions: Option<u32>,
    encoding_format: Option<String>,
    user: Option<String>,
}

/// One of several inputs.
#[derive(Debug)]
enum Input {
    Text(String),
    /// Tokens of a model's own.
    Tokens,
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Inputs;
        impl<'de> Visitor<'de> for Inputs {
            type Value = Input;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E>(self, text: &str) -> Result<Input, E> {
                Ok(Input::Text(text.to_owned()))
            }
            fn visit_string<E>(self, text: String) -> Result<Input, E> {
                Ok(Input::Text(text))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Input, E> {
                Ok(Input::Tokens)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut tokens: A) -> Result<Input, A::Error> {
                while tokens.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Input::Tokens)
            }
        }
        deserializer.deserialize_any(Inputs)
    }
}

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Vector<'a>>,
    model: &'a str,
    usage: Used,
}

#[derive(Serialize)]
struct Vector<'a> {
    object: &'static str,
    index: usize,
    embedding: Values<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Values<'a> {
    Float(&'a [f32]),
    Base64(String),
}

#[derive(Serialize)]
struct Used {
    prompt_tokens: i64,
    total_tokens: i64,
}

/// Texts to vectors, in one call to one backend.
pub(super) async fn embed(desk: &Desk, call: &mut Call, request: Request) -> Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let asked: EmbeddingBody = parse(&read_body(body, &head.headers).await?)?;
    let base64 = match asked.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(Error::invalid("encoding_format", "must be float or base64")),
    };
    // Its options are those of a turn, as far as they mean something here.
    let mut chat = ChatRequest::default();
    options::apply(&mut chat, &head.headers, [])?;
    if !chat.request_id.is_empty() {
        call.id = tutti_types::RequestId::parse(&chat.request_id)?;
    }
    let model = asked.model.ok_or_else(|| Error::invalid("model", "is required"))?;
    let inputs = inputs(asked.input)?;
    let (backend, model) = choose(desk, &chat.backend, &model).await?;
    let mut attribution = chat.attribution.unwrap_or_default();
    if let Some(user) = asked.user.filter(|user| !user.is_empty()) {
        attribution.tags.insert("user".to_owned(), user);
    }
    let embed = EmbedRequest {
        request_id: call.id.to_string(),
        backend,
        model,
        inputs,
        dimensions: asked.dimensions.unwrap_or_default(),
        attribution: Some(attribution),
        limits: None,
    };
    let answer = desk.planner.ports.gateway.embed(&call.context, embed).await?;
    let mut response = json(list(&answer, base64));
    put_backend(response.headers_mut(), &answer.backend, sent(&answer.attempts));
    Ok(response)
}

/// The backend, and another model than its own.
async fn choose(desk: &Desk, backend: &str, model: &str) -> Result<(String, String)> {
    let planner = &desk.planner;
    let backends = planner.directory.backends().await?;
    if !backend.is_empty() {
        let own = model == "auto" || model == backend;
        return Ok((backend.to_owned(), if own { String::new() } else { model.to_owned() }));
    }
    if model == "auto" {
        let models = planner.directory.models("").await?;
        return Ok((embedding::any(&planner.rules, &backends, &models)?, String::new()));
    }
    if backends.iter().any(|b| b.name == model) {
        return Ok((model.to_owned(), String::new()));
    }
    let serving = planner.serving_model(model, &backends).await?;
    Ok((embedding::first_usable(serving, &backends)?, model.to_owned()))
}

fn inputs(input: OneOrMany<Input>) -> Result<Vec<String>> {
    let many = match input {
        OneOrMany::Nothing => return Err(Error::invalid("input", "is required")),
        OneOrMany::One(text) => return Ok(vec![text]),
        OneOrMany::Many(many) => many,
    };
    let text = |input| match input {
        Input::Text(text) => Ok(text),
        Input::Tokens => {
            let error = Error::new(Reason::Unsupported, "tokens mean something to one model only");
            Err(error.field("input", "must be a string or a list of strings"))
        }
    };
    many.into_iter().map(text).collect()
}

fn list(answer: &EmbedResponse, base64: bool) -> Vec<u8> {
    let mut data = Vec::with_capacity(answer.embeddings.len());
    for (index, vector) in answer.embeddings.iter().enumerate() {
        let embedding = if base64 { Values::Base64(packed(&vector.values)) } else { Values::Float(&vector.values) };
        data.push(Vector { object: "embedding", index, embedding });
    }
    let tokens = answer.usage.map(|usage| usage.input_tokens).unwrap_or_default();
    let usage = Used { prompt_tokens: tokens, total_tokens: tokens };
    let list = List { object: "list", data, model: &answer.model, usage };
    // Texts and numbers alone can't fail to be written.
    serde_json::to_vec(&list).unwrap_or_default()
}

/// Little-endian 32-bit floats in base64: a third of the decimal form.
fn packed(values: &[f32]) -> String {
    let mut bytes = Vec::with_capacity(size_of_val(values));
    for value in values {
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
