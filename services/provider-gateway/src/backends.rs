//! The configured backends: who speaks what, where, with which credential, and how they are.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tutti_config::{
    BackendConfig, Credential, Credentials, DEFAULT_CONTEXT_TOKENS, Preset, ProviderKind, SecretString,
};
use tutti_error::{Error, Reason, Result};
use tutti_proto::llm::v1::Attribution;
use tutti_providers::{Dialect, Format, Target, adapter};
use tutti_telemetry::Metrics;
use tutti_types::UnitPrices;

use crate::{
    config::Config,
    domain::{
        catalogue::{Capabilities, Catalogue},
        pricing,
        resolve::{Offer, Resolved, vendor_of},
    },
    driver::{Clients, Upstream},
    error::Failure,
    resilience::{Changes, Keys, Pass, Rules},
};

/// All backends, in the order of the configuration.
#[derive(Debug)]
pub(crate) struct Backends(Vec<Arc<Backend>>);

/// One backend.
pub(crate) struct Backend {
    /// What the configuration says.
    pub(crate) config: BackendConfig,
    /// The provider id that stamps state: `anthropic`, or a preset's, for instance `deepseek`.
    pub(crate) provider: &'static str,
    /// Nothing is paid for it.
    pub(crate) free: bool,
    /// How to call it, or why that is impossible.
    pub(crate) upstream: Result<Upstream, String>,
    offer: Offer,
    api_version: Option<String>,
    /// Our rate limits of its calls.
    pub(crate) limits: Rules,
    health: Mutex<Health>,
    changes: Changes,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("name", &self.config.name)
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}

/// How a backend was when it was last called.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health {
    /// `None` before the first call.
    pub(crate) healthy: Option<bool>,
    /// The last failure: reason and words.
    pub(crate) last_failure: Option<(Reason, String)>,
    /// When the state was seen.
    pub(crate) checked_at: Option<SystemTime>,
    /// To the first answer of the last call that had one.
    pub(crate) latency: Option<Duration>,
}

impl Backends {
    /// Sets all up. One that can't be used is kept, with the reason, and said once in the log.
    ///
    /// # Errors
    /// INTERNAL when no HTTP client can be made.
    pub(crate) fn new(config: &Config, changes: &Changes) -> Result<Self> {
        let mut clients = Clients::default();
        let mut backends = Vec::with_capacity(config.backends.len());
        for backend in config.backends.iter() {
            let backend = Backend::new(backend, &config.credentials, &mut clients, changes)?;
            if let Err(why) = &backend.upstream {
                tracing::info!(backend = backend.config.name, "this backend can't be used: {why}");
            }
            backends.push(Arc::new(backend));
        }
        Ok(Self(backends))
    }

    /// Other credentials from now on. A backend that would be left without the one it needs keeps what it has; one that
    /// could not be used at the start stays so. True when any is another one.
    pub(crate) fn rotate(&self, credentials: &Credentials) -> bool {
        let mut changed = false;
        for backend in &self.0 {
            let (Ok(upstream), Some(credential)) = (&backend.upstream, credentials.for_backend(&backend.config)) else {
                continue;
            };
            if credential.api_keys.is_empty() && upstream.keys().count() > 0 {
                tracing::warn!(backend = backend.config.name, "its credential is gone from the files; it stays in use");
                continue;
            }
            changed |= upstream.keys().replace(&credential.name, &credential.api_keys);
        }
        changed
    }

    /// All, in order.
    pub(crate) fn all(&self) -> &[Arc<Backend>] {
        &self.0
    }

    /// The backend of this name.
    ///
    /// # Errors
    /// INVALID_REQUEST for no name, UNKNOWN_BACKEND with the nearest names.
    pub(crate) fn get(&self, name: &str) -> Result<Arc<Backend>> {
        if name.is_empty() {
            return Err(Error::invalid("backend", "is required"));
        }
        let known = || self.0.iter().map(|backend| backend.config.name.as_str());
        let found = self.0.iter().find(|backend| backend.config.name == name);
        found.map(Arc::clone).ok_or_else(|| Error::unknown(Reason::UnknownBackend, "backend", name, known()))
    }
}

