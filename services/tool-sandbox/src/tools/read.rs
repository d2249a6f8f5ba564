//! `read`: a file's text.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Context, INSIDE_WORKSPACE, Tool, blocking, text};
use crate::{
    domain::{Category, Definition, Failure, Outcome, Subject},
    workspace::{Content, MAX_READ},
};

/// Reads a file.
#[derive(Debug)]
pub(super) struct ReadFile;

#[async_trait]
impl Tool for ReadFile {
    fn definition(&self) -> Definition {
        Definition {
            name: "read",
            aliases: &["read_file"],
            description: "Reads a text file of the workspace and returns its content. Files above 1 MiB are cut there.",
            parameters: json!({
                "type": "object",
                "properties": {
                    "path": {
                        "type": "string", "minLength": 1, "maxLength": 4096,
                        "description": "The file, relative to the workspace's root, for instance src/main.rs",
                    },
                    "encoding": {
                        "type": "string", "enum": ["utf-8", "latin-1"],
                        "description": "How the bytes become text; utf-8 when left out",
                    },
                },
                "required": ["path"],
                "additionalProperties": false,
            }),
            category: Category::Read,
            subject: Subject::Path("path"),
            isolation: INSIDE_WORKSPACE,
        }
    }

    async fn run(&self, arguments: &Value, context: Context) -> Outcome {
        let path = text(arguments, "path").unwrap_or_default().to_owned();
        let latin = text(arguments, "encoding") == Some("latin-1");
        let work = move |_: &_| {
            let content = context.workspace.read(&path)?;
            let text = if latin { latin_text(&content.bytes) } else { utf8_text(&path, &content)? };
            Ok(Outcome {
                output: if content.truncated { with_note(text, content.size) } else { text },
                output_bytes: content.size,
                truncated: content.truncated,
                ..Outcome::default()
            })
        };
        blocking(&context.stop, work).await.unwrap_or_else(Outcome::from)
    }
}

fn latin_text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn utf8_text(path: &str, content: &Content) -> Result<String, Failure> {
    match std::str::from_utf8(&content.bytes) {
        Ok(text) => Ok(text.to_owned()),
        // The cut fell into a character.
        Err(error) if content.truncated && error.error_len().is_none() => {
            Ok(String::from_utf8_lossy(&content.bytes[..error.valid_up_to()]).into_owned())
        }
        Err(error) => Err(Failure::failed(format!(
            "{path:?} is not UTF-8 text (byte {}); if it is text, read it with encoding latin-1",
            error.valid_up_to()
        ))),
    }
}

fn with_note(text: String, size: u64) -> String {
    text + &format!("\n[... cut at {MAX_READ} of {size} bytes ...]")
}
