//! Twenty turns with tools, over all wire formats, switching backends: nothing is lost, and every provider gets its own
//! reasoning state back (the simulator refuses a history without it, as the real ones do).

use tutti_error::Reason;
use tutti_proto::{
    llm::v1::{FinishReason, Message, Role, Tool, part::Kind},
    memory::v1::{GetHistoryRequest, TurnState, history_entry},
    router::v1::ChatRequest,
    sandbox::v1::QueryAuditRequest,
};

use crate::support::{BACKENDS, Mesh, ask, patient, user};

fn turn(number: usize, backend: &str) -> ChatRequest {
    let text = match number % 4 {
        0 => format!("turn {number} of the conversation"),
        1 => format!(r#"[[think about turn {number}]] [[tool read {{"path":"note.txt"}}]]"#),
        2 => r#"[[think twice]] [[tool read {"path":"note.txt"}]] [[tool list_dir {"path":"."}]]"#.to_owned(),
        _ => format!("[[think of {number}]] [[say thought of {number}]]"),
    };
    ChatRequest { session_id: "long".into(), mesh_tools: vec!["*".into()], ..ask(backend, &text) }
}

#[tokio::test]
async fn twenty_turns_over_all_formats_lose_nothing() {
    // Twenty turns with tools are more messages than a view has by default.
    let mesh = Mesh::start_with("[context]\nsession_max_messages = 200\n").await;
    let workspace = mesh.process.scratch().data_dir().join("workspaces/default");
    std::fs::write(workspace.join("note.txt"), "the note says tangerine").unwrap();
    let mut expected_tools = 0;
    for number in 0..20 {
        // Two turns with each backend, so that its own state is replayed to it at once and, later, beside foreign state.
        let backend = BACKENDS[(number / 2) % BACKENDS.len()];
        let answer =
            mesh.chat(turn(number, backend)).await.unwrap_or_else(|e| panic!("turn {number} ({backend}): {e:?}"));
        assert_eq!(answer.finish_reason(), FinishReason::Stop, "turn {number} ({backend}): {answer:?}");
        assert_eq!(answer.backend, backend);
        assert!(answer.tool_results.iter().all(|r| r.success), "{:?}", answer.tool_results);
        expected_tools += answer.tool_results.len();
        let text = answer.message.unwrap().text;
        if matches!(number % 4, 1 | 2) {
            assert!(text.contains("tangerine"), "turn {number} ({backend}): {text}");
        }
    }
    assert_eq!(expected_tools, 15);

    // The simulator lists the conversation as it was received: the whole story, for every format.
    for backend in BACKENDS {
        let chat = ChatRequest { session_id: "long".into(), ..ask(backend, "[[history]]") };
        let told = mesh.chat(chat).await.unwrap().message.unwrap().text;
        for piece in ["turn 0 of the conversation", "thought of 19", "tangerine"] {
            assert!(told.contains(piece), "{backend} was not shown {piece:?}: {told}");
        }
    }
    let records =
        mesh.audit().query_audit(patient(QueryAuditRequest { page_size: 100, ..Default::default() })).await.unwrap();
    assert_eq!(records.into_inner().records.len(), 15);
}

#[tokio::test]
async fn the_log_has_whole_turns_with_reasoning_of_each_provider() {
    let mesh = Mesh::start().await;
    for backend in BACKENDS {
        let chat = ChatRequest { session_id: "s".into(), ..ask(backend, "[[think hard]] [[say done]]") };
        mesh.chat(chat).await.unwrap();
    }
    let asked = GetHistoryRequest { session_id: "s".into(), page_size: 1000, page_token: String::new() };
    let entries = mesh.memory().get_history(patient(asked)).await.unwrap().into_inner().entries;
    assert!(entries.iter().all(|e| e.turn_state() == TurnState::Complete));
    let providers: Vec<_> = entries
        .iter()
        .filter_map(|e| match &e.kind {
            Some(history_entry::Kind::Message(m)) => Some(m),
            _ => None,
        })
        .flat_map(|m| &m.parts)
        .filter_map(|p| match &p.kind {
            Some(Kind::Reasoning(r)) if !r.opaque.is_empty() => Some(r.provider.as_str()),
            _ => None,
        })
        .collect();
    for provider in ["anthropic", "gemini", "deepseek"] {
        assert!(providers.contains(&provider), "no state of {provider} in {providers:?}");
    }
}

#[tokio::test]
async fn the_callers_own_tools_end_the_turn_and_their_results_go_on_with_it() {
    let mesh = Mesh::start().await;
    let parameters_json = r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"#.to_owned();
    let weather = Tool { name: "weather".into(), description: "the weather".into(), parameters_json, strict: false };
    for backend in BACKENDS {
        let question = r#"[[tool weather {"city":"Ulm"}]] [[tool weather {"city":"Bonn"}]]"#;
        let first = ChatRequest { session_id: backend.into(), tools: vec![weather.clone()], ..ask(backend, question) };
        let asks = mesh.chat(first.clone()).await.unwrap_or_else(|e| panic!("{backend}: {e:?}"));
        assert_eq!(asks.finish_reason(), FinishReason::ToolCalls, "{backend}");
        let calls = asks.message.unwrap().tool_calls;
        assert_eq!(calls.len(), 2, "{backend}");
        let results = calls.iter().map(|call| Message {
            role: Role::Tool.into(),
            text: format!("sunny for {}", call.arguments_json),
            tool_call_id: call.id.clone(),
            ..Default::default()
        });
        let second = ChatRequest { messages: results.collect(), ..first };
        let answer = mesh.chat(second).await.unwrap_or_else(|e| panic!("{backend}: {e:?}"));
        let text = answer.message.unwrap().text;
        assert!(text.contains("Ulm") && text.contains("Bonn"), "{backend}: {text}");
    }
}

#[tokio::test]
async fn streamed_and_whole_answers_are_the_same() {
    let mesh = Mesh::start().await;
    for backend in BACKENDS {
        let chat = ask(backend, "[[think deeply]] [[say one two three four five six seven]]");
        let whole = mesh.chat(chat.clone()).await.unwrap();
        let mut stream = mesh.stream(chat).await;
        let (mut text, mut done, mut seq) = (String::new(), None, 0);
        while let Some(event) = stream.message().await.unwrap() {
            seq += 1;
            assert_eq!(event.seq, seq);
            match event.event.unwrap() {
                tutti_proto::router::v1::chat_stream_response::Event::Delta(delta) => text.push_str(&delta),
                tutti_proto::router::v1::chat_stream_response::Event::Done(answer) => done = Some(answer),
                _ => {}
            }
        }
        let (streamed, whole) = (done.unwrap(), whole);
        let (a, b) = (streamed.message.unwrap(), whole.message.unwrap());
        assert_eq!((&text, &a.text), (&b.text, &b.text), "{backend}");
        assert_eq!(streamed.finish_reason, whole.finish_reason, "{backend}");
        assert_eq!(streamed.usage, whole.usage, "{backend}");
    }
}

#[tokio::test]
async fn a_system_message_and_json_reach_every_format() {
    let mesh = Mesh::start().await;
    for backend in BACKENDS {
        let mut chat = ask(backend, "[[system]]");
        chat.messages.insert(0, Message { role: Role::System.into(), text: "be terse".into(), ..user("") });
        let text = mesh.chat(chat).await.unwrap_or_else(|e| panic!("{backend}: {e:?}")).message.unwrap().text;
        assert!(text.contains("be terse"), "{backend}: {text}");

        if backend == "deepseek" {
            // It knows no schemas: the adapter puts the schema into the prompt, which no simulator understands.
            continue;
        }
        let mut chat = ask(backend, "give me a person");
        let schema_json = r#"{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"}},
            "required":["name","age"],"additionalProperties":false}"#;
        chat.response_format = Some(tutti_proto::llm::v1::ResponseFormat {
            kind: tutti_proto::llm::v1::response_format::Kind::JsonSchema.into(),
            schema_json: schema_json.into(),
            ..Default::default()
        });
        let text = mesh.chat(chat).await.unwrap_or_else(|e| panic!("{backend}: {e:?}")).message.unwrap().text;
        let person: serde_json::Value =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{backend}: {e}: {text}"));
        assert!(person["age"].is_i64() && person["name"].is_string(), "{backend}: {text}");
    }
}

