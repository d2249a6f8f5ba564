//! `[backends.NAME]`.

use std::time::Duration;

use indexmap::IndexMap;

use crate::problem::{nearest, suggestion};
use crate::reader::Reader;
use crate::section::Section;
use crate::sections::credentials::Credential;
use crate::sections::egress::EgressConfig;
use crate::sections::provider::{self, Preset, ProviderKind};
use crate::sections::resilience::ResilienceConfig;
use crate::value::{Source, Value, node_at};

/// The window, in tokens, of a model that neither configuration nor the catalogue knows.
pub const DEFAULT_CONTEXT_TOKENS: u64 = 8_192;

/// The backends in use, built-in ones first, then in the order they were written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BackendsConfig {
    backends: IndexMap<String, BackendConfig>,
}

/// One model at one provider.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendConfig {
    /// The name that chains and callers use.
    pub name: String,
    /// The wire format.
    pub provider: ProviderKind,
    /// The provider as written: `claude` and `opus_self` both mean Anthropic.
    pub provider_id: String,
    /// The dialect of an OpenAI-compatible provider.
    pub preset: Option<Preset>,
    /// The model id or alias.
    pub model: String,
    /// The persona used unless the caller names one.
    pub persona: String,
    /// Where the provider is found; without a final slash.
    pub base_url: Option<String>,
    /// The section of credentials.toml.
    pub credentials: String,
    /// The model's window in tokens; `None` takes the catalogue's.
    pub max_context_tokens: Option<u64>,
    /// The most tokens of one answer, unless the call says otherwise.
    pub max_output_tokens: u32,
    /// Sampling temperature; `None` leaves it to the persona.
    pub temperature: Option<f64>,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// The way to it.
    pub egress: EgressConfig,
    /// What happens when it fails.
    pub resilience: ResilienceConfig,
    /// The version of the provider's API, where it has several.
    pub api_version: Option<String>,
}

/// What holds for a backend that doesn't say otherwise.
type Shared<'a> = (&'a ResilienceConfig, &'a EgressConfig);

/// How long to wait for a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the connection.
    pub connect: Duration,
    /// From the request to the first token.
    pub first_token: Duration,
    /// Between two pieces of a stream.
    pub idle: Duration,
    /// For the whole call.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_token: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            total: Duration::from_secs(300),
        }
    }
}

impl BackendsConfig {
    /// Reads all backends, and `[resilience]`, which holds for those that don't say otherwise; those with
    /// `enabled = false` are checked but left out.
    pub fn read(reader: &Reader) -> Self {
        let shared = (&ResilienceConfig::read(reader), &EgressConfig::shared(reader));
        let section = reader.section("backends");
        let mut backends = IndexMap::new();
        for name in section.entries() {
            let table = section.subsection(&name);
            if let Some(backend) = BackendConfig::read(reader, &table, shared) {
                backends.insert(name, backend);
            }
        }
        section.finish();
        Self { backends }
    }

    /// The backend of this name.
    pub fn get(&self, name: &str) -> Option<&BackendConfig> {
        self.backends.get(name)
    }

    /// All backends, in order.
    pub fn iter(&self) -> impl Iterator<Item = &BackendConfig> {
        self.backends.values()
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.backends.keys().map(String::as_str)
    }

    /// The names someone who wrote `name` may have meant, best first.
    pub fn nearest(&self, name: &str) -> Vec<&str> {
        nearest(name, self.names())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.backends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.backends.is_empty()
    }
}

impl FromIterator<BackendConfig> for BackendsConfig {
    fn from_iter<I: IntoIterator<Item = BackendConfig>>(backends: I) -> Self {
        let named = backends.into_iter().map(|backend| (backend.name.clone(), backend));
        Self { backends: named.collect() }
    }
}

impl BackendConfig {
    /// A backend with the defaults for everything but these.
    pub fn new(name: &str, provider: ProviderKind, model: &str) -> Self {
        Self {
            name: name.to_owned(),
            provider,
            provider_id: provider.as_str().to_owned(),
            preset: None,
            model: model.to_owned(),
            persona: "default".to_owned(),
            base_url: None,
            credentials: provider.as_str().to_owned(),
            max_context_tokens: None,
            max_output_tokens: 4_096,
            temperature: None,
            timeouts: Timeouts::default(),
            egress: EgressConfig::default(),
            resilience: ResilienceConfig::default(),
            api_version: None,
        }
    }

    /// Where to call: the backend's own address, else its credential's, else the provider's.
    pub fn effective_base_url(&self, credential: Option<&Credential>) -> Option<String> {
        let of_credential = || credential.and_then(|credential| credential.base_url.clone());
        let of_preset = || self.preset.map(|preset| preset.default_base_url().to_owned());
        let of_provider = || self.provider.default_base_url().map(str::to_owned);
        self.base_url.clone().or_else(of_credential).or_else(of_preset).or_else(of_provider)
    }

    /// Whether the model runs on the user's own machines, so that nothing leaves them.
    pub fn is_local(&self) -> bool {
        let local_preset = matches!(self.preset, Some(Preset::Vllm | Preset::LlamaCpp));
        self.provider == ProviderKind::Ollama || local_preset
    }

