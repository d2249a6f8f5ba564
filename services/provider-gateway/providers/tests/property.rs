//! What must hold for every answer of every format, however the network cuts it.
//!
//! Walks all fixtures: `<format>/<name>.sse` or `.ndjson` is a streamed answer, `<format>/<name>.json` the same answer
//! as a whole, `<format>/*.error.json` the body of an error.
#![cfg(test)]

use std::{fs, path::Path};

use proptest::{collection::vec, prelude::*};
use tutti_providers::{Adapter, Dialect, Event, Format, Result, StreamDecoder, Target, adapter};
use tutti_types::llm::Completion;

/// A format by the name of its folder.
fn format(folder: &str) -> Format {
    match folder {
        "openai" => Format::OpenAi(Dialect::Compatible),
        "anthropic" => Format::Anthropic,
        "gemini" => Format::Gemini,
        "ollama" => Format::Ollama,
        other => panic!("fixtures/{other} has no format"),
    }
}

/// Streams whose every chunk looks like the last one, so that a cut can't be noticed: that model's own fault.
const CUTS_UNSEEN: [&str; 1] = ["gemini/stop_on_every_chunk"];

#[derive(Debug, Clone)]
struct Fixture {
    /// `<format>/<file name>`.
    name: String,
    format: Format,
    body: Vec<u8>,
}

impl Fixture {
    fn adapter(&self) -> Box<dyn Adapter> {
        adapter(self.format)
    }

    fn is_stream(&self) -> bool {
        Path::new(&self.name).extension().is_some_and(|e| e == "sse" || e == "ndjson")
    }

    fn stem(&self) -> &str {
        self.name.rsplit_once('.').unwrap().0
    }
}

fn fixtures() -> Vec<Fixture> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut found = Vec::new();
    for folder in fs::read_dir(root).unwrap() {
        let folder = folder.unwrap();
        let folder_name = folder.file_name().into_string().unwrap();
        for file in fs::read_dir(folder.path()).unwrap() {
            let path = file.unwrap().path();
            let name = format!("{folder_name}/{}", path.file_name().unwrap().to_str().unwrap());
            found.push(Fixture { name, format: format(&folder_name), body: fs::read(path).unwrap() });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn streams() -> Vec<Fixture> {
    fixtures().into_iter().filter(Fixture::is_stream).collect()
}

fn target() -> Target {
    Target {
        provider: "some".into(),
        model: "model".into(),
        api_version: None,
        max_output_tokens: None,
        reasoning: true,
        tools: true,
    }
}

/// Feeds the pieces and finishes: the events and the answer.
fn decode<'a>(fixture: &Fixture, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Event>, Result<Completion>) {
    let mut decoder = fixture.adapter().stream(&target());
    let mut events = Vec::new();
    let answer = run(decoder.as_mut(), pieces, &mut events);
    (events, answer)
}

fn run<'a>(
    decoder: &mut dyn StreamDecoder,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    events: &mut Vec<Event>,
) -> Result<Completion> {
    for piece in pieces {
        decoder.feed(piece, events)?;
    }
    decoder.finish(events)
}

fn without_usage(mut answer: Completion) -> Completion {
    answer.tokens = None;
    answer
}

/// Formats that send arguments as an object when whole and as text in pieces lose the white space in one of them.
fn comparable(mut answer: Completion) -> Completion {
    for call in &mut answer.tool_calls {
        call.arguments = serde_json::from_str::<serde_json::Value>(&call.arguments).unwrap().to_string();
    }
    answer
}

#[test]
fn all_formats_have_fixtures() {
    for folder in ["openai/", "anthropic/", "gemini/", "ollama/"] {
        assert!(streams().iter().any(|f| f.name.starts_with(folder)), "{folder} has none");
    }
}

#[test]
fn a_streamed_and_a_whole_answer_give_the_same() {
    let all = fixtures();
    let mut compared = 0;
    for streamed in all.iter().filter(|f| f.is_stream()) {
        let Some(whole) = all.iter().find(|f| f.name == format!("{}.json", streamed.stem())) else { continue };
        let (_, answer) = decode(streamed, [streamed.body.as_slice()]);
        let whole = whole.adapter().completion(&whole.body, &target());
        assert_eq!(comparable(answer.unwrap()), comparable(whole.unwrap()), "{}", streamed.name);
        compared += 1;
    }
    assert!(compared > 30, "only {compared} pairs");
}

#[test]
fn events_add_up_to_the_answer() {
    for fixture in streams() {
        let (events, Ok(answer)) = decode(&fixture, [fixture.body.as_slice()]) else { continue };
        let text: String =
            events.iter().filter_map(|e| if let Event::Text(t) = e { Some(t.as_str()) } else { None }).collect();
        let calls: Vec<_> =
            events.iter().filter_map(|e| if let Event::ToolCall(c) = e { Some(c.clone()) } else { None }).collect();
        let usage = events.iter().rev().find_map(|e| if let Event::Usage(u) = e { Some(*u) } else { None });
        assert_eq!(text, answer.text(), "{}", fixture.name);
        assert_eq!(calls, answer.tool_calls, "{}", fixture.name);
        assert_eq!(usage, answer.tokens, "{}", fixture.name);
    }
}

