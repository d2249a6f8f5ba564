//! What `chat` and `route` ask: one turn from the command line.

use std::io::{IsTerminal as _, Read as _};

use tutti_proto::{
    llm::v1::{Message, Role, Sampling},
    router::v1::ChatRequest,
};

use super::Failure;

/// One turn.
#[derive(Debug, clap::Args)]
pub(crate) struct Turn {
    /// What to say; standard input when left out
    message: Vec<String>,
    /// This backend and no other
    #[arg(long)]
    backend: Option<String>,
    /// This model: an alias, provider/model, or the provider's id
    #[arg(long)]
    model: Option<String>,
    /// The persona
    #[arg(long)]
    persona: Option<String>,
    /// The task type, for instance coding
    #[arg(long)]
    task: Option<String>,
    /// Go on with this conversation
    #[arg(long)]
    session: Option<String>,
    /// Instructions to the model
    #[arg(long)]
    system: Option<String>,
    /// A tool of the mesh that the model may use; repeatable; '*' for all that are enabled
    #[arg(long = "tool", value_name = "NAME")]
    tools: Vec<String>,
    /// The workspace that tools work in
    #[arg(long)]
    workspace: Option<String>,
    /// The most tokens to produce
    #[arg(long, value_name = "TOKENS")]
    max_tokens: Option<u32>,
    /// 0 (sober) to 2 (wild)
    #[arg(long)]
    temperature: Option<f64>,
}

impl Turn {
    /// The request, with standard input read when there is no message.
    pub(crate) fn into_request(self) -> Result<ChatRequest, Failure> {
        let text = if self.message.is_empty() { read_input()? } else { self.message.join(" ") };
        if text.trim().is_empty() {
            return Err(Failure("say something: tutti chat \"hello\", or pipe it in".into()));
        }
        let mut messages = Vec::new();
        if let Some(system) = self.system {
            messages.push(Message { role: Role::System.into(), text: system, ..Default::default() });
        }
        messages.push(Message { role: Role::User.into(), text, ..Default::default() });
        Ok(ChatRequest {
            messages,
            session_id: self.session.unwrap_or_default(),
            task_type: self.task.unwrap_or_default(),
            persona: self.persona.unwrap_or_default(),
            backend: self.backend.unwrap_or_default(),
            model: self.model.unwrap_or_default(),
            mesh_tools: self.tools,
            workspace: self.workspace.unwrap_or_default(),
            sampling: Some(Sampling {
                temperature: self.temperature,
                max_output_tokens: self.max_tokens,
                ..Default::default()
            }),
            ..Default::default()
        })
    }
}

fn read_input() -> Result<String, Failure> {
    let mut input = std::io::stdin();
    if input.is_terminal() {
        return Ok(String::new());
    }
    let mut text = String::new();
    input.read_to_string(&mut text)?;
    Ok(text)
}