#[tokio::test]
async fn a_model_that_gets_a_tools_arguments_wrong_is_told_and_goes_on() {
    let mesh = Mesh::start().await;
    for backend in BACKENDS {
        let chat = ChatRequest {
            mesh_tools: vec!["read".into()],
            ..ask(backend, r#"[[tool read {"pth":"note.txt"}]] [[next]] [[say I see]]"#)
        };
        let answer = mesh.chat(chat).await.unwrap_or_else(|e| panic!("{backend}: {e:?}"));
        assert_eq!(answer.message.unwrap().text, "I see", "{backend}");
        let [result] = answer.tool_results.as_slice() else { panic!("{backend}: {:?}", answer.tool_results) };
        assert_eq!((result.success, result.reason()), (false, Reason::InvalidToolArguments), "{backend}");
        assert!(result.error.contains("path"), "{backend}: {result:?}");
    }
}

#[tokio::test]
async fn a_request_id_that_is_used_again_reads_files_again() {
    let mesh = Mesh::start().await;
    let note = mesh.process.scratch().data_dir().join("workspaces/default/note.txt");
    let request_id = "0195f3c1-7d7a-7c4e-9f00-2b6f0d3f5a11";
    for content in ["tangerine", "bergamot"] {
        std::fs::write(&note, content).unwrap();
        let text = r#"[[tool read {"path":"note.txt"}]]"#;
        let request_id = request_id.to_owned();
        let chat = ChatRequest { request_id, mesh_tools: vec!["read".into()], ..ask("openai", text) };
        let answer = mesh.chat(chat).await.unwrap();
        assert!(answer.tool_results[0].output.contains(content), "{:?}", answer.tool_results);
    }
    let records =
        mesh.audit().query_audit(patient(QueryAuditRequest { page_size: 100, ..Default::default() })).await.unwrap();
    assert_eq!(records.into_inner().records.len(), 2);
}

#[tokio::test]
async fn large_results_of_tools_are_shown_in_part_and_nothing_is_lost() {
    let mesh = Mesh::start().await;
    let file = mesh.process.scratch().data_dir().join("workspaces/default/large.txt");
    std::fs::write(file, "0123456789abcdef".repeat(50_000)).unwrap();
    let read = r#"[[tool read {"path":"large.txt"}]]"#;
    let chat = |times| ChatRequest { mesh_tools: vec!["read".into()], ..ask("openai", &read.repeat(times)) };
    let answer = mesh.chat(chat(4)).await.unwrap();
    assert_eq!(answer.tool_results.len(), 4);
    assert!(answer.tool_results.iter().all(|r| r.output.len() > 700_000 && !r.truncated));
    let shown = answer.round_messages.iter().filter(|m| m.role() == Role::Tool);
    assert!(shown.clone().count() == 4 && shown.clone().all(|m| m.text.len() < 70_000));

    let status = mesh.chat(ChatRequest { mesh_tools: vec!["read".into()], ..ask("ollama", &read.repeat(40)) }).await;
    assert_eq!(tutti_error::reason_of(&status.unwrap_err()), Some(tutti_error::Reason::ContextTooLong));
}
