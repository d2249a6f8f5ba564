//! What the assembler promises to all formats.

use super::*;

fn target() -> Target {
    Target {
        provider: "p".into(),
        model: "m".into(),
        api_version: None,
        max_output_tokens: None,
        reasoning: false,
        tools: true,
    }
}

fn assembler() -> Assembler {
    Assembler::new(&target(), RawUsage::totals)
}

fn calls(answer: &Completion) -> Vec<(&str, &str)> {
    answer.tool_calls.iter().map(|c| (c.name.as_str(), c.arguments.as_str())).collect()
}

fn index(index: u64) -> CallKey {
    CallKey::Index(index)
}

#[test]
fn interleaved_fragments_land_in_their_own_call() {
    let (mut a, mut events) = (assembler(), Vec::new());
    a.tool_delta(index(0), "a", "add", "");
    a.tool_delta(index(1), "b", "mul", "{\"y\"");
    a.tool_delta(index(0), "", "", "{\"x\":1}");
    a.tool_delta(index(1), "", "", ":2}");
    let answer = a.finish(Finish::Stop, "stop", &mut events).unwrap();
    assert_eq!(calls(&answer), [("add", "{\"x\":1}"), ("mul", "{\"y\":2}")]);
    assert_eq!(answer.finish, Finish::ToolCalls);
    assert_eq!(events, answer.tool_calls.iter().cloned().map(Event::ToolCall).collect::<Vec<_>>());
}

#[test]
fn names_and_ids_are_set_once_not_appended() {
    let (mut a, mut events) = (assembler(), Vec::new());
    a.tool_delta(index(0), "a", "add", "{");
    a.tool_delta(index(0), "a", "add", "}");
    a.tool_delta(index(0), "", "", "");
    let answer = a.finish(Finish::ToolCalls, "tool_calls", &mut events).unwrap();
    assert_eq!((answer.tool_calls[0].id.as_str(), calls(&answer)), ("a", vec![("add", "{}")]));
}

#[test]
fn parallel_calls_that_are_all_numbered_0_stay_apart() {
    let (mut a, mut events) = (assembler(), Vec::new());
    a.tool_delta(index(0), "a", "add", "{\"x\":1}");
    a.tool_delta(index(0), "b", "add", "{\"x\":2}");
    let answer = a.finish(Finish::Stop, "stop", &mut events).unwrap();
    assert_eq!(calls(&answer), [("add", "{\"x\":1}"), ("add", "{\"x\":2}")]);
}

#[test]
fn without_an_index_the_id_and_then_the_position_decide() {
    let (mut a, mut events) = (assembler(), Vec::new());
    let at = CallKey::Position;
    a.tool_delta(at(0), "a", "add", "{\"x\"");
    a.tool_delta(at(0), "", "", ":1}");
    a.tool_delta(at(0), "b", "mul", "{\"y\"");
    a.tool_delta(at(0), "b", "", ":2}");
    a.tool_delta(at(0), "", "add", "{\"z\":3}");
    a.tool_delta(at(0), "", "add", "{\"z\":4}");
    let answer = a.finish(Finish::Stop, "stop", &mut events).unwrap();
    let wanted = [("add", "{\"x\":1}"), ("mul", "{\"y\":2}"), ("add", "{\"z\":3}"), ("add", "{\"z\":4}")];
    assert_eq!(calls(&answer), wanted);
}

#[test]
fn missing_and_repeated_ids_are_made_unique_and_always_the_same() {
    let run = || {
        let (mut a, mut events) = (assembler(), Vec::new());
        a.id("answer-1");
        a.tool_call("", "add", "{}".into(), None, &mut events);
        a.tool_call("", "add", "{}".into(), None, &mut events);
        a.tool_call("same", "add", String::new(), None, &mut events);
        a.tool_call("same", "add", "{}".into(), None, &mut events);
        a.finish(Finish::Stop, "stop", &mut events).unwrap().tool_calls
    };
    let ids: std::collections::HashSet<_> = run().into_iter().map(|c| c.id).collect();
    assert_eq!(ids.len(), 4);
    assert!(ids.iter().all(|id| id == "same" || id.starts_with("call_")), "{ids:?}");
    assert_eq!(run(), run());
}

