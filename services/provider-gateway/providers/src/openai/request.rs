//! The request for a generation.

use serde_json::{Map, Value, json};
use tutti_types::llm::{Content, Effort, Format, Generation, Message, SchemaFormat, Tool, ToolMode};

use super::{
    dialect::{self, EffortStyle, Rules, Sampling},
    messages::Writer,
    schema,
};
use crate::{HttpRequest, Result, Target};

pub(super) fn generate(generation: &Generation, target: &Target, rules: &Rules, stream: bool) -> Result<HttpRequest> {
    let mut writer = Writer::new(generation, target, rules);
    let mut messages = writer.messages(&generation.messages)?;
    let mut body = Body {
        rules,
        target,
        name: dialect::generation(&target.model),
        fields: Map::new(),
        warnings: std::mem::take(&mut writer.warnings),
    };
    body.set("model", target.model.as_str());
    if stream {
        body.set("stream", true);
        if rules.stream_options {
            body.set("stream_options", json!({"include_usage": true}));
        }
    }
    body.format(&generation.format, &generation.messages, &mut messages, writer.system);
    body.set("messages", messages);
    body.tools(generation);
    body.sampling(generation);
    body.effort(generation.sampling.effort);
    body.warnings.dedup();
    Ok(HttpRequest {
        body: Some(Value::Object(body.fields).to_string().into()),
        path: "/chat/completions".into(),
        headers: Vec::new(),
        warnings: body.warnings,
    })
}

struct Body<'a> {
    rules: &'a Rules,
    target: &'a Target,
    name: dialect::Generation,
    fields: Map<String, Value>,
    warnings: Vec<String>,
}

