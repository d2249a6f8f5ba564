//! The body of a request, as OpenAI's clients write it. Fields that are not here are ignored.

use std::{collections::HashMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor, value},
};
use serde_json::{Value, value::RawValue};

/// `POST /v1/chat/completions`.
#[derive(Debug, Deserialize)]
pub(super) struct ChatBody {
    pub(super) model: Option<String>,
    pub(super) messages: Option<Vec<ChatMessage>>,
    pub(super) tools: Option<Vec<ChatTool>>,
    pub(super) tool_choice: Option<Choice>,
    pub(super) parallel_tool_calls: Option<bool>,
    pub(super) response_format: Option<Format>,
    pub(super) max_tokens: Option<u32>,
    pub(super) max_completion_tokens: Option<u32>,
    pub(super) temperature: Option<f64>,
    pub(super) top_p: Option<f64>,
    #[serde(default)]
    pub(super) stop: OneOrMany<String>,
    pub(super) seed: Option<i64>,
    pub(super) presence_penalty: Option<f64>,
    pub(super) frequency_penalty: Option<f64>,
    pub(super) reasoning_effort: Option<String>,
    pub(super) stream: Option<bool>,
    pub(super) stream_options: Option<StreamOptions>,
    pub(super) user: Option<String>,
    pub(super) metadata: Option<HashMap<String, Value>>,
    // Refused when they ask for something.
    pub(super) n: Option<u32>,
    pub(super) logprobs: Option<bool>,
    pub(super) top_logprobs: Option<u32>,
    pub(super) logit_bias: Option<HashMap<String, Value>>,
    pub(super) modalities: Option<Vec<String>>,
    pub(super) functions: Option<Vec<Value>>,
    pub(super) web_search_options: Option<Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct StreamOptions {
    pub(super) include_usage: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ChatMessage {
    #[serde(default)]
    pub(super) role: String,
    #[serde(default)]
    pub(super) content: OneOrMany<ContentPart>,
    pub(super) refusal: Option<String>,
    pub(super) name: Option<String>,
    pub(super) tool_call_id: Option<String>,
    pub(super) tool_calls: Option<Vec<Call>>,
    /// What a provider must get back: ours, as we sent it, or somebody else's.
    pub(super) reasoning_details: Option<Vec<super::state::Detail>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Call {
    #[serde(default)]
    pub(super) id: String,
    pub(super) function: Option<CalledFunction>,
    pub(super) extra_content: Option<super::state::Extra>,
}

#[derive(Debug, Deserialize)]
pub(super) struct CalledFunction {
    #[serde(default)]
    pub(super) name: String,
    pub(super) arguments: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ContentPart {
    #[serde(rename = "type", default)]
    pub(super) kind: String,
    pub(super) text: Option<String>,
    pub(super) refusal: Option<String>,
    pub(super) image_url: Option<ImageUrl>,
    pub(super) input_audio: Option<InputAudio>,
    pub(super) file: Option<InputFile>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ImageUrl {
    #[serde(default)]
    pub(super) url: String,
    pub(super) detail: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct InputAudio {
    #[serde(default)]
    pub(super) data: String,
    #[serde(default)]
    pub(super) format: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct InputFile {
    pub(super) file_data: Option<String>,
    pub(super) file_id: Option<String>,
    pub(super) filename: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ChatTool {
    #[serde(rename = "type", default)]
    pub(super) kind: String,
    pub(super) function: Option<Function>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Function {
    #[serde(default)]
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) parameters: Option<Box<RawValue>>,
    pub(super) strict: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Format {
    #[serde(rename = "type", default)]
    pub(super) kind: String,
    pub(super) json_schema: Option<JsonSchema>,
}

#[derive(Debug, Deserialize)]
pub(super) struct JsonSchema {
    pub(super) name: Option<String>,
    pub(super) schema: Option<Box<RawValue>>,
    pub(super) strict: Option<bool>,
}

/// `tool_choice`: a mode, or a function by name.
#[derive(Debug)]
pub(super) enum Choice {
    Mode(String),
    Named(NamedChoice),
}

#[derive(Debug, Deserialize)]
pub(super) struct NamedChoice {
    #[serde(rename = "type", default)]
    pub(super) kind: String,
    pub(super) function: Option<ChosenFunction>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ChosenFunction {
    #[serde(default)]
    pub(super) name: String,
}

impl<'de> Deserialize<'de> for Choice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Choices;
        impl<'de> Visitor<'de> for Choices {
            type Value = Choice;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("none, auto, required, or a function")
            }
            fn visit_str<E>(self, mode: &str) -> Result<Choice, E> {
                Ok(Choice::Mode(mode.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Choice, A::Error> {
                NamedChoice::deserialize(value::MapAccessDeserializer::new(map)).map(Choice::Named)
            }
        }
        deserializer.deserialize_any(Choices)
    }
}

/// A text, a list of things, or nothing.
#[derive(Debug, Default)]
pub(in crate::http) enum OneOrMany<T> {
    #[default]
    Nothing,
    One(String),
    Many(Vec<T>),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Both<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Both<T> {
            type Value = OneOrMany<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list")
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(OneOrMany::One(text.to_owned()))
            }
            fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
                Ok(OneOrMany::One(text))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(OneOrMany::Nothing)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut many = Vec::new();
                while let Some(item) = items.next_element()? {
                    many.push(item);
                }
                Ok(OneOrMany::Many(many))
            }
        }
        deserializer.deserialize_any(Both(PhantomData))
    }
}
