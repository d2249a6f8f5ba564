//! What the gateway reads of the configuration.

use tutti_config::{BackendsConfig, Credentials, Reader, RedisConfig};

use crate::domain::catalogue::{Catalogue, ModelRows};

/// The gateway's sections.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// `[backends.*]`: provider, model, address, timeouts and output cap of each.
    pub backends: BackendsConfig,
    /// credentials.toml and the variables that stand in for it.
    pub credentials: Credentials,
    /// `[models."provider/model"]`: what is known of models, over and beside the built-in catalogue.
    pub models: ModelRows,
    /// `[redis]`: where replicas share rate limits.
    pub redis: Option<RedisConfig>,
    /// What all this was read from: its credentials are followed. `None` where nothing is.
    pub source: Option<tutti_config::Config>,
}

impl Config {
    /// Reads the sections; problems are collected by the reader.
    pub fn read(reader: &Reader) -> Self {
        Self {
            backends: BackendsConfig::read(reader),
            credentials: Credentials::read(reader),
            models: read_models(reader),
            redis: RedisConfig::read(reader),
            source: Some(reader.config().clone()),
        }
    }
}

/// Reads and checks `[models]`. A table that can't be used is a problem and left out.
fn read_models(reader: &Reader) -> ModelRows {
    let section = reader.section("models");
    let rows = section.entries().into_iter().filter_map(|name| Some((section.subsection(&name).deserialize()?, name)));
    let mut models: ModelRows = rows.map(|(row, name)| (name, row)).collect();
    if !models.is_empty() && Catalogue::with(&models).is_err() {
        // Once more, one by one, so that a problem stands where its table does.
        for (name, row) in std::mem::take(&mut models) {
            models.insert(name.clone(), row);
            if let Err(error) = Catalogue::with(&models) {
                section.problem(&name, &error.to_string());
                models.remove(&name);
            }
        }
    }
    section.finish();
    models
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tutti_config::{Env, Loader};

    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.toml"), text).unwrap();
        let loader = Loader::new().config_dir(Some(folder.path().into())).start_dir(folder.path());
        let reader = loader.env(Env::from_map([("TUTTI", "")])).load().unwrap().reader();
        let config = Config::read(&reader);
        reader.finish().map(|_| config).map_err(|problems| problems.to_string())
    }

    #[test]
    fn models_are_changed_and_added() {
        let config = read(
            "[models.\"openai/gpt-4o\"]\ncontext_window = 64000\ntrains_on_output = true\n\
             [models.\"vllm/house\"]\naliases = [\"ours\"]\nas_of = 2026-11-01\n\
             prices = [{ input = 1000, output = 2000 }, { effective_from = 2027-01-01, input = 1, output = 2 }]\n",
        )
        .unwrap();
        let catalogue = Catalogue::with(&config.models).unwrap();
        let gpt = catalogue.named("openai", "gpt4o").unwrap();
        assert_eq!((gpt.context_window, gpt.max_output_tokens), (Some(64_000), Some(16_384)));
        assert!(gpt.configured && !gpt.configured_prices && gpt.trains_on_output == Some(true));
        let house = catalogue.named("vllm", "ours").unwrap();
        assert_eq!((house.as_of.as_str(), house.prices.len()), ("2026-11-01", 2));
    }

    #[test]
    fn what_is_wrong_with_a_model_is_said_at_its_table() {
        let wrong = |text: &str| read(&format!("\n[models.{text}")).unwrap_err();
        let said = wrong("\"openai/gpt-4o\"]\nquality = 2.0\n");
        assert!(said.contains("config.toml:2") && said.contains("quality is not between 0 and 1"), "{said}");
        assert!(wrong("\"openai/gpt-4o\"]\nwindow = 3\n").contains("window"));
        assert!(wrong("\"openai/gpt-4o\"]\naliases = [\"gpt-5\"]\n").contains("answer to \"gpt-5\""));
        assert!(wrong("gpt-4o]\ntier = \"economy\"\n").contains("is written provider/model"));
        assert!(wrong("\"x/y\"]\nprices = [{ input = -1, output = 0 }]\n").contains("below nothing"));
        assert!(wrong("\"x/y\"]\nid = \"z\"\n").contains("one id"));
    }
}
