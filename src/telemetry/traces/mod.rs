//! Traces: which calls are traced, and what is told of them to a collector (OTLP by gRPC).
//!
//! Whether a call is traced is decided when it begins. The dice say so, or its caller, who traces it too, and of those
//! no more than so many a second: what is noted costs memory and time, and callers choose what they send. What was
//! noted goes into a queue that has an end. What finds no room in it, and what cannot be sent, is lost and counted, and no
//! call waits for it.
//!
//! A span tells what the line of the request in the log tells, and how long each step took.

mod exporter;
mod otlp;
mod sampler;

use std::sync::Arc;

use http::HeaderMap;
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::metadata::MetadataMap;

pub use self::otlp::Answered;
use self::{exporter::Exporter, otlp::Finished, sampler::Sampler};
use crate::trace::{Context, Current, Recording};

/// The traces that wait for the collector. More are lost.
const QUEUE: usize = 1024;

/// The settings of traces.
#[derive(Clone, Debug)]
pub struct TracesConfig {
    /// Where the collector is: `http://host:4317`, or `https`.
    pub endpoint: http::Uri,
    /// What is sent along with each export: how the collector knows us.
    pub headers: MetadataMap,
    /// As which service we are known there.
    pub service_name: String,
    /// The part of all calls that is traced, 0 to 1.
    pub ratio: f64,
    /// How many calls a second are traced because their callers trace them.
    pub callers: u32,
}

/// What became of traces.
#[derive(Clone, Debug, Default)]
pub struct TraceCounters {
    exported: Counter,
    dropped: Counter,
}

/// By which calls are traced, or not. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<On>>);

#[derive(Debug)]
struct On {
    sampler: Sampler,
    finished: mpsc::Sender<Finished>,
    counters: TraceCounters,
}

// === impl TraceCounters ===

impl TraceCounters {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let Self { exported, dropped } = Self::default();
        registry.register("traces_exported", "Traced calls that the collector has taken", exported.clone());
        registry.register(
            "traces_dropped",
            "Traced calls that found no room in the queue, or that the collector did not take",
            dropped.clone(),
        );
        Self { exported, dropped }
    }
}

// === impl Traces ===

impl Traces {
    /// Starts to send traces. What is there when `stop` is cancelled is still sent, in two seconds at most.
    ///
    /// # Errors
    /// [`tonic::transport::Error`] where the endpoint is none, or TLS cannot be set up.
    pub fn start(
        config: &TracesConfig,
        counters: TraceCounters,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, tonic::transport::Error> {
        let (finished, queue) = mpsc::channel(QUEUE);
        let exporter = Exporter::new(config, counters.clone(), stop)?;
        tasks.spawn(exporter.run(queue));
        let sampler = Sampler::new(config.ratio, config.callers);
        Ok(Self(Some(Arc::new(On { sampler, finished, counters }))))
    }

    /// What is known of the trace of a call that begins; `None` where it has none.
    #[must_use]
    pub fn begin(&self, headers: &HeaderMap) -> Option<Current> {
        let sent = Context::of(headers);
        let is_traced = self.0.as_ref().is_some_and(|on| on.sampler.chooses(sent.as_ref()));
        if !is_traced {
            return sent.map(|context| Current::new(context, None));
        }
        let recording = Recording::begin();
        match sent {
            Some(context) => Some(Current::new(context, recording)),
            // Without randomness there is no trace, and no call either
            None => Some(Current::begin(recording?)?),
        }
    }

    /// Tells of a call that was answered, if it was traced.
    pub fn finish(&self, current: &Current, answered: &Answered<'_>) {
        let (Some(on), Some(recording)) = (&self.0, current.recording()) else { return };
        let finished = Finished::new(current, &recording.end(), answered);
        if on.finished.try_send(finished).is_err() {
            on.counters.dropped.inc();
        }
    }
}