/// A cut answer is an error, unless the cut lost nothing but usage, white space or `[DONE]` after the end mark.
#[test]
fn an_answer_cut_at_any_byte_is_never_a_whole_one() {
    for fixture in streams().into_iter().filter(|f| !CUTS_UNSEEN.contains(&f.stem())) {
        let (_, whole) = decode(&fixture, [fixture.body.as_slice()]);
        let whole = whole.map(without_usage);
        for cut in 0..fixture.body.len() {
            let (_, answer) = decode(&fixture, [&fixture.body[..cut]]);
            if let Ok(answer) = answer {
                assert_eq!(Ok(without_usage(answer)), whole, "{} cut at {cut}", fixture.name);
            }
        }
    }
}

#[test]
fn what_there_is_so_far_is_a_beginning_of_the_answer() {
    for fixture in streams() {
        let (_, Ok(whole)) = decode(&fixture, [fixture.body.as_slice()]) else { continue };
        let mut decoder = fixture.adapter().stream(&target());
        for byte in &fixture.body {
            decoder.feed(&[*byte], &mut Vec::new()).unwrap();
            let partial = decoder.partial();
            assert!(whole.text().starts_with(&partial.text()), "{}", fixture.name);
            assert!(whole.tool_calls.starts_with(&partial.tool_calls), "{}", fixture.name);
        }
    }
}

/// All readers over the same bytes: none may panic.
fn read_everything(adapter: &dyn Adapter, bytes: &[u8]) {
    let mut decoder = adapter.stream(&target());
    let _ = run(decoder.as_mut(), bytes.chunks(7), &mut Vec::new());
    let _ = decoder.partial();
    let _ = adapter.completion(bytes, &target());
    let _ = adapter.embeddings(bytes, 2);
    let _ = adapter.error(429, &|_| String::from_utf8(bytes.to_vec()).ok(), bytes);
}

fn pieces(body: &[u8], mut cuts: Vec<usize>) -> Vec<&[u8]> {
    cuts.sort_unstable();
    let mut start = 0;
    let mut out = Vec::new();
    for cut in cuts {
        out.push(&body[start..cut]);
        start = cut;
    }
    out.push(&body[start..]);
    out
}

fn fixture_and_cuts() -> impl Strategy<Value = (Fixture, Vec<usize>)> {
    proptest::sample::select(streams()).prop_flat_map(|fixture| {
        let length = fixture.body.len();
        (Just(fixture), vec(0..=length, 0..40))
    })
}

fn fixture_and_damage() -> impl Strategy<Value = (Fixture, Vec<(usize, u8)>)> {
    proptest::sample::select(fixtures()).prop_flat_map(|fixture| {
        let length = fixture.body.len();
        (Just(fixture), vec((0..length, any::<u8>()), 1..6))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn pieces_give_what_the_whole_gives((fixture, cuts) in fixture_and_cuts()) {
        let whole = decode(&fixture, [fixture.body.as_slice()]);
        prop_assert_eq!(decode(&fixture, pieces(&fixture.body, cuts)), whole, "{}", fixture.name);
    }

    #[test]
    fn damaged_answers_never_panic((fixture, damage) in fixture_and_damage()) {
        let mut body = fixture.body.clone();
        for (at, byte) in damage {
            body[at] = byte;
        }
        read_everything(fixture.adapter().as_ref(), &body);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        for folder in ["openai", "anthropic", "gemini", "ollama"] {
            read_everything(adapter(format(folder)).as_ref(), &bytes);
        }
    }

    /// Sound JSON of any form in the places where an answer is expected.
    #[test]
    fn json_of_any_form_never_panics(value in any_json(), key in "choices|error|usage|message|candidates|content|data|embeddings|detail") {
        let text = serde_json::json!({key: value}).to_string();
        for folder in ["openai", "anthropic", "gemini", "ollama"] {
            let framed = if folder == "ollama" { format!("{text}\n") } else { format!("data: {text}\n\n") };
            read_everything(adapter(format(folder)).as_ref(), framed.as_bytes());
            read_everything(adapter(format(folder)).as_ref(), text.as_bytes());
        }
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let words = "index|delta|message|content|text|tool_calls|function|name|arguments|type|error|code|usage|parts|thinking|\
                 content_block|functionCall|args|finish_reason|finishReason|prompt_tokens|metadata|raw|details|embedding";
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        "[a-z\u{e4}]{0,6}".prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            vec((words, inner), 0..5).prop_map(|fields| fields.into_iter().collect::<serde_json::Value>()),
        ]
    })
}
