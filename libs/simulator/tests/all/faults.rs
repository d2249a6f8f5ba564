//! Every scripted fault, in every format where formats differ.

use std::io::ErrorKind as Io;

use serde_json::Value;
use tutti_simulator::{Format, RequestState};

use crate::support::{SOON, chat, has_end_mark, sim, streamed_text};

/// Where a format says what kind of error it is, and what it says for each fault.
const ERRORS: [(Format, &str, &str, u16, &str); 27] = [
    (Format::OpenAi, "status=401", "/error/type", 401, "invalid_request_error"),
    (Format::OpenAi, "kind=quota", "/error/code", 429, "insufficient_quota"),
    (Format::OpenAi, "kind=billing", "/error/type", 429, "insufficient_quota"),
    (Format::OpenAi, "status=429", "/error/code", 429, "rate_limit_exceeded"),
    (Format::OpenAi, "kind=context", "/error/code", 400, "context_length_exceeded"),
    (Format::OpenAi, "status=500", "/error/type", 500, "server_error"),
    (Format::OpenAi, "kind=overloaded", "/error/code", 503, "server_is_overloaded"),
    (Format::Anthropic, "status=401", "/error/type", 401, "authentication_error"),
    (Format::Anthropic, "kind=billing", "/error/type", 402, "billing_error"),
    (Format::Anthropic, "kind=quota", "/error/details/error_code", 429, "enforced_spend_limit_reached"),
    (Format::Anthropic, "status=429", "/error/type", 429, "rate_limit_error"),
    (Format::Anthropic, "kind=context", "/error/type", 400, "invalid_request_error"),
    (Format::Anthropic, "status=500", "/error/type", 500, "api_error"),
    (Format::Anthropic, "kind=overloaded", "/error/type", 529, "overloaded_error"),
    (Format::Anthropic, "status=529", "/type", 529, "error"),
    (Format::Gemini, "kind=auth", "/error/details/0/reason", 400, "API_KEY_INVALID"),
    (Format::Gemini, "status=401", "/error/status", 401, "UNAUTHENTICATED"),
    (Format::Gemini, "status=429", "/error/status", 429, "RESOURCE_EXHAUSTED"),
    (Format::Gemini, "kind=context", "/error/status", 400, "INVALID_ARGUMENT"),
    (Format::Gemini, "status=500", "/error/status", 500, "INTERNAL"),
    (Format::Gemini, "status=503", "/error/status", 503, "UNAVAILABLE"),
    (Format::Gemini, "status=504", "/error/status", 504, "DEADLINE_EXCEEDED"),
    (Format::Ollama, "status=404", "/error", 404, "model not found"),
    (Format::Ollama, "status=429", "/error", 429, "too many requests, please try again later"),
    (Format::Ollama, "kind=context", "/error", 400, "the input length exceeds the context length"),
    (Format::Ollama, "status=503 message=\"busy bee\"", "/error", 503, "busy bee"),
    (Format::Ollama, "status=500", "/error", 500, "llama runner process has terminated: exit status 2"),
];

#[tokio::test]
async fn errors_have_the_bodies_of_their_provider() {
    let sim = sim().await;
    for (format, fault, pointer, status, word) in ERRORS {
        for stream in [false, true] {
            let reply = chat(format, stream, &format!("[[fault {fault}]] hi")).send(&sim).await.unwrap();
            assert_eq!(reply.status, status, "{format:?} {fault}");
            let found = reply.json().pointer(pointer).cloned();
            assert_eq!(found, Some(Value::from(word)), "{format:?} {fault} {}", reply.text());
        }
    }
    assert_eq!(sim.stats().faulted, 2 * u64::try_from(ERRORS.len()).unwrap());
}

