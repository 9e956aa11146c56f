//! The settings of where things are kept.

use std::{io::IsTerminal as _, path::PathBuf, time::Duration};

use clap::{Args, builder::BoolishValueParser};
use tracing::Level;

use super::{KeySettings, Keys, SettingError};
use crate::{
    store::{self, DatabaseUrl},
    telemetry::{self, LogFormat},
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
    #[command(flatten)]
    keys: KeySettings,
    /// How log lines are written [default: text on a terminal, else json]
    #[arg(long, env = "SUPERSERVE_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// From which level on: error, warn, info, debug or trace
    #[arg(long, env = "SUPERSERVE_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: Level,
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
    /// Who wraps data keys.
    pub keys: Keys,
}

/// How long a call waits for a database connection, and for a database that is between two servers.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a statement may take on PostgreSQL, or longer if a call may.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

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
            keys: self.keys.check()?,
        })
    }

    /// The settings of the log.
    #[must_use]
    pub fn log(&self) -> telemetry::Config {
        let by_terminal = if std::io::stderr().is_terminal() { LogFormat::Text } else { LogFormat::Json };
        telemetry::Config { format: self.log_format.unwrap_or(by_terminal), level: self.log_level }
    }
}
