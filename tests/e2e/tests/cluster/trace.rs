//! One trace a call, through five processes.

#[path = "../mesh/telemetry/sink.rs"]
mod sink;

use std::collections::BTreeSet;

use tutti_proto::{
    llm::v1::{Message, Role},
    router::v1::{ChatRequest, ChatStreamRequest},
};

use self::sink::{Seen, Sink};
use crate::support::{Cluster, POSTGRES, Service, patient};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_has_the_hops_of_all_five_services() {
    let sink = Sink::start().await;
    let cluster =
        Cluster::start_with(&format!("{POSTGRES}[telemetry]\notlp_endpoint = \"{}\"\n", sink.endpoint())).await;
    let user =
        Message { role: Role::User.into(), text: r#"[[tool read {"path":"note.txt"}]]"#.into(), ..Default::default() };
    let chat = ChatRequest {
        session_id: "traced".into(),
        backend: "claude".into(),
        mesh_tools: vec!["read".into()],
        messages: vec![user],
        ..Default::default()
    };
    let mut request = patient(ChatStreamRequest { chat: Some(chat) });
    request.metadata_mut().insert("traceparent", format!("00-{TRACE}-{CALLER}-01").parse().unwrap());
    let mut stream = cluster.router().chat_stream(request).await.unwrap().into_inner();
    while stream.message().await.unwrap().is_some() {}

    let spans = sink.trace(TRACE, |spans| {
        let count = |name: &str| spans.iter().filter(|span| span.name.ends_with(name)).count();
        count("/Settle") == 2 && count("settle") == 2 && count("/AppendMessages") == 3 && count("/ChatStream") == 1
    });
    let spans: Vec<Seen> = spans.await;
    let services: BTreeSet<&str> = spans.iter().map(|span| span.service.as_str()).collect();
    assert_eq!(services, Service::ALL.iter().map(|service| service.binary()).collect(), "{spans:#?}");
    let [root] = spans.iter().filter(|span| span.parent == CALLER).collect::<Vec<_>>()[..] else {
        panic!("more than one root: {spans:#?}")
    };
    assert_eq!((root.service.as_str(), root.kind), ("router", "server"));
    assert_eq!(root.attribute("rpc.system"), "grpc");
    for span in spans.iter().filter(|span| span.id != root.id) {
        let parent = spans.iter().find(|other| other.id == span.parent);
        let parent = parent.unwrap_or_else(|| panic!("{} hangs in the air: {spans:#?}", span.name));
        // A process's server span hangs under the span of the process that called it.
        assert_eq!(span.kind == "server", span.service != parent.service, "{span:?} under {parent:?}");
    }
    let calls = |service: &str, method: &str| {
        spans.iter().filter(|span| span.service == service && span.name.ends_with(method)).count()
    };
    assert_eq!(calls("provider-gateway", "/GenerateStream"), 2);
    assert_eq!(calls("usage-ledger", "/Reserve"), 2);
    assert_eq!(calls("tool-sandbox", "/Execute"), 1);
    assert_eq!(calls("context-memory", "/BuildContext"), 1);
    assert!(spans.iter().all(|span| !span.text.contains("tangerine")), "what was said is in {spans:#?}");
}
