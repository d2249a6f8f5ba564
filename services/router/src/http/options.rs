//! Tutti's own options: headers `x-tutti-…`, and the same names in `metadata`.

use axum::http::HeaderMap;
use tutti_error::{Error, Result};
use tutti_proto::{
    llm::v1::RunLimits,
    router::v1::{ChatRequest, StreamFailureMode},
};

const PREFIX: &str = "x-tutti-";

/// All names, without the prefix.
const NAMES: [&str; 21] = [
    "session",
    "task",
    "persona",
    "backend",
    "exclude-backends",
    "strategy",
    "idempotency-key",
    "on-stream-failure",
    "request-id",
    "mesh-tools",
    "workspace",
    "max-attempts",
    "max-tool-rounds",
    "team",
    "project",
    "job",
    "node",
    "run",
    "agent",
    "task-id",
    "phase",
];

/// Puts the options of a call into its request. A header wins over metadata. Metadata is written by the application, so
/// an unknown option there is refused; headers may be anybody's.
///
/// # Errors
/// INVALID_REQUEST naming the option.
pub(super) fn apply(
    chat: &mut ChatRequest,
    headers: &HeaderMap,
    metadata: impl IntoIterator<Item = (String, serde_json::Value)>,
) -> Result<()> {
    for (key, value) in metadata {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        let field = format!("metadata.{key}");
        let value = value.as_str().ok_or_else(|| Error::invalid(&field, "must be a string"))?;
        if !set(chat, name, value)? {
            let hint = Error::unknown(tutti_error::Reason::InvalidRequest, "option", name, NAMES);
            return Err(Error::invalid(field, hint.message()));
        }
    }
    // The name that this header has elsewhere.
    if let Some(key) = headers.get("idempotency-key") {
        let key = key.to_str().map_err(|_| Error::invalid("idempotency-key", "must be plain text"))?;
        key.trim().clone_into(&mut chat.idempotency_key);
    }
    for (key, value) in headers {
        let Some(name) = key.as_str().strip_prefix(PREFIX) else { continue };
        let value = std::str::from_utf8(value.as_bytes()).map_err(|_| Error::invalid(key.as_str(), "must be UTF-8"))?;
        set(chat, name, value)?;
    }
    Ok(())
}

/// Sets one option; `false` when there is none of that name.
fn set(chat: &mut ChatRequest, name: &str, value: &str) -> Result<bool> {
    let attribution = chat.attribution.get_or_insert_default();
    let text = match name {
        "session" => &mut chat.session_id,
        "task" => &mut chat.task_type,
        "persona" => &mut chat.persona,
        "backend" => &mut chat.backend,
        "strategy" => &mut chat.strategy,
        "idempotency-key" => &mut chat.idempotency_key,
        "request-id" => &mut chat.request_id,
        "workspace" => &mut chat.workspace,
        "team" => &mut attribution.team,
        "project" => &mut attribution.project,
        "job" => &mut attribution.job,
        "node" => &mut attribution.node,
        "run" => &mut attribution.run_id,
        "agent" => &mut attribution.agent,
        "task-id" => &mut attribution.task_id,
        "phase" => &mut attribution.phase,
        _ => return set_other(chat, name, value),
    };
    value.trim().clone_into(text);
    Ok(true)
}

fn set_other(chat: &mut ChatRequest, name: &str, value: &str) -> Result<bool> {
    match name {
        "mesh-tools" => chat.mesh_tools = list(value),
        "exclude-backends" => chat.exclude_backends = list(value),
        "on-stream-failure" => chat.set_on_stream_failure(failure_mode(value)?),
        "max-attempts" => limits(chat).max_attempts = number(name, value)?,
        "max-tool-rounds" => limits(chat).max_tool_rounds = number(name, value)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn limits(chat: &mut ChatRequest) -> &mut RunLimits {
    chat.limits.get_or_insert_default()
}

fn list(value: &str) -> Vec<String> {
    value.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn failure_mode(value: &str) -> Result<StreamFailureMode> {
    match value.trim() {
        "error" => Ok(StreamFailureMode::Error),
        "restart" => Ok(StreamFailureMode::Restart),
        "resume" => Ok(StreamFailureMode::Resume),
        _ => Err(Error::invalid(format!("{PREFIX}on-stream-failure"), "must be error, restart or resume")),
    }
}

fn number(name: &str, value: &str) -> Result<u32> {
    value.trim().parse().map_err(|_| Error::invalid(format!("{PREFIX}{name}"), "must be a whole number"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn applied(headers: &[(&'static str, &'static str)], metadata: &serde_json::Value) -> Result<ChatRequest> {
        let mut chat = ChatRequest::default();
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let metadata = metadata.as_object().unwrap().clone();
        apply(&mut chat, &headers, metadata)?;
        Ok(chat)
    }

    #[test]
    fn every_name_is_an_option() {
        for name in NAMES {
            let value = if name == "on-stream-failure" { "resume" } else { "1" };
            assert!(set(&mut ChatRequest::default(), name, value).unwrap(), "{name}");
        }
        assert!(set(&mut ChatRequest::default(), "on-stream-failure", "ignore").is_err());
        assert!(!set(&mut ChatRequest::default(), "sesion", "1").unwrap());
    }

    #[test]
    fn headers_win_over_metadata() {
        let metadata = json!({"x-tutti-session": "of metadata", "x-tutti-team": "red", "other": 1});
        let chat =
            applied(&[("x-tutti-session", "of a header"), ("x-tutti-mesh-tools", "read, ls")], &metadata).unwrap();
        assert_eq!((chat.session_id.as_str(), chat.attribution.unwrap().team.as_str()), ("of a header", "red"));
        assert_eq!(chat.mesh_tools, ["read", "ls"]);
    }

    #[test]
    fn an_idempotency_key_comes_under_either_name() {
        let common = applied(&[("idempotency-key", "common")], &json!({"x-tutti-idempotency-key": "of metadata"}));
        assert_eq!(common.unwrap().idempotency_key, "common");
        let both = applied(&[("idempotency-key", "common"), ("x-tutti-idempotency-key", "own")], &json!({}));
        assert_eq!(both.unwrap().idempotency_key, "own");
    }

    #[test]
    fn a_misspelt_option_in_metadata_is_refused_with_the_nearest() {
        let error = applied(&[], &json!({"x-tutti-sesion": "a"})).unwrap_err();
        assert_eq!(error.fields()[0].0, "metadata.x-tutti-sesion");
        assert!(error.fields()[0].1.contains("\"session\""), "{error}");
        assert!(applied(&[("x-tutti-colour", "red")], &json!({})).is_ok());
        assert!(applied(&[("x-tutti-max-attempts", "many")], &json!({})).is_err());
    }
}
