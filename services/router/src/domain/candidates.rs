//! Names in chains and requests, and the backends that they stand for.

use tutti_proto::gateway::v1::{BackendStatus, Model};

/// Words of smaller siblings: `gpt-4o` never stands for `gpt-4o-mini`.
const SMALLER: [&str; 3] = ["mini", "nano", "lite"];

/// The backend of an entry of a chain: the one of that name, else the one whose provider or model it names.
pub(crate) fn find<'a>(entry: &str, backends: &'a [BackendStatus]) -> Option<&'a BackendStatus> {
    let by_name = backends.iter().find(|b| b.name == entry);
    let by_provider = || backends.iter().find(|b| same_provider(&b.provider, entry));
    let by_model = || {
        let wanted: Vec<&str> = words(entry).collect();
        let matching = backends.iter().filter(|b| {
            let has: Vec<&str> = words(&b.model).collect();
            let smaller = SMALLER.iter().any(|s| has.contains(s) && !wanted.contains(s));
            !smaller && wanted.iter().all(|word| has.contains(word))
        });
        matching.min_by_key(|b| words(&b.model).count())
    };
    by_name.or_else(by_model).or_else(by_provider)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty())
}

/// Whether two names mean the same provider.
pub(crate) fn same_provider(a: &str, b: &str) -> bool {
    fn canonical(id: &str) -> &str {
        match id {
            "claude" | "opus_self" => "anthropic",
            "moonshot" => "kimi",
            "google" => "gemini",
            other => other,
        }
    }
    canonical(a) == canonical(b)
}

/// The backends that need no catalogue to say that they serve a model: its own, or `provider/…` of their provider.
pub(crate) fn plainly_serving(model: &str, backends: &[BackendStatus]) -> Vec<String> {
    let provider = model.split_once('/').map(|(provider, _)| provider);
    let serves = |b: &&BackendStatus| b.model == model || provider.is_some_and(|p| same_provider(p, &b.provider));
    names(backends.iter().filter(serves))
}

/// The backends whose provider has the model in its catalogue.
pub(crate) fn serving(model: &str, models: &[Model], backends: &[BackendStatus]) -> Vec<String> {
    let is_it = |m: &&Model| m.id == model || m.aliases.iter().any(|alias| alias == model);
    let providers: Vec<&str> = models.iter().filter(is_it).map(|m| m.provider.as_str()).collect();
    names(backends.iter().filter(|b| providers.iter().any(|p| same_provider(p, &b.provider))))
}

fn names<'a>(backends: impl Iterator<Item = &'a BackendStatus>) -> Vec<String> {
    backends.map(|b| b.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(name: &str, provider: &str, model: &str) -> BackendStatus {
        BackendStatus { name: name.into(), provider: provider.into(), model: model.into(), ..Default::default() }
    }

    #[test]
    fn an_entry_is_a_name_or_a_model_or_a_provider() {
        let backends = [
            backend("cheap", "openai", "gpt-4o-mini"),
            backend("openai", "openai", "gpt-4o"),
            backend("claude", "anthropic", "claude-sonnet-4.5-20250929"),
            backend("moon", "moonshot", "moonshot-v1-8k"),
            backend("gemini", "gemini", "gemini-2-flash"),
        ];
        let found = |entry| find(entry, &backends).map(|b| b.name.as_str());
        assert_eq!(found("openai"), Some("openai"));
        assert_eq!(found("gpt-4o"), Some("openai"));
        assert_eq!(found("gpt-4o-mini"), Some("cheap"));
        assert_eq!(found("sonnet"), Some("claude"));
        assert_eq!(found("gemini-flash"), Some("gemini"));
        assert_eq!(found("gemini-pro"), None);
        assert_eq!(found("kimi"), Some("moon"));
        assert_eq!(found("haiku"), None);
    }

    #[test]
    fn a_model_is_served_by_its_provider() {
        let backends = [backend("claude", "anthropic", "claude-sonnet-4-5"), backend("openai", "openai", "gpt-4o")];
        assert_eq!(plainly_serving("gpt-4o", &backends), ["openai"]);
        assert_eq!(plainly_serving("claude/claude-haiku", &backends), ["claude"]);
        assert!(plainly_serving("haiku", &backends).is_empty());
        let haiku = Model {
            id: "claude-haiku-4-5".into(),
            provider: "anthropic".into(),
            aliases: vec!["haiku".into()],
            ..Default::default()
        };
        assert_eq!(serving("haiku", &[haiku], &backends), ["claude"]);
    }
}
