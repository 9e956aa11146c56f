//! The process as the system sees it, and the runtime in it: under the names that all services give to this.

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
};
use tokio::runtime::Handle;

/// Read from the system when somebody asks.
#[derive(Debug)]
pub(super) struct Process;

/// The runtime of the task that asks.
#[derive(Debug)]
pub(super) struct Runtime;

/// What Linux tells of a process.
struct Usage {
    /// In seconds, of all threads.
    processor: f64,
    /// In bytes.
    resident: f64,
    virtual_memory: f64,
    threads: f64,
    /// In seconds since the epoch.
    began: f64,
}

// === impl Process ===

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name: &str, help: &str, unit: Option<&Unit>, value: f64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)
        };
        if let Some(most) = getrlimit(Resource::Nofile).current {
            gauge("process_max_fds", "The most open files there may be", None, count(most))?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // One of them is that of the folder
            let open = open.count().saturating_sub(1);
            gauge("process_open_fds", "Open files and sockets", None, count(open as u64))?;
        }
        let Some(usage) = usage() else { return Ok(()) };
        let help = "When the process began, since the epoch";
        gauge("process_start_time", help, Some(&Unit::Seconds), usage.began)?;
        gauge("process_threads", "Threads", None, usage.threads)?;
        let (resident, memory) = (usage.resident, usage.virtual_memory);
        gauge("process_resident_memory", "Memory in use", Some(&Unit::Bytes), resident)?;
        gauge("process_virtual_memory", "Addresses in use", Some(&Unit::Bytes), memory)?;
        let processor = ConstCounter::new(usage.processor);
        let help = "Time of processors";
        processor.encode(encoder.encode_descriptor(
            "process_cpu",
            help,
            Some(&Unit::Seconds),
            processor.metric_type(),
        )?)
    }
}

/// Reads the `stat` of proc(5): what follows the name, which may hold anything and ends at the last parenthesis.
fn usage() -> Option<Usage> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<_> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    // The first of these is the third of the manual
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let second = count(clock_ticks_per_second());
    let ticks = field(14)?.saturating_add(field(15)?);
    Some(Usage {
        processor: count(ticks) / second,
        threads: count(field(20)?),
        began: count(boot_time()?) + count(field(22)?) / second,
        virtual_memory: count(field(23)?),
        resident: count(field(24)?.saturating_mul(page_size() as u64)),
    })
}

/// When the system began, in seconds since the epoch.
fn boot_time() -> Option<u64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()
}

#[expect(clippy::cast_precision_loss, reason = "none is near 2^53")]
fn count(number: u64) -> f64 {
    number as f64
}

// === impl Runtime ===

impl Collector for Runtime {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Ok(runtime) = Handle::try_current() else { return Ok(()) };
        let metrics = runtime.metrics();
        let mut gauge = |name: &str, help: &str, value: usize| {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        gauge("runtime_workers", "Threads that run tasks", metrics.num_workers())?;
        gauge("runtime_tasks", "Tasks that have not ended", metrics.num_alive_tasks())?;
        gauge("runtime_queue", "Tasks that wait for any thread", metrics.global_queue_depth())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_tells_is_understood() {
        let usage = usage().expect("Linux tells it");
        assert!(usage.resident > 1e6 && usage.resident < usage.virtual_memory, "{}", usage.resident);
        assert!(usage.threads >= 1.0 && usage.processor >= 0.0 && usage.began > 1.7e9);
    }
}
