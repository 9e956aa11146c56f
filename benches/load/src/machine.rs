//! What the kernel tells: whose processor time it was, and how often the device was flushed.

use std::{collections::HashMap, fs, os::unix::fs::MetadataExt as _, path::Path, time::Instant};

use anyhow::{Context as _, Result};

/// `USER_HZ`, which is 100 on every Linux there is.
const TICKS_PER_SECOND: f64 = 100.0;

/// The kernel's own threads are children of this one.
const KTHREADD: u32 = 2;

/// The counters at one moment.
pub struct Snapshot {
    at: Instant,
    /// Of the whole machine.
    busy: u64,
    /// Of the processes that are measured, with all below them.
    server: u64,
    /// Of this process alone.
    client: u64,
    /// Of this process and the servers, with all below them, and of the kernel's own threads.
    known: u64,
    flushes: Option<u64>,
}

/// What happened between two moments.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub seconds: f64,
    /// Processor seconds of the server's processes.
    pub server: f64,
    /// Processor seconds of this process.
    pub client: f64,
    /// Cores that others used: who they are is not known, so what was measured meanwhile does not count.
    pub other_cores: f64,
    /// Flushes of the device.
    pub flushes: Option<u64>,
}

struct Process {
    parent: u32,
    own: u64,
    /// With that of children that have ended.
    with_ended: u64,
}

/// Takes the counters. `servers` are the roots of the measured processes, `directory` is on the measured device.
pub fn snapshot(servers: &[u32], directory: &Path) -> Result<Snapshot> {
    let processes = processes();
    let own = std::process::id();
    let trees = |roots: &[u32]| -> u64 {
        let below = processes.iter().filter(|(pid, _)| descends(&processes, **pid, roots));
        below.map(|(_, process)| process.with_ended).sum()
    };
    let mut roots = servers.to_vec();
    roots.extend([own, KTHREADD]);
    Ok(Snapshot {
        at: Instant::now(),
        busy: busy()?,
        server: trees(servers),
        client: processes.get(&own).map_or(0, |process| process.own),
        known: trees(&roots),
        flushes: flushes(directory),
    })
}

impl Snapshot {
    /// What happened until `end`.
    pub fn until(&self, end: &Self) -> Usage {
        let seconds = end.at.duration_since(self.at).as_secs_f64();
        let ticks = |from: u64, to: u64| to.saturating_sub(from) as f64 / TICKS_PER_SECOND;
        let others = ticks(self.busy, end.busy) - ticks(self.known, end.known);
        Usage {
            seconds,
            server: ticks(self.server, end.server),
            client: ticks(self.client, end.client),
            other_cores: (others / seconds).max(0.0),
            flushes: self.flushes.zip(end.flushes).map(|(from, to)| to.saturating_sub(from)),
        }
    }
}

/// Memory of a process that is not swapped out, in megabytes.
pub fn resident_mb(pid: u32) -> Result<f64> {
    memory_mb(pid, "VmRSS:")
}

/// The most that it ever was.
pub fn peak_resident_mb(pid: u32) -> Result<f64> {
    memory_mb(pid, "VmHWM:")
}

fn memory_mb(pid: u32, name: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such line in status")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0 / 1e6)
}

/// What the figures were measured on.
pub fn description() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("\t: unknown");
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} × {}, Linux {}", model.trim_start_matches(['\t', ' ', ':']), kernel.trim())
}

/// Ticks in which a processor was not idle. Stolen ones are others'.
fn busy() -> Result<u64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("an empty /proc/stat")?;
    let fields: Vec<u64> = line.split_whitespace().skip(1).map_while(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal
    Ok([0, 1, 2, 5, 6, 7].iter().filter_map(|at| fields.get(*at)).sum())
}

fn processes() -> HashMap<u32, Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, process(pid)?))).collect()
}

fn process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which may hold anything
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let own = number(11)? + number(12)?;
    Some(Process { parent: fields.get(1)?.parse().ok()?, own, with_ended: own + number(13)? + number(14)? })
}

fn descends(processes: &HashMap<u32, Process>, mut pid: u32, roots: &[u32]) -> bool {
    loop {
        if roots.contains(&pid) {
            return true;
        }
        match processes.get(&pid) {
            Some(process) if process.parent != 0 => pid = process.parent,
            _ => return false,
        }
    }
}

/// How often the device under a directory was flushed; `None` where there is none, as for tmpfs.
fn flushes(directory: &Path) -> Option<u64> {
    let device = fs::metadata(directory).ok()?.dev();
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    let mut path = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    if path.join("partition").exists() {
        path.pop();
    }
    let stat = fs::read_to_string(path.join("stat")).ok()?;
    stat.split_whitespace().nth(15)?.parse().ok()
}
