//! `write`: a file's content, whole or at its end.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Context, INSIDE_WORKSPACE, Tool, blocking, flag, text};
use crate::domain::{Category, Definition, Outcome, Subject};

/// Writes a file.
#[derive(Debug)]
pub(super) struct WriteFile;

#[async_trait]
impl Tool for WriteFile {
    fn definition(&self) -> Definition {
        Definition {
            name: "write",
            aliases: &["write_file"],
            description: "Writes a text file of the workspace, replacing what it had, or appends to it. \
                          Folders that are missing are made.",
            parameters: json!({
                "type": "object",
                "properties": {
                    "path": {
                        "type": "string", "minLength": 1, "maxLength": 4096,
                        "description": "The file, relative to the workspace's root, for instance src/main.rs",
                    },
                    "content": { "type": "string", "description": "The text to write" },
                    "append": {
                        "type": "boolean",
                        "description": "Add the text at the end instead of replacing the file; false when left out",
                    },
                },
                "required": ["path", "content"],
                "additionalProperties": false,
            }),
            category: Category::Write,
            subject: Subject::Path("path"),
            isolation: INSIDE_WORKSPACE,
        }
    }

    async fn run(&self, arguments: &Value, context: Context) -> Outcome {
        let path = text(arguments, "path").unwrap_or_default().to_owned();
        let content = text(arguments, "content").unwrap_or_default().to_owned();
        let append = flag(arguments, "append");
        let work = move |abandoned: &_| {
            if append {
                context.workspace.append(&path, content.as_bytes())?;
            } else {
                context.workspace.write(&path, content.as_bytes(), abandoned)?;
            }
            let done = if append { "appended" } else { "wrote" };
            Ok(Outcome::success(format!("{done} {} bytes to {path}", content.len())))
        };
        blocking(&context.stop, work).await.unwrap_or_else(Outcome::from)
    }
}
