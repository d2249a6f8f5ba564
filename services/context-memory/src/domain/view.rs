//! Which messages a backend is shown: newest first within the caps, system messages always, and never half of a tool
//! exchange.

use std::collections::HashSet;

use tutti_proto::llm::v1::{Message, Role};

/// The caps of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// The most messages.
    pub messages: usize,
    /// The most tokens, the new messages included.
    pub tokens: i64,
}

impl Default for Caps {
    fn default() -> Self {
        Self { messages: 50, tokens: 100_000 }
    }
}

/// A message of the log that a view may show.
#[derive(Debug, Clone)]
pub(crate) struct LogMessage {
    /// The message.
    pub message: Message,
    /// Its estimated tokens.
    pub tokens: i64,
}

/// What a backend is shown.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// Oldest first.
    pub messages: Vec<Message>,
    /// Their estimated tokens.
    pub tokens: i64,
    /// How many messages were left out to keep the caps.
    pub dropped: usize,
}

/// Messages that stand or fall together: an assistant's tool calls with their results, or one message.
#[derive(Debug, Default)]
struct Unit {
    messages: Vec<LogMessage>,
    /// Calls that are not answered yet, by the log or by the new messages.
    open_calls: HashSet<String>,
    /// The new messages answer a call in here: without it they would make no sense.
    pinned: bool,
}

impl Unit {
    fn tokens(&self) -> i64 {
        self.messages.iter().map(|m| m.tokens).sum()
    }

    fn role(&self) -> Role {
        self.messages.first().map_or(Role::Unspecified, |m| m.message.role())
    }
}

/// Builds a view of `log` (oldest first) to stand before `new`, whose tokens count against the caps.
pub(crate) fn build(log: Vec<LogMessage>, new: &[Message], new_tokens: i64, caps: Caps) -> View {
    let total = log.len();
    let answered_now: HashSet<&str> =
        new.iter().filter(|m| m.role() == Role::Tool).map(|m| m.tool_call_id.as_str()).collect();
    let mut units = units_of(log, &answered_now);
    units.iter_mut().for_each(drop_open_calls);
    units.retain(|unit| !unit.messages.is_empty());

    let mut budget = Budget { messages: caps.messages, tokens: caps.tokens.saturating_sub(new_tokens) };
    let mut keep = vec![false; units.len()];
    // What must be there takes its share first.
    for (unit, keep) in units.iter().zip(&mut keep) {
        if unit.pinned || unit.role() == Role::System {
            budget.take(unit);
            *keep = true;
        }
    }
    let mut newest_first = units.iter().zip(&mut keep).rev().filter(|(_, keep)| !**keep);
    // Stop at the first that doesn't fit: a view with holes would tell another story.
    while let Some((unit, keep)) = newest_first.next().filter(|(unit, _)| budget.fits(unit)) {
        budget.take(unit);
        *keep = true;
    }
    begin_with_a_user(&units, &mut keep);

    let mut view = View::default();
    for (unit, _) in units.into_iter().zip(keep).filter(|(_, keep)| *keep) {
        view.tokens += unit.tokens();
        view.messages.extend(unit.messages.into_iter().map(|m| m.message));
    }
    view.dropped = total - view.messages.len();
    view
}

struct Budget {
    messages: usize,
    tokens: i64,
}

impl Budget {
    fn fits(&self, unit: &Unit) -> bool {
        unit.messages.len() <= self.messages && unit.tokens() <= self.tokens
    }

    fn take(&mut self, unit: &Unit) {
        self.messages = self.messages.saturating_sub(unit.messages.len());
        self.tokens = self.tokens.saturating_sub(unit.tokens());
    }
}

fn units_of(log: Vec<LogMessage>, answered_now: &HashSet<&str>) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    for entry in log {
        if entry.message.role() == Role::Tool {
            let id = entry.message.tool_call_id.clone();
            // A result whose call is hidden by a reset, or that answers twice, makes no sense to a model: left out.
            if let Some(unit) = units.iter_mut().rev().find(|u| u.open_calls.contains(&id)) {
                unit.open_calls.remove(&id);
                unit.messages.push(entry);
            }
            continue;
        }
        let mut unit = Unit::default();
        for call in &entry.message.tool_calls {
            if answered_now.contains(call.id.as_str()) {
                unit.pinned = true;
            } else {
                unit.open_calls.insert(call.id.clone());
            }
        }
        unit.messages.push(entry);
        units.push(unit);
    }
    units
}

/// Calls that nobody answered are refused by every provider: they are taken out, and a message that says nothing else
/// with them.
fn drop_open_calls(unit: &mut Unit) {
    if unit.open_calls.is_empty() {
        return;
    }
    if let Some(first) = unit.messages.first_mut() {
        first.message.tool_calls.retain(|call| !unit.open_calls.contains(&call.id));
    }
    unit.messages
        .retain(|m| !m.message.text.is_empty() || !m.message.tool_calls.is_empty() || m.message.role() == Role::Tool);
}

