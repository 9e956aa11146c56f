//! The metrics of a process.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
        info::Info,
    },
    registry::Registry,
};

use super::LimitMetrics;

/// The metrics of a process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    requests: Family<Request, Counter>,
    durations: Family<Route, Histogram>,
    agents_left: Gauge,
    agents_done: Counter,
    certificate: Certificate,
    limits: LimitMetrics,
}

#[derive(Default)]
struct Certificate {
    not_before: Gauge,
    not_after: Gauge,
    refused: Gauge,
}

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
    /// Metrics that count from zero; of a certificate only on a server that `is_encrypted`, as zeros would tell of one
    /// that ended long ago.
    #[must_use]
    pub fn new(is_encrypted: bool) -> Self {
        let mut registry = Registry::with_prefix("superserve");
        let requests = Family::<Request, Counter>::default();
        registry.register("requests", "Requests answered, by route and status", requests.clone());
        let durations = Family::<Route, Histogram>::new_with_constructor(|| Histogram::new(BUCKETS));
        registry.register("request_duration_seconds", "Time to the head of the answer", durations.clone());
        let agents_left = Gauge::default();
        registry.register(
            "key_rotation_agents_left",
            "Agents whose data keys an older key than the primary still wraps",
            agents_left.clone(),
        );
        let agents_done = Counter::default();
        registry.register(
            "key_rotation_agents_done",
            "Agents whose data keys this server has wrapped by the primary key in the place of an older one",
            agents_done.clone(),
        );
        let certificate = Certificate::default();
        if is_encrypted {
            certificate.register(&mut registry);
        }
        let limits = LimitMetrics::default();
        limits.register(&mut registry);
        registry.register(
            "build",
            "The version that runs",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register("up", "1 while the process runs", ConstGauge::new(1_i64));
        Self(Arc::new(Inner { registry, requests, durations, agents_left, agents_done, certificate, limits }))
    }

    /// Counts a request.
    pub fn count(&self, protocol: &'static str, route: String, code: Cow<'static, str>, duration: Duration) {
        let timed = Route { protocol, route };
        self.0.durations.get_or_create(&timed).observe(duration.as_secs_f64());
        self.0.requests.get_or_create(&Request { protocol, route: timed.route, code }).inc();
    }

    /// So many agents wait to come under the primary key, and so many this process has brought there.
    pub fn set_key_rotation(&self, left: u64, done: u64) {
        self.0.agents_left.set(i64::try_from(left).unwrap_or(i64::MAX));
        self.0.agents_done.inner().store(done, Ordering::Relaxed);
    }

    /// The certificate in use is good from then until then, in seconds since the epoch.
    pub fn set_certificate(&self, not_before: i64, not_after: i64) {
        let Certificate { not_before: from, not_after: until, refused: _ } = &self.0.certificate;
        from.set(not_before);
        until.set(not_after);
    }

    /// Those of the limits.
    #[must_use]
    pub fn limits(&self) -> &LimitMetrics {
        &self.0.limits
    }

    /// Whether what the files of certificates hold now cannot be used.
    pub fn set_tls_files_refused(&self, refused: bool) {
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

// === impl Certificate ===

impl Certificate {
    fn register(&self, registry: &mut Registry) {
        let Self { not_before, not_after, refused } = self;
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
        registry.register(
            "tls_files_refused",
            "1 while the files of certificates and identities hold what cannot be used",
            refused.clone(),
        );
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(false)
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
        assert!(!Metrics::new(false).render().contains("superserve_tls_"));
        let metrics = Metrics::new(true);
        metrics.set_certificate(1, 2);
        metrics.set_tls_files_refused(true);
        let text = metrics.render();
        for line in [
            "superserve_tls_certificate_not_before_timestamp_seconds 1\n",
            "superserve_tls_certificate_not_after_timestamp_seconds 2\n",
            "superserve_tls_files_refused 1\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn requests_are_counted_by_route_and_status() {
        let metrics = Metrics::new(false);
        metrics.count("rest", "GET /v1/agents".to_owned(), "200".into(), Duration::from_millis(3));
        metrics.set_key_rotation(7, 3);
        let text = metrics.render();
        assert!(text.contains("superserve_key_rotation_agents_left 7\n"), "{text}");
        assert!(text.contains("superserve_key_rotation_agents_done_total 3\n"), "{text}");
        assert!(
            text.contains(
                r#"superserve_requests_total{protocol="rest",route="GET /v1/agents",code="200"} 1"#
            ),
            "{text}"
        );
        assert!(text.contains("superserve_build_info"), "{text}");
    }
}
