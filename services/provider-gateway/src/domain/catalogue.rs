//! The model catalogue: what a model is called, what it can do and what it costs. Data in `catalogue/*.toml`.

use std::{collections::HashMap, sync::Arc};

use serde::Deserialize;

use super::pricing::{Price, PriceRow};

/// Version of the catalogue, recorded with every price taken from it. Changed with every change of the data.
pub const CATALOGUE_VERSION: &str = "2026-11-20";

/// One file a provider.
const FILES: [&str; 10] = [
    include_str!("../../catalogue/anthropic.toml"),
    include_str!("../../catalogue/deepseek.toml"),
    include_str!("../../catalogue/gemini.toml"),
    include_str!("../../catalogue/groq.toml"),
    include_str!("../../catalogue/mistral.toml"),
    include_str!("../../catalogue/moonshot.toml"),
    include_str!("../../catalogue/ollama.toml"),
    include_str!("../../catalogue/openai.toml"),
    include_str!("../../catalogue/simulator.toml"),
    include_str!("../../catalogue/together.toml"),
];

/// The catalogue's data can't be used. A fault of the build, found by the tests.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// A file is no TOML of the catalogue's form.
    #[error("the model catalogue can't be read: {0}")]
    Unreadable(#[from] toml::de::Error),
    /// Two models of a provider answer to one name.
    #[error("two models of {provider} answer to \"{name}\"")]
    Ambiguous {
        /// The provider.
        provider: String,
        /// The id or alias.
        name: String,
    },
    /// A price has a day that is none.
    #[error("a price of {0} has a day that does not exist")]
    BadDate(String),
}

/// All models, found by provider and name.
#[derive(Debug, Default)]
pub struct Catalogue {
    /// Ordered by provider and id.
    models: Vec<Arc<Model>>,
    /// Provider, then id or alias, to the place in `models`.
    names: HashMap<String, HashMap<String, usize>>,
}

/// A model.
#[derive(Debug, Clone)]
pub struct Model {
    /// The provider's id of it.
    pub id: String,
    /// The provider.
    pub provider: String,
    /// Other names it answers to.
    pub aliases: Vec<String>,
    /// Input and output together, in tokens.
    pub context_window: u64,
    /// The most output, in tokens, where there is a limit below the window.
    pub max_output_tokens: Option<u32>,
    /// What it can do.
    pub capabilities: Capabilities,
    /// The one to take when an embedding is asked for without naming a model.
    pub default_embedding: bool,
    /// Its prices, by date and tier.
    pub prices: Vec<Price>,
    /// `economy`, `standard` or `premium`.
    pub tier: String,
    /// Prior of quality, 0 to 1.
    pub quality: f64,
    /// Prior of speed, 0 to 1.
    pub speed: f64,
    /// Prior of trust, 0 to 1.
    pub trust: f64,
    /// Kept for old configurations.
    pub legacy: bool,
    /// Regions it is served from.
    pub regions: Vec<String>,
    /// For instance `soc2`.
    pub compliance_tags: Vec<String>,
    /// The provider trains on what passes.
    pub trains_on_output: bool,
}

/// What a model can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools, reason = "a set of flags, as the wire has it")]
pub struct Capabilities {
    /// Calls functions natively.
    pub tools: bool,
    /// Enforces a JSON Schema.
    pub json_schema: bool,
    /// Streams.
    pub streaming: bool,
    /// Reads pictures.
    pub images: bool,
    /// Hears sounds.
    pub audio: bool,
    /// Reads documents.
    pub files: bool,
    /// Thinks before it answers.
    pub reasoning: bool,
    /// Makes embeddings, and nothing else.
    pub embeddings: bool,
}

impl Capabilities {
    /// What is assumed of a model that the catalogue doesn't know: the provider refuses what it can't do.
    pub const UNKNOWN: Self = Self {
        tools: true,
        json_schema: true,
        streaming: true,
        images: true,
        audio: false,
        files: false,
        reasoning: false,
        embeddings: false,
    };