impl Backend {
    fn new(
        config: &BackendConfig,
        credentials: &Credentials,
        clients: &mut Clients,
        changes: &Changes,
    ) -> Result<Self> {
        let credential = credentials.for_backend(config);
        let provider = config.preset.map_or(config.provider.as_str(), Preset::as_str);
        let base_url = config.effective_base_url(credential);
        let own_address = config.base_url.is_some() || credential.is_some_and(|c| c.base_url.is_some());
        let is_loopback = base_url.as_deref().is_some_and(is_loopback);
        let kind = config.provider;
        let upstream = match way(config, credential, base_url, is_loopback) {
            Err(why) => Err(why),
            Ok((format, base_url)) => clients.client(config.timeouts.connect, &config.egress)?.map(|client| {
                let upstream = Upstream::new(client, base_url, adapter(format), keys(config, credential, changes));
                let (organization, project) =
                    credential.map(|c| (c.organization_id.clone(), c.project_id.clone())).unwrap_or_default();
                upstream.billed_to(organization, project)
            }),
        };
        let unnamed_local = kind == ProviderKind::OpenAiCompatible && config.preset.is_none() && is_loopback;
        Ok(Self {
            provider,
            free: config.is_local() || kind == ProviderKind::Simulator || unnamed_local,
            upstream,
            // At another address than the provider's own, names may mean anything.
            offer: if own_address || !has_own_models_only(config) { Offer::Any } else { Offer::Own },
            api_version: config.api_version.clone().or_else(|| credential.and_then(|c| c.version.clone())),
            limits: Rules::new(&config.resilience.limits)?,
            health: Mutex::default(),
            changes: changes.clone(),
            config: config.clone(),
        })
    }

    /// The way to the provider.
    ///
    /// # Errors
    /// BACKEND_NOT_USABLE with the reason in words.
    pub(crate) fn upstream(&self) -> Result<&Upstream> {
        let unusable = |why: &String| {
            Error::new(Reason::BackendNotUsable, format!("the backend \"{}\" can't be used: {why}", self.config.name))
        };
        self.upstream.as_ref().map_err(unusable)
    }

    /// The credential for the next attempt, and leave to make it.
    ///
    /// # Errors
    /// BACKEND_NOT_USABLE; CIRCUIT_OPEN with the time after which it is worth asking again.
    pub(crate) fn pass(&self, attribution: Option<&Attribution>) -> Result<Pass> {
        let session = attribution.map_or("", |attribution| attribution.session_id.as_str());
        self.upstream()?.keys().choose(session, Instant::now()).map_err(|wait| {
            metrics::counter!(Metrics::BREAKER_REJECTED, "backend" => self.config.name.clone()).increment(1);
            let message = format!("the backend \"{}\" kept failing and is left alone for a while", self.config.name);
            Error::new(Reason::CircuitOpen, message).retry_after(wait)
        })
    }

    /// The model to call: the one named, else the backend's.
    ///
    /// # Errors
    /// UNKNOWN_MODEL when it is another provider's.
    pub(crate) fn resolve(&self, catalogue: &Catalogue, name: &str) -> Result<Resolved> {
        let name = if name.is_empty() { &self.config.model } else { name };
        catalogue.resolve(vendor_of(self.provider), self.offer, name).map_err(|foreign| {
            let message = format!(
                "the model \"{name}\" is of {}; the backend \"{}\" calls {}",
                foreign.provider, self.config.name, self.provider
            );
            Error::new(Reason::UnknownModel, message)
        })
    }

    /// What a request for this model is made for.
    pub(crate) fn target(&self, model: &Resolved) -> Target {
        let capabilities = capabilities(model);
        Target {
            provider: self.provider.to_owned(),
            model: model.wire.clone(),
            api_version: self.api_version.clone(),
            max_output_tokens: model.model.as_ref().and_then(|known| known.max_output_tokens),
            reasoning: capabilities.reasoning,
            tools: capabilities.tools,
        }
    }

