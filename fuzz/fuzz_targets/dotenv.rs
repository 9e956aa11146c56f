//! A `.env` file: it is taken or refused, and means the same with the ends of lines of another system.
#![no_main]

use libfuzzer_sys::fuzz_target;
use superserve::cli::count_assignments;

fuzz_target!(|file: &[u8]| {
    let assignments = count_assignments(file);
    // Two assignments never share a line
    let lines = file.split(|byte| matches!(byte, b'\n' | b'\r')).count();
    assert!(assignments.is_none_or(|count| count <= lines));
});
