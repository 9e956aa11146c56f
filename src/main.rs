//! The binary `superserve`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    superserve::telemetry::tell_panics_by_place();
    superserve::cli::run(std::env::args_os()).await
}
