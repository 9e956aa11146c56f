//! The settings of the server: flag, else environment, else file, else default.
//!
//! Each setting is one flag here, with its variable and its default; `layers` gives it the other sources.
//! What was read (`Settings`) and what was checked ([`Checked`]) are two types.
//! To add a setting: a field here, and its place in the `Config` of the part it is for.

mod environment;
mod layers;
mod limits;
mod tls;

use std::{io::IsTerminal as _, net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use clap::{Args, builder::BoolishValueParser};
use tracing::Level;

pub use environment::Environment;
pub use layers::{SettingError, layer};
use limits::LimitSettings;
use tls::TlsSettings;

use crate::{
    domain::{Limits, TokenText},
    store::{self, DatabaseUrl},
    telemetry::{self, LogFormat},
    transport::{
        self,
        listener::{ListenerConfig, TlsConfig},
    },
};

/// Where things are kept: what every command of an operator needs.
#[derive(Args, Debug)]
pub struct StorageSettings {
    /// TOML file with settings: each flag's name without the dashes
    #[arg(long, env = "SUPERSERVE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory for the embedded database, the keyring and the first token
    #[arg(long, env = "SUPERSERVE_DATA_DIR", value_name = "DIR", default_value = "./data")]
    pub data_dir: PathBuf,
    /// `sqlite://PATH` or `postgres://…` [default: `secrets.db` in the data directory]
    #[arg(long, env = "SUPERSERVE_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// Most connections to PostgreSQL, at least 2
    #[arg(long, env = "SUPERSERVE_DATABASE_MAX_CONNECTIONS", value_name = "N", default_value_t = 16)]
    pub database_max_connections: u32,
    /// Tell other replicas of changes by LISTEN/NOTIFY; without it they look every 5 seconds
    #[arg(long, env = "SUPERSERVE_DATABASE_NOTIFICATIONS", value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub database_notifications: bool,
    /// Let calls about several agents share statements of PostgreSQL; without it no statement names two agents
    #[arg(long, env = "SUPERSERVE_DATABASE_BATCHING", value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub database_batching: bool,
    /// Keyring file [default: `keyring.json` in the data directory]
    #[arg(long, env = "SUPERSERVE_KEYRING", value_name = "FILE")]
    pub keyring: Option<PathBuf>,
    /// How log lines are written [default: text on a terminal, else json]
    #[arg(long, env = "SUPERSERVE_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// From which level on: error, warn, info, debug or trace
    #[arg(long, env = "SUPERSERVE_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: Level,
}

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
    /// Calls a second for each token; 0 for no limit
    #[arg(long, env = "SUPERSERVE_RATE_LIMIT", value_name = "N", default_value_t = 0)]
    rate_limit: u32,
    /// Longest wait for calls under way at shutdown, in seconds
    #[arg(long, env = "SUPERSERVE_SHUTDOWN_TIMEOUT", value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    shutdown_timeout: Duration,
    /// How long a connection takes new calls, in seconds, so that clients spread over new replicas [default: no limit]
    #[arg(long, env = "SUPERSERVE_MAX_CONNECTION_AGE", value_name = "SECONDS", value_parser = seconds)]
    max_connection_age: Option<Duration>,
    #[command(flatten)]
    limits: LimitSettings,
}

/// Settings that were checked, by the part they are for.
#[derive(Debug)]
pub struct Checked {
    /// Where things are kept.
    pub storage: Storage,
    /// The sockets.
    pub sockets: Sockets,
    /// The file of what clients may by their certificates.
    pub identities: Option<PathBuf>,
    /// The transports.
    pub transport: transport::Config,
    /// What is too much.
    pub limits: Limits,
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

/// Where things are kept, checked.
#[derive(Clone, Debug)]
pub struct Storage {
    /// Directory for everything that is a file.
    pub data_dir: PathBuf,
    /// The database.
    pub store: store::Config,
    /// The keyring file.
    pub keyring: PathBuf,
}

/// How long a call waits for a database connection, and for a database that is between two servers.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a statement may take on PostgreSQL, or longer if a call may.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

// === impl StorageSettings ===

impl StorageSettings {
    /// Checks them.
    ///
    /// # Errors
    /// [`SettingError`] when the database URL is none.
    pub fn check(&self) -> Result<Storage, SettingError> {
        let url = match &self.database_url {
            Some(url) => url.parse(),
            None => Ok(DatabaseUrl::Sqlite(self.data_dir.join("secrets.db"))),
        };
        let url =
            url.map_err(|error: store::Error| SettingError::new("--database-url", error.to_string()))?;
        // One to hold the lock of the migrations, one to run them
        let max_connections = self.database_max_connections.max(2);
        Ok(Storage {
            data_dir: self.data_dir.clone(),
            store: store::Config {
                url,
                max_connections,
                acquire_timeout: ACQUIRE_TIMEOUT,
                statement_timeout: STATEMENT_TIMEOUT,
                notifications: self.database_notifications,
                batching: self.database_batching,
            },
            keyring: self.keyring.clone().unwrap_or_else(|| self.data_dir.join("keyring.json")),
        })
    }

    /// The settings of the log.
    #[must_use]
    pub fn log(&self) -> telemetry::Config {
        let by_terminal = if std::io::stderr().is_terminal() { LogFormat::Text } else { LogFormat::Json };
        telemetry::Config { format: self.log_format.unwrap_or(by_terminal), level: self.log_level }
    }
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
        let bootstrap_token = bootstrap_token(environment)?;
        Ok(Checked {
            storage,
            sockets: Sockets {
                listen: self.listen,
                ops_listen: self.ops_listen,
                tls,
                listener: ListenerConfig {
                    max_connection_age: self.max_connection_age,
                    ..ListenerConfig::default()
                },
            },
            identities: self.tls.check_identities()?,
            transport: transport::Config {
                request_bytes: self.limits.max_request_bytes,
                timeout: self.request_timeout,
                concurrent_requests: self.max_concurrent_requests,
                rate_limit: NonZeroU32::new(self.rate_limit),
                cors_origins: self.cors_origins,
            },
            limits: self.limits.checked(),
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

fn bootstrap_token(environment: &Environment) -> Result<Option<TokenText>, SettingError> {
    const NAME: &str = "SUPERSERVE_BOOTSTRAP_TOKEN";
    let Some(text) = environment.get_or_file(NAME)? else { return Ok(None) };
    TokenText::parse(&text).map(Some).map_err(|error| {
        SettingError::new(NAME, format!("{error}: `superserve tokens generate` prints a fresh one"))
    })
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds > 0.0);
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| "give a number of seconds greater than 0, such as 30 or 0.5".to_owned())
}
