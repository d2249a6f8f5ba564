//! Chat Completions chunks. The members that all chunks share are written once per stream.

use serde_json::{Value, json};

use super::dialect::{Dialect, completion_id, now};
use super::errors;
use crate::json::{write_text, write_value};
use crate::plan::Plan;
use crate::problem::Problem;
use crate::stream::{Encoder, Event};

/// Writes one stream.
pub(crate) struct ChunkEncoder {
    /// `data: {…,` up to where `choices` begins.
    prefix: Vec<u8>,
    dialect: Dialect,
    usage_asked: bool,
    /// Tool calls begun so far, and so one more than the index of the current one.
    tools: u64,
}

impl ChunkEncoder {
    pub(crate) fn new(plan: &Plan, usage_asked: bool) -> Self {
        let head = json!({
            "id": completion_id(plan), "object": "chat.completion.chunk", "created": now(),
            "model": plan.model, "service_tier": "default", "system_fingerprint": "sim",
        });
        let mut prefix = b"data: ".to_vec();
        write_value(&mut prefix, &head);
        prefix.pop();
        prefix.push(b',');
        Self { prefix, dialect: Dialect::of(&plan.model), usage_asked, tools: 0 }
    }

    /// One chunk for every choice; `delta` writes the members of the delta.
    fn chunks(&self, plan: &Plan, out: &mut Vec<u8>, delta: impl Fn(&mut Vec<u8>)) {
        for index in 0..plan.choices {
            self.open(index, out);
            delta(out);
            out.extend_from_slice(b"},\"logprobs\":null,\"finish_reason\":null}]");
            self.close(out);
        }
    }

    fn open(&self, index: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(b"\"choices\":[{\"index\":");
        out.extend_from_slice(index.to_string().as_bytes());
        out.extend_from_slice(b",\"delta\":{");
    }

    fn close(&self, out: &mut Vec<u8>) {
        let separate = self.usage_asked && !self.dialect.usage_on_finish();
        out.extend_from_slice(if separate { b",\"usage\":null}\n\n" } else { b"}\n\n" });
    }

    fn thought(&self, plan: &Plan, text: &str, out: &mut Vec<u8>) {
        if let Some(field) = self.dialect.thought_field() {
            self.chunks(plan, out, |out| {
                write_text(out, field);
                out.push(b':');
                write_text(out, text);
            });
        } else if self.dialect == Dialect::Mistral {
            self.chunks(plan, out, |out| {
                let part = json!([{"type": "thinking",
                    "thinking": [{"type": "text", "text": text}]}]);
                out.extend_from_slice(b"\"content\":");
                write_value(out, &part);
            });
        }
    }

    /// The first fragment of a call, which names it.
    fn call(&mut self, plan: &Plan, id: &str, name: &str, out: &mut Vec<u8>) {
        let call = json!({"index": self.tools, "id": id, "type": "function",
            "function": {"name": name, "arguments": ""}});
        self.tools += 1;
        self.chunks(plan, out, |out| {
            out.extend_from_slice(b"\"tool_calls\":[");
            write_value(out, &call);
            out.push(b']');
        });
    }

    fn finish(&self, plan: &Plan, out: &mut Vec<u8>) {
        let usage = plan.usage.as_ref().map(|usage| self.dialect.usage(usage));
        for index in 0..plan.choices {
            self.open(index, out);
            out.extend_from_slice(b"},\"logprobs\":null,\"finish_reason\":");
            write_text(out, self.dialect.finish(plan));
            match &usage {
                Some(usage) if self.dialect.usage_on_finish() => {
                    if self.dialect == Dialect::Kimi {
                        member(out, "usage", usage);
                    }
                    out.extend_from_slice(b"}]");
                    member(out, "usage", usage);
                    out.extend_from_slice(b"}\n\n");
                }
                _ => {
                    out.extend_from_slice(b"}]");
                    self.close(out);
                }
            }
        }
        if let Some(usage) = usage
            && self.usage_asked
            && !self.dialect.usage_on_finish()
        {
            out.extend_from_slice(&self.prefix);
            out.extend_from_slice(b"\"choices\":[]");
            member(out, "usage", &usage);
            out.extend_from_slice(b"}\n\n");
        }
    }
}

fn member(out: &mut Vec<u8>, name: &str, value: &Value) {
    out.push(b',');
    write_text(out, name);
    out.push(b':');
    write_value(out, value);
}

impl Encoder for ChunkEncoder {
    fn encode(&mut self, event: Event<'_>, plan: &Plan, out: &mut Vec<u8>) {
        match event {
            Event::Start => self.chunks(plan, out, |out| {
                let refusal: &[u8] = if self.dialect.is_strict() { b",\"refusal\":null" } else { b"" };
                out.extend_from_slice(b"\"role\":\"assistant\",\"content\":\"\"");
                out.extend_from_slice(refusal);
            }),
            Event::Text(text) => self.chunks(plan, out, |out| {
                out.extend_from_slice(b"\"content\":");
                write_text(out, text);
            }),
            Event::Think(text) => self.thought(plan, text, out),
            Event::ToolStart(call) => {
                let id = self.dialect.call_id(call, plan.thinks());
                self.call(plan, &id, &call.name, out);
            }
            Event::ToolArgs(text) => {
                let index = self.tools.saturating_sub(1);
                self.chunks(plan, out, |out| {
                    out.extend_from_slice(b"\"tool_calls\":[{\"index\":");
                    out.extend_from_slice(index.to_string().as_bytes());
                    out.extend_from_slice(b",\"function\":{\"arguments\":");
                    write_text(out, text);
                    out.extend_from_slice(b"}}]");
                });
            }
            Event::Finish => self.finish(plan, out),
            Event::End => out.extend_from_slice(b"data: [DONE]\n\n"),
            Event::ThinkStart | Event::ThinkEnd(_) | Event::TextStart | Event::TextEnd | Event::ToolEnd(_) => {}
        }
    }

    fn error(&mut self, problem: &Problem, out: &mut Vec<u8>) {
        out.extend_from_slice(b"data: ");
        write_value(out, &errors::body(problem));
        out.extend_from_slice(b"\n\n");
    }

    fn malformed(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"data: {\"id\":\"chatcmpl-sim\",\"choices\":[{\"index\":0,\n\n");
    }
}
