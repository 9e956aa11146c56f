//! The binary `superserve`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    superserve::cli::run(std::env::args_os()).await
}
