//! The `PersonaService`.

use tonic::{Request, Response, Status};
use tutti_config::{ThinkingStyle, Verbosity};
use tutti_error::{Error, Reason, Result};
use tutti_proto::router::v1::{
    self as wire, GetPersonaRequest, GetPersonaResponse, ListPersonasRequest, ListPersonasResponse, Persona,
    persona_service_server::PersonaService,
};

use crate::{Config, domain::rules::DEFAULT_PERSONA};

/// The personas, which don't change while the process runs.
pub(crate) struct PersonaApi {
    /// Ordered by id.
    personas: Vec<Persona>,
}

impl PersonaApi {
    pub(crate) fn new(config: &Config) -> Self {
        let source = |id: &str| config.persona_sources.get(id).copied().unwrap_or_default();
        let mut personas: Vec<Persona> = config.rules.personas.iter().map(|p| encode(p, source(&p.id))).collect();
        personas.sort_by(|a, b| a.id.cmp(&b.id));
        Self { personas }
    }
}

#[tonic::async_trait]
impl PersonaService for PersonaApi {
    async fn list_personas(
        &self,
        _request: Request<ListPersonasRequest>,
    ) -> Result<Response<ListPersonasResponse>, Status> {
        let response =
            ListPersonasResponse { personas: self.personas.clone(), default_persona: DEFAULT_PERSONA.to_owned() };
        Ok(Response::new(response))
    }

    async fn get_persona(&self, request: Request<GetPersonaRequest>) -> Result<Response<GetPersonaResponse>, Status> {
        let id = request.into_inner().id;
        if id.is_empty() {
            return Err(Error::invalid("id", "is required").into());
        }
        let Some(persona) = self.personas.iter().find(|p| p.id == id) else {
            let known = self.personas.iter().map(|p| p.id.as_str());
            return Err(Error::unknown(Reason::UnknownPersona, "persona", &id, known).into());
        };
        Ok(Response::new(GetPersonaResponse { persona: Some(persona.clone()) }))
    }
}

fn encode(persona: &tutti_config::Persona, source: &str) -> Persona {
    let verbosity = match persona.verbosity {
        Verbosity::Concise => wire::Verbosity::Concise,
        Verbosity::Normal => wire::Verbosity::Normal,
        Verbosity::Verbose => wire::Verbosity::Verbose,
    };
    let thinking_style = match persona.thinking_style {
        ThinkingStyle::Direct => wire::ThinkingStyle::Direct,
        ThinkingStyle::StepByStep => wire::ThinkingStyle::StepByStep,
        ThinkingStyle::DeepReasoning => wire::ThinkingStyle::DeepReasoning,
    };
    Persona {
        id: persona.id.clone(),
        name: persona.name.clone(),
        description: persona.description.clone(),
        system_prompt: persona.system_prompt.clone(),
        preferred_backends: persona.preferred_backends.clone(),
        temperature: persona.temperature,
        max_tokens: persona.max_tokens,
        context_window: persona.context_window.map_or(0, |w| i64::try_from(w).unwrap_or(i64::MAX)),
        verbosity: verbosity.into(),
        thinking_style: thinking_style.into(),
        prefers_streaming: persona.prefers_streaming,
        requires_tools: persona.requires_tools,
        source: source.to_owned(),
    }
}
