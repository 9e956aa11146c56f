//! The binary `superserve`.

use std::{io, process::ExitCode, time::Duration};

/// How long work on blocking threads (a name look-up, a pattern) may go on when the command is done. Nobody waits
/// for its outcome, and it cannot be interrupted.
const GRACE: Duration = Duration::from_secs(1);

/// Wipes what is given back to it: also what libraries have copied of values, whose types wipe nothing.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<mimalloc::MiMalloc> =
    zeroizing_alloc::ZeroAlloc(mimalloc::MiMalloc);

fn main() -> io::Result<ExitCode> {
    superserve::telemetry::tell_panics_by_place();
    let invocation = match superserve::cli::Invocation::read(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(exit) => return Ok(exit),
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let exit = runtime.block_on(invocation.run());
    runtime.shutdown_timeout(GRACE);
    superserve::telemetry::flush();
    Ok(exit)
}
