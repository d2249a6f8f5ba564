//! An OTLP collector that keeps what it gets.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::{Span, span::SpanKind},
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};
use tutti_testkit::wait_for;

use crate::support::PATIENCE;

/// A running collector, ended when it is dropped.
pub(crate) struct Sink {
    spans: Arc<Mutex<Vec<Seen>>>,
    address: SocketAddr,
    _server: JoinSet<()>,
}

/// A span as a test looks at it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// The process that it is of.
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) kind: &'static str,
    /// Everything that is in it, events and status too.
    pub(crate) text: String,
    attributes: Vec<(String, String)>,
}

impl Seen {
    fn of(service: &str, span: &Span) -> Self {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let attributes = span.attributes.iter().map(|pair| (pair.key.clone(), value(pair.value.as_ref())));
        Self {
            service: service.to_owned(),
            name: span.name.clone(),
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            kind: match span.kind() {
                SpanKind::Server => "server",
                SpanKind::Client => "client",
                _ => "internal",
            },
            text: format!("{span:?}"),
            attributes: attributes.collect(),
        }
    }

    /// An attribute as text; empty when there is none.
    pub(crate) fn attribute(&self, key: &str) -> String {
        self.attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone()).unwrap_or_default()
    }
}

fn value(value: Option<&opentelemetry_proto::tonic::common::v1::AnyValue>) -> String {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    match value.and_then(|any| any.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

impl Sink {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let spans = Arc::new(Mutex::new(Vec::new()));
        let collector = TraceServiceServer::new(Collector(spans.clone()));
        let serving = Server::builder().add_service(collector).serve_with_incoming(TcpListenerStream::new(listener));
        let mut server = JoinSet::new();
        server.spawn(async move { serving.await.unwrap() });
        Self { spans, address, _server: server }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans so far.
    pub(crate) fn all(&self) -> Vec<Seen> {
        self.spans.lock().unwrap().clone()
    }

    /// The spans of a trace once they are complete.
    pub(crate) async fn trace(&self, trace: &str, is_complete: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        wait_for(PATIENCE, || {
            let spans: Vec<Seen> = self.all().into_iter().filter(|span| span.trace == trace).collect();
            std::future::ready(if is_complete(&spans) { Ok(spans) } else { Err(spans) })
        })
        .await
    }
}

struct Collector(Arc<Mutex<Vec<Seen>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for spans in request.into_inner().resource_spans {
            let of_process = spans.resource.iter().flat_map(|resource| &resource.attributes);
            let service = of_process
                .filter(|pair| pair.key == "service.name")
                .map(|pair| value(pair.value.as_ref()))
                .collect::<String>();
            let spans = spans.scope_spans.iter().flat_map(|scope| &scope.spans);
            self.0.lock().unwrap().extend(spans.map(|span| Seen::of(&service, span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
