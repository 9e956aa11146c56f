//! The metrics of a process.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, text::encode},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
        info::Info,
    },
    registry::Registry,
};

use super::{
    TraceCounters, lost_lines,
    process::{Process, Runtime},
};

/// The metrics of a process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    requests: Family<Request, Counter>,
    durations: Family<Route, Histogram>,
    ready: Gauge,
    certificate: Certificate,
    traces: TraceCounters,
}

#[derive(Default)]
struct Certificate {
    not_before: Gauge,
    not_after: Gauge,
    refused: Gauge,
}

/// The lines of the log that were lost.
#[derive(Debug)]
struct LostLines;

/// No label ever holds an agent, a key or a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    protocol: &'static str,
    route: String,
    code: Cow<'static, str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    protocol: &'static str,
    route: String,
}

/// Upper bounds in seconds, from a cached read to a slow disk.
const BUCKETS: [f64; 12] = [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

// === impl Metrics ===

impl Metrics {
    /// Metrics that count from zero, with those that other parts register; of a certificate only on a server that `is_encrypted`, as zeros would tell of one
    /// that ended long ago.
    #[must_use]
    pub fn new(is_encrypted: bool, others: impl FnOnce(&mut Registry)) -> Self {
        let mut all = Registry::default();
        all.register_collector(Box::new(Process));
        let registry = all.sub_registry_with_prefix("superserve");
        let requests = Family::<Request, Counter>::default();
        registry.register("requests", "Requests answered, by route and status", requests.clone());
        let durations = Family::<Route, Histogram>::new_with_constructor(|| Histogram::new(BUCKETS));
        registry.register("request_duration_seconds", "Time to the head of the answer", durations.clone());
        let ready = Gauge::<i64>::default();
        ready.set(1);
        registry.register("ready", "1 while the server can serve", ready.clone());
        registry.register_collector(Box::new(LostLines));
        registry.register_collector(Box::new(Runtime));
        others(registry);
        let certificate = Certificate::default();
        certificate.register(registry, is_encrypted);
        let traces = TraceCounters::register(registry);
        registry.register(
            "build",
            "The version that runs",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register("up", "1 while the process runs", ConstGauge::new(1_i64));
        Self(Arc::new(Inner { registry: all, requests, durations, ready, certificate, traces }))
    }

    /// Counts a request.
    pub fn count(&self, protocol: &'static str, route: String, code: Cow<'static, str>, duration: Duration) {
        let timed = Route { protocol, route };
        self.0.durations.get_or_create(&timed).observe(duration.as_secs_f64());
        self.0.requests.get_or_create(&Request { protocol, route: timed.route, code }).inc();
    }

    /// What became of traces.
    #[must_use]
    pub fn traces(&self) -> TraceCounters {
        self.0.traces.clone()
    }

    /// Whether the server can serve.
    pub fn set_ready(&self, ready: bool) {
        self.0.ready.set(ready.into());
    }

    /// The certificate in use is good from then until then, in seconds since the epoch.
    pub fn set_certificate(&self, not_before: i64, not_after: i64) {
        let Certificate { not_before: from, not_after: until, refused: _ } = &self.0.certificate;
        from.set(not_before);
        until.set(not_after);
    }

    /// Whether what the files of certificates hold now cannot be used.
    pub fn set_files_refused(&self, refused: bool) {
        self.0.certificate.refused.set(refused.into());
    }

    /// All metrics in the `OpenMetrics` text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.0.registry) {
            Ok(()) => text,
            // Writing to a string cannot fail; if it did, no metrics are better than half of them
            Err(fmt::Error) => String::new(),
        }
    }
}

// === impl LostLines ===

impl Collector for LostLines {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let lost = ConstCounter::new(lost_lines());
        let help = "Lines of the log that nobody took in time";
        lost.encode(encoder.encode_descriptor("log_lines_lost", help, None, lost.metric_type())?)
    }
}

// === impl Certificate ===

impl Certificate {
    fn register(&self, registry: &mut Registry, is_encrypted: bool) {
        let Self { not_before, not_after, refused } = self;
        registry.register(
            "files_refused",
            "1 while the files of certificates and identities hold what cannot be used",
            refused.clone(),
        );
        if !is_encrypted {
            return;
        }
        registry.register(
            "tls_certificate_not_before_timestamp_seconds",
            "Since when the certificate in use is good",
            not_before.clone(),
        );
        registry.register(
            "tls_certificate_not_after_timestamp_seconds",
            "Until when the certificate in use is good",
            not_after.clone(),
        );
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(false, |_registry| {})
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_told_of_where_there_is_one() {
        assert!(!Metrics::default().render().contains("superserve_tls_"));
        let metrics = Metrics::new(true, |_registry| {});
        metrics.set_certificate(1, 2);
        metrics.set_files_refused(true);
        let text = metrics.render();
        for line in [
            "superserve_tls_certificate_not_before_timestamp_seconds 1\n",
            "superserve_tls_certificate_not_after_timestamp_seconds 2\n",
            "superserve_files_refused 1\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn requests_are_counted_by_route_and_status() {
        let metrics = Metrics::default();
        metrics.count("rest", "GET /v1/agents".to_owned(), "200".into(), Duration::from_millis(3));
        metrics.set_ready(false);
        let text = metrics.render();
        for line in
            ["superserve_ready 0\n", "superserve_log_lines_lost_total 0\n", "process_cpu_seconds_total "]
        {
            assert!(text.contains(line), "{text}");
        }
        assert!(
            text.contains(
                r#"superserve_requests_total{protocol="rest",route="GET /v1/agents",code="200"} 1"#
            ),
            "{text}"
        );
        assert!(text.contains("superserve_build_info"), "{text}");
    }
}
