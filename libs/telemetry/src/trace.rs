//! Where in a trace the running code is, and the spans that say so.
//!
//! There are few spans: one for each call that a server takes ([`server`]), and, while traces are exported, one for
//! each thing worth timing in it ([`child`]). None for a token.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, Status, TraceContextExt as _, TraceState},
};
use tracing::{Span, error_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::registry::{LookupSpan, Registry, Scope};

/// The target of our spans: exporters and filters know them by it.
pub(crate) const TARGET: &str = "tutti::call";

static EXPORTING: AtomicBool = AtomicBool::new(false);

/// From now on spans are exported.
pub(crate) fn export() {
    EXPORTING.store(true, Ordering::Relaxed);
}

/// Whether spans are exported at all.
pub fn is_exporting() -> bool {
    EXPORTING.load(Ordering::Relaxed)
}

/// A place in a trace, as W3C's `traceparent` hands it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace: never 0.
    pub trace_id: u128,
    /// The span: never 0.
    pub span_id: u64,
    /// Whether somebody records it.
    pub sampled: bool,
}

impl TraceContext {
    /// A trace of its own that nobody records: its id ties the log lines of a call together.
    fn unrecorded() -> Self {
        Self { trace_id: rand::random::<u128>().max(1), span_id: rand::random::<u64>().max(1), sampled: false }
    }

    fn of(context: &SpanContext) -> Self {
        Self {
            trace_id: u128::from_be_bytes(context.trace_id().to_bytes()),
            span_id: u64::from_be_bytes(context.span_id().to_bytes()),
            sampled: context.is_sampled(),
        }
    }

    fn remote(self) -> Context {
        let flags = if self.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
        Context::new().with_remote_span_context(SpanContext::new(
            TraceId::from_bytes(self.trace_id.to_be_bytes()),
            SpanId::from_bytes(self.span_id.to_be_bytes()),
            flags,
            true,
            TraceState::default(),
        ))
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

/// The text is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoTraceparent;

impl FromStr for TraceContext {
    type Err = NoTraceparent;

    /// Reads a `traceparent` of version 00, or what a later version has in common with it.
    fn from_str(text: &str) -> Result<Self, NoTraceparent> {
        let mut parts = text.split('-');
        let mut hex = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits).ok_or(NoTraceparent)?;
            let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            if part.bytes().all(lower) {
                u128::from_str_radix(part, 16).map_err(|_| NoTraceparent)
            } else {
                Err(NoTraceparent)
            }
        };
        let (version, trace_id, span_id, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        let is_whole = if version == 0 { parts.next().is_none() } else { version != 0xff };
        let span_id = u64::try_from(span_id).map_err(|_| NoTraceparent)?;
        if !is_whole || trace_id == 0 || span_id == 0 {
            return Err(NoTraceparent);
        }
        Ok(Self { trace_id, span_id, sampled: flags & 1 == 1 })
    }
}

/// Where the running code is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// In which span of which trace.
    pub trace: TraceContext,
    /// For which request, once that is known.
    pub request_id: Option<Arc<str>>,
}

/// Kept with each of our spans.
struct Place(TraceContext);

/// Kept with the span of a call.
struct RequestId(Arc<str>);

/// The span of a call that a server takes; `method` is its name (`package.Service/Method`). The parent is the caller's
/// place, if it told one.
///
/// Its level is the highest, so that no level of the log takes the ids from the lines inside.
pub fn server(method: &'static str, parent: Option<TraceContext>, request_id: Option<&str>) -> Span {
    let span = error_span!(target: TARGET, parent: None, "call", otel.kind = "server");
    let trace = if is_exporting() {
        started(&span, method, parent)
    } else {
        // Handed on as it came: there is no span of ours in between.
        parent.unwrap_or_else(TraceContext::unrecorded)
    };
    keep(&span, Place(trace));
    if let Some(id) = request_id {
        keep(&span, RequestId(id.into()));
    }
    span
}

/// A span inside the running one, for work that leaves the mesh (`is_client`) or is done here. An empty one when nobody
/// records the trace.
pub fn child(name: &str, is_client: bool) -> Span {
    if !is_exporting() {
        return Span::none();
    }
    let Some(parent) = current().filter(|parent| parent.trace.sampled) else { return Span::none() };
    let span = if is_client {
        error_span!(target: TARGET, "work", otel.kind = "client")
    } else {
        error_span!(target: TARGET, "work", otel.kind = "internal")
    };
    let trace = started(&span, name, Some(parent.trace));
    keep(&span, Place(trace));
    span
}

