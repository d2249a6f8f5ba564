//! Ollama's answers: one object, or one a line.

use serde_json::{Value, json};

use super::error_body;
use crate::json::{write_text, write_value};
use crate::plan::{Finish, Plan, ToolCall};
use crate::problem::Problem;
use crate::stream::{Encoder, Event};

/// Nanoseconds that generating a token is said to take.
const TOKEN_NS: u64 = 1_000_000;

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

/// The complete answer; `load` means that nothing was to be generated.
pub(crate) fn response(plan: &Plan, load: bool) -> Value {
    let mut message = json!({"role": "assistant", "content": plan.text().unwrap_or_default()});
    if let Some(thought) = plan.thought() {
        message["thinking"] = json!(thought);
    }
    let calls: Vec<Value> = plan.calls().enumerate().filter_map(|(n, call)| call_of(call, n)).collect();
    if !calls.is_empty() {
        message["tool_calls"] = Value::Array(calls);
    }
    let mut answer = last(plan, load);
    answer["model"] = json!(plan.model);
    answer["created_at"] = json!(now());
    answer["message"] = message;
    answer
}

/// The members of the line that ends an answer.
fn last(plan: &Plan, load: bool) -> Value {
    let reason = match &plan.finish {
        _ if load => "load",
        Finish::Length => "length",
        Finish::Raw(reason) => reason,
        _ => "stop",
    };
    let mut answer = json!({"done": true, "done_reason": reason});
    if load {
        return answer;
    }
    answer["total_duration"] = json!(plan.truth.output * TOKEN_NS + 2_000_000);
    answer["load_duration"] = json!(1_000_000);
    if let Some(usage) = &plan.usage {
        // Counts of 0 are left out, and a cached prompt is not evaluated.
        let evaluated = usage.input.saturating_sub(usage.cached);
        if evaluated > 0 {
            answer["prompt_eval_count"] = json!(evaluated);
            answer["prompt_eval_duration"] = json!(1_000_000);
        }
        if usage.output > 0 {
            answer["eval_count"] = json!(usage.output);
            answer["eval_duration"] = json!(usage.output.saturating_mul(TOKEN_NS));
        }
    }
    answer
}

/// A call, unless a limit broke its arguments.
fn call_of(call: &ToolCall, index: usize) -> Option<Value> {
    let args: Value = serde_json::from_str(&call.args).ok().filter(Value::is_object)?;
    Some(json!({"id": format!("call_sim{}", call.key),
        "function": {"index": index, "name": call.name, "arguments": args}}))
}

/// Writes one stream.
pub(crate) struct LineEncoder {
    load: bool,
    /// `{"model":…,"created_at":…,"message":{"role":"assistant","content":`
    prefix: Vec<u8>,
    calls: usize,
}

impl LineEncoder {
    pub(crate) fn new(plan: &Plan, load: bool) -> Self {
        let mut prefix = b"{\"model\":".to_vec();
        write_text(&mut prefix, &plan.model);
        prefix.extend_from_slice(b",\"created_at\":");
        write_text(&mut prefix, &now());
        prefix.extend_from_slice(b",\"message\":{\"role\":\"assistant\",\"content\":");
        Self { load, prefix, calls: 0 }
    }

    /// One line with `content` and a further member of the message, if any.
    fn line(&self, content: &str, member: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        write_text(out, content);
        out.extend_from_slice(member);
        out.extend_from_slice(b"},\"done\":false}\n");
    }
}

impl Encoder for LineEncoder {
    fn encode(&mut self, event: Event<'_>, plan: &Plan, out: &mut Vec<u8>) {
        match event {
            Event::Text(text) => self.line(text, b"", out),
            Event::Think(text) => {
                let mut member = b",\"thinking\":".to_vec();
                write_text(&mut member, text);
                self.line("", &member, out);
            }
            // Calls come whole.
            Event::ToolEnd(call) => {
                if let Some(call) = call_of(call, self.calls) {
                    let mut member = b",\"tool_calls\":[".to_vec();
                    write_value(&mut member, &call);
                    member.push(b']');
                    self.line("", &member, out);
                }
                self.calls += 1;
            }
            Event::Finish => {
                out.extend_from_slice(&self.prefix);
                out.extend_from_slice(b"\"\"},");
                let mut end = Vec::new();
                write_value(&mut end, &last(plan, self.load));
                out.extend_from_slice(&end[1..]);
                out.push(b'\n');
            }
            _ => {}
        }
    }

    fn error(&mut self, problem: &Problem, out: &mut Vec<u8>) {
        write_value(out, &error_body(problem));
        out.push(b'\n');
    }

    fn malformed(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"model\":\"sim\",\"message\":{\"role\":\n");
    }
}
