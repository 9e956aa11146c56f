//! What is told of the running service: log lines, metrics and traces.
//!
//! Only this crate's own events are logged at the level that is set; those of libraries from `warn` up. A
//! library's `trace` would show frames and headers, and with them tokens and values.

mod json;
mod limits;
mod lines;
mod metrics;
mod process;
mod traces;

use std::{
    fmt,
    io::{self, Write as _},
    panic,
    sync::{Mutex, OnceLock, PoisonError},
};

use tokio::task::futures::TaskLocalFuture;
use tracing::Level;
use tracing_subscriber::{
    Layer as _, Registry,
    field::RecordFields,
    filter::{LevelFilter, Targets},
    fmt::{
        FormatFields,
        format::{DefaultFields, Writer},
    },
    layer::SubscriberExt as _,
    reload,
    util::SubscriberInitExt as _,
};

use self::{json::Json, lines::Lines};
pub use self::{
    limits::{CallGauges, Limit, LimitMetrics},
    lines::MAY_WAIT,
    metrics::Metrics,
    traces::{Answered, TraceCounters, Traces, TracesConfig},
};
use crate::trace::{self, TraceId};

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

/// What a process has told goes here.
static LINES: OnceLock<Lines> = OnceLock::new();

/// From which level on it is told.
static LEVEL: OnceLock<Mutex<(Level, reload::Handle<Targets, Registry>)>> = OnceLock::new();

tokio::task_local! {
    /// The request that this task answers. A span would say it too, and be made, entered and closed for each call,
    /// though hardly any is told of on its way.
    static REQUEST_ID: String;
}

/// Writes the log of this process to stderr. The first call counts; a later one changes nothing.
///
/// # Errors
/// If the system has no thread for it.
pub fn init(config: Config) -> io::Result<()> {
    let (filter, handle) = reload::Layer::new(from_level(config.level));
    let lines = LINES.get_or_init(Lines::default);
    let layer = tracing_subscriber::fmt::layer().with_writer(lines.clone());
    let layer = match config.format {
        LogFormat::Text => layer.with_target(false).fmt_fields(OfRequest(DefaultFields::new())).boxed(),
        LogFormat::Json => layer.event_format(Json).boxed(),
    };
    // The filter is of the whole registry, not of the layer: a layer's own filter loses the next event of a
    // thread on which a library (sqlx does, for a notice of PostgreSQL) asked whether one would be logged.
    // Fails only if there is a log already: in a test that starts several servers in one process
    if tracing_subscriber::registry().with(filter).with(layer).try_init().is_ok() {
        lines.write_to(io::stderr())?;
        let _first = LEVEL.set(Mutex::new((config.level, handle)));
    }
    Ok(())
}

/// Tells from this level on, from now on. Where that is another one the log says so, if `info` is told before or after.
pub fn set_level(level: Level) {
    let Some(held) = LEVEL.get() else { return };
    let (now, filter) = &mut *held.lock().unwrap_or_else(PoisonError::into_inner);
    let before = std::mem::replace(now, level);
    if before == level {
        return;
    }
    let tell = || tracing::info!(%before, %level, "the log has another level");
    let is_told = tracing::enabled!(Level::INFO);
    if is_told {
        tell();
    }
    // Fails only where the log is gone
    let _set = filter.reload(from_level(level));
    if !is_told {
        tell();
    }
}

fn from_level(level: Level) -> Targets {
    Targets::new()
        .with_default(LevelFilter::from_level(level.min(Level::WARN)))
        .with_target("superserve", level)
}

/// Waits until what was told is written, unless nobody takes it.
pub fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush();
    }
}

/// How many lines of the log were lost since the process began.
fn lost_lines() -> u64 {
    LINES.get().map_or(0, Lines::lost)
}

/// What is told while `call` is under way says that it was on the way of this request.
pub fn in_request<F: Future>(request_id: String, call: F) -> TaskLocalFuture<String, F> {
    REQUEST_ID.scope(request_id, call)
}

/// From now on, a panic in this process says where it is and no more: its words may hold a value.
pub fn tell_panics_by_place() {
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        if tracing::dispatcher::has_been_set() {
            tracing::error!(place, "a panic");
        } else {
            // Where standard error is closed there is nobody to tell
            drop(writeln!(io::stderr(), "superserve: a panic at {place}"));
        }
    }));
}

/// Has `tell` tell the request that the running task answers, if it answers one.
fn of_request(tell: impl FnOnce(&str) -> fmt::Result) -> fmt::Result {
    REQUEST_ID.try_with(|id| tell(id)).unwrap_or(Ok(()))
}

/// Has `tell` tell the trace that this request belongs to, if it belongs to one.
fn of_trace(tell: impl FnOnce(&TraceId) -> fmt::Result) -> fmt::Result {
    trace::ids(|trace, _span| tell(trace)).unwrap_or(Ok(()))
}

/// The fields of a line for people, after the request that it is of.
struct OfRequest(DefaultFields);

impl<'writer> FormatFields<'writer> for OfRequest {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        of_request(|id| write!(writer, "request{{request_id={id:?}"))?;
        of_trace(|trace| write!(writer, " trace_id=\"{trace}\""))?;
        of_request(|_id| writer.write_str("}: "))?;
        self.0.format_fields(writer, fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hook is the whole process's, so the panic is one of a process of its own: this test, run again.
    #[test]
    fn a_panic_tells_its_place_and_not_its_words() {
        const AGAIN: &str = "SUPERSERVE_TEST_PANIC";
        let words = "sentinel";
        match std::env::var_os(AGAIN) {
            None => {}
            Some(log) => {
                if log == "log" {
                    init(Config { format: LogFormat::Json, level: Level::INFO }).unwrap();
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
            assert!(!output.status.success() && all.contains("src/telemetry/mod.rs:"), "{all}");
            assert_eq!(all.contains("\"message\":\"a panic\""), log == "log", "{all}");
            assert!(!all.contains(words), "{all}");
        }
    }
}
