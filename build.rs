//! Compiles the protos to Rust and to a descriptor set, without a system protoc.
#![expect(clippy::disallowed_methods, reason = "cargo speaks to build scripts through the environment")]

use std::{env, error::Error, fs, path::PathBuf};

const FILES: [&str; 5] = ["agents", "audit", "runtime", "secrets", "tokens"];

/// Messages that carry a value or a token: `src/proto/redacted.rs` writes their `Debug` by hand.
const REDACTED: [&str; 4] =
    ["SetSecretsRequest", "ResolveSecretsResponse", "CreateTokenResponse", "RotateTokenResponse"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(FILES.map(|name| format!("superserve/secrets/v1/{name}.proto")))?;

    // The encoded form keeps custom options (google.api.http) for reflection; prost's structs lose them.
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("descriptor.bin"), compiler.encode_file_descriptor_set())?;

    let mut prost = prost_build::Config::new();
    prost.skip_debug(REDACTED.map(|name| format!("superserve.secrets.v1.{name}")));
    tonic_prost_build::configure()
        // No message of ours uses these: naming a path keeps them from being generated.
        .extern_path(".google.api", "crate::proto::unused")
        .compile_fds_with_config(compiler.file_descriptor_set(), prost)?;
    Ok(())
}
