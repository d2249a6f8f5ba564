//! `list_dir`: what is in a folder.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Context, INSIDE_WORKSPACE, Tool, blocking, flag, text};
use crate::{
    domain::{Category, Definition, Outcome, Subject},
    workspace::{Listing, MAX_ENTRIES},
};

/// Lists a folder.
#[derive(Debug)]
pub(super) struct ListDir;

#[async_trait]
impl Tool for ListDir {
    fn definition(&self) -> Definition {
        Definition {
            name: "list_dir",
            aliases: &["list_directory"],
            description: "Lists a folder of the workspace, one entry a line, at most 200. \
                          Marks: name/ folder, name@ symbolic link, name| pipe, name= socket, name% device.",
            parameters: json!({
                "type": "object",
                "properties": {
                    "path": {
                        "type": "string", "maxLength": 4096,
                        "description": "The folder, relative to the workspace's root; the root itself when left out",
                    },
                    "recursive": {
                        "type": "boolean",
                        "description": "List the folders in it too; false when left out",
                    },
                    "include_hidden": {
                        "type": "boolean",
                        "description": "Show names that begin with a dot; false when left out",
                    },
                },
                "additionalProperties": false,
            }),
            category: Category::Read,
            subject: Subject::Path("path"),
            isolation: INSIDE_WORKSPACE,
        }
    }

    async fn run(&self, arguments: &Value, context: Context) -> Outcome {
        let path = text(arguments, "path").unwrap_or(".").to_owned();
        let (recursive, hidden) = (flag(arguments, "recursive"), flag(arguments, "include_hidden"));
        let work = move |abandoned: &_| context.workspace.list(&path, recursive, hidden, abandoned);
        blocking(&context.stop, work).await.map_or_else(Outcome::from, |listing| shown(&listing))
    }
}

fn shown(listing: &Listing) -> Outcome {
    let mut output = listing.entries.join("\n");
    if listing.entries.is_empty() {
        output.push_str("(empty)");
    }
    if listing.truncated {
        output.push_str(&format!("\n[... more than {MAX_ENTRIES} entries ...]"));
    }
    Outcome { truncated: listing.truncated, ..Outcome::success(output) }
}