    /// `None` if disabled or so wrong that nothing can be made of it.
    fn read(reader: &Reader, table: &Section<'_>, (resilience, egress): Shared<'_>) -> Option<Self> {
        let enabled = table.bool("enabled", true);
        let provider_id = table.required_string("provider");
        let provider = read_provider(table, &provider_id, enabled);
        let preset = read_preset(table, provider);
        let named_like = preset.map_or(provider_id.as_str(), |preset| preset.as_str());
        let credentials = table.string("credentials", named_like);
        let model = read_model(reader, table, &credentials);
        let base_url = read_base_url(table, "base_url");
        warn_of_redirection(reader, table, &["base_url", "credentials", "provider", "preset"]);
        let provider = provider.map(|(kind, _)| kind);
        if provider == Some(ProviderKind::OpenAiCompatible)
            && preset.is_none()
            && base_url.is_none()
            && !table.has("base_url")
            && credential_value(reader, &credentials, "base_url").is_none()
        {
            table.problem("base_url", "missing key; a provider without a preset needs its address");
        }
        let backend = Self {
            name: table.name().to_owned(),
            provider: provider.unwrap_or(ProviderKind::OpenAi),
            provider_id,
            preset,
            model,
            persona: read_persona(reader, table),
            base_url,
            credentials,
            max_context_tokens: table.opt_integer("max_context_tokens", 1..=u64::MAX),
            max_output_tokens: table.integer("max_output_tokens", 4_096, 1..=u32::MAX),
            temperature: table.opt_float("temperature", 0.0..=2.0),
            timeouts: Timeouts::read(&table.subsection("timeouts")),
            egress: EgressConfig::read(table, egress),
            resilience: resilience.of_backend(table),
            api_version: table.opt_string("api_version"),
        };
        (enabled && provider.is_some()).then_some(backend)
    }
}

impl Timeouts {
    fn read(table: &Section<'_>) -> Self {
        let default = Self::default();
        Self {
            connect: table.positive_duration("connect", default.connect),
            first_token: table.positive_duration("first_token", default.first_token),
            idle: table.positive_duration("idle", default.idle),
            total: table.positive_duration("total", default.total),
        }
    }
}

fn read_provider(table: &Section<'_>, id: &str, enabled: bool) -> Option<(ProviderKind, Option<Preset>)> {
    if id.is_empty() {
        return None;
    }
    let provider = provider::by_id(id);
    match provider {
        None => {
            let near = suggestion(id, provider::ids());
            table.problem("provider", &format!("unknown provider {id:?}{near}"));
        }
        Some((ProviderKind::ClaudeCli, _)) if enabled => {
            table.problem("provider", "the provider claude-cli is not built yet");
        }
        Some(_) => {}
    }
    provider
}

/// The preset written, else the one the provider's id names.
fn read_preset(table: &Section<'_>, provider: Option<(ProviderKind, Option<Preset>)>) -> Option<Preset> {
    let written = table.opt_choice("preset", &Preset::ALL);
    match provider {
        Some((ProviderKind::OpenAiCompatible, named)) => written.or(named),
        Some(_) if table.has("preset") => {
            table.problem("preset", "only provider = \"openai-compatible\" takes a preset");
            None
        }
        _ => None,
    }
}

/// The backend's model, else the one its credentials name.
fn read_model(reader: &Reader, table: &Section<'_>, credentials: &str) -> String {
    match credential_value(reader, credentials, "model") {
        Some(model) if !table.has("model") => model,
        _ => table.required_string("model"),
    }
}

fn credential_value(reader: &Reader, section: &str, key: &str) -> Option<String> {
    let path = ["credentials", section, key].map(str::to_owned);
    match &node_at(reader.root(), &path)?.value {
        Value::String(text) => Some(text.clone()),
        _ => None,
    }
}

fn read_persona(reader: &Reader, table: &Section<'_>) -> String {
    let persona = table.string("persona", "default");
    let known = reader.names_in(&["personas"]);
    if table.is_users("persona") && !known.contains(&persona.as_str()) {
        let near = suggestion(&persona, known);
        table.problem("persona", &format!("unknown persona {persona:?}{near}"));
    }
    persona
}

/// An http or https address, without its final slash.
pub(crate) fn read_base_url(table: &Section<'_>, key: &str) -> Option<String> {
    let url = table.opt_string(key)?;
    let scheme = ["http://", "https://"].into_iter().find(|scheme| url.starts_with(scheme));
    let host = scheme.map(|scheme| url[scheme.len()..].split(['/', '?', '#']).next().unwrap_or(""));
    let message = match host {
        None | Some("") => "expected an address such as https://example.com/v1",
        Some(host) if host.contains('@') => "an address must hold no password; keys belong in credentials.toml",
        Some(_) if url.contains(|c: char| c.is_whitespace() || c.is_control()) => "an address has no blanks",
        Some(_) if url.contains(['?', '#']) => "an address has no query here",
        Some(_) => return Some(url.trim_end_matches('/').to_owned()),
    };
    table.problem(key, message);
    None
}

/// A project may name its own address, but the user should know that a folder they checked
/// out decides where their key is sent.
pub(crate) fn warn_of_redirection(reader: &Reader, table: &Section<'_>, keys: &[&str]) {
    for (key, place) in keys.iter().filter_map(|key| Some((key, table.origin(key)?))) {
        if matches!(place.source, Source::Project(_) | Source::DotEnv(_)) {
            let key = table.shown(key);
            reader.warn(format!("{place}: {key}: this project decides where a key of yours is sent"));
        }
    }
}
