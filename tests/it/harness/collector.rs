//! A collector of traces: it takes what is exported by OTLP, or lets whoever exports wait.

use std::{
    future::pending,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::{ResourceSpans, Span},
};
use prost::Message as _;
use tonic::{
    Request, Response, Status,
    transport::server::{Server, TcpIncoming},
};

use super::{eventually, server::Setup};

/// A running collector.
#[derive(Debug)]
pub(crate) struct Collector {
    address: SocketAddr,
    taken: Taken,
}

type Taken = Arc<Mutex<Vec<(String, ExportTraceServiceRequest)>>>;

struct Receiver {
    taken: Taken,
    stalls: bool,
}

// === impl Collector ===

impl Collector {
    /// One that takes what it is sent.
    pub(crate) fn start() -> Self {
        Self::serve(false)
    }

    /// One that takes requests and never answers.
    pub(crate) fn stalling() -> Self {
        Self::serve(true)
    }

    fn serve(stalls: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let (address, taken) = (listener.local_addr().expect("an address"), Taken::default());
        let receiver = TraceServiceServer::new(Receiver { taken: Arc::clone(&taken), stalls });
        // Not in the test's own runtime, which stands still while a program is waited for
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                let serving = Server::builder().add_service(receiver);
                serving.serve_with_incoming(TcpIncoming::from(listener)).await.expect("it serves");
            });
        });
        Self { address, taken }
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A server that sends it traces of its callers' traces, and of no other calls.
    pub(crate) fn of_callers(&self, setup: Setup) -> Setup {
        setup.arg(&format!("--otlp-endpoint={}", self.url())).arg("--trace-sample-ratio=0")
    }

    /// A server that sends it traces of all calls.
    pub(crate) fn of_all(&self, setup: Setup) -> Setup {
        setup.arg(&format!("--otlp-endpoint={}", self.url())).arg("--trace-sample-ratio=1")
    }

    /// All spans that it has.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let resources = self.resources();
        let scopes = resources.into_iter().flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }

    /// All that it has, with whose it is.
    pub(crate) fn resources(&self) -> Vec<ResourceSpans> {
        self.taken().iter().flat_map(|(_, request)| request.resource_spans.clone()).collect()
    }

    /// What came with each request beside it.
    pub(crate) fn headers(&self) -> Vec<String> {
        self.taken().iter().map(|(headers, _)| headers.clone()).collect()
    }

    /// Waits for the spans of a call in this trace: the call itself, and its steps.
    pub(crate) async fn call(&self, trace: &str) -> (Span, Vec<Span>) {
        eventually("the spans of a call", async || {
            let spans = self.spans().into_iter().filter(|span| hex(&span.trace_id) == trace);
            let (mut calls, steps): (Vec<_>, Vec<_>) = spans.partition(is_call);
            calls.pop().map(|call| (call, steps))
        })
        .await
    }

    /// Waits for a span, and gives all bytes that have come.
    pub(crate) async fn until(&self, what: &str, mut is_it: impl FnMut(&Span) -> bool) -> Vec<u8> {
        eventually(what, async || self.spans().iter().any(&mut is_it).then_some(())).await;
        let written = |(headers, request): &(String, ExportTraceServiceRequest)| {
            [headers.clone().into_bytes(), request.encode_to_vec()].concat()
        };
        self.taken().iter().flat_map(written).collect()
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, Vec<(String, ExportTraceServiceRequest)>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        if self.stalls {
            return pending().await;
        }
        let (metadata, _, request) = request.into_parts();
        let headers = format!("{:?}", metadata.into_headers());
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).push((headers, request));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Whether a span is a call, and no step of one.
pub(crate) fn is_call(span: &Span) -> bool {
    span.kind() == opentelemetry_proto::tonic::trace::v1::span::SpanKind::Server
}

/// An id as people write it.
pub(crate) fn hex(id: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(id)
}

/// An attribute of a span as text; empty without it.
pub(crate) fn attribute(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        _ => String::new(),
    }
}
