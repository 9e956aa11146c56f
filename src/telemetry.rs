//! What is told of the running service: log lines and metrics.
//!
//! Only this crate's own events are logged at the level that is set; those of libraries from `warn` up. A
//! library's `trace` would show frames and headers, and with them tokens and values.

use std::{fmt, io::Write as _, panic, sync::Arc, time::Duration};

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
use tracing::Level;
use tracing_subscriber::{
    Layer as _,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// The settings of the log.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How lines are written.
    pub format: LogFormat,
    /// From which level on.
    pub level: Level,
}

/// The metrics of a process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    requests: Family<Request, Counter>,
    durations: Family<Route, Histogram>,
    agents_left: Gauge,
}

/// No label ever holds an agent, a key or a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    protocol: &'static str,
    route: String,
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    protocol: &'static str,
    route: String,
}

/// Upper bounds in seconds, from a cached read to a slow disk.
const BUCKETS: [f64; 12] = [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Writes the log of this process to stderr. The first call counts; a later one changes nothing.
pub fn init(config: Config) {
    let filter = Targets::new()
        .with_default(LevelFilter::from_level(config.level.min(Level::WARN)))
        .with_target("superserve", config.level);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match config.format {
        LogFormat::Text => lines.with_target(false).boxed(),
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
        }
    };
    // The filter is of the whole registry, not of the layer: a layer's own filter loses the next event of a
    // thread on which a library (sqlx does, for a notice of PostgreSQL) asked whether one would be logged.
    // Fails only if there is a log already: in a test that starts several servers in one process
    drop(tracing_subscriber::registry().with(filter).with(lines).try_init());
}

/// From now on, a panic in this process says where it is and no more: its words may hold a value.
pub fn tell_panics_by_place() {
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        if tracing::dispatcher::has_been_set() {
            tracing::error!(place, "a panic");
        } else {
            // Where standard error is closed there is nobody to tell
            drop(writeln!(std::io::stderr(), "superserve: a panic at {place}"));
        }
    }));
}

// === impl Metrics ===

impl Metrics {
    /// Metrics that count from zero.
    #[must_use]
    pub fn new() -> Self {
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
        registry.register(
            "build",
            "The version that runs",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register("up", "1 while the process runs", ConstGauge::new(1_i64));
        Self(Arc::new(Inner { registry, requests, durations, agents_left }))
    }

    /// Counts a request.
    pub fn count(&self, protocol: &'static str, route: &str, code: &str, duration: Duration) {
        let (route, code) = (route.to_owned(), code.to_owned());
        self.0
            .durations
            .get_or_create(&Route { protocol, route: route.clone() })
            .observe(duration.as_secs_f64());
        self.0.requests.get_or_create(&Request { protocol, route, code }).inc();
    }

    /// So many agents wait to come under the primary key.
    pub fn set_agents_left(&self, agents: u64) {
        self.0.agents_left.set(i64::try_from(agents).unwrap_or(i64::MAX));
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

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
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
    fn requests_are_counted_by_route_and_status() {
        let metrics = Metrics::new();
        metrics.count("rest", "GET /v1/agents", "200", Duration::from_millis(3));
        metrics.set_agents_left(7);
        let text = metrics.render();
        assert!(text.contains("superserve_key_rotation_agents_left 7\n"), "{text}");
        assert!(
            text.contains(
                r#"superserve_requests_total{protocol="rest",route="GET /v1/agents",code="200"} 1"#
            ),
            "{text}"
        );
        assert!(text.contains("superserve_build_info"), "{text}");
    }

    /// The hook is the whole process's, so the panic is one of a process of its own: this test, run again.
    #[test]
    fn a_panic_tells_its_place_and_not_its_words() {
        const AGAIN: &str = "SUPERSERVE_TEST_PANIC";
        let words = "sentinel";
        match std::env::var_os(AGAIN) {
            None => {}
            Some(log) => {
                if log == "log" {
                    init(Config { format: LogFormat::Json, level: Level::INFO });
                }
                tell_panics_by_place();
                panic!("{words}");
            }
        }
        for log in ["log", "no log"] {
            let mut again = std::process::Command::new(std::env::current_exe().unwrap());
            again.args([
                "--exact",
                "telemetry::tests::a_panic_tells_its_place_and_not_its_words",
                "--nocapture",
            ]);
            let output = again.env(AGAIN, log).env("RUST_BACKTRACE", "1").output().unwrap();
            let all = [output.stdout, output.stderr].concat();
            let all = String::from_utf8_lossy(&all);
            assert!(!output.status.success() && all.contains("src/telemetry.rs:"), "{all}");
            assert_eq!(all.contains("\"message\":\"a panic\""), log == "log", "{all}");
            assert!(!all.contains(words), "{all}");
        }
    }
}
