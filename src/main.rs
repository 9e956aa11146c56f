//! TEMPORARY
fn main() {
    let r = tokio::runtime::Runtime::new().unwrap();
    std::process::exit(r.block_on(superserve::cli::run()))
}