#[test]
fn a_call_that_length_cut_is_dropped_and_length_stays() {
    for cut in ["", "{\"x\""] {
        let (mut a, mut events) = (assembler(), Vec::new());
        a.tool_delta(index(0), "a", "add", "{\"x\":1}");
        a.tool_delta(index(1), "b", "mul", cut);
        a.close_calls(&mut events);
        let answer = a.finish(Finish::Length, "length", &mut events).unwrap();
        assert_eq!((calls(&answer), answer.finish), (vec![("add", "{\"x\":1}")], Finish::Length));
        assert_eq!((answer.warnings.len(), events.len()), (1, 1));
    }
}

#[test]
fn malformed_arguments_are_an_error_unless_length_explains_them() {
    for bad in ["{\"x\"", "[1]", "\"x\"", "1", "{} {}"] {
        let (mut a, mut events) = (assembler(), Vec::new());
        a.tool_delta(index(0), "a", "add", bad);
        let error = a.finish(Finish::Stop, "stop", &mut events).unwrap_err();
        assert_eq!((error.reason, events.len()), (Reason::MalformedOutput, 0), "{bad}");
    }
}

#[test]
fn calls_are_given_out_in_order_when_they_are_certain() {
    let (mut a, mut events) = (assembler(), Vec::new());
    a.tool_delta(index(4), "a", "add", "");
    a.close_call(index(4), &mut events);
    assert!(events.is_empty(), "nothing after it shows yet that it has no arguments");
    a.tool_delta(index(7), "b", "mul", "{}");
    a.close_call(index(7), &mut events);
    assert_eq!(events.len(), 2);
    assert_eq!(a.partial().tool_calls.len(), 2);
}

#[test]
fn blocks_keep_interleaved_reasoning_apart_with_its_state() {
    let (mut a, mut events) = (assembler(), Vec::new());
    a.block(0);
    a.reasoning("one", &mut events);
    a.block(1);
    a.reasoning("two", &mut events);
    a.block(0);
    a.reasoning(" more", &mut events);
    a.reasoning_state(Bytes::from_static(b"s0"));
    a.block(2);
    a.text("hi", &mut events);
    let answer = a.finish(Finish::Stop, "stop", &mut events).unwrap();
    let texts: Vec<_> = answer
        .parts
        .iter()
        .map(|p| match &p.content {
            Content::Reasoning(r) => (r.text.clone(), r.state.as_ref().map(|s| s.data.clone())),
            _ => ("text".into(), None),
        })
        .collect();
    let state = Some(Bytes::from_static(b"s0"));
    assert_eq!(texts, [("one more".into(), state), ("two".into(), None), ("text".into(), None)]);
}

#[test]
fn usage_overwrites_each_field_and_is_told_when_it_changes() {
    let (mut a, mut events) = (assembler(), Vec::new());
    a.usage(&RawUsage { input: Some(10), output: Some(1), ..Default::default() }, &mut events);
    a.usage(&RawUsage { output: Some(5), reasoning: Some(9), ..Default::default() }, &mut events);
    a.usage(&RawUsage { output: Some(5), ..Default::default() }, &mut events);
    a.usage(&RawUsage::default(), &mut events);
    let last = TokenCounts { fresh_input: 10, reasoning: 5, ..Default::default() };
    assert_eq!((events.len(), events.last()), (2, Some(&Event::Usage(last))));
    assert_eq!(a.partial().tokens, Some(last));
}

#[test]
fn an_empty_answer_is_an_error_unless_its_finish_explains_it() {
    let finish = |finish| assembler().finish(finish, "raw", &mut Vec::new());
    assert_eq!(finish(Finish::Stop).unwrap_err().reason, Reason::EmptyOutput);
    assert_eq!(finish(Finish::ToolCalls).unwrap_err().reason, Reason::EmptyOutput);
    assert_eq!(finish(Finish::Length).unwrap().finish, Finish::Length);
    assert_eq!(finish(Finish::ContentFilter).unwrap().finish, Finish::ContentFilter);
}

#[test]
fn content_filter_is_never_overridden_by_a_call() {
    let (mut a, mut events) = (assembler(), Vec::new());
    a.tool_delta(index(0), "a", "add", "{}");
    assert_eq!(a.finish(Finish::ContentFilter, "SAFETY", &mut events).unwrap().finish, Finish::ContentFilter);
}
