//! Compiles the service's own protos: the clients and the bare servers speak them.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../../proto");
    let mut compiler = protox::Compiler::new(["../../proto"])?;
    compiler.include_imports(true);
    let files = ["agents", "runtime", "secrets", "tokens"];
    compiler.open_files(files.map(|name| format!("superserve/secrets/v1/{name}.proto")))?;
    tonic_prost_build::configure()
        .build_client(false)
        .extern_path(".google.api", "crate::proto::unused")
        .compile_fds_with_config(compiler.file_descriptor_set(), prost_build::Config::new())?;
    Ok(())
}
