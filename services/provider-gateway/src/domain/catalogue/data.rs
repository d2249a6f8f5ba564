//! The catalogue's data: the files of `catalogue/`, and the form that a model has in them and in `[models]` of the
//! configuration.

use std::{collections::HashMap, sync::Arc};

use serde::Deserialize;
use toml::value::Datetime;

use super::{
    CatalogueError,
    model::{Capability, Modality, Model},
};
use crate::domain::pricing::PriceRow;

/// One file a provider.
pub(super) const FILES: [&str; 10] = [
    include_str!("../../../catalogue/anthropic.toml"),
    include_str!("../../../catalogue/deepseek.toml"),
    include_str!("../../../catalogue/gemini.toml"),
    include_str!("../../../catalogue/groq.toml"),
    include_str!("../../../catalogue/mistral.toml"),
    include_str!("../../../catalogue/moonshot.toml"),
    include_str!("../../../catalogue/ollama.toml"),
    include_str!("../../../catalogue/openai.toml"),
    include_str!("../../../catalogue/simulator.toml"),
    include_str!("../../../catalogue/together.toml"),
];

/// The tiers a model may be of.
const TIERS: [&str; 3] = ["economy", "standard", "premium"];

/// One file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderFile {
    provider: String,
    /// The day of its youngest facts; a model may have a day of its own.
    as_of: Datetime,
    source: String,
    #[serde(default)]
    regions: Vec<String>,
    #[serde(default)]
    compliance_tags: Vec<String>,
    trains_on_output: Option<bool>,
    trust: f64,
    models: Vec<ModelRow>,
}

/// What a table says of a model: all of it in the built-in files, any part in the configuration.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRow {
    /// In the files only: in the configuration it is the table's name.
    pub(super) id: Option<String>,
    pub(super) aliases: Option<Vec<String>>,
    pub(super) context_window: Option<u64>,
    pub(super) max_output_tokens: Option<u32>,
    pub(super) modalities: Option<Vec<Modality>>,
    pub(super) capabilities: Option<Vec<Capability>>,
    pub(super) default_embedding: Option<bool>,
    pub(super) tier: Option<String>,
    pub(super) quality: Option<f64>,
    pub(super) speed: Option<f64>,
    pub(super) trust: Option<f64>,
    pub(super) legacy: Option<bool>,
    pub(super) regions: Option<Vec<String>>,
    pub(super) compliance_tags: Option<Vec<String>>,
    pub(super) trains_on_output: Option<bool>,
    pub(super) as_of: Option<Datetime>,
    pub(super) source: Option<String>,
    pub(super) prices: Option<Vec<PriceRow>>,
}

impl ModelRow {
    /// What the types don't exclude.
    pub(super) fn check(&self) -> Result<(), String> {
        for (name, prior) in [("quality", self.quality), ("speed", self.speed), ("trust", self.trust)] {
            if prior.is_some_and(|prior| !(0.0..=1.0).contains(&prior)) {
                return Err(format!("{name} is not between 0 and 1"));
            }
        }
        match &self.tier {
            Some(tier) if !TIERS.contains(&tier.as_str()) => Err(format!("tier is none of {}", TIERS.join(", "))),
            _ if self.context_window == Some(0) => Err("context_window is 0".to_owned()),
            _ if self.max_output_tokens == Some(0) => Err("max_output_tokens is 0".to_owned()),
            _ => Ok(()),
        }
    }
}

/// What the files say.
#[derive(Default)]
pub(super) struct Data {
    /// All models.
    pub(super) models: Vec<Arc<Model>>,
    /// What the head of a provider's file says of all its models.
    pub(super) providers: HashMap<String, Model>,
}

/// Reads the files.
///
/// # Errors
/// A file that is not of the catalogue's form.
pub(super) fn parse(files: &[&str]) -> Result<Data, CatalogueError> {
    let mut data = Data::default();
    for text in files {
        let mut file: ProviderFile = toml::from_str(text)?;
        let head = head(&file);
        for mut row in std::mem::take(&mut file.models) {
            let mut model = Model { id: row.id.take().unwrap_or_default(), ..head.clone() };
            model.apply(row)?;
            data.models.push(Arc::new(model));
        }
        data.providers.insert(file.provider, head);
    }
    Ok(data)
}

fn head(file: &ProviderFile) -> Model {
    Model {
        regions: file.regions.clone(),
        compliance_tags: file.compliance_tags.clone(),
        trains_on_output: file.trains_on_output,
        trust: file.trust,
        as_of: file.as_of.to_string(),
        source: file.source.clone(),
        ..Model::unknown(&file.provider)
    }
}
