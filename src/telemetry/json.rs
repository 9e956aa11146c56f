//! A line of the log as a JSON object, all fields at its top.
//!
//! `tracing-subscriber` has such a format too. It knows the request by a span alone, and a span costs as much as a line.

use std::fmt::{self, Write};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime as _, SystemTime},
    },
    registry::LookupSpan,
};

use super::{of_request, of_trace};

/// Writes an event as `{"timestamp":…,"level":…,"message":…,…,"target":…}`, and the request on whose way it was told.
pub(super) struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        line.write_str(r#"{"timestamp":""#)?;
        SystemTime.format_time(&mut line)?;
        line.write_str(r#"","level":""#)?;
        line.write_str(event.metadata().level().as_str())?;
        line.write_char('"')?;
        let mut fields = Fields { line: line.by_ref(), target: None, outcome: Ok(()) };
        event.record(&mut fields);
        let Fields { target, outcome, .. } = fields;
        outcome?;
        line.write_str(r#","target":"#)?;
        string(&mut line, target.as_deref().unwrap_or(event.metadata().target()))?;
        of_request(|id| {
            line.write_str(r#","span":{"request_id":"#)?;
            string(&mut line, id)?;
            of_trace(|trace| write!(line, r#","trace_id":"{trace}""#))?;
            line.write_str(r#","name":"request"}"#)
        })?;
        line.write_str("}\n")
    }
}

/// Writes fields as members.
struct Fields<'line> {
    line: Writer<'line>,
    /// Of what a library told through the crate `log`, where it comes as a field.
    target: Option<String>,
    outcome: fmt::Result,
}

impl Fields<'_> {
    fn member(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        // The members of `log` say what `target` says, and where its macro stands
        if self.outcome.is_ok() && !field.name().starts_with("log.") {
            self.outcome = name(&mut self.line, field.name()).and_then(|()| value(&mut self.line));
        }
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "log.target" {
            self.target = Some(value.to_owned());
        }
        self.member(field, |line| string(line, value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field, |line| write!(line, "{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field, |line| write!(line, "{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.member(field, |line| {
            if value.is_finite() { write!(line, "{value:?}") } else { line.write_str("null") }
        });
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field, |line| write!(line, "{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.member(field, |line| {
            line.write_char('"')?;
            write!(Escaped(&mut *line), "{value:?}")?;
            line.write_char('"')
        });
    }
}

fn name(line: &mut Writer<'_>, name: &str) -> fmt::Result {
    line.write_char(',')?;
    string(line, name)?;
    line.write_char(':')
}

fn string(line: &mut impl Write, text: &str) -> fmt::Result {
    line.write_char('"')?;
    Escaped(&mut *line).write_str(text)?;
    line.write_char('"')
}

/// Writes what stands between the quotes of a string.
struct Escaped<'line, W>(&'line mut W);

impl<W: Write> Write for Escaped<'_, W> {
    fn write_str(&mut self, mut text: &str) -> fmt::Result {
        let Self(line) = self;
        let is_special = |(_, byte): &(usize, u8)| *byte < b' ' || *byte == b'"' || *byte == b'\\';
        while let Some((at, byte)) = text.bytes().enumerate().find(is_special) {
            line.write_str(text.get(..at).unwrap_or_default())?;
            match byte {
                b'"' => line.write_str("\\\"")?,
                b'\\' => line.write_str("\\\\")?,
                b'\n' => line.write_str("\\n")?,
                b'\r' => line.write_str("\\r")?,
                b'\t' => line.write_str("\\t")?,
                b'\x08' => line.write_str("\\b")?,
                b'\x0c' => line.write_str("\\f")?,
                _ => write!(line, "\\u{byte:04x}")?,
            }
            text = text.get(at + 1..).unwrap_or_default();
        }
        line.write_str(text)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::telemetry::in_request;

    /// Gathers the lines of one test.
    #[derive(Clone, Default)]
    struct Out(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Out {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(line)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn told(tell: impl FnOnce()) -> String {
        let out = Out::default();
        let writer = out.clone();
        let log = tracing_subscriber::fmt().event_format(Json).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(log, tell);
        let line = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let (time, rest) = line.strip_prefix(r#"{"timestamp":""#).unwrap().split_once('"').unwrap();
        assert!(time.len() == 27 && time.ends_with('Z'), "{time}");
        rest.to_owned()
    }

    #[test]
    fn a_line_is_one_flat_object_in_the_order_of_its_fields() {
        let line = told(
            || tracing::info!(name: "n", text = "a\"b", number = 7_u64, shown = %"c\\d", is = true, "said"),
        );
        let target = module_path!();
        let expected =
            r#","level":"INFO","message":"said","text":"a\"b","number":7,"shown":"c\\d","is":true"#;
        assert_eq!(line, format!("{expected},\"target\":\"{target}\"}}\n"));
    }

    #[tokio::test]
    async fn what_is_told_on_the_way_of_a_request_names_it() {
        let line = in_request("mine".to_owned(), async { told(|| tracing::warn!("said")) }).await;
        assert!(line.ends_with("\"span\":{\"request_id\":\"mine\",\"name\":\"request\"}}\n"), "{line}");
        assert!(!told(|| tracing::warn!("said")).contains("span"));
    }

    #[test]
    fn numbers_are_those_of_json() {
        let line = told(|| tracing::warn!(minus = -1_i64, half = 0.5, large = 1e300, none = f64::NAN));
        assert!(line.contains(r#""minus":-1,"half":0.5,"large":1e300,"none":null"#), "{line}");
    }

    proptest! {
        #[test]
        fn strings_are_written_as_serde_writes_them(text in "[\\x00-\\x30\\\\\"é\u{10ffff}a-c]*") {
            let mut line = String::new();
            string(&mut line, &text).unwrap();
            prop_assert_eq!(&line, &serde_json::to_string(&text).unwrap());
            prop_assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), text);
        }
    }
}
