//! The settings of how much is too much.

use clap::{Args, builder::BoolishValueParser};

use crate::domain::Limits;

/// How much is too much.
#[derive(Args, Debug)]
pub(super) struct LimitSettings {
    /// Longest request body, in bytes
    #[arg(long, env = "SUPERSERVE_MAX_REQUEST_BYTES", value_name = "BYTES", default_value_t = 1024 * 1024)]
    pub(super) max_request_bytes: usize,
    /// Longest key, in bytes
    #[arg(long, env = "SUPERSERVE_MAX_KEY_BYTES", value_name = "BYTES", default_value_t = Limits::default().key_bytes)]
    max_key_bytes: usize,
    /// Longest value, in bytes
    #[arg(long, env = "SUPERSERVE_MAX_VALUE_BYTES", value_name = "BYTES", default_value_t = Limits::default().value_bytes)]
    max_value_bytes: usize,
    /// Most keys of an agent
    #[arg(long, env = "SUPERSERVE_MAX_KEYS_PER_AGENT", value_name = "N", default_value_t = Limits::default().keys_per_agent)]
    max_keys_per_agent: usize,
    /// Most bytes of all an agent's `name=value` strings
    #[arg(long, env = "SUPERSERVE_MAX_AGENT_BYTES", value_name = "BYTES", default_value_t = Limits::default().agent_bytes)]
    max_agent_bytes: usize,
    /// Most watches under way at a time; each takes some 10 KB of memory
    #[arg(long, env = "SUPERSERVE_MAX_WATCHES", value_name = "N", default_value_t = Limits::default().watches)]
    max_watches: usize,
    /// Accept names that make language runtimes load code, such as `NODE_OPTIONS`
    #[arg(long, env = "SUPERSERVE_ALLOW_LOADER_NAMES", value_parser = BoolishValueParser::new())]
    allow_loader_names: bool,
}

// === impl LimitSettings ===

impl LimitSettings {
    /// Those that the service keeps.
    pub(super) fn checked(&self) -> Limits {
        Limits {
            key_bytes: self.max_key_bytes,
            value_bytes: self.max_value_bytes,
            keys_per_agent: self.max_keys_per_agent,
            agent_bytes: self.max_agent_bytes,
            watches: self.max_watches,
            allow_loader_names: self.allow_loader_names,
        }
    }
}
