//! A request in neutral terms: what the answer depends on, read leniently from each format
//! (refusing wrong input is the work of the `validate` modules).

use serde_json::Value;

/// Who spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The instructions.
    System,
    /// The caller.
    User,
    /// The model.
    Assistant,
}

/// One message.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    /// Who spoke.
    pub(crate) role: Role,
    /// All its text.
    pub(crate) text: String,
    /// Names of the tools it calls.
    pub(crate) calls: Vec<String>,
    /// Tool results it carries: tool name and text.
    pub(crate) results: Vec<(String, String)>,
}

impl Turn {
    /// A turn of plain text.
    pub(crate) fn text(role: Role, text: String) -> Self {
        Self { role, text, calls: Vec::new(), results: Vec::new() }
    }
}

/// A tool on offer.
#[derive(Clone, Debug)]
pub(crate) struct ToolSpec {
    /// Its name.
    pub(crate) name: String,
    /// The JSON schema of its arguments.
    pub(crate) schema: Value,
}

/// Which tools may or must be called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// None may be called.
    None,
    /// Some tool must be called.
    Any,
    /// This tool must be called.
    Named(String),
}

/// The form of the answer.
#[derive(Clone, Debug, Default)]
pub(crate) enum Output {
    /// Free text.
    #[default]
    Text,
    /// Any JSON object.
    Json,
    /// JSON that satisfies this schema.
    Schema(Value),
}

/// A generation request.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// The model as named by the client.
    pub(crate) model: String,
    /// Whether the answer is streamed.
    pub(crate) stream: bool,
    /// Everything said so far, system messages included.
    pub(crate) turns: Vec<Turn>,
    /// Tokens that images and other media count.
    pub(crate) media_tokens: u64,
    /// Tools on offer.
    pub(crate) tools: Vec<ToolSpec>,
    /// Which of them to call.
    pub(crate) choice: ToolChoice,
    /// Whether several calls may be made at once.
    pub(crate) parallel: bool,
    /// The form of the answer.
    pub(crate) output: Output,
    /// Most tokens to generate, reasoning included.
    pub(crate) max_tokens: Option<u64>,
    /// Texts that end the answer.
    pub(crate) stops: Vec<String>,
    /// `Some(true)`: reasoning was asked for; `Some(false)`: forbidden; `None`: nothing said.
    pub(crate) think: Option<bool>,
    /// How many answers.
    pub(crate) choices: u64,
}

impl Ask {
    /// A request for one free-text answer of `model`, to be filled.
    pub(crate) fn new(model: &str) -> Self {
        Self {
            model: model.to_owned(),
            stream: false,
            turns: Vec::new(),
            media_tokens: 0,
            tools: Vec::new(),
            choice: ToolChoice::Auto,
            parallel: true,
            output: Output::Text,
            max_tokens: None,
            stops: Vec::new(),
            think: None,
            choices: 1,
        }
    }

    /// Where the current step begins: the last user turn that is no tool result.
    fn step(&self) -> Option<usize> {
        self.turns
            .iter()
            .rposition(|turn| turn.role == Role::User && (turn.results.is_empty() || turn.text.contains("[[")))
    }

    /// The last user message, which scripts the answer.
    pub(crate) fn prompt(&self) -> &str {
        self.step().map_or("", |at| self.turns[at].text.as_str())
    }

    /// How many tool-calling answers the current step already has.
    pub(crate) fn round(&self) -> usize {
        let from = self.step().map_or(0, |at| at + 1);
        self.turns[from..].iter().filter(|turn| !turn.calls.is_empty()).count()
    }

    /// Tool results that arrived after the last answer.
    pub(crate) fn results(&self) -> Vec<(String, String)> {
        let after = self.turns.iter().rposition(|turn| turn.role == Role::Assistant);
        let from = after.map_or(0, |at| at + 1);
        self.turns[from..].iter().flat_map(|turn| turn.results.clone()).collect()
    }

    /// The system prompt.
    pub(crate) fn system(&self) -> String {
        let parts: Vec<&str> =
            self.turns.iter().filter(|turn| turn.role == Role::System).map(|turn| turn.text.as_str()).collect();
        parts.join("\n")
    }

    /// Tokens of the prompt, by the simulator's rule of 4 characters a token.
    pub(crate) fn input_tokens(&self) -> u64 {
        let mut chars = 0;
        for turn in &self.turns {
            chars += turn.text.chars().count();
            chars += turn.results.iter().map(|(_, text)| text.chars().count()).sum::<usize>();
            chars += turn.calls.iter().map(String::len).sum::<usize>();
        }
        for tool in &self.tools {
            chars += tool.name.len() + tool.schema.to_string().len();
        }
        tokens_of(chars) + self.media_tokens
    }
}

/// Tokens of `chars` characters: 4 a token, rounded up.
pub(crate) fn tokens_of(chars: usize) -> u64 {
    u64::try_from(chars.div_ceil(4)).unwrap_or(u64::MAX)
}
