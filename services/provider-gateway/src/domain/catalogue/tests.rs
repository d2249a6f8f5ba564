use std::collections::BTreeSet;

use super::*;
use crate::domain::pricing::unit_prices;

/// The vendors of `[backends.*]` that the catalogue has prices for.
const VENDORS: [&str; 8] = ["anthropic", "deepseek", "gemini", "groq", "mistral", "moonshot", "openai", "together"];

fn rows(text: &str) -> ModelRows {
    toml::from_str(text).unwrap()
}

#[test]
fn the_built_in_data_is_sound() {
    let catalogue = Catalogue::built_in().unwrap();
    for model in catalogue.models() {
        let name = format!("{}/{}", model.provider, model.id);
        assert!(model.context_window != Some(0) && model.modalities.contains(&Modality::Text), "{name}");
        assert!(model.prices.iter().any(|price| price.holds_always()), "{name} has no first price");
        let day: jiff::civil::Date = model.as_of.parse().unwrap_or_else(|_| panic!("{name}: {}", model.as_of));
        assert!(day <= jiff::civil::date(2026, 11, 20), "{name} knows the future");
        assert!(!model.source.is_empty() && !model.configured, "{name}");
    }
}

#[test]
fn there_are_sixty_current_models_of_the_vendors() {
    let catalogue = Catalogue::built_in().unwrap();
    let current = catalogue.models().iter().filter(|model| !model.legacy && VENDORS.contains(&model.provider.as_str()));
    assert_eq!(current.count(), 68);
    let providers: BTreeSet<&str> = catalogue.models().iter().map(|model| model.provider.as_str()).collect();
    assert!(VENDORS.iter().all(|vendor| providers.contains(vendor)));
}

#[test]
fn every_field_is_somewhere_and_what_is_not_known_is_absent() {
    let catalogue = Catalogue::built_in().unwrap();
    let gemini = catalogue.named("gemini", "gemini-flash").unwrap();
    let all = [Modality::Text, Modality::Image, Modality::Audio, Modality::Video, Modality::File];
    assert!(gemini.modalities == all && gemini.capabilities.video && gemini.capabilities.files);
    let opus = catalogue.named("anthropic", "opus").unwrap();
    assert_eq!((opus.context_window, opus.max_output_tokens), (Some(1_000_000), Some(128_000)));
    assert_eq!(
        (opus.regions.as_slice(), opus.trains_on_output),
        (["global".into(), "us".into()].as_slice(), Some(false))
    );
    assert_eq!(opus.compliance_tags, ["soc2", "hipaa"]);
    assert_eq!((opus.as_of.as_str(), opus.tier.as_str(), opus.legacy), ("2026-10-03", "premium", false));
    let sol = catalogue.named("openai", "gpt-6.1-sol").unwrap();
    assert_eq!((sol.context_window, sol.max_output_tokens), (None, None), "in none of our sources");
    let deepseek = catalogue.named("deepseek", "deepseek-v4-pro").unwrap();
    assert_eq!(deepseek.trains_on_output, None, "its terms don't say");
    let old = catalogue.named("anthropic", "claude-3-5-haiku-latest").unwrap();
    assert_eq!((old.legacy, old.as_of.as_str()), (true, "2025-12-29"), "the document's table");
}

#[test]
fn all_names_of_the_documents_are_known() {
    let catalogue = Catalogue::built_in().unwrap();
    let names = "haiku sonnet opus fast default smart powerful gpt4 gpt4o gpt4-turbo gpt4o-mini o1 o1-mini o3-mini \
        gemini gemini-pro gemini-flash gemini-2 claude-api claude-opus-api mistral mistral-small mixtral codestral \
        llama3 llama3.1 llama3.2 codellama mixtral-local qwen deepseek groq-llama groq-mixtral together-llama \
        deepseek-chat deepseek-coder deepseek-reasoner moonshot-v1-8k moonshot-v1-32k moonshot-v1-128k \
        claude-sonnet-4.5-20250929 gpt-4o gemini-2-flash claude-opus-4-5-20251101";
    for name in names.split_whitespace() {
        assert!(catalogue.anywhere(name).is_some(), "{name}");
    }
    assert_eq!(catalogue.named("anthropic", "fast").unwrap().id, catalogue.named("anthropic", "haiku").unwrap().id);
}

