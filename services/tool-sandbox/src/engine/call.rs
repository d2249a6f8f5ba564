//! A call with everything that is looked up for it.

use std::{sync::Arc, time::SystemTime};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tutti_error::Result;
use tutti_proto::llm::v1::Attribution;
use tutti_types::{Deadline, Scope, time};

use super::Workspaces;
use crate::{
    domain::{CallResult, Claim, Ending, NewRecord, Outcome, Verdict, cut},
    tools::{Entry, Registry},
    workspace::Workspace,
};

/// What the books keep of a call's arguments, and of an error about them, in bytes.
pub(super) const MAX_RECORDED: usize = 4096;

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Who asks.
    pub(crate) scope: Scope,
    /// Until when.
    pub(crate) deadline: Deadline,
    /// The id that the model gave the call.
    pub(crate) tool_call_id: String,
    /// The tool's name or alias.
    pub(crate) tool: String,
    /// The arguments, as they came.
    pub(crate) arguments_json: String,
    /// The workspace's name; `default` when empty.
    pub(crate) workspace: String,
    /// On whose behalf.
    pub(crate) attribution: Attribution,
    /// Makes a repeated call run once, unless empty.
    pub(crate) idempotency_key: String,
    /// The request that the call belongs to.
    pub(crate) request_id: String,
}

impl Request {
    /// What the books say of a request that may name what does not exist.
    pub(crate) fn record(&self, verdict: Verdict, now: SystemTime) -> NewRecord {
        NewRecord {
            request_id: self.request_id.clone(),
            tool_call_id: self.tool_call_id.clone(),
            tool: self.tool.clone(),
            workspace: self.workspace.clone(),
            arguments_json: cut(&self.arguments_json, MAX_RECORDED).to_owned(),
            attribution: self.attribution.clone(),
            verdict,
            isolation: String::new(),
            started_at: time::unix_micros(now),
        }
    }
}

/// A request that names what exists and is well formed.
#[derive(Debug)]
pub(crate) struct Call {
    /// What was asked.
    pub(crate) request: Request,
    /// The tool.
    pub(crate) entry: Arc<Entry>,
    /// The folder.
    pub(crate) workspace: Arc<Workspace>,
    /// The arguments; they satisfy the tool's schema.
    pub(crate) arguments: Value,
    /// The idempotency key with what it stands for.
    pub(crate) claim: Option<Claim>,
}

impl Call {
    /// Looks everything up.
    ///
    /// # Errors
    /// UNKNOWN_TOOL, UNKNOWN_WORKSPACE, INVALID_TOOL_ARGUMENTS, MESSAGE_TOO_LARGE.
    pub(crate) fn check(request: &Request, registry: &Registry, workspaces: &Workspaces) -> Result<Self> {
        let entry = registry.find(&request.tool)?.clone();
        let workspace = workspaces.find(&request.workspace)?;
        let arguments = entry.schema.read(&request.arguments_json)?;
        let claim = (!request.idempotency_key.is_empty()).then(|| Claim {
            key: request.idempotency_key.clone(),
            body_hash: hash(&[entry.definition.name, workspace.name(), &arguments.to_string()]),
        });
        Ok(Self { request: request.clone(), entry, workspace, arguments, claim })
    }

    /// What the books say of it before it runs.
    pub(crate) fn record(&self, verdict: Verdict, now: SystemTime) -> NewRecord {
        NewRecord {
            tool: self.entry.definition.name.to_owned(),
            workspace: self.workspace.name().to_owned(),
            isolation: self.entry.definition.isolation.to_owned(),
            ..self.request.record(verdict, now)
        }
    }

    /// What its caller is told.
    pub(crate) fn result(&self, ending: &Ending, outcome: Outcome, approved: bool) -> CallResult {
        CallResult {
            tool: self.entry.definition.name.to_owned(),
            success: ending.success,
            output: outcome.output,
            error: ending.error.clone(),
            reason: ending.reason.map_or(0, i32::from),
            duration: ending.duration,
            retries: 0,
            approved,
            truncated: outcome.truncated,
            exit_code: outcome.exit_code,
            isolation: self.entry.definition.isolation.to_owned(),
        }
    }
}

/// A hash of the parts, each with its length in front so that none runs into the next.
fn hash(parts: &[&str]) -> Vec<u8> {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().to_vec()
}
