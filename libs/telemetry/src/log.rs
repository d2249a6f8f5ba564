//! Log lines: for people, or one JSON object each. Inside a call, both end with its trace and request id.

use std::{fmt, io::IsTerminal as _};

use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{DefaultFields, Writer},
        time::{FormatTime as _, SystemTime},
    },
    registry::LookupSpan,
};

use crate::trace::{self, Current};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Lines to standard error.
pub(crate) fn layer<S>(format: LogFormat) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    // A reader of standard error that went away must not end the process: what can't be logged is lost.
    tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false)
        .fmt_fields(DefaultFields::new())
        .event_format(Lines(format))
}

struct Lines(LogFormat);

impl<S> FormatEvent<S, DefaultFields> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, DefaultFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let current = context.event_scope().and_then(trace::of_scope);
        match self.0 {
            LogFormat::Text => text(context, writer, event, current.as_ref()),
            LogFormat::Json => writeln!(writer, "{}", object(event, current.as_ref())),
        }
    }
}

fn text<S>(
    context: &FmtContext<'_, S, DefaultFields>,
    mut writer: Writer<'_>,
    event: &Event<'_>,
    current: Option<&Current>,
) -> fmt::Result
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let dim = |writer: &mut Writer<'_>, on| match writer.has_ansi_escapes() {
        true => writer.write_str(if on { "\x1b[2m" } else { "\x1b[0m" }),
        false => Ok(()),
    };
    dim(&mut writer, true)?;
    SystemTime.format_time(&mut writer)?;
    dim(&mut writer, false)?;
    write!(writer, " {:>5} ", event.metadata().level())?;
    context.format_fields(writer.by_ref(), event)?;
    if let Some(current) = current {
        dim(&mut writer, true)?;
        write!(writer, " trace_id={:032x}", current.trace.trace_id)?;
        if let Some(id) = &current.request_id {
            write!(writer, " request_id={id}")?;
        }
        dim(&mut writer, false)?;
    }
    writeln!(writer)
}

fn object(event: &Event<'_>, current: Option<&Current>) -> Value {
    let mut time = String::new();
    // Writing to a string doesn't fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    let mut fields = Fields(Map::new());
    fields.put("timestamp", time);
    fields.put("level", event.metadata().level().to_string());
    fields.put("target", event.metadata().target());
    event.record(&mut fields);
    if let Some(current) = current {
        fields.put("trace_id", format!("{:032x}", current.trace.trace_id));
        fields.put("span_id", format!("{:016x}", current.trace.span_id));
        if let Some(id) = &current.request_id {
            fields.put("request_id", id.as_ref());
        }
    }
    Value::Object(fields.0)
}

struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value);
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value);
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value);
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value);
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value);
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::{fmt::MakeWriter, layer::SubscriberExt as _};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Sink {
        type Writer = Self;
        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn logged(format: LogFormat, log: impl FnOnce()) -> String {
        let sink = Sink::default();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(sink.clone())
            .with_ansi(false)
            .fmt_fields(DefaultFields::new())
            .event_format(Lines(format));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_line_inside_a_call_has_its_ids_and_one_outside_has_none() {
        let parent = TraceContextText::PARENT.parse().ok();
        let lines = logged(LogFormat::Json, || {
            tracing::info!("before");
            let span = crate::server("a.B/C", parent, None);
            span.in_scope(|| {
                crate::set_request_id(&"r-1");
                tracing::warn!(size = 7, "inside");
            });
        });
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((lines[0]["message"].as_str(), lines[0].get("trace_id")), (Some("before"), None));
        assert_eq!(lines[1]["trace_id"], "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(
            (&lines[1]["request_id"], &lines[1]["size"], &lines[1]["level"]),
            (&"r-1".into(), &7.into(), &"WARN".into())
        );
    }

    #[test]
    fn text_has_the_same_ids() {
        let line = logged(LogFormat::Text, || {
            let span = crate::server("a.B/C", TraceContextText::PARENT.parse().ok(), Some("r-2"));
            span.in_scope(|| tracing::info!(size = 7, "inside"));
        });
        assert!(
            line.ends_with(" INFO inside size=7 trace_id=0af7651916cd43dd8448eb211c80319c request_id=r-2\n"),
            "{line}"
        );
    }

    /// The example of the W3C recommendation.
    struct TraceContextText;
    impl TraceContextText {
        const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    }
}
