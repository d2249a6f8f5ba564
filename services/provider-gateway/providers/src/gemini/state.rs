//! What Gemini must get back: its thought signatures, each on the part it came on.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tutti_types::llm::ProviderState;

use crate::Target;

/// Stands for the signature of a call that another model wrote.
pub(super) const FOREIGN_SIGNATURE: &str = "skip_thought_signature_validator";

/// The form of `ProviderState.data`.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    /// The signature; empty when there was none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) thought_signature: String,
    /// The provider's own id of a call; mostly it gives none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) id: String,
    /// What the signature was on.
    pub(super) on: On,
}

/// What a signature was on.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum On {
    /// A tool call.
    #[default]
    Call,
    /// A thought, whose text the reasoning part has.
    Thought,
    /// The text before this part.
    Text,
    /// A part without text, as streams end.
    Nothing,
}

impl State {
    /// As it is kept; none when there is nothing to keep.
    pub(super) fn to_bytes(&self) -> Option<Bytes> {
        let is_empty = self.thought_signature.is_empty() && self.id.is_empty();
        (!is_empty).then(|| json!(self).to_string().into())
    }

    /// The state, if this provider and model wrote it.
    pub(super) fn of(state: Option<&ProviderState>, target: &Target) -> Option<Self> {
        serde_json::from_slice(state?.for_target(&target.provider, &target.model)?).ok()
    }

    /// Puts the signature on a part.
    pub(super) fn sign(&self, part: &mut Value) {
        if !self.thought_signature.is_empty() {
            part["thoughtSignature"] = self.thought_signature.as_str().into();
        }
    }
}