#[tokio::test]
async fn retry_after_is_said_in_each_providers_way() {
    let sim = sim().await;
    let fault = "[[fault status=429 retry_after=1.5]] hi";
    let openai = chat(Format::OpenAi, false, fault).send(&sim).await.unwrap();
    assert_eq!(openai.headers["retry-after"], "2");
    assert_eq!(openai.headers["retry-after-ms"], "1500");
    let anthropic = chat(Format::Anthropic, false, fault).send(&sim).await.unwrap();
    assert_eq!(anthropic.headers["retry-after"], "2");
    let gemini = chat(Format::Gemini, false, fault).send(&sim).await.unwrap();
    let details = gemini.json()["error"]["details"].clone();
    let delay = details.as_array().unwrap().iter().find_map(|detail| detail.get("retryDelay"));
    assert_eq!(delay, Some(&Value::from("1.5s")));
    assert!(!gemini.headers.contains_key("retry-after"));
    let spent = chat(Format::Anthropic, false, "[[fault kind=quota]] hi").send(&sim).await.unwrap();
    assert!(!spent.headers.contains_key("retry-after"), "waiting does not refill a budget");
}

#[tokio::test]
async fn a_cut_comes_after_exactly_so_many_bytes() {
    let sim = sim().await;
    for format in Format::ALL {
        for stream in [false, true] {
            let whole = chat(format, stream, "[[words 30]]").send(&sim).await.unwrap();
            for at in [0, 1, 57, whole.body.len() - 1] {
                let prompt = format!("[[words 30]][[fault cut_at={at}]]");
                let reply = chat(format, stream, &prompt).send(&sim).await.unwrap();
                assert_eq!((reply.status, reply.body.len()), (200, at), "{format:?} {stream}");
                assert!(!reply.complete && !reply.reset, "{format:?} {stream} {at}");
            }
        }
    }
    let last = sim.requests().pop().unwrap();
    assert_eq!(last.state, RequestState::Faulted);
}

#[tokio::test]
async fn a_cut_can_be_a_reset() {
    let sim = sim().await;
    let reply = chat(Format::OpenAi, true, "[[words 30]][[fault cut_at=500 reset]]").send(&sim).await.unwrap();
    assert!(reply.reset && !reply.complete, "{reply:?}");
}

#[tokio::test]
async fn the_connection_ends_before_the_head() {
    let sim = sim().await;
    let closed = chat(Format::OpenAi, false, "[[fault close]]").send(&sim).await.unwrap_err();
    assert_eq!(closed.kind(), Io::UnexpectedEof);
    let reset = chat(Format::OpenAi, true, "[[fault reset]]").send(&sim).await.unwrap_err();
    assert_eq!(reset.kind(), Io::ConnectionReset);
    let states: Vec<_> = sim.requests().iter().map(|request| (request.state, request.status)).collect();
    assert_eq!(states, [(RequestState::Faulted, 0), (RequestState::Faulted, 0)]);
}

#[tokio::test]
async fn a_truncated_stream_lacks_its_end_mark_only() {
    let sim = sim().await;
    for format in Format::ALL {
        let whole = chat(format, true, "[[words 10]]").send(&sim).await.unwrap();
        assert!(has_end_mark(format, &whole), "{format:?}");
        let reply = chat(format, true, "[[words 10]][[fault truncate_after=4]]").send(&sim).await.unwrap();
        assert!(reply.complete && !has_end_mark(format, &reply), "{format:?}");
        assert_eq!(streamed_text(format, &reply).len(), 16, "{format:?}");
        let record = sim.requests().pop().unwrap();
        assert_eq!((record.output_tokens_sent, record.output_tokens), (4, 10));
    }
}

#[tokio::test]
async fn one_chunk_is_malformed_and_the_rest_is_not() {
    let sim = sim().await;
    for format in Format::ALL {
        let reply = chat(format, true, "[[words 5]][[fault malformed_after=2]]").send(&sim).await.unwrap();
        let text = reply.text();
        let chunks = text.lines().filter_map(|line| match format {
            Format::Ollama => Some(line),
            _ => line.strip_prefix("data: ").filter(|data| *data != "[DONE]"),
        });
        let broken = chunks.filter(|data| serde_json::from_str::<Value>(data).is_err()).count();
        assert_eq!(broken, 1, "{format:?} {text}");
        assert!(has_end_mark(format, &reply), "{format:?}");
    }
    let unary = chat(Format::OpenAi, false, "[[fault malformed_after=0]]").send(&sim).await.unwrap();
    assert!(unary.complete && serde_json::from_slice::<Value>(&unary.body).is_err());
}

