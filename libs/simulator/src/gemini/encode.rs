//! Streams of `GenerateContentResponse`: events with CRLF, or one JSON list.

use serde_json::{Value, json};

use super::{errors, signs, unary};
use crate::digest;
use crate::json::{write_text, write_value};
use crate::plan::Plan;
use crate::problem::Problem;
use crate::stream::{Encoder, Event};

/// Writes one stream.
pub(crate) struct ResponseEncoder {
    as_list: bool,
    /// Whether the list is open.
    begun: bool,
    /// `,"modelVersion":…,"responseId":…}`, the end of every response.
    suffix: Vec<u8>,
    /// The usage of the prompt as it begins every response's usage; empty without usage.
    prompt: Vec<u8>,
    input: u64,
    thoughts: u64,
    visible: u64,
    calls: u64,
}

impl ResponseEncoder {
    pub(crate) fn new(plan: &Plan, as_list: bool) -> Self {
        let mut suffix = Vec::new();
        write_value(&mut suffix, &unary::skeleton(plan));
        suffix[0] = b',';
        let mut prompt = Vec::new();
        let input = plan.usage.map_or(0, |usage| usage.input);
        if plan.usage.is_some() {
            prompt = format!(
                ",\"usageMetadata\":{{\"promptTokenCount\":{input},\"promptTokensDetails\":\
                 [{{\"modality\":\"TEXT\",\"tokenCount\":{input}}}]"
            )
            .into_bytes();
        }
        Self { as_list, begun: false, suffix, prompt, input, thoughts: 0, visible: 0, calls: 0 }
    }

    fn open(&mut self, out: &mut Vec<u8>) {
        let mark: &[u8] = match (self.as_list, self.begun) {
            (false, _) => b"data: ",
            (true, false) => b"[",
            (true, true) => b",\r\n",
        };
        self.begun = true;
        out.extend_from_slice(mark);
    }

    fn close(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.suffix);
        if !self.as_list {
            out.extend_from_slice(b"\r\n\r\n");
        }
    }

    /// One response with one part, which `part` writes. The hot path writes no tree.
    fn part(&mut self, plan: &Plan, out: &mut Vec<u8>, part: impl Fn(&mut Vec<u8>)) {
        for index in 0..plan.choices {
            self.open(out);
            out.extend_from_slice(b"{\"candidates\":[{\"content\":{\"parts\":[");
            part(out);
            out.extend_from_slice(b"],\"role\":\"model\"}");
            if index > 0 {
                out.extend_from_slice(format!(",\"index\":{index}").as_bytes());
            }
            out.extend_from_slice(b"}]");
            self.running_usage(out);
            self.close(out);
        }
    }

    fn running_usage(&self, out: &mut Vec<u8>) {
        if self.prompt.is_empty() {
            return;
        }
        out.extend_from_slice(&self.prompt);
        for (name, figure) in [
            ("candidatesTokenCount", self.visible),
            ("thoughtsTokenCount", self.thoughts),
            ("totalTokenCount", self.input + self.visible + self.thoughts),
        ] {
            if figure > 0 {
                out.extend_from_slice(format!(",\"{name}\":{figure}").as_bytes());
            }
        }
        out.push(b'}');
    }

    fn finish(&mut self, plan: &Plan, out: &mut Vec<u8>) {
        let blocked = unary::is_blocked(plan);
        let choices = if blocked { 1 } else { plan.choices };
        for index in 0..choices {
            let mut answer = if blocked {
                json!({"promptFeedback": {"blockReason": "SAFETY"}})
            } else {
                json!({"candidates": [last_candidate(plan, index, self.calls)]})
            };
            if let Some(usage) = &plan.usage {
                answer["usageMetadata"] = unary::usage_of(usage, usage.output);
            }
            self.open(out);
            write_value(out, &answer);
            out.pop();
            self.close(out);
        }
    }
}

/// The candidate that ends a stream: no new text, the reason, and the signature of an answer
/// without calls.
fn last_candidate(plan: &Plan, index: u64, calls: u64) -> Value {
    let mut content = json!({"role": "model"});
    if !plan.segments.is_empty() {
        let mut part = json!({"text": ""});
        if calls == 0 && signs(&plan.model) {
            part["thoughtSignature"] = json!(digest::sign("text"));
        }
        content["parts"] = json!([part]);
    }
    let mut candidate = json!({"content": content, "finishReason": unary::finish(plan)});
    if index > 0 {
        candidate["index"] = json!(index);
    }
    candidate
}

impl Encoder for ResponseEncoder {
    fn encode(&mut self, event: Event<'_>, plan: &Plan, out: &mut Vec<u8>) {
        match event {
            Event::Think(_) => self.thoughts += event.tokens() * plan.choices,
            other => self.visible += other.tokens() * plan.choices,
        }
        match event {
            Event::Think(text) => self.part(plan, out, |out| {
                out.extend_from_slice(b"{\"thought\":true,\"text\":");
                write_text(out, text);
                out.push(b'}');
            }),
            Event::Text(text) => self.part(plan, out, |out| {
                out.extend_from_slice(b"{\"text\":");
                write_text(out, text);
                out.push(b'}');
            }),
            // Calls come whole.
            Event::ToolEnd(call) => {
                if let Some(part) = unary::call_part(plan, call, self.calls == 0) {
                    self.part(plan, out, |out| write_value(out, &part));
                }
                self.calls += 1;
            }
            Event::Finish => self.finish(plan, out),
            Event::End if self.as_list => out.push(b']'),
            _ => {}
        }
    }

    fn error(&mut self, problem: &Problem, out: &mut Vec<u8>) {
        self.open(out);
        write_value(out, &errors::body(problem));
        out.extend_from_slice(if self.as_list { b"]" } else { b"\r\n\r\n" });
    }

    fn malformed(&mut self, out: &mut Vec<u8>) {
        self.open(out);
        out.extend_from_slice(b"{\"candidates\": [{\"content\": {\"par");
        if !self.as_list {
            out.extend_from_slice(b"\r\n\r\n");
        }
    }
}
