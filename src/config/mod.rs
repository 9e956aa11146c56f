//! The settings of the server: flag, else environment, else file, else default.
//!
//! Each setting is one flag here, with its variable and its default; `layers` gives it the other sources.
//! What was read (`Settings`) and what was checked ([`Checked`]) are two types.
//! To add a setting: a field here, and its place in the `Config` of the part it is for.

mod connections;
mod environment;
mod keys;
mod layers;
mod limits;
mod storage;
mod tls;
mod traces;

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use clap::{Args, builder::BoolishValueParser};

use connections::ConnectionSettings;
pub use environment::Environment;
pub use keys::{KeySettings, Keys, Provider};
pub use layers::{SettingError, layer, variables_in};
use limits::LimitSettings;
use storage::STATEMENT_TIMEOUT;
pub use storage::{Storage, StorageSettings};
use tls::TlsSettings;
use traces::TraceSettings;

use crate::{
    domain::{Limits, TokenText},
    telemetry::{self, TracesConfig},
    transport::{
        self,
        listener::{ListenerConfig, TlsConfig},
    },
};

/// The settings of `serve`.
#[derive(Args, Debug)]
pub struct ServeSettings {
    #[command(flatten)]
    storage: StorageSettings,
    /// Address of gRPC, gRPC-Web and REST
    #[arg(long, env = "SUPERSERVE_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Address of /livez, /readyz, /metrics and gRPC health, always plaintext
    #[arg(long, env = "SUPERSERVE_OPS_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    ops_listen: SocketAddr,
    #[command(flatten)]
    tls: TlsSettings,
    /// TOML file of who may call without a token of this service
    #[arg(long, env = "SUPERSERVE_IDENTITIES", value_name = "FILE")]
    identities: Option<PathBuf>,
    /// Apply missing migrations at start; without it, `serve` refuses an old schema
    #[arg(long, env = "SUPERSERVE_AUTO_MIGRATE", value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    auto_migrate: bool,
    /// Show the admin token that the first start makes; without it, `serve` tells only where it is kept
    #[arg(long, env = "SUPERSERVE_SHOW_ADMIN_TOKEN", value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    show_admin_token: bool,
    /// Origins whose pages may call (CORS), comma-separated
    #[arg(long, env = "SUPERSERVE_CORS_ORIGINS", value_name = "ORIGIN", value_delimiter = ',')]
    cors_origins: Vec<http::HeaderValue>,
    /// Longest time of a call, in seconds
    #[arg(long, env = "SUPERSERVE_REQUEST_TIMEOUT", value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    request_timeout: Duration,
    /// Most calls under way at a time
    #[arg(long, env = "SUPERSERVE_MAX_CONCURRENT_REQUESTS", value_name = "N", default_value_t = 4096)]
    max_concurrent_requests: usize,
    /// Most streams at a time that need no token: watches of health, and reflection
    #[arg(long, env = "SUPERSERVE_MAX_OPEN_STREAMS", value_name = "N", default_value_t = 1024)]
    max_open_streams: usize,
    /// Calls a second for each token; 0 for no limit
    #[arg(long, env = "SUPERSERVE_RATE_LIMIT", value_name = "N", default_value_t = 0)]
    rate_limit: u32,
    /// Calls a second from one address (an IPv6 /64 is one), with or without a token; 0 for no limit
    #[arg(long, env = "SUPERSERVE_RATE_LIMIT_PER_SOURCE", value_name = "N", default_value_t = 0)]
    rate_limit_per_source: u32,
    /// Failed authentications a minute from one address (an IPv6 /64 is one); 0 for no limit
    #[arg(long, env = "SUPERSERVE_MAX_FAILED_AUTH", value_name = "N", default_value_t = 600)]
    max_failed_auth: u32,
    /// Longest wait for calls under way at shutdown, in seconds
    #[arg(long, env = "SUPERSERVE_SHUTDOWN_TIMEOUT", value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    shutdown_timeout: Duration,
    #[command(flatten)]
    connections: ConnectionSettings,
    #[command(flatten)]
    limits: LimitSettings,
    #[command(flatten)]
    traces: TraceSettings,
}

/// Settings that were checked, by the part they are for.
#[derive(Debug)]
pub struct Checked {
    /// Where things are kept.
    pub storage: Storage,
    /// The sockets.
    pub sockets: Sockets,
    /// The file of who may call without a token of ours.
    pub identities: Option<PathBuf>,
    /// The transports.
    pub transport: transport::Config,
    /// What is too much.
    pub limits: Limits,
    /// Which calls are traced, and who is told; `None` for none.
    pub traces: Option<TracesConfig>,
    /// Apply missing migrations at start.
    pub auto_migrate: bool,
    /// The admin token to begin with.
    pub bootstrap_token: Option<TokenText>,
    /// How long to wait for calls under way at shutdown.
    pub shutdown_timeout: Duration,
}

/// The sockets and how connections on them are kept.
#[derive(Debug)]
pub struct Sockets {
    /// gRPC, gRPC-Web and REST.
    pub listen: SocketAddr,
    /// Probes and metrics.
    pub ops_listen: SocketAddr,
    /// TLS of the first.
    pub tls: Option<TlsConfig>,
    /// Limits of connections.
    pub listener: ListenerConfig,
}

// === impl ServeSettings ===

impl ServeSettings {
    /// Checks them.
    ///
    /// # Errors
    /// [`SettingError`] that names the first setting that cannot be.
    pub fn check(self, environment: &Environment) -> Result<Checked, SettingError> {
        let mut storage = self.storage.check()?;
        storage.store.statement_timeout = STATEMENT_TIMEOUT.max(self.request_timeout);
        let tls = self.tls.check(self.listen)?;
        let bootstrap_token = environment.bootstrap_token()?;
        Ok(Checked {
            storage,
            sockets: Sockets {
                listen: self.listen,
                ops_listen: self.ops_listen,
                tls,
                listener: self.connections.checked(),
            },
            identities: self.identities,
            transport: transport::Config {
                request_bytes: self.limits.max_request_bytes,
                timeout: self.request_timeout,
                concurrent_requests: self.max_concurrent_requests,
                open_streams: self.max_open_streams,
                rate_limit: NonZeroU32::new(self.rate_limit),
                rate_limit_per_source: NonZeroU32::new(self.rate_limit_per_source),
                failed_auth: NonZeroU32::new(self.max_failed_auth),
                cors_origins: self.cors_origins,
            },
            limits: self.limits.checked(),
            traces: self.traces.check(environment)?,
            auto_migrate: self.auto_migrate,
            bootstrap_token,
            shutdown_timeout: self.shutdown_timeout,
        })
    }

    /// The settings of the log.
    #[must_use]
    pub fn log(&self) -> telemetry::Config {
        self.storage.log()
    }

    /// Whether the admin token that the first start makes is shown: not where what is shown is collected.
    #[must_use]
    pub fn shows_admin_token(&self) -> bool {
        self.show_admin_token
    }

    /// Whether a certificate is given.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_encrypted()
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds > 0.0);
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| "give a number of seconds greater than 0, such as 30 or 0.5".to_owned())
}