#[tokio::test]
async fn an_error_arrives_inside_a_good_stream() {
    let sim = sim().await;
    for format in Format::ALL {
        let prompt = "[[words 10]][[fault error_after=3 kind=overloaded message=\"too much\"]]";
        let reply = chat(format, true, prompt).send(&sim).await.unwrap();
        assert_eq!(reply.status, 200);
        assert_eq!(reply.text().matches("too much").count(), 1, "{format:?}");
        assert!(!has_end_mark(format, &reply), "{format:?}");
    }
    let errors: Vec<_> = sim.requests().iter().map(|request| request.state).collect();
    assert_eq!(errors, [RequestState::Faulted; 4]);
}

#[tokio::test]
async fn usage_lies_as_told() {
    let sim = sim().await;
    let usage = async |fault: &str| {
        let prompt = format!("[[words 8]][[fault {fault}]]");
        chat(Format::OpenAi, false, &prompt).send(&sim).await.unwrap().json()["usage"].clone()
    };
    assert_eq!(usage("usage=missing").await, Value::Null);
    assert_eq!(usage("usage=double").await["completion_tokens"], 16);
    assert_eq!(usage("usage=zero").await["total_tokens"], 0);
    assert_eq!(usage("usage=huge").await["completion_tokens"], 1_000_000_000);
    assert_eq!(usage("cached=2").await["prompt_tokens_details"]["cached_tokens"], 2);
    for format in Format::ALL {
        let reply = chat(format, true, "[[words 8]][[fault usage=missing]]").send(&sim).await.unwrap();
        for name in ["\"usage\"", "usageMetadata", "eval_count"] {
            assert!(!reply.text().contains(name), "{format:?} {name}");
        }
        assert!(has_end_mark(format, &reply), "{format:?}");
    }
    assert_eq!(sim.requests().pop().unwrap().output_tokens_sent, 8, "the count is true");
}

#[tokio::test]
async fn answers_can_be_empty_or_filtered() {
    let sim = sim().await;
    for format in Format::ALL {
        let reply = chat(format, true, "[[words 8]][[fault empty]]").send(&sim).await.unwrap();
        assert_eq!(streamed_text(format, &reply), "", "{format:?}");
        assert!(has_end_mark(format, &reply), "{format:?}");
    }
    let reasons = [
        (Format::OpenAi, "/choices/0/finish_reason", "content_filter"),
        (Format::Anthropic, "/stop_reason", "refusal"),
        (Format::Gemini, "/candidates/0/finishReason", "SAFETY"),
    ];
    for (format, pointer, reason) in reasons {
        let reply = chat(format, false, "[[fault finish=content_filter]]").send(&sim).await.unwrap();
        assert_eq!(reply.json().pointer(pointer), Some(&Value::from(reason)));
    }
    let blocked = chat(Format::Gemini, false, "[[fault finish=blocked]]").send(&sim).await.unwrap().json();
    assert_eq!(blocked["promptFeedback"]["blockReason"], "SAFETY");
    assert!(blocked.get("candidates").is_none());
    let raw = chat(Format::OpenAi, false, "[[fault finish=eos]]").send(&sim).await.unwrap().json();
    assert_eq!(raw["choices"][0]["finish_reason"], "eos");
}

#[tokio::test]
async fn a_stall_lasts_until_the_client_leaves() {
    let sim = sim().await;
    for (format, stream) in [(Format::OpenAi, true), (Format::OpenAi, false), (Format::Gemini, true)] {
        sim.reset();
        let open = chat(format, stream, "[[words 9]][[fault stall_after=3]]").open(&sim).await.unwrap();
        let sent = if stream { 3 } else { 0 };
        let stalled = |sim: &tutti_simulator::SimHandle| {
            sim.requests().first().is_some_and(|request| request.output_tokens_sent == sent)
        };
        sim.wait_for(stalled, SOON).await.unwrap();
        drop(open);
        sim.wait_for(|sim| sim.stats().disconnected == 1, SOON).await.unwrap();
        assert_eq!(sim.requests()[0].output_tokens_sent, sent);
    }
}

#[tokio::test]
async fn a_wrong_marker_is_refused_with_its_reason() {
    let sim = sim().await;
    let reply = chat(Format::OpenAi, false, "[[fault nonsense=1]]").send(&sim).await.unwrap();
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains("nonsense"), "{}", reply.text());
}
