//! Signals that this process was started to ignore, as `nohup` and a shell's `&` do. Who listens for one ends that,
//! also for the command that this process becomes.

use std::fs;

use rustix::process::Signal;

/// Whether a signal is ignored; no where the system does not say.
pub(super) fn is_ignored(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask & (1 << (signal.as_raw() - 1)) != 0
}