    /// What a token costs now, for a prompt of so many tokens. What runs on the own machine costs nothing, unless the
    /// configuration has a price for it.
    pub(crate) fn prices(&self, model: &Resolved, input_tokens: u64) -> UnitPrices {
        if self.free && !model.model.as_ref().is_some_and(|known| known.configured_prices) {
            return pricing::free();
        }
        pricing::unit_prices(model.model.as_deref(), SystemTime::now(), input_tokens)
    }

    /// The window in tokens: the configuration's, else the catalogue's, else 8192.
    pub(crate) fn context_window(&self, model: &Resolved) -> u64 {
        let of_catalogue = || model.model.as_ref().and_then(|known| known.context_window);
        self.config.max_context_tokens.or_else(of_catalogue).unwrap_or(DEFAULT_CONTEXT_TOKENS)
    }

    /// How it is.
    pub(crate) fn health(&self) -> Health {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes how a call or probe went. What says nothing of the backend changes nothing.
    pub(crate) fn observe(&self, outcome: Result<(), &Failure>, latency: Option<Duration>) {
        if outcome.is_err_and(|failure| !failure.speaks_of_backend()) {
            return;
        }
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if health.healthy != Some(outcome.is_ok()) {
            self.changes.tell();
        }
        health.healthy = Some(outcome.is_ok());
        health.checked_at = Some(SystemTime::now());
        health.latency = latency.or(health.latency);
        if let Err(failure) = outcome {
            health.last_failure = Some((failure.error.reason, failure.error.message.clone()));
        }
    }
}

/// What a model can do, as far as is known.
pub(crate) fn capabilities(model: &Resolved) -> Capabilities {
    model.model.as_ref().map_or(Capabilities::UNKNOWN, |known| known.capabilities)
}

/// Format and address.
fn way(
    config: &BackendConfig,
    credential: Option<&Credential>,
    base_url: Option<String>,
    is_loopback: bool,
) -> Result<(Format, String), String> {
    let format = format(config)?;
    let base_url = base_url.ok_or("it has no address: set base_url")?;
    let needs_key = match (config.provider, config.preset) {
        (ProviderKind::Ollama | ProviderKind::Simulator, _) => false,
        (_, Some(Preset::Vllm | Preset::LlamaCpp | Preset::LiteLlm)) => false,
        (ProviderKind::OpenAiCompatible, None) => !is_loopback,
        _ => true,
    };
    if needs_key && credential.is_none_or(|credential| credential.api_keys.is_empty()) {
        return Err(no_credential(config));
    }
    Ok((format, base_url))
}

fn format(config: &BackendConfig) -> Result<Format, String> {
    let dialect = match config.preset {
        None => Dialect::Compatible,
        Some(Preset::Kimi | Preset::Moonshot) => Dialect::Moonshot,
        Some(Preset::DeepSeek) => Dialect::DeepSeek,
        Some(Preset::Mistral) => Dialect::Mistral,
        Some(Preset::Groq) => Dialect::Groq,
        Some(Preset::Together) => Dialect::Together,
        Some(Preset::OpenRouter) => Dialect::OpenRouter,
        Some(Preset::LiteLlm) => Dialect::LiteLlm,
        Some(Preset::Vllm) => Dialect::Vllm,
        Some(Preset::LlamaCpp) => Dialect::LlamaCpp,
    };
    match config.provider {
        ProviderKind::OpenAi => Ok(Format::OpenAi(Dialect::OpenAi)),
        ProviderKind::Anthropic => Ok(Format::Anthropic),
        ProviderKind::Gemini => Ok(Format::Gemini),
        ProviderKind::Ollama => Ok(Format::Ollama),
        ProviderKind::OpenAiCompatible => Ok(Format::OpenAi(dialect)),
        ProviderKind::Simulator => Ok(Format::OpenAi(Dialect::Compatible)),
        ProviderKind::ClaudeCli => Err("the provider claude-cli is not built yet".into()),
    }
}

fn no_credential(config: &BackendConfig) -> String {
    let section = &config.credentials;
    let variable = match section.as_str() {
        "openai" => "OPENAI_API_KEY",
        "anthropic" | "claude" | "opus_self" => "ANTHROPIC_API_KEY",
        "gemini" | "google" => "GEMINI_API_KEY",
        "kimi" => "KIMI_API_KEY",
        "moonshot" => "MOONSHOT_API_KEY",
        "deepseek" => "DEEPSEEK_API_KEY",
        "mistral" => "MISTRAL_API_KEY",
        "groq" => "GROQ_API_KEY",
        "together" => "TOGETHER_API_KEY",
        "openrouter" => "OPENROUTER_API_KEY",
        _ => return format!("no credential: set [{section}] api_key in credentials.toml"),
    };
    format!("no credential: set {variable} or [{section}] api_key in credentials.toml")
}

fn keys(config: &BackendConfig, credential: Option<&Credential>, changes: &Changes) -> Keys {
    // The simulator refuses calls without a key, as those it stands for do; any will do.
    let any = [SecretString::from("simulator")];
    let (section, secrets) = match credential {
        Some(credential) => (credential.name.as_str(), credential.api_keys.as_slice()),
        None if config.provider == ProviderKind::Simulator => ("simulator", any.as_slice()),
        None => ("", [].as_slice()),
    };
    Keys::new(&config.name, &config.resilience.breaker, changes.clone(), section, secrets)
}

/// Whether the provider serves its own models and no others.
fn has_own_models_only(config: &BackendConfig) -> bool {
    use ProviderKind as P;
    matches!(config.provider, P::OpenAi | P::Anthropic | P::Gemini)
        || matches!(config.preset, Some(Preset::Kimi | Preset::Moonshot | Preset::DeepSeek | Preset::Mistral))
}

fn is_loopback(base_url: &str) -> bool {
    let rest = base_url.split_once("://").map_or(base_url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or("");
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(""),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(config: &BackendConfig, credentials: &Credentials) -> Backend {
        crate::testing::install_tls();
        Backend::new(config, credentials, &mut Clients::default(), &Changes::new()).unwrap()
    }

    fn unusable(config: &BackendConfig) -> String {
        backend(config, &Credentials::default()).upstream.unwrap_err()
    }

    #[test]
    fn a_backend_without_a_credential_says_which() {
        let openai = BackendConfig::new("gpt", ProviderKind::OpenAi, "gpt-4o");
        assert_eq!(unusable(&openai), "no credential: set OPENAI_API_KEY or [openai] api_key in credentials.toml");
        let own = BackendConfig { credentials: "work".into(), ..openai.clone() };
        assert_eq!(unusable(&own), "no credential: set [work] api_key in credentials.toml");
        let known: Credentials = [Credential::new("openai", SecretString::from("k"))].into_iter().collect();
        assert!(backend(&openai, &known).upstream.is_ok());
    }

    #[test]
    fn local_servers_need_no_credential_and_cost_nothing() {
        let ollama = backend(&BackendConfig::new("o", ProviderKind::Ollama, "llama3"), &Credentials::default());
        assert!(ollama.upstream.is_ok() && ollama.free);
        let compatible = |base_url: &str| {
            let config = BackendConfig::new("c", ProviderKind::OpenAiCompatible, "m");
            backend(&BackendConfig { base_url: Some(base_url.into()), ..config }, &Credentials::default())
        };
        for near in ["http://localhost:1234/v1", "http://127.0.0.1/v1", "http://[::1]:8080"] {
            let near = compatible(near);
            assert!(near.upstream.is_ok() && near.free);
        }
        for far in ["https://example.com/v1", "http://127.0.0.1.example.com/v1"] {
            let far = compatible(far);
            assert!(far.upstream.is_err() && !far.free);
        }
    }

    #[test]
    fn a_failure_of_the_request_is_none_of_the_backend() {
        let backend = backend(&BackendConfig::new("o", ProviderKind::Ollama, "llama3"), &Credentials::default());
        backend.observe(Err(&Failure::new(Reason::ContextTooLong, "too long")), None);
        assert_eq!(backend.health().healthy, None);
        backend.observe(Err(&Failure::new(Reason::ProviderError, "broken")), None);
        assert_eq!(backend.health().healthy, Some(false));
        backend.observe(Ok(()), Some(Duration::from_millis(3)));
        assert_eq!(backend.health().healthy, Some(true));
        assert_eq!(backend.health().last_failure.unwrap().0, Reason::ProviderError);
    }
}
