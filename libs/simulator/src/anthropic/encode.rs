//! Messages events.

use serde_json::{Value, json};

use super::{errors, unary};
use crate::digest;
use crate::json::{write_text, write_value};
use crate::plan::Plan;
use crate::problem::Problem;
use crate::stream::{Encoder, Event};

/// Writes one stream.
#[derive(Default)]
pub(crate) struct EventEncoder {
    /// Content blocks begun, and so one more than the index of the current one.
    blocks: u64,
}

fn event(out: &mut Vec<u8>, name: &str, data: &Value) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    write_value(out, data);
    out.extend_from_slice(b"\n\n");
}

impl EventEncoder {
    fn index(&self) -> u64 {
        self.blocks.saturating_sub(1)
    }

    fn start(&mut self, block: &Value, out: &mut Vec<u8>) {
        let index = self.blocks;
        self.blocks += 1;
        event(
            out,
            "content_block_start",
            &json!({"type": "content_block_start", "index": index, "content_block": block}),
        );
    }

    /// One delta; the hot path writes no tree.
    fn delta(&self, kind: &str, member: &str, text: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":");
        out.extend_from_slice(self.index().to_string().as_bytes());
        out.extend_from_slice(b",\"delta\":{\"type\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\",\"");
        out.extend_from_slice(member.as_bytes());
        out.extend_from_slice(b"\":");
        write_text(out, text);
        out.extend_from_slice(b"}}\n\n");
    }

    fn stop(&self, out: &mut Vec<u8>) {
        let data = json!({"type": "content_block_stop", "index": self.index()});
        event(out, "content_block_stop", &data);
    }

    fn message_start(plan: &Plan, out: &mut Vec<u8>) {
        let mut message = unary::skeleton(plan);
        if let Some(usage) = &plan.usage {
            // A small seed, as the real one; the true figure comes in message_delta.
            message["usage"] = unary::usage_of(usage, usage.output.min(1));
        }
        event(out, "message_start", &json!({"type": "message_start", "message": message}));
        event(out, "ping", &json!({"type": "ping"}));
    }

    fn message_delta(plan: &Plan, out: &mut Vec<u8>) {
        let (reason, sequence) = unary::stop(plan);
        let mut delta = json!({"stop_reason": reason, "stop_sequence": sequence});
        if reason == "refusal" {
            delta["stop_details"] = unary::refusal();
        }
        let mut data = json!({"type": "message_delta", "delta": delta});
        if let Some(usage) = &plan.usage {
            data["usage"] = unary::usage_of(usage, usage.output);
        }
        event(out, "message_delta", &data);
    }
}

impl Encoder for EventEncoder {
    fn encode(&mut self, what: Event<'_>, plan: &Plan, out: &mut Vec<u8>) {
        match what {
            Event::Start => Self::message_start(plan, out),
            Event::ThinkStart => {
                self.start(&json!({"type": "thinking", "thinking": "", "signature": ""}), out);
            }
            Event::Think(text) => self.delta("thinking_delta", "thinking", text, out),
            Event::ThinkEnd(text) => {
                self.delta("signature_delta", "signature", &digest::sign(text), out);
                self.stop(out);
            }
            Event::TextStart => self.start(&json!({"type": "text", "text": ""}), out),
            Event::Text(text) => self.delta("text_delta", "text", text, out),
            Event::ToolStart(call) => {
                let id = unary::call_id(call, plan.thinks());
                self.start(&json!({"type": "tool_use", "id": id, "name": call.name, "input": {}}), out);
                self.delta("input_json_delta", "partial_json", "", out);
            }
            // A call without arguments has none at all on the wire.
            Event::ToolArgs("{}") => {}
            Event::ToolArgs(text) => self.delta("input_json_delta", "partial_json", text, out),
            Event::TextEnd | Event::ToolEnd(_) => self.stop(out),
            Event::Finish => Self::message_delta(plan, out),
            Event::End => event(out, "message_stop", &json!({"type": "message_stop"})),
        }
    }

    fn error(&mut self, problem: &Problem, out: &mut Vec<u8>) {
        event(out, "error", &errors::body(problem, None));
    }

    fn malformed(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"ind\n\n");
    }
}