/// A span for work that goes on after the call it belongs to, which was at `place`.
pub fn resume(name: &str, place: &Current) -> Span {
    let span = error_span!(target: TARGET, parent: None, "work", otel.kind = "internal");
    let trace = if is_exporting() { started(&span, name, Some(place.trace)) } else { place.trace };
    keep(&span, Place(trace));
    if let Some(id) = &place.request_id {
        keep(&span, RequestId(id.clone()));
    }
    span
}

fn started(span: &Span, name: &str, parent: Option<TraceContext>) -> TraceContext {
    if let Some(parent) = parent {
        // It fails for a span that has begun; this one begins with the next line.
        let _ = span.set_parent(parent.remote());
    }
    let context = span.context();
    let begun = context.span();
    begun.update_name(name.to_owned());
    TraceContext::of(begun.span_context())
}

/// Sets an attribute of a span; nothing happens for one that is not exported.
pub fn set(span: &Span, key: &'static str, value: impl Into<opentelemetry::Value>) {
    span.set_attribute(key, value);
}

/// Marks a span as failed, for a reason of few possible values.
pub fn set_error(span: &Span, reason: &'static str) {
    span.set_attribute("error.type", reason);
    span.set_status(Status::error(""));
}

/// Where the running code is, if inside a call.
pub fn current() -> Option<Current> {
    in_registry(&Span::current(), |registry, id| of_scope(registry.span(id)?.scope()))
}

/// Tells the log which request the running call belongs to.
pub fn set_request_id(id: &impl fmt::Display) {
    if !Span::current().is_none() {
        keep(&Span::current(), RequestId(id.to_string().into()));
    }
}

/// The nearest of our spans from the leaf up.
pub(crate) fn of_scope<'a, R: LookupSpan<'a>>(scope: Scope<'a, R>) -> Option<Current> {
    let mut trace = None;
    for span in scope {
        let extensions = span.extensions();
        trace = trace.or_else(|| extensions.get().map(|Place(trace)| *trace));
        if let (Some(trace), Some(RequestId(id))) = (trace, extensions.get()) {
            return Some(Current { trace, request_id: Some(id.clone()) });
        }
    }
    trace.map(|trace| Current { trace, request_id: None })
}

fn keep<T: Send + Sync + 'static>(span: &Span, value: T) {
    in_registry(span, |registry, id| registry.span(id).map(|span| drop(span.extensions_mut().replace(value))));
}

fn in_registry<T>(span: &Span, read: impl FnOnce(&Registry, &tracing::Id) -> Option<T>) -> Option<T> {
    span.with_subscriber(|(id, subscriber)| read(subscriber.downcast_ref::<Registry>()?, id)).flatten()
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_comes_back_as_it_was() {
        let read: TraceContext = PARENT.parse().unwrap();
        assert_eq!((read.sampled, read.to_string().as_str()), (true, PARENT));
        let later: TraceContext = PARENT.replacen("00", "01", 1).parse().unwrap();
        assert_eq!(later, read);
    }

    #[test]
    fn what_is_no_traceparent_is_refused() {
        let zero_trace = format!("00-{}-b7ad6b7169203331-01", "0".repeat(32));
        let upper = PARENT.to_uppercase();
        let more = format!("{PARENT}-more");
        for text in ["", "00", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", &zero_trace, &upper, &more] {
            assert_eq!(text.parse::<TraceContext>(), Err(NoTraceparent), "{text}");
        }
    }

    #[test]
    fn without_an_exporter_the_callers_place_is_handed_on() {
        let subscriber = tracing_subscriber::registry().with(tracing_subscriber::fmt::layer());
        tracing::subscriber::with_default(subscriber, || {
            assert_eq!(current(), None);
            let span = server("a.B/C", PARENT.parse().ok(), None);
            let inside = span.in_scope(|| {
                set_request_id(&"r");
                assert!(child("work", false).is_none());
                current().unwrap()
            });
            assert_eq!((inside.trace.to_string().as_str(), inside.request_id.as_deref()), (PARENT, Some("r")));
            let (one, other) = (server("a.B/C", None, None), server("a.B/C", None, None));
            let id = |span: &Span| span.in_scope(|| current().unwrap().trace.trace_id);
            assert_ne!(id(&one), id(&other));
        });
    }
}
