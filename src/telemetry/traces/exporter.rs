//! Sends traces to the collector, beside the calls.
//!
//! It is one task. What waits goes together, once a second or when there is much of it. What the collector does not take in
//! time is lost: to send it again would keep the next from being sent, and a trace is no record that somebody relies on.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, trace_service_client::TraceServiceClient,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status,
    metadata::MetadataMap,
    transport::{Channel, ClientTlsConfig, Endpoint, Error},
};

use super::{
    TraceCounters, TracesConfig,
    otlp::{Finished, request},
};

/// The most calls that go together.
const TOGETHER: usize = 256;

/// How long the first of them waits for others.
const COMPANY: Duration = Duration::from_secs(1);

/// How long the collector has to take them.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long it has at the end of the server, from when that wants to end.
const LAST: Duration = Duration::from_secs(2);

/// How often it is told that traces are lost.
const TOLD_EVERY: Duration = Duration::from_mins(1);

/// Sends what was noted of calls.
pub(super) struct Exporter {
    client: TraceServiceClient<Channel>,
    headers: MetadataMap,
    service_name: String,
    counters: TraceCounters,
    stop: CancellationToken,
    /// When it was last told that traces are lost, and how many were by then.
    told: Option<Instant>,
    told_of: u64,
    /// It was told, and the collector has taken none since.
    fails: bool,
}

// === impl Exporter ===

impl Exporter {
    /// Nobody is called yet.
    pub(super) fn new(
        config: &TracesConfig,
        counters: TraceCounters,
        stop: CancellationToken,
    ) -> Result<Self, Error> {
        let mut endpoint =
            Endpoint::from(config.endpoint.clone()).connect_timeout(PATIENCE).timeout(PATIENCE);
        if config.endpoint.scheme_str() == Some("https") {
            endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots())?;
        }
        let client = TraceServiceClient::new(endpoint.connect_lazy());
        let (headers, service_name) = (config.headers.clone(), config.service_name.clone());
        Ok(Self { client, headers, service_name, counters, stop, told: None, told_of: 0, fails: false })
    }

    /// Sends until the server ends, and then what is still there.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Finished>) {
        let mut calls = Vec::new();
        while self.gather(&mut queue, &mut calls).await {
            self.send(&mut calls).await;
        }
        let end = Instant::now() + LAST;
        loop {
            while calls.len() < TOGETHER
                && let Ok(call) = queue.try_recv()
            {
                calls.push(call);
            }
            if calls.is_empty() {
                return;
            }
            if Instant::now() >= end {
                return self.lose((calls.len() + queue.len()) as u64, &"the server ends");
            }
            self.send_until(&mut calls, end).await;
        }
    }

    /// Waits until there is something to send; says whether the server goes on.
    async fn gather(&self, queue: &mut mpsc::Receiver<Finished>, calls: &mut Vec<Finished>) -> bool {
        let gathering = async {
            if queue.recv_many(calls, TOGETHER).await == 0 {
                return false;
            }
            let until = Instant::now() + COMPANY;
            while calls.len() < TOGETHER {
                let room = TOGETHER - calls.len();
                match timeout_at(until, queue.recv_many(calls, room)).await {
                    Ok(0) => return false,
                    Ok(_more) => {}
                    Err(_elapsed) => return true,
                }
            }
            true
        };
        self.stop.run_until_cancelled(gathering).await.unwrap_or(false)
    }

    async fn send(&mut self, calls: &mut Vec<Finished>) {
        self.send_until(calls, Instant::now() + PATIENCE).await;
    }

    async fn send_until(&mut self, calls: &mut Vec<Finished>, end: Instant) {
        let sent = calls.len() as u64;
        let mut request = Request::new(request(&self.service_name, calls));
        *request.metadata_mut() = self.headers.clone();
        match self.export(request, end).await {
            Ok(()) => {
                self.counters.exported.inc_by(sent);
                if std::mem::take(&mut self.fails) {
                    tracing::info!("the collector takes traces again");
                }
                self.tell_of_lost(&"the queue was full");
            }
            Err(status) => self.lose(sent, &reason(&status)),
        }
    }

    async fn export(&self, request: Request<ExportTraceServiceRequest>, end: Instant) -> Result<(), Status> {
        let mut client = self.client.clone();
        let stopping = async {
            self.stop.cancelled().await;
            sleep(LAST).await;
        };
        let answer = tokio::select! {
            answer = timeout_at(end, client.export(request)) => answer,
            () = stopping => return Err(Status::deadline_exceeded("")),
        };
        let answer = answer.map_err(|_elapsed| Status::deadline_exceeded(""))??;
        match answer.into_inner().partial_success {
            Some(partial) if partial.rejected_spans > 0 => Err(Status::invalid_argument("")),
            _ => Ok(()),
        }
    }

    /// So many were not taken.
    fn lose(&mut self, calls: u64, why: &dyn std::fmt::Display) {
        self.counters.dropped.inc_by(calls);
        self.fails |= self.tell_of_lost(why);
    }

    /// Tells of what was lost since that was last told, if that is long enough ago; says whether it did.
    fn tell_of_lost(&mut self, why: &dyn std::fmt::Display) -> bool {
        let dropped = self.counters.dropped.get();
        let is_due = self.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY);
        if dropped == self.told_of || !is_due {
            return false;
        }
        tracing::warn!(dropped, %why, "traces are lost");
        (self.told, self.told_of) = (Some(Instant::now()), dropped);
        true
    }
}

/// Why the collector has not taken traces, without what it has to say: that is chosen elsewhere.
fn reason(status: &Status) -> String {
    format!("the collector does not take them: {:?}", status.code())
}