#[test]
fn two_models_of_one_name_are_refused() {
    let head = "provider = \"p\"\nas_of = 2026-01-01\nsource = \"s\"\ntrust = 1.0\n";
    let twice = format!("{head}[[models]]\nid = \"a\"\naliases = [\"b\"]\n[[models]]\nid = \"b\"\n");
    let read = data::parse(&[&twice]).and_then(|data| Catalogue::new(data.models));
    assert!(matches!(read, Err(CatalogueError::Ambiguous { name, .. }) if name == "b"));
}

#[test]
fn the_configuration_wins_and_leaves_the_rest() {
    let rows = rows(
        "[\"openai/gpt-4o\"]\nmax_output_tokens = 99\nprices = [{ input = 7, output = 9 }]\n\
         [\"claude/claude-opus-5-5\"]\naliases = [\"best\"]\n",
    );
    let catalogue = Catalogue::with(&rows).unwrap();
    let gpt = catalogue.named("openai", "gpt-4o").unwrap();
    let built_in = Catalogue::built_in().unwrap();
    let before = built_in.named("openai", "gpt-4o").unwrap();
    assert_eq!((gpt.max_output_tokens, gpt.context_window), (Some(99), before.context_window));
    assert_eq!((gpt.capabilities, &gpt.aliases), (before.capabilities, &before.aliases));
    let prices = unit_prices(Some(gpt), std::time::SystemTime::now(), 1);
    assert_eq!((prices.input, prices.output, prices.estimated), (7, 9, false));
    assert_eq!(prices.catalogue_version, CONFIGURED_VERSION);
    let best = catalogue.named("anthropic", "best").unwrap();
    assert_eq!((best.id.as_str(), best.configured_prices), ("claude-opus-5-5", false));
    assert!(catalogue.named("anthropic", "opus").is_none(), "a list is replaced");
}

#[test]
fn a_new_model_has_what_is_known_of_its_provider() {
    let catalogue = Catalogue::with(&rows("[\"anthropic/claude-next\"]\ncontext_window = 5\n")).unwrap();
    let next = catalogue.named("anthropic", "claude-next").unwrap();
    assert_eq!((next.trains_on_output, next.trust), (Some(false), 0.95));
    assert!(next.configured && next.as_of.is_empty() && next.capabilities == Capabilities::UNKNOWN);
    let prices = unit_prices(Some(next), std::time::SystemTime::now(), 1);
    assert!(prices.estimated && prices.input == 1_000_000_000, "nobody told its price");
}

#[test]
fn a_snapshot_belongs_to_the_longest_family() {
    let catalogue = Catalogue::built_in().unwrap();
    let family = |provider, name| catalogue.family(provider, name).map(|model| model.id.as_str());
    assert_eq!(family("openai", "gpt-4o-2024-11-20"), Some("gpt-4o"));
    assert_eq!(family("openai", "gpt-4o-mini-2024-07-18"), Some("gpt-4o-mini"));
    assert_eq!(family("anthropic", "claude-opus-5-5-20260901"), Some("claude-opus-5-5"));
    assert_eq!(family("ollama", "deepseek-coder:latest"), Some("deepseek-coder"));
    assert_eq!(family("gemini", "gemini-2.0-flash-001"), Some("gemini-2.0-flash"));
    // Another model of the family's name, at another price.
    assert_eq!(family("openai", "gpt-5-pro"), None);
    assert_eq!(family("openai", "gpt-5-pro-2026-01-01"), None);
}
