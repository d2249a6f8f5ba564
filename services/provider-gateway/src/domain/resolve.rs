//! From the name a caller or a configuration uses to the id that goes on the wire.

use std::sync::Arc;

use super::catalogue::{Catalogue, Model};

/// A model as it is asked for, and what is known of it.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// As the provider names it: aliases resolved, no `provider/` prefix.
    pub wire: String,
    /// Its entry in the catalogue, or that of its family.
    pub model: Option<Arc<Model>>,
}

/// The model belongs to a provider that this backend doesn't speak to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// The provider it belongs to.
    pub provider: String,
}

/// Whose models a backend serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// The provider's own and no others.
    Own,
    /// Anybody's, under names of its own: proxies, simulators, servers for open models.
    Any,
}

/// The provider whose entries the catalogue has for a provider id of the configuration.
pub fn vendor_of(provider: &str) -> &str {
    match provider {
        "claude" | "opus_self" => "anthropic",
        "google" => "gemini",
        "kimi" => "moonshot",
        other => other,
    }
}

impl Catalogue {
    /// Resolves an alias, `provider/model`, an id, or the id of a dated snapshot, for a backend of `vendor`. What the
    /// catalogue doesn't know is asked for as it was written.
    ///
    /// # Errors
    /// The name belongs to another provider and this backend offers only its own.
    pub fn resolve(&self, vendor: &str, offer: Offer, name: &str) -> Result<Resolved, Foreign> {
        if let Some(model) = self.named(vendor, name) {
            return Ok(Resolved { wire: model.id.clone(), model: Some(Arc::clone(model)) });
        }
        let name = own_name(vendor, name);
        if let Some(model) = self.named(vendor, name) {
            return Ok(Resolved { wire: model.id.clone(), model: Some(Arc::clone(model)) });
        }
        let known = match offer {
            Offer::Own => {
                if let Some(provider) = self.other_owner(vendor, name) {
                    return Err(Foreign { provider });
                }
                self.family(vendor, name)
            }
            Offer::Any => self.family(vendor, name).or_else(|| self.model_of_anybody(name)),
        };
        Ok(Resolved { wire: name.to_owned(), model: known.map(Arc::clone) })
    }

    fn other_owner(&self, vendor: &str, name: &str) -> Option<String> {
        let prefix = name.split_once('/').map(|(prefix, _)| vendor_of(prefix));
        let named = prefix.filter(|prefix| *prefix != vendor && self.has_provider(prefix)).map(str::to_owned);
        // Ollama's names are free for everybody to take, so they say nothing.
        let listed = || self.anywhere(name).filter(|model| !matches!(model.provider.as_str(), "ollama" | "simulator"));
        named.or_else(|| listed().filter(|_| self.family(vendor, name).is_none()).map(|model| model.provider.clone()))
    }

    fn model_of_anybody(&self, name: &str) -> Option<&Arc<Model>> {
        let split = name.split_once('/').map(|(prefix, rest)| (vendor_of(prefix), rest));
        let of_prefix = split.and_then(|(vendor, rest)| self.named(vendor, rest).or_else(|| self.family(vendor, rest)));
        let everywhere = || ["openai", "anthropic", "gemini"].iter().find_map(|vendor| self.family(vendor, name));
        of_prefix.or_else(|| self.anywhere(name)).or_else(everywhere)
    }
}

/// The name without the backend's own prefix.
fn own_name<'a>(vendor: &str, name: &'a str) -> &'a str {
    match name.split_once('/') {
        // `openrouter/auto` is the name of a model.
        Some((_, rest)) if vendor == "openrouter" && !rest.contains('/') => name,
        Some((prefix, rest)) if vendor_of(prefix) == vendor && !rest.is_empty() => rest,
        Some(("models", rest)) if vendor == "gemini" => rest,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(vendor: &str, offer: Offer, name: &str) -> Result<(String, Option<String>), Foreign> {
        let resolved = Catalogue::built_in().unwrap().resolve(vendor, offer, name)?;
        Ok((resolved.wire, resolved.model.map(|model| model.id.clone())))
    }

    fn own(vendor: &str, name: &str) -> (String, Option<String>) {
        wire(vendor, Offer::Own, name).unwrap()
    }

    #[test]
    fn every_form_of_a_name_is_understood() {
        let sonnet = ("claude-sonnet-5-5".to_owned(), Some("claude-sonnet-5-5".to_owned()));
        for name in ["sonnet", "anthropic/sonnet", "claude/sonnet", "anthropic/claude-sonnet-5-5", "claude-sonnet-5-5"]
        {
            assert_eq!(own("anthropic", name), sonnet, "{name}");
        }
        let legacy = own("anthropic", "claude-sonnet-4.5-20250929");
        assert_eq!(legacy.0, "claude-sonnet-4-5-20250929");
        assert_eq!(own("openai", "gpt-4o-2024-11-20"), ("gpt-4o-2024-11-20".into(), Some("gpt-4o".into())));
        assert_eq!(own("gemini", "models/gemini-2.5-pro").0, "gemini-2.5-pro");
        assert_eq!(own("openai", "gpt-9-next"), ("gpt-9-next".into(), None));
    }

    #[test]
    fn ids_with_slashes_stay_whole() {
        assert_eq!(own("groq", "openai/gpt-oss-120b").0, "openai/gpt-oss-120b");
        assert_eq!(own("groq", "groq/openai/gpt-oss-120b").0, "openai/gpt-oss-120b");
        let through = wire("openrouter", Offer::Any, "openrouter/anthropic/claude-opus-5-5").unwrap();
        assert_eq!(through, ("anthropic/claude-opus-5-5".into(), Some("claude-opus-5-5".into())));
        assert_eq!(wire("openrouter", Offer::Any, "openrouter/auto").unwrap().0, "openrouter/auto");
    }

    #[test]
    fn a_model_of_another_provider_is_refused_where_it_cannot_be() {
        let foreign = |vendor, name| wire(vendor, Offer::Own, name).unwrap_err().provider;
        assert_eq!(foreign("openai", "anthropic/claude-opus-5-5"), "anthropic");
        assert_eq!(foreign("openai", "sonnet"), "anthropic");
        assert_eq!(foreign("anthropic", "gpt-4o"), "openai");
        // A proxy decides itself what its names mean; we only look up what they cost.
        assert_eq!(wire("litellm", Offer::Any, "gpt-4o").unwrap(), ("gpt-4o".into(), Some("gpt-4o".into())));
    }
}
