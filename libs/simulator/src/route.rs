//! Which format and endpoint a path means.

use http::{HeaderMap, Method};

use crate::format::{Endpoint, Format};

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The wire format.
    pub(crate) format: Format,
    /// What is asked for.
    pub(crate) endpoint: Endpoint,
    /// The last part of the path that matters: Gemini's action, Ollama's call, or empty.
    pub(crate) action: String,
    /// The model named in the path.
    pub(crate) model: Option<String>,
}

impl Route {
    fn new(format: Format, endpoint: Endpoint) -> Self {
        Self { format, endpoint, action: String::new(), model: None }
    }

    fn action(mut self, action: &str) -> Self {
        self.action = action.to_owned();
        self
    }

    fn model(mut self, model: &str) -> Self {
        self.model = (!model.is_empty()).then(|| model.to_owned());
        self
    }
}

/// The route of a request, `None` if there is nothing at that path. A vendor's prefix before
/// the version (as in `/openai/v1/…`) is ignored, so that any usual base address works.
pub(crate) fn route(method: &Method, path: &str, query: &str, headers: &HeaderMap) -> Option<Route> {
    let path = path.trim_end_matches('/');
    if let Some(call) = path.strip_prefix("/api/") {
        return ollama(method, call);
    }
    let post = method == Method::POST;
    if post && path.ends_with("/chat/completions") {
        return Some(Route::new(Format::OpenAi, Endpoint::Chat));
    }
    if post && path.ends_with("/embeddings") {
        return Some(Route::new(Format::OpenAi, Endpoint::Embed));
    }
    if post && path.ends_with("/v1/messages") {
        return Some(Route::new(Format::Anthropic, Endpoint::Chat));
    }
    if post && path.ends_with("/v1/messages/count_tokens") {
        return Some(Route::new(Format::Anthropic, Endpoint::Count));
    }
    if post && let Some(found) = gemini(path) {
        return Some(found);
    }
    if method == Method::GET {
        return models(path, query, headers);
    }
    None
}

/// `…/models/{model}:{action}`
fn gemini(path: &str) -> Option<Route> {
    let (_, rest) = path.split_once("/models/")?;
    let (model, action) = rest.rsplit_once(':')?;
    let endpoint = match action {
        "generateContent" | "streamGenerateContent" => Endpoint::Chat,
        "embedContent" | "batchEmbedContents" => Endpoint::Embed,
        "countTokens" => Endpoint::Count,
        _ => return None,
    };
    Some(Route::new(Format::Gemini, endpoint).action(action).model(model))
}

/// `/v1/models` belongs to three formats; their headers tell them apart.
fn models(path: &str, query: &str, headers: &HeaderMap) -> Option<Route> {
    let at = path.find("/models")?;
    let (base, rest) = (&path[..at], &path[at + "/models".len()..]);
    let model = match rest.strip_prefix('/') {
        Some(model) => model,
        None if rest.is_empty() => "",
        None => return None,
    };
    let keyed = query.split('&').any(|pair| pair.starts_with("key="));
    let format = if headers.contains_key("anthropic-version") {
        Format::Anthropic
    } else if headers.contains_key("x-goog-api-key") || keyed || base.ends_with("/v1beta") {
        Format::Gemini
    } else {
        Format::OpenAi
    };
    Some(Route::new(format, Endpoint::Models).model(model))
}

fn ollama(method: &Method, call: &str) -> Option<Route> {
    let endpoint = match (method.as_str(), call) {
        ("POST", "chat") => Endpoint::Chat,
        ("POST", "embed" | "embeddings") => Endpoint::Embed,
        ("GET", "tags" | "ps") | ("POST", "show") => Endpoint::Models,
        ("GET", "version") => Endpoint::Other,
        _ => return None,
    };
    Some(Route::new(Format::Ollama, endpoint).action(call))
}

/// The format in which to say that there is nothing at `path`.
pub(crate) fn guess(path: &str, headers: &HeaderMap) -> Format {
    if path.starts_with("/api/") {
        Format::Ollama
    } else if headers.contains_key("anthropic-version") {
        Format::Anthropic
    } else if headers.contains_key("x-goog-api-key") || path.starts_with("/v1beta/models") {
        Format::Gemini
    } else {
        Format::OpenAi
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, Route, route};
    use crate::format::Endpoint;
    use http::{HeaderMap, HeaderValue, Method};

    fn get_models(header: Option<&'static str>, query: &str) -> Route {
        let mut headers = HeaderMap::new();
        if let Some(name) = header {
            headers.insert(name, HeaderValue::from_static("x"));
        }
        route(&Method::GET, "/v1/models", query, &headers).unwrap()
    }

    #[test]
    fn the_shared_models_path_is_told_apart_by_headers() {
        assert_eq!(get_models(None, "").format, Format::OpenAi);
        assert_eq!(get_models(Some("anthropic-version"), "").format, Format::Anthropic);
        assert_eq!(get_models(Some("x-goog-api-key"), "").format, Format::Gemini);
        assert_eq!(get_models(None, "key=abc").format, Format::Gemini);
    }

    #[test]
    fn gemini_names_model_and_action_in_the_path() {
        let path = "/v1beta/models/gemini-3.8-flash:streamGenerateContent";
        let found = route(&Method::POST, path, "", &HeaderMap::new()).unwrap();
        assert_eq!(found.endpoint, Endpoint::Chat);
        assert_eq!(found.action, "streamGenerateContent");
        assert_eq!(found.model.as_deref(), Some("gemini-3.8-flash"));
    }

    #[test]
    fn usual_base_addresses_work_and_others_do_not() {
        let post = |path: &str| route(&Method::POST, path, "", &HeaderMap::new());
        assert!(post("/openai/v1/chat/completions").is_some());
        assert!(post("/v1beta/openai/chat/completions").is_some());
        assert!(post("/chat/completions").is_some());
        assert!(post("/v1/completions").is_none());
    }
}