/// Providers want a conversation to begin with the user: what was cut open before its first question goes too.
fn begin_with_a_user(units: &[Unit], keep: &mut [bool]) {
    let spoken = |unit: &Unit| unit.role() != Role::System && !unit.pinned;
    let first_user = (0..units.len()).find(|i| keep[*i] && units[*i].role() == Role::User);
    let Some(first_user) = first_user else { return };
    for index in 0..first_user {
        if keep[index] && spoken(&units[index]) {
            keep[index] = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tutti_proto::llm::v1::ToolCall;

    use super::*;
    use crate::domain::estimate;

    fn message(role: Role, text: &str) -> Message {
        Message { role: role.into(), text: text.into(), ..Default::default() }
    }

    fn calls(ids: &[&str]) -> Message {
        let call = |id: &&str| ToolCall { id: (*id).into(), name: "t".into(), ..Default::default() };
        Message { tool_calls: ids.iter().map(call).collect(), ..message(Role::Assistant, "") }
    }

    fn result(id: &str) -> Message {
        Message { tool_call_id: id.into(), ..message(Role::Tool, "r") }
    }

    fn log(messages: &[Message]) -> Vec<LogMessage> {
        messages.iter().map(|m| LogMessage { message: m.clone(), tokens: estimate(m) }).collect()
    }

    fn texts(view: &View) -> Vec<&str> {
        view.messages.iter().map(|m| m.text.as_str()).collect()
    }

    const WIDE: Caps = Caps { messages: 50, tokens: 100_000 };

    #[test]
    fn the_newest_come_first_and_system_messages_stay() {
        let all = log(&[
            message(Role::System, "rules"),
            message(Role::User, "one"),
            message(Role::Assistant, "1"),
            message(Role::User, "two"),
            message(Role::Assistant, "2"),
        ]);
        let view = build(all, &[], 0, Caps { messages: 3, tokens: 100_000 });
        assert_eq!(texts(&view), ["rules", "two", "2"]);
        assert_eq!(view.dropped, 2);
    }

    #[test]
    fn a_call_and_its_results_are_never_separated() {
        let all = log(&[
            message(Role::User, "q"),
            calls(&["a", "b"]),
            result("a"),
            result("b"),
            message(Role::Assistant, "done"),
        ]);
        let view = build(all, &[], 0, Caps { messages: 3, tokens: 100_000 });
        // The exchange of three doesn't fit beside the answer.
        assert_eq!(texts(&view), ["done"]);
    }

    #[test]
    fn calls_that_nobody_answered_are_left_out() {
        let mut half = calls(&["a", "b"]);
        half.text = "let me see".into();
        let all = log(&[message(Role::User, "q"), half, result("a"), message(Role::User, "and?")]);
        let view = build(all, &[], 0, WIDE);
        assert_eq!(texts(&view), ["q", "let me see", "r", "and?"]);
        assert_eq!(view.messages[1].tool_calls.len(), 1);
        let view = build(log(&[message(Role::User, "q"), calls(&["a"])]), &[], 0, WIDE);
        assert_eq!(texts(&view), ["q"]);
    }

    #[test]
    fn calls_that_the_new_messages_answer_are_kept_whatever_the_caps() {
        let all = log(&[message(Role::User, "q"), calls(&["a"])]);
        let view = build(all, &[result("a")], 5, Caps { messages: 1, tokens: 100 });
        assert_eq!(view.messages.last().unwrap().tool_calls[0].id, "a");
    }

    #[test]
    fn new_messages_count_against_the_tokens() {
        let all = log(&[message(Role::User, &"x".repeat(400)), message(Role::Assistant, "ok")]);
        assert_eq!(build(all.clone(), &[], 0, Caps { messages: 9, tokens: 200 }).dropped, 0);
        assert_eq!(texts(&build(all, &[], 150, Caps { messages: 9, tokens: 200 })), ["ok"]);
    }

    proptest! {
        /// Whatever the log: caps hold but for what must be there, results follow their call, the order is kept.
        #[test]
        fn views_are_well_formed(kinds in prop::collection::vec(0u8..5, 0..60), cap in 1usize..20) {
            let mut messages = Vec::new();
            for (n, kind) in kinds.iter().enumerate() {
                let text = format!("m{n}");
                match kind {
                    0 => messages.push(message(Role::User, &text)),
                    1 => messages.push(message(Role::Assistant, &text)),
                    2 => messages.push(calls(&[&format!("c{n}")])),
                    3 => messages.push(result(&format!("c{}", n.saturating_sub(1)))),
                    _ => messages.push(message(Role::System, &text)),
                }
            }
            let systems = messages.iter().filter(|m| m.role() == Role::System).count();
            let view = build(log(&messages), &[], 0, Caps { messages: cap, tokens: 100_000 });
            prop_assert!(view.messages.len() <= cap.max(systems));
            prop_assert_eq!(view.messages.iter().filter(|m| m.role() == Role::System).count(), systems);
            let mut open: HashSet<String> = HashSet::new();
            for m in &view.messages {
                if m.role() == Role::Tool {
                    prop_assert!(open.remove(&m.tool_call_id));
                } else {
                    open.extend(m.tool_calls.iter().map(|c| c.id.clone()));
                }
            }
            prop_assert!(open.is_empty());
        }
    }
}