    fn of(names: &[Capability]) -> Self {
        let has = |capability| names.contains(&capability);
        let embeddings = has(Capability::Embeddings);
        Self {
            tools: has(Capability::Tools),
            json_schema: has(Capability::JsonSchema),
            streaming: !embeddings,
            images: has(Capability::Images),
            audio: has(Capability::Audio),
            files: has(Capability::Files),
            reasoning: has(Capability::Reasoning),
            embeddings,
        }
    }
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Capability {
    Tools,
    JsonSchema,
    Images,
    Audio,
    Files,
    Reasoning,
    Embeddings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderFile {
    provider: String,
    #[serde(default)]
    regions: Vec<String>,
    #[serde(default)]
    compliance_tags: Vec<String>,
    #[serde(default)]
    trains_on_output: bool,
    trust: f64,
    models: Vec<ModelRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelRow {
    id: String,
    #[serde(default)]
    aliases: Vec<String>,
    context_window: u64,
    max_output_tokens: Option<u32>,
    capabilities: Vec<Capability>,
    #[serde(default)]
    default_embedding: bool,
    tier: String,
    quality: f64,
    speed: f64,
    #[serde(default)]
    legacy: bool,
    prices: Vec<PriceRow>,
}

impl Catalogue {
    /// The catalogue that is built in.
    ///
    /// # Errors
    /// The data is not well-formed, which the tests of this module exclude.
    pub fn built_in() -> Result<Self, CatalogueError> {
        Self::parse(&FILES)
    }

    fn parse(files: &[&str]) -> Result<Self, CatalogueError> {
        let mut models = Vec::new();
        for text in files {
            let mut file: ProviderFile = toml::from_str(text)?;
            for row in std::mem::take(&mut file.models) {
                models.push(Arc::new(Model::of(row, &file)?));
            }
        }
        models.sort_by(|a, b| (&a.provider, &a.id).cmp(&(&b.provider, &b.id)));
        let mut names: HashMap<String, HashMap<String, usize>> = HashMap::new();
        for (at, model) in models.iter().enumerate() {
            let known = names.entry(model.provider.clone()).or_default();
            for name in model.aliases.iter().chain([&model.id]) {
                if known.insert(name.clone(), at).is_some() {
                    return Err(CatalogueError::Ambiguous { provider: model.provider.clone(), name: name.clone() });
                }
            }
        }
        Ok(Self { models, names })
    }

    /// All models, ordered by provider and id.
    pub fn models(&self) -> &[Arc<Model>] {
        &self.models
    }

    /// Whether any model is of this provider.
    pub fn has_provider(&self, provider: &str) -> bool {
        self.names.contains_key(provider)
    }

    /// The model of this provider with this id or alias.
    pub fn named(&self, provider: &str, name: &str) -> Option<&Arc<Model>> {
        self.names.get(provider)?.get(name).map(|at| &self.models[*at])
    }

    /// The first model of any provider with this id or alias, and ids before aliases.
    pub fn anywhere(&self, name: &str) -> Option<&Arc<Model>> {
        let by_id = self.models.iter().find(|model| model.id == name);
        by_id.or_else(|| self.models.iter().find(|model| model.aliases.iter().any(|alias| alias == name)))
    }

    /// The family of a dated snapshot: the longest id or alias that the name continues with nothing but a version mark.
    pub fn family(&self, provider: &str, name: &str) -> Option<&Arc<Model>> {
        let known = self.names.get(provider)?;
        let cuts = name.char_indices().rev().filter(|(_, c)| matches!(c, '-' | '@' | ':'));
        cuts.map(|(at, _)| name.split_at(at))
            .filter(|(_, mark)| is_version_mark(mark))
            .find_map(|(family, _)| known.get(family))
            .map(|at| &self.models[*at])
    }

    /// The usual embedding model of a provider.
    pub fn default_embedding(&self, provider: &str) -> Option<&Arc<Model>> {
        self.models.iter().find(|model| model.provider == provider && model.default_embedding)
    }
}

/// `-2024-11-20`, `-20250929`, `-latest`, `-001`, `@20250929`, or an Ollama tag such as `:8b-instruct`.
fn is_version_mark(mark: &str) -> bool {
    if let Some(tag) = mark.strip_prefix(':') {
        return !tag.is_empty();
    }
    let rest = &mark[1..];
    let digits = rest.chars().filter(char::is_ascii_digit).count();
    rest == "latest" || (digits >= 3 && rest.chars().all(|c| c.is_ascii_digit() || c == '-'))
}

impl Model {
    fn of(row: ModelRow, file: &ProviderFile) -> Result<Self, CatalogueError> {
        let prices = row.prices.iter().map(Price::of).collect::<Option<Vec<_>>>();
        Ok(Self {
            prices: prices.ok_or_else(|| CatalogueError::BadDate(row.id.clone()))?,
            id: row.id,
            provider: file.provider.clone(),
            aliases: row.aliases,
            context_window: row.context_window,
            max_output_tokens: row.max_output_tokens,
            capabilities: Capabilities::of(&row.capabilities),
            default_embedding: row.default_embedding,
            tier: row.tier,
            quality: row.quality,
            speed: row.speed,
            trust: file.trust,
            legacy: row.legacy,
            regions: file.regions.clone(),
            compliance_tags: file.compliance_tags.clone(),
            trains_on_output: file.trains_on_output,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_data_is_sound() {
        let catalogue = Catalogue::built_in().unwrap();
        for model in catalogue.models() {
            assert!(model.context_window > 0, "{}", model.id);
            assert!(["economy", "standard", "premium"].contains(&model.tier.as_str()), "{}", model.id);
            for prior in [model.quality, model.speed, model.trust] {
                assert!((0.0..=1.0).contains(&prior), "{}", model.id);
            }
            assert!(model.prices.iter().any(|price| price.holds_always()), "{} has no first price", model.id);
        }
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
        let file = "provider = \"p\"\ntrust = 1.0\n[[models]]\nid = \"a\"\naliases = [\"b\"]\ncontext_window = 1\n\
            capabilities = []\ntier = \"economy\"\nquality = 0.5\nspeed = 0.5\nprices = []\n";
        let twice = format!(
            "{file}\n{}",
            file.split_once("[[").map(|(_, t)| format!("[[{t}")).unwrap().replace("\"a\"", "\"b\"")
        );
        assert!(matches!(Catalogue::parse(&[&twice]), Err(CatalogueError::Ambiguous { name, .. }) if name == "b"));
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
}
