//! What is known of one model.

use serde::Deserialize;

use super::{CatalogueError, data::ModelRow};
use crate::domain::pricing::Price;

/// A model. What none of the sources says is absent, never guessed; only tier, quality, speed and trust are our own
/// priors.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// The provider's id of it.
    pub id: String,
    /// The provider.
    pub provider: String,
    /// Other names it answers to.
    pub aliases: Vec<String>,
    /// Input and output together, in tokens; `None` where nobody says.
    pub context_window: Option<u64>,
    /// The most output, in tokens, where there is a limit below the window and it is known.
    pub max_output_tokens: Option<u32>,
    /// What it reads.
    pub modalities: Vec<Modality>,
    /// What it can do.
    pub capabilities: Capabilities,
    /// The one to take when an embedding is asked for without naming a model.
    pub default_embedding: bool,
    /// Its prices, by date and tier; none where nobody says.
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
    /// Whether the provider trains on what passes; `None` where its terms don't say.
    pub trains_on_output: Option<bool>,
    /// The day of these facts, as `2026-11-20`; empty where the configuration gives none.
    pub as_of: String,
    /// Where they come from, in words.
    pub source: String,
    /// The configuration has changed something about it.
    pub configured: bool,
    /// Its prices are the configuration's.
    pub configured_prices: bool,
}

/// A kind of content that a model reads. All write text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Modality {
    /// Text.
    Text,
    /// Pictures.
    Image,
    /// Sounds.
    Audio,
    /// Films.
    Video,
    /// Documents.
    File,
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
    /// Watches films.
    pub video: bool,
    /// Reads documents.
    pub files: bool,
    /// Thinks before it answers.
    pub reasoning: bool,
    /// Makes embeddings, and nothing else.
    pub embeddings: bool,
}

/// A capability as the catalogue writes it; what a model reads is a [`Modality`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Capability {
    Tools,
    JsonSchema,
    Reasoning,
    Embeddings,
}

impl Capabilities {
    /// What is assumed of a model that the catalogue doesn't know: the provider refuses what it can't do.
    pub const UNKNOWN: Self = Self {
        tools: true,
        json_schema: true,
        streaming: true,
        images: true,
        audio: false,
        video: false,
        files: false,
        reasoning: false,
        embeddings: false,
    };

    fn set(&mut self, names: &[Capability]) {
        let has = |capability| names.contains(&capability);
        self.tools = has(Capability::Tools);
        self.json_schema = has(Capability::JsonSchema);
        self.reasoning = has(Capability::Reasoning);
        self.embeddings = has(Capability::Embeddings);
        self.streaming = !self.embeddings;
    }

    fn read(&mut self, modalities: &[Modality]) {
        let reads = |modality| modalities.contains(&modality);
        self.images = reads(Modality::Image);
        self.audio = reads(Modality::Audio);
        self.video = reads(Modality::Video);
        self.files = reads(Modality::File);
    }
}

impl Model {
    /// A model of which only the provider is known; it has no name yet.
    pub(super) fn unknown(provider: &str) -> Self {
        Self {
            id: String::new(),
            provider: provider.to_owned(),
            aliases: Vec::new(),
            context_window: None,
            max_output_tokens: None,
            modalities: vec![Modality::Text, Modality::Image],
            capabilities: Capabilities::UNKNOWN,
            default_embedding: false,
            prices: Vec::new(),
            tier: "standard".to_owned(),
            quality: 0.5,
            speed: 0.5,
            trust: 0.5,
            legacy: false,
            regions: Vec::new(),
            compliance_tags: Vec::new(),
            trains_on_output: None,
            as_of: String::new(),
            source: String::new(),
            configured: false,
            configured_prices: false,
        }
    }

    /// Takes over what the row says; what it leaves out stays as it is.
    ///
    /// # Errors
    /// A day that does not exist, a prior outside 0 to 1, an unknown tier, a price below nothing.
    pub(super) fn apply(&mut self, row: ModelRow) -> Result<(), CatalogueError> {
        let wrong = |what: String| CatalogueError::Wrong { model: format!("{}/{}", self.provider, self.id), what };
        row.check().map_err(wrong)?;
        if self.id.is_empty() || row.id.is_some() {
            return Err(wrong("a model has one id".to_owned()));
        }
        if let Some(rows) = row.prices {
            self.prices = rows.iter().map(Price::of).collect::<Result<_, _>>().map_err(wrong)?;
        }
        if let Some(modalities) = row.modalities {
            self.capabilities.read(&modalities);
            self.modalities = modalities;
        }
        if let Some(capabilities) = row.capabilities {
            self.capabilities.set(&capabilities);
        }
        self.context_window = row.context_window.or(self.context_window);
        self.max_output_tokens = row.max_output_tokens.or(self.max_output_tokens);
        self.trains_on_output = row.trains_on_output.or(self.trains_on_output);
        set(&mut self.aliases, row.aliases);
        set(&mut self.default_embedding, row.default_embedding);
        set(&mut self.tier, row.tier);
        set(&mut self.quality, row.quality);
        set(&mut self.speed, row.speed);
        set(&mut self.trust, row.trust);
        set(&mut self.legacy, row.legacy);
        set(&mut self.regions, row.regions);
        set(&mut self.compliance_tags, row.compliance_tags);
        set(&mut self.as_of, row.as_of.map(|day| day.to_string()));
        set(&mut self.source, row.source);
        Ok(())
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}
