//! Which backend makes vectors.

use tutti_error::{Error, Reason, Result};
use tutti_proto::gateway::v1::{BackendStatus, Model};

use super::{
    candidates::{self, same_provider},
    rules::Rules,
};

/// The first usable backend, in the order of the global chain, that can: its provider has an embedding model, or a
/// catalogue of its own.
///
/// # Errors
/// UNSUPPORTED when there is none.
pub(crate) fn any(rules: &Rules, backends: &[BackendStatus], models: &[Model]) -> Result<String> {
    let can = |backend: &BackendStatus| {
        let mut of_provider = models.iter().filter(|m| same_provider(&m.provider, &backend.provider)).peekable();
        of_provider.peek().is_none() || of_provider.any(|m| m.capabilities.is_some_and(|can| can.embeddings))
    };
    let of_chain = rules.global_chain().filter_map(|name| candidates::find(name, backends));
    let mut in_order = of_chain.chain(backends).filter(|b| b.usable);
    let found = in_order.find(|b| can(b)).map(|b| b.name.clone());
    found.ok_or_else(|| Error::new(Reason::Unsupported, "no usable backend makes embeddings"))
}

/// The first of these backends that is usable.
///
/// # Errors
/// BACKEND_NOT_USABLE with the reasons of all.
pub(crate) fn first_usable(names: Vec<String>, backends: &[BackendStatus]) -> Result<String> {
    let status = |name: &String| backends.iter().find(|b| b.name == *name);
    let mut why = Vec::new();
    for name in names {
        match status(&name) {
            Some(backend) if !backend.usable => why.push(format!("{name}: {}", backend.unusable_because)),
            _ => return Ok(name),
        }
    }
    let message = format!("no backend for this model is usable ({})", why.join("; "));
    Err(Error::new(Reason::BackendNotUsable, message))
}

#[cfg(test)]
mod tests {
    use tutti_proto::gateway::v1::ModelCapabilities;

    use super::*;
    use crate::domain::fakes;

    fn backend(name: &str, provider: &str, usable: bool) -> BackendStatus {
        BackendStatus {
            name: name.into(),
            provider: provider.into(),
            usable,
            unusable_because: "no credential".into(),
            ..Default::default()
        }
    }

    fn model(provider: &str, embeddings: bool) -> Model {
        let capabilities = ModelCapabilities { embeddings, ..Default::default() };
        Model { provider: provider.into(), capabilities: Some(capabilities), ..Default::default() }
    }

    #[test]
    fn the_first_of_the_chain_that_can_is_taken() {
        let models = [model("anthropic", false), model("openai", true), model("gemini", true)];
        let backends = [
            backend("gemini", "gemini", true),
            backend("claude", "anthropic", true),
            backend("openai", "openai", true),
        ];
        let rules = fakes::rules();
        assert_eq!(any(&rules, &backends, &models).unwrap(), "openai");
        assert_eq!(any(&rules, &backends[..2], &models).unwrap(), "gemini");
        assert_eq!(any(&rules, &backends[1..2], &models).unwrap_err().reason(), Reason::Unsupported);
        let own = [backend("sim", "simulator", true)];
        assert_eq!(any(&rules, &own, &models).unwrap(), "sim");
    }

    #[test]
    fn a_model_goes_to_a_usable_backend() {
        let backends = [backend("a", "openai", false), backend("b", "openai", true)];
        assert_eq!(first_usable(vec!["a".into(), "b".into()], &backends).unwrap(), "b");
        let error = first_usable(vec!["a".into()], &backends).unwrap_err();
        assert_eq!(error.reason(), Reason::BackendNotUsable);
        assert!(error.message().contains("a: no credential"), "{error}");
    }
}