impl Body<'_> {
    fn set(&mut self, field: &str, value: impl Into<Value>) {
        self.fields.insert(field.into(), value.into());
    }

    fn set_some<T: Into<Value>>(&mut self, field: &str, value: Option<T>) {
        if let Some(value) = value {
            self.set(field, value);
        }
    }

    fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    fn reasons(&self) -> bool {
        let by_name = matches!(self.rules.effort, EffortStyle::OpenAi) && self.name.reasons;
        self.target.reasoning || by_name
    }

    fn format(&mut self, format: &Format, asked: &[Message], messages: &mut Vec<Value>, system: &str) {
        let instruction = match format {
            Format::Text => return,
            Format::Json if mentions_json(asked) => None,
            Format::Json => Some("Answer with a JSON object.".to_owned()),
            Format::Schema(_) if self.rules.json_schema => None,
            Format::Schema(wanted) => {
                self.warn("the provider knows no answer schemas; it is told the schema in words and to write JSON");
                Some(format!("Answer with a JSON object that satisfies this JSON Schema:\n{}", wanted.schema))
            }
        };
        let value = match format {
            Format::Schema(wanted) if self.rules.json_schema => self.json_schema(wanted),
            _ => json!({"type": "json_object"}),
        };
        self.set("response_format", value);
        if let Some(instruction) = instruction {
            // Before the conversation, where every server takes instructions.
            messages.insert(0, json!({"role": system, "content": instruction}));
        }
    }

    fn json_schema(&mut self, wanted: &SchemaFormat) -> Value {
        let (schema, strict) = self.strict(&wanted.schema, wanted.strict, "the answer's schema");
        json!({"type": "json_schema", "json_schema": {"name": wanted.name, "schema": schema, "strict": strict}})
    }

    /// The schema, and whether it can be enforced.
    fn strict(&mut self, schema: &Value, wanted: bool, place: &str) -> (Value, bool) {
        if !wanted {
            return (schema.clone(), false);
        }
        match schema::strict(schema) {
            Some(strict) => {
                if strict.nullable {
                    self.warn(format!("{place} is enforced with its optional properties as required but nullable"));
                }
                (strict.schema, true)
            }
            None => {
                self.warn(format!("{place} has objects with properties of any name and can't be enforced"));
                (schema.clone(), false)
            }
        }
    }

    fn tools(&mut self, generation: &Generation) {
        if generation.tools.is_empty() {
            return;
        }
        let tools: Vec<Value> = generation.tools.iter().map(|tool| self.tool(tool)).collect();
        self.set("tools", tools);
        match &generation.tool_choice.mode {
            ToolMode::Auto => {}
            ToolMode::None => self.set("tool_choice", "none"),
            ToolMode::Required => self.set("tool_choice", self.rules.required),
            ToolMode::Tool(name) => {
                self.set("tool_choice", json!({"type": "function", "function": {"name": name}}));
            }
        }
        match generation.tool_choice.parallel {
            Some(parallel) if self.rules.parallel && !self.name.o_series => self.set("parallel_tool_calls", parallel),
            Some(false) => self.warn("several calls in one answer can't be forbidden here"),
            _ => {}
        }
    }

    fn tool(&mut self, tool: &Tool) -> Value {
        let wanted = tool.strict && self.rules.strict_tools;
        let (parameters, strict) = self.strict(&tool.parameters, wanted, &format!("the schema of {}", tool.name));
        let mut function = json!({"name": tool.name, "parameters": parameters});
        if !tool.description.is_empty() {
            function["description"] = json!(tool.description);
        }
        if strict {
            function["strict"] = json!(true);
        }
        json!({"type": "function", "function": function})
    }

    fn sampling(&mut self, generation: &Generation) {
        let asked = &generation.sampling;
        let cap = match (asked.max_output_tokens, self.target.max_output_tokens) {
            (Some(asked), Some(most)) if asked > most => {
                self.warn(format!("the model writes at most {most} tokens; the output cap was lowered to that"));
                Some(most)
            }
            (asked, _) => asked,
        };
        self.set_some(self.rules.max_tokens, cap);
        let refuses = if self.reasons() { self.rules.sampling } else { Sampling::Free };
        let drawn = [("temperature", asked.temperature), ("top_p", asked.top_p)];
        let penalties = [("presence_penalty", asked.presence_penalty), ("frequency_penalty", asked.frequency_penalty)];
        for (field, value) in drawn {
            self.number(field, value, refuses == Sampling::Free);
        }
        for (field, value) in penalties {
            self.number(field, value, refuses != Sampling::OpenAi);
        }
        self.number("top_k", asked.top_k, self.rules.top_k);
        match self.rules.seed {
            Some(field) => self.set_some(field, asked.seed),
            None => self.number("seed", asked.seed, false),
        }
        if !asked.stop.is_empty() {
            let takes = refuses != Sampling::OpenAi;
            self.number("stop", Some(asked.stop.clone()), takes);
        }
    }

    /// Sets a field, or says that it was left out.
    fn number<T: Into<Value>>(&mut self, field: &str, value: Option<T>, takes: bool) {
        match value {
            Some(value) if takes => self.set(field, value),
            Some(_) => self.warn(format!("the model takes no {field}; it was left out")),
            None => {}
        }
    }

    fn effort_word(&mut self, word: &str, thinks: bool) {
        if !thinks && word != "none" {
            self.warn(format!("the model can't be told not to reason; {word} was asked for"));
        }
        self.set("reasoning_effort", word);
    }

    fn effort(&mut self, effort: Option<Effort>) {
        let Some(effort) = effort else { return };
        if !self.reasons() {
            if effort != Effort::None {
                self.warn("the model does not reason, as far as is known; the effort was left out");
            }
            return;
        }
        let thinks = effort != Effort::None;
        match self.rules.effort {
            EffortStyle::OpenAi => self.effort_word(dialect::openai_effort(&self.target.model, effort), thinks),
            EffortStyle::Words(words) => self.effort_word(words[dialect::rank(effort)], thinks),
            EffortStyle::Object(words) => self.set("reasoning", json!({"effort": words[dialect::rank(effort)]})),
            EffortStyle::Switch(knows_max) => {
                self.set("thinking", json!({"type": if thinks { "enabled" } else { "disabled" }}));
                if knows_max && effort == Effort::Max {
                    self.set("reasoning_effort", "max");
                }
            }
            EffortStyle::Template => self.set("chat_template_kwargs", json!({"enable_thinking": thinks})),
        }
    }
}

/// A JSON object is only given when the prompt says the word.
fn mentions_json(messages: &[Message]) -> bool {
    let says = |text: &str| text.as_bytes().windows(4).any(|word| word.eq_ignore_ascii_case(b"json"));
    messages.iter().flat_map(Message::parts).any(|part| matches!(&part.content, Content::Text(text) if says(text)))
}
