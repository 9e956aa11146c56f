//! What is to be measured, and how.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{goals::Yardstick, workload::Workload};

/// Measures the service against yardsticks, in pairs of runs that take turns.
#[derive(Parser, Debug)]
#[command(name = "bench-load", args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(flatten)]
    pub options: Options,
    #[command(subcommand)]
    pub server: Option<BareServer>,
}

/// Servers without anything behind them: the suite starts itself as these.
#[derive(Subcommand, Clone, Copy, Debug)]
pub enum BareServer {
    /// tonic with the service's own messages
    BareGrpc { port: u16 },
    /// axum with JSON of the service's shapes
    BareRest { port: u16 },
}

/// Which points of the table, and how each is measured. A filter that is not given lets all pass.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The service's release binary
    #[arg(long, value_name = "FILE", default_value = "target/release/superserve")]
    pub binary: PathBuf,
    /// Only these workloads; `footprint` is one too
    #[arg(long, value_name = "WORKLOAD", value_delimiter = ',')]
    pub only: Vec<Only>,
    /// Only on these databases
    #[arg(long, value_name = "DATABASE", value_delimiter = ',')]
    pub database: Vec<Database>,
    /// Only over these protocols
    #[arg(long, value_name = "PROTOCOL", value_delimiter = ',')]
    pub protocol: Vec<Protocol>,
    /// Only at these numbers of connections
    #[arg(long, value_name = "N", value_delimiter = ',')]
    pub connections: Vec<usize>,
    /// Only against these yardsticks. `none` measures the service alone, at each combination of the other filters
    #[arg(long, value_name = "YARDSTICK", value_delimiter = ',')]
    pub yardstick: Vec<Yardstick>,
    /// Pairs that must count
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub pairs: usize,
    /// Length of a run, after its warm-up
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    pub seconds: f64,
    /// Time that is not measured, before each run
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    pub warm_up: f64,
    /// Agents of 10 keys each
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub agents: usize,
    /// Calls under way on each gRPC connection
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub streams: usize,
    /// Calls a second: an open loop in place of the closed one
    #[arg(long, value_name = "N")]
    pub rate: Option<f64>,
    /// Server on processor 0, client on processor 1: steadier against servers that use no database
    #[arg(long)]
    pub pin: bool,
    /// A pair counts only if all else on the machine used less than this many cores
    #[arg(long, value_name = "CORES", default_value_t = 0.15)]
    pub other_cores: f64,
    /// Directory on the disk that is to be measured [default: the system's for temporary files]
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// Where the tables, the figures and the plot are written
    #[arg(long, value_name = "DIR", default_value = "target/bench-load")]
    pub output: PathBuf,
    /// OpenBao's binary; without it its points are left out
    #[arg(long, env = "OPENBAO_BIN", value_name = "FILE")]
    pub openbao: Option<PathBuf>,
}

/// What `--only` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Only {
    Set,
    List,
    Resolve,
    Delete,
    Footprint,
}

/// Where the service keeps its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Database {
    #[value(name = "sqlite")]
    Sqlite,
    Postgres,
}

/// How the service is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Protocol {
    Grpc,
    Rest,
}

impl Options {
    /// Whether `--only` lets it pass.
    pub fn wants(&self, only: Only) -> bool {
        self.only.is_empty() || self.only.contains(&only)
    }

    /// Whether `--only` lets the workload pass.
    pub fn wants_workload(&self, workload: Workload) -> bool {
        self.wants(match workload {
            Workload::Set => Only::Set,
            Workload::List => Only::List,
            Workload::Resolve => Only::Resolve,
            Workload::Delete => Only::Delete,
        })
    }

    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    pub fn warm_up(&self) -> Duration {
        Duration::from_secs_f64(self.warm_up)
    }
}

impl Database {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

impl Protocol {
    pub fn name(self) -> &'static str {
        match self {
            Self::Grpc => "gRPC",
            Self::Rest => "REST",
        }
    }
}
