//! How a server is to be started, before it runs and while it does not.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use ring::rand::{SecureRandom, SystemRandom};
use superserve::domain::TokenText;
use tempfile::TempDir;

use super::{BINARY, Server};
use crate::harness::{
    Database,
    cli::{self, Cli},
    engine, environment, search_path,
};

/// How a server is to be started.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(super) stores: Arc<Stores>,
    data_dir: Arc<TempDir>,
    environment: Vec<(String, String)>,
    unset: Vec<String>,
    under: Vec<String>,
    pub(super) arguments: Vec<String>,
    pub(super) listen: String,
}

/// What replicas share.
#[derive(Debug)]
pub(super) struct Stores {
    pub(super) database: Database,
    /// The data directory of the first server, which holds the keyring.
    first_data_dir: Arc<TempDir>,
    pub(super) admin_token: TokenText,
}

// === impl Setup ===

impl Setup {
    /// A server of its own.
    pub(super) fn new(database: Database) -> Self {
        let data_dir = data_dir();
        let stores = Stores { database, first_data_dir: Arc::clone(&data_dir), admin_token: random_token() };
        Self::for_stores(Arc::new(stores), data_dir)
    }

    /// A second server on the same stores.
    pub(super) fn replica(&self) -> Self {
        Self::for_stores(Arc::clone(&self.stores), data_dir())
    }

    /// Sets an environment variable of the server.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Takes away an environment variable that the server would get.
    pub(crate) fn without_env(mut self, name: &str) -> Self {
        self.unset.push(name.to_owned());
        self
    }

    /// Has the program started by another one, which becomes it.
    pub(crate) fn under(mut self, program: &[&str]) -> Self {
        self.under = program.iter().map(ToString::to_string).collect();
        self
    }

    /// Adds an argument after `serve`.
    pub(crate) fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Gives gRPC and REST another address than loopback's.
    pub(crate) fn listen(mut self, address: &str) -> Self {
        address.clone_into(&mut self.listen);
        self
    }

    /// Lets the server use LISTEN/NOTIFY, whatever the engine of the run is.
    pub(crate) fn with_notifications(self) -> Self {
        self.env("SUPERSERVE_DATABASE_NOTIFICATIONS", "true")
    }

    /// Lets calls about several agents share statements or not, whatever the engine of the run is.
    pub(crate) fn with_batching(self, batching: bool) -> Self {
        self.env("SUPERSERVE_DATABASE_BATCHING", &batching.to_string())
    }

    /// Gives the server another way to the database.
    pub(crate) fn database_url(self, url: &str) -> Self {
        self.env("SUPERSERVE_DATABASE_URL", url)
    }

    /// Starts the server and waits until it listens. PostgreSQL gets its schema and its keyring before, as nothing is
    /// made there by itself.
    ///
    /// # Panics
    /// When it ends instead; the panic shows its log.
    pub(crate) fn start(self) -> Server {
        if let Database::Postgres(_) = self.stores.database
            && !self.keyring().exists()
        {
            for arguments in [&["keys", "generate"][..], &["migrate"]] {
                let output = self.run(arguments);
                assert_eq!(output.code, 0, "superserve {arguments:?}: {}", output.stderr);
            }
        }
        Server::started(self)
    }

    fn for_stores(stores: Arc<Stores>, data_dir: Arc<TempDir>) -> Self {
        let listen = "127.0.0.1:0".to_owned();
        Self {
            stores,
            data_dir,
            environment: Vec::new(),
            unset: Vec::new(),
            under: Vec::new(),
            arguments: Vec::new(),
            listen,
        }
    }

    /// A command of the program in the server's environment, not yet begun.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let binary = environment("SUPERSERVE_BIN").unwrap_or_else(|| BINARY.to_owned());
        let words: Vec<_> = self.under.iter().cloned().chain([binary]).collect();
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args(arguments)
            .env_clear()
            .env("PATH", search_path())
            .env("SUPERSERVE_DATA_DIR", self.data_dir.path())
            .env("SUPERSERVE_KEYRING", self.keyring())
            .env("SUPERSERVE_BOOTSTRAP_TOKEN", self.stores.admin_token.expose());
        if let Database::Postgres(database) = &self.stores.database {
            command.env("SUPERSERVE_DATABASE_URL", database.url());
            command.envs(engine::server_settings().iter().copied());
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        for name in &self.unset {
            command.env_remove(name);
        }
        command.current_dir(self.data_dir.path());
        command
    }

    /// Runs a command of the operator to its end, in the server's environment.
    pub(crate) fn run(&self, arguments: &[&str]) -> cli::Output {
        Cli::finish(self.command(arguments), b"")
    }

    /// Starts a command of the operator in the server's environment, while clients in this process go on.
    pub(crate) fn begin(&self, arguments: &[&str]) -> tokio::task::JoinHandle<cli::Output> {
        let (setup, arguments) =
            (self.clone(), arguments.iter().map(ToString::to_string).collect::<Vec<_>>());
        tokio::task::spawn_blocking(move || {
            setup.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
        })
    }

    /// Starts a command of the operator that is to be killed.
    pub(crate) fn begin_in_vain(&self, arguments: &[&str]) -> cli::Running {
        let mut command = self.command(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        cli::Running(command.spawn().expect("the binary starts"))
    }

    /// Starts `serve` on ports of its own where it is to refuse, and gives what it says.
    pub(crate) fn run_serve(&self) -> cli::Output {
        let mut command = self.command(&["serve"]);
        command.args(&self.arguments);
        command.env("SUPERSERVE_LISTEN", &self.listen).env("SUPERSERVE_OPS_LISTEN", "127.0.0.1:0");
        Cli::finish(command, b"")
    }

    /// The directory the server is given.
    pub(crate) fn data_dir(&self) -> &Path {
        self.data_dir.path()
    }

    /// The keyring file that all replicas use.
    pub(crate) fn keyring(&self) -> PathBuf {
        self.stores.first_data_dir.path().join("keyring.json")
    }

    pub(super) fn log_path(&self) -> PathBuf {
        self.data_dir.path().join("test-stderr.log")
    }
}

fn data_dir() -> Arc<TempDir> {
    Arc::new(TempDir::with_prefix("superserve-data-").expect("a temporary directory"))
}

fn random_token() -> TokenText {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).expect("the system has randomness");
    TokenText::from_random(&bytes)
}
