//! What was noted of a call, as OTLP says it, by the names of OpenTelemetry's semantic conventions.

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::SpanKind, status::StatusCode},
};

use crate::trace::{Current, Recorded, SpanId, Step};

/// Flags of a span: that it is sampled; that it is known whether its parent is of another process; that it is.
const SAMPLED: u32 = 0x01;
const HAS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// The codes of gRPC by which a server says that it has failed, and not its caller: `UNKNOWN`, `DEADLINE_EXCEEDED`,
/// `UNIMPLEMENTED`, `INTERNAL`, `UNAVAILABLE`, `DATA_LOSS`.
const FAILURES: [&str; 6] = ["2", "4", "12", "13", "14", "15"];

/// What is told of a call that was answered: what the log is told too.
#[derive(Debug)]
pub struct Answered<'call> {
    /// The id of the request.
    pub request_id: &'call str,
    /// The id of who called; empty if nobody is known.
    pub principal: &'call str,
    /// `grpc` or `rest`.
    pub protocol: &'static str,
    /// What was called, if it is of ours: `package.Service/Method`, or method and route.
    pub route: &'call str,
    /// The code of gRPC, or the status of HTTP.
    pub code: &'call str,
    /// Whether the connection was encrypted.
    pub is_encrypted: bool,
}

/// The spans of a call, the call itself last.
#[derive(Debug)]
pub(super) struct Finished(Vec<Span>);

// === impl Finished ===

impl Finished {
    pub(super) fn new(current: &Current, recorded: &Recorded, answered: &Answered<'_>) -> Self {
        let trace = current.context().trace.bytes();
        let mut spans: Vec<_> = recorded.steps.iter().map(|step| of_step(trace, step)).collect();
        spans.push(of_call(current, recorded, answered));
        Self(spans)
    }
}

fn of_step(trace: &[u8], step: &Step) -> Span {
    let Step { name, is_call, id, parent, from, to } = step;
    let kind = if *is_call { SpanKind::Client } else { SpanKind::Internal };
    Span {
        trace_id: trace.to_vec(),
        span_id: id.bytes().to_vec(),
        parent_span_id: parent.bytes().to_vec(),
        flags: SAMPLED | HAS_REMOTE,
        name: (*name).to_owned(),
        kind: kind.into(),
        start_time_unix_nano: *from,
        end_time_unix_nano: *to,
        ..Span::default()
    }
}

fn of_call(current: &Current, recorded: &Recorded, answered: &Answered<'_>) -> Span {
    let parent = current.parent();
    let failed = answered.is_failure();
    Span {
        trace_id: current.context().trace.bytes().to_vec(),
        span_id: recorded.root.bytes().to_vec(),
        parent_span_id: parent.as_ref().map(SpanId::bytes).unwrap_or_default().to_vec(),
        flags: SAMPLED | HAS_REMOTE | if parent.is_some() { IS_REMOTE } else { 0 },
        name: answered.route.trim_start_matches('/').to_owned(),
        kind: SpanKind::Server.into(),
        start_time_unix_nano: recorded.from,
        end_time_unix_nano: recorded.to,
        attributes: answered.attributes(recorded.left_out),
        status: failed.then(|| Status { code: StatusCode::Error.into(), message: String::new() }),
        ..Span::default()
    }
}

// === impl Answered ===

impl Answered<'_> {
    fn is_failure(&self) -> bool {
        if self.protocol == "grpc" { FAILURES.contains(&self.code) } else { self.code.starts_with('5') }
    }

    fn attributes(&self, left_out: u64) -> Vec<KeyValue> {
        let Self { request_id, principal, protocol, route, code, is_encrypted } = self;
        let code = code.parse().unwrap_or_default();
        let mut attributes = vec![
            text("url.scheme", if *is_encrypted { "https" } else { "http" }),
            text("superserve.request_id", request_id),
        ];
        if !principal.is_empty() {
            attributes.push(text("superserve.principal", principal));
        }
        if *protocol == "grpc" {
            attributes.extend([text("rpc.system", "grpc"), number("rpc.grpc.status_code", code)]);
            if let Some((service, method)) = route.trim_start_matches('/').split_once('/') {
                attributes.extend([text("rpc.service", service), text("rpc.method", method)]);
            }
        } else {
            attributes.push(number("http.response.status_code", code));
            if let Some((method, path)) = route.split_once(' ') {
                attributes.extend([text("http.request.method", method), text("http.route", path)]);
            }
        }
        if left_out > 0 {
            attributes.push(number("superserve.steps_left_out", i64::try_from(left_out).unwrap_or(i64::MAX)));
        }
        attributes
    }
}

/// What is sent to a collector.
pub(super) fn request(service_name: &str, calls: &mut Vec<Finished>) -> ExportTraceServiceRequest {
    let version = env!("CARGO_PKG_VERSION");
    let attributes = vec![text("service.name", service_name), text("service.version", version)];
    let scope = InstrumentationScope {
        name: "superserve".to_owned(),
        version: version.to_owned(),
        ..InstrumentationScope::default()
    };
    let spans = calls.drain(..).flat_map(|Finished(spans)| spans).collect();
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_spans: vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }],
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered<'call>(protocol: &'static str, route: &'call str, code: &'call str) -> Answered<'call> {
        Answered { request_id: "mine", principal: "", protocol, route, code, is_encrypted: true }
    }

    fn keys(answered: &Answered<'_>) -> Vec<String> {
        answered.attributes(0).into_iter().map(|attribute| attribute.key).collect()
    }

    #[test]
    fn a_call_is_told_by_the_names_of_its_protocol() {
        let rest = keys(&answered("rest", "GET /v1/agents/{agent_id}", "200"));
        let expected = [
            "url.scheme",
            "superserve.request_id",
            "http.response.status_code",
            "http.request.method",
            "http.route",
        ];
        assert_eq!(rest, expected);
        let grpc = keys(&answered("grpc", "/a.B/C", "5"));
        let expected = [
            "url.scheme",
            "superserve.request_id",
            "rpc.system",
            "rpc.grpc.status_code",
            "rpc.service",
            "rpc.method",
        ];
        assert_eq!(grpc, expected);
        // Of what is not ours nothing is told that its caller chose
        assert_eq!(keys(&answered("rest", "unknown", "404")).len(), 3);
    }

    #[test]
    fn failures_of_ours_are_told_from_those_of_callers() {
        for (protocol, code, failed) in [
            ("grpc", "0", false),
            ("grpc", "16", false),
            ("grpc", "13", true),
            ("grpc", "4", true),
            ("rest", "404", false),
            ("rest", "503", true),
        ] {
            assert_eq!(answered(protocol, "", code).is_failure(), failed, "{protocol} {code}");
        }
    }
}
