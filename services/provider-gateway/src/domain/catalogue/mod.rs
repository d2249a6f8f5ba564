//! The model catalogue: what a model is called, what it can do and what it costs. Data in `catalogue/*.toml`, changed and
//! completed by `[models]` of the configuration.

mod data;
mod model;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use self::data::Data;
pub use self::{
    data::ModelRow,
    model::{Capabilities, Modality, Model},
};
use super::resolve::vendor_of;

/// Version of the catalogue, recorded with every price taken from it. Changed with every change of the data.
pub const CATALOGUE_VERSION: &str = "2026-11-20.2";

/// The same for prices of the configuration.
pub const CONFIGURED_VERSION: &str = "2026-11-20.2+config";

/// What the configuration says of models, by `provider/model`.
pub type ModelRows = BTreeMap<String, ModelRow>;

/// The catalogue's data can't be used: a fault of the build, found by the tests, or of `[models]`.
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
    /// A value that can't be.
    #[error("{model}: {what}")]
    Wrong {
        /// The model, as `provider/model`.
        model: String,
        /// What is wrong.
        what: String,
    },
}

/// All models, found by provider and name.
#[derive(Debug, Default)]
pub struct Catalogue {
    /// Ordered by provider and id.
    models: Vec<Arc<Model>>,
    /// Provider, then id or alias, to the place in `models`.
    names: HashMap<String, HashMap<String, usize>>,
}

impl Catalogue {
    /// The catalogue that is built in.
    ///
    /// # Errors
    /// The data is not well-formed, which the tests of this module exclude.
    pub fn built_in() -> Result<Self, CatalogueError> {
        Self::new(data::parse(&data::FILES)?.models)
    }

    /// The built-in catalogue with what the configuration says of models: it changes those of the catalogue, and adds
    /// those that it has not.
    ///
    /// # Errors
    /// A name without its provider, a value that can't be, or two models of one name.
    pub fn with(rows: &ModelRows) -> Result<Self, CatalogueError> {
        let Data { mut models, providers } = data::parse(&data::FILES)?;
        for (name, row) in rows {
            let wrong = || CatalogueError::Wrong { model: name.clone(), what: "is written provider/model".into() };
            let (provider, id) = name.split_once('/').filter(|(_, id)| !id.is_empty()).ok_or_else(wrong)?;
            let provider = vendor_of(provider);
            let at = models.iter().position(|model| model.provider == provider && model.id == id);
            let known = at.map(|at| (*models[at]).clone());
            let mut model = known.unwrap_or_else(|| unlisted(&providers, provider, id));
            model.configured = true;
            model.configured_prices |= row.prices.is_some();
            model.apply(row.clone())?;
            match at {
                Some(at) => models[at] = Arc::new(model),
                None => models.push(Arc::new(model)),
            }
        }
        Self::new(models)
    }

    fn new(mut models: Vec<Arc<Model>>) -> Result<Self, CatalogueError> {
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

/// A model that the files don't have: what they say of its provider holds, the day and the source don't.
fn unlisted(providers: &HashMap<String, Model>, provider: &str, id: &str) -> Model {
    let head = providers.get(provider).cloned().unwrap_or_else(|| Model::unknown(provider));
    Model { id: id.to_owned(), as_of: String::new(), source: "[models] of the configuration".to_owned(), ..head }
}
