//! What a process has in its memory.

use std::{
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
};

use super::search::Search;

/// The size of a page of memory.
const PAGE: usize = 4096;

/// Pages that are read at a time.
const AT_ONCE: usize = 256;

/// What is found in the memory of a process, by where.
///
/// # Errors
/// `PermissionDenied` where the process has closed its memory to those of its user.
pub(crate) fn search_memory(process: u32, search: &Search) -> io::Result<Vec<String>> {
    let memory = File::open(format!("/proc/{process}/mem"))?;
    let present = File::open(format!("/proc/{process}/pagemap"))?;
    let mut found = Vec::new();
    for region in writable(process)? {
        for run in present_runs(&present, &region)? {
            let mut bytes = vec![0; run.len()];
            // It may be gone by now
            if memory.read_exact_at(&mut bytes, run.start as u64).is_ok() {
                found.extend(search.find(&format!("{:#x}", run.start), &bytes));
            }
        }
    }
    Ok(found)
}

/// The regions of its memory that it can write.
fn writable(process: u32) -> io::Result<Vec<Range<usize>>> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps"))?;
    let region = |line: &str| {
        let mut parts = line.split_whitespace();
        let (range, rights) = (parts.next()?, parts.next()?);
        let (start, end) = range.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        rights.starts_with("rw").then_some(address(start)?..address(end)?)
    };
    Ok(maps.lines().filter_map(region).collect())
}

/// The parts of a region that have memory behind them: most of what an allocator has reserved has none.
fn present_runs(present: &File, region: &Range<usize>) -> io::Result<Vec<Range<usize>>> {
    let mut entries = vec![0; region.len() / PAGE * 8];
    present.read_exact_at(&mut entries, (region.start / PAGE * 8) as u64)?;
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (number, entry) in entries.chunks_exact(8).enumerate() {
        let entry = u64::from_ne_bytes(entry.try_into().expect("eight bytes"));
        // In memory, or swapped out
        if entry >> 62 == 0 {
            continue;
        }
        let page = region.start + number * PAGE;
        match runs.last_mut() {
            Some(run) if run.end == page && run.len() < AT_ONCE * PAGE => run.end += PAGE,
            _ => runs.push(page..page + PAGE),
        }
    }
    Ok(runs)
}
