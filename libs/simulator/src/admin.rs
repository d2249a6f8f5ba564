//! `/sim/*`: what the simulator saw, and the scenario.

use bytes::Bytes;
use http::{Method, Response};
use serde_json::{Value, json};

use crate::body::SimBody;
use crate::scenario::Scenario;
use crate::serve::respond;
use crate::server::Shared;

/// Answers a request for `path`, which begins with `/sim/`.
pub(crate) fn answer(shared: &Shared, method: &Method, path: &str, body: &[u8]) -> Response<SimBody> {
    let path = path.trim_start_matches("/sim/");
    let (status, value) = match (method.as_str(), path) {
        ("GET", "stats") => (200, to_json(&shared.recorder.stats())),
        ("GET", "requests") => (200, to_json(&shared.recorder.records())),
        ("GET", _) if path.starts_with("requests/") => {
            let attempt = path.trim_start_matches("requests/");
            match shared.recorder.record(attempt) {
                Some(record) => (200, to_json(&record)),
                None => (404, json!({"error": format!("no request with attempt id {attempt}")})),
            }
        }
        ("POST", "reset") => {
            shared.recorder.reset();
            shared.stage.reset();
            (200, json!({"reset": true}))
        }
        ("PUT", "scenario") => set_scenario(shared, body),
        _ => (404, json!({"error": format!("nothing at {method} /sim/{path}")})),
    };
    let body = SimBody::plain(Bytes::from(value.to_string()));
    respond(status, "application/json", Vec::new(), body)
}

fn set_scenario(shared: &Shared, body: &[u8]) -> (u16, Value) {
    match Scenario::parse(&String::from_utf8_lossy(body)) {
        Ok(scenario) => {
            let rules = scenario.rules.len();
            shared.stage.set(scenario);
            (200, json!({"rules": rules}))
        }
        Err(error) => (400, json!({"error": error.to_string()})),
    }
}

fn to_json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}
