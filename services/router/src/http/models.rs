//! `GET /v1/models`: everything that `model` may name.

use std::collections::HashSet;

use axum::{body::Body, http::Response};
use serde::Serialize;
use tutti_error::{Error, Reason, Result};
use tutti_proto::gateway::v1::{BackendStatus, Model};

use super::{json, unix_seconds};
use crate::{app::Desk, domain::candidates::same_provider};

#[derive(Serialize)]
struct List {
    object: &'static str,
    data: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    id: String,
    object: &'static str,
    created: i64,
    owned_by: String,
}

/// All names: `auto`, the usable backends, the personas, the aliases of models that a usable backend can serve.
pub(super) async fn list(desk: &Desk) -> Result<Response<Body>> {
    let list = List { object: "list", data: entries(desk).await? };
    // Texts and numbers alone can't fail to be written.
    Ok(json(serde_json::to_vec(&list).unwrap_or_default()))
}

/// One name: of the list, or of a model that a backend can serve.
pub(super) async fn get(desk: &Desk, id: &str) -> Result<Response<Body>> {
    let entries = entries(desk).await?;
    if let Some(entry) = entries.iter().find(|entry| entry.id == id) {
        return Ok(json(serde_json::to_vec(entry).unwrap_or_default()));
    }
    let backends = desk.planner.directory.backends().await?;
    let unknown = || {
        let known = entries.iter().map(|entry| entry.id.as_str());
        Error::unknown(Reason::UnknownModel, "model", id, known)
    };
    let serving = desk.planner.serving_model(id, &backends).await.map_err(|error| match error.reason() {
        // Its hint leaves out the backends and personas.
        Reason::UnknownModel => unknown(),
        _ => error,
    })?;
    let owner = backends.iter().find(|b| serving.contains(&b.name)).map(|b| b.provider.clone()).unwrap_or_default();
    Ok(json(serde_json::to_vec(&entry(id.to_owned(), &owner, unix_seconds())).unwrap_or_default()))
}

async fn entries(desk: &Desk) -> Result<Vec<Entry>> {
    let backends = desk.planner.directory.backends().await?;
    let models = desk.planner.directory.models("").await?;
    let personas = desk.planner.rules.personas.ids();
    Ok(names(&backends, &models, personas, unix_seconds()))
}

fn names<'a>(
    backends: &[BackendStatus],
    models: &[Model],
    personas: impl Iterator<Item = &'a str>,
    now: i64,
) -> Vec<Entry> {
    let usable: Vec<&BackendStatus> = backends.iter().filter(|b| b.usable).collect();
    let mut personas: Vec<&str> = personas.collect();
    personas.sort_unstable();
    let served = models.iter().filter(|m| usable.iter().any(|b| same_provider(&b.provider, &m.provider)));
    let aliases = served.flat_map(|m| m.aliases.iter().map(|alias| entry(alias.clone(), &m.provider, now)));
    let mut entries = vec![entry("auto".to_owned(), "tutti", now)];
    entries.extend(usable.iter().map(|b| entry(b.name.clone(), &b.provider, now)));
    entries.extend(personas.into_iter().map(|id| entry(format!("persona/{id}"), "tutti", now)));
    entries.extend(aliases);
    // A backend may be named as an alias is: then the name is the backend's.
    let mut seen = HashSet::new();
    entries.retain(|entry| seen.insert(entry.id.clone()));
    entries
}

fn entry(id: String, owner: &str, created: i64) -> Entry {
    Entry { id, object: "model", created, owned_by: owner.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_there_once_and_only_what_can_be_used() {
        let backend = |name: &str, provider: &str, usable| BackendStatus {
            name: name.into(),
            provider: provider.into(),
            usable,
            ..Default::default()
        };
        let model = |provider: &str, aliases: &[&str]| Model {
            provider: provider.into(),
            aliases: aliases.iter().map(|alias| (*alias).into()).collect(),
            ..Default::default()
        };
        let backends = [backend("opus", "anthropic", true), backend("openai", "openai", false)];
        let models = [model("anthropic", &["opus", "sonnet"]), model("openai", &["mini"])];
        let entries = names(&backends, &models, ["b", "a"].into_iter(), 1);
        let ids: Vec<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(ids, ["auto", "opus", "persona/a", "persona/b", "sonnet"]);
        assert_eq!(entries[1].owned_by, "anthropic");
    }
}
