//! The table of goals: what is compared with what, and what is asked of the ratio.

use clap::ValueEnum;

use crate::{
    options::{Database, Options, Protocol},
    workload::Workload,
};

/// What the service is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Yardstick {
    /// Nothing: the service alone
    None,
    /// The same workload over gRPC
    Grpc,
    /// For two replicas on one database: the first of them alone
    OneReplica,
    /// A tonic server with nothing behind it
    BareTonic,
    /// An axum server with nothing behind it
    BareAxum,
    /// SQLite, a transaction a request, in one thread
    SqliteLoop,
    /// SQLite, a thread that puts all waiting requests into one transaction
    SqliteWriter,
    /// pgbench with the statement that the workload comes down to
    Pgbench,
    /// OpenBao on its integrated storage, KV version 1
    RaftV1,
    /// OpenBao on its integrated storage, KV version 2
    RaftV2,
    /// OpenBao on PostgreSQL, KV version 1
    PgV1,
    /// OpenBao on PostgreSQL, KV version 2
    PgV2,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Calls a second: more is better.
    Rate,
    /// Half of the calls take no longer: less is better.
    P50,
    /// 99 of 100 take no longer, both at half of the rate that the yardstick reaches: less is better.
    P99,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    pub database: Database,
    pub workload: Workload,
    pub protocol: Protocol,
    pub connections: usize,
    pub yardstick: Yardstick,
    pub metric: Metric,
    pub goal: Option<f64>,
    pub stretch: Option<f64>,
}

/// A resolve waits for its audit record, which no yardstick does: it is held to this share of what its goal would be.
const DURABLE_AUDIT: f64 = 0.6;

/// Workload, yardstick, metric; then connections, goal and stretch goal (0: none).
type Row = (Workload, Yardstick, Metric, &'static [(usize, f64, f64)]);

use self::{
    Metric::{P50, P99, Rate},
    Workload::{Delete, List, Resolve, Set},
    Yardstick as Y,
};

const SQLITE: &[Row] = &[
    (Set, Y::RaftV2, Rate, &[(1, 6.0, 7.0), (16, 10.0, 13.0), (64, 14.0, 20.0)]),
    (Set, Y::RaftV1, Rate, &[(1, 4.5, 5.5), (16, 8.0, 11.0), (64, 12.0, 16.0)]),
    (Set, Y::RaftV2, P99, &[(64, 0.25, 0.0)]),
    (Set, Y::SqliteLoop, Rate, &[(64, 2.5, 4.0)]),
    (Set, Y::SqliteWriter, Rate, &[(64, 0.35, 0.5)]),
    (List, Y::BareTonic, Rate, &[(16, 0.38, 0.60), (64, 0.38, 0.60)]),
    (List, Y::RaftV2, Rate, &[(16, 7.0, 10.0)]),
    (List, Y::RaftV2, P50, &[(1, 0.4, 0.33)]),
    (Resolve, Y::BareTonic, Rate, &[(16, 0.42, 0.65), (64, 0.42, 0.65)]),
    (Resolve, Y::RaftV2, Rate, &[(16, 7.0, 10.0)]),
    (Resolve, Y::RaftV1, Rate, &[(16, 5.5, 0.0)]),
    (Resolve, Y::RaftV2, P50, &[(1, 0.4, 0.33)]),
    (Delete, Y::RaftV2, Rate, &[(16, 8.0, 10.0)]),
];

const POSTGRES: &[Row] = &[
    (Set, Y::Pgbench, Rate, &[(1, 0.50, 0.0), (16, 0.50, 0.65), (64, 0.50, 1.0)]),
    (Set, Y::PgV2, Rate, &[(1, 4.0, 0.0), (16, 7.0, 9.0), (64, 8.0, 16.0)]),
    (Set, Y::PgV1, Rate, &[(1, 2.2, 0.0), (16, 3.2, 4.0), (64, 4.0, 7.5)]),
    (Set, Y::PgV2, P99, &[(64, 0.25, 0.0)]),
    (Set, Y::OneReplica, Rate, &[(64, 0.9, 0.0)]),
    (List, Y::OneReplica, Rate, &[(64, 0.9, 0.0)]),
    (Resolve, Y::OneReplica, Rate, &[(64, 0.9, 0.0)]),
    (List, Y::Pgbench, Rate, &[(16, 0.48, 0.6)]),
    (List, Y::PgV2, Rate, &[(16, 11.0, 14.0)]),
    (List, Y::PgV1, Rate, &[(16, 7.5, 9.0)]),
    (Resolve, Y::Pgbench, Rate, &[(16, 0.45, 0.55)]),
    (Resolve, Y::PgV2, Rate, &[(16, 8.5, 10.0)]),
    (Resolve, Y::PgV1, Rate, &[(16, 4.0, 5.0)]),
];

/// Of REST, on SQLite.
const REST: &[Row] = &[
    (List, Y::Grpc, Rate, &[(16, 0.8, 0.0), (64, 0.8, 0.0)]),
    (Set, Y::Grpc, Rate, &[(16, 0.8, 0.0), (64, 0.8, 0.0)]),
    (List, Y::BareAxum, Rate, &[(16, 0.0, 0.0)]),
    (Set, Y::BareAxum, Rate, &[(16, 0.0, 0.0)]),
];

/// The points that the options let pass, in the order of the table.
pub fn points(options: &Options) -> Vec<Point> {
    let table = [
        (SQLITE, Database::Sqlite, Protocol::Grpc),
        (REST, Database::Sqlite, Protocol::Rest),
        (POSTGRES, Database::Postgres, Protocol::Grpc),
    ];
    let of_table = table.into_iter().flat_map(|(rows, database, protocol)| {
        let rows = rows.iter();
        rows.flat_map(move |row| {
            points_of(*row, database, protocol).chain(further(options, *row, database, protocol))
        })
    });
    of_table.chain(alone(options)).filter(|point| passes(options, point)).collect()
}

fn points_of(row: Row, database: Database, protocol: Protocol) -> impl Iterator<Item = Point> {
    let (workload, yardstick, metric, goals) = row;
    goals.iter().map(move |(connections, goal, stretch)| {
        let waits = workload == Workload::Resolve && yardstick != Yardstick::OneReplica;
        let of_durable = |goal: f64| match metric {
            Metric::Rate if waits => goal * DURABLE_AUDIT,
            Metric::P50 | Metric::P99 if waits => goal / DURABLE_AUDIT,
            Metric::Rate | Metric::P50 | Metric::P99 => goal,
        };
        let some = |goal: f64| (goal > 0.0).then(|| of_durable(goal));
        Point {
            database,
            workload,
            protocol,
            connections: *connections,
            yardstick,
            metric,
            goal: some(*goal),
            stretch: some(*stretch),
        }
    })
}

/// What a row has no goal for, where the yardstick and the connections are asked for by name.
fn further(
    options: &Options,
    (workload, yardstick, metric, goals): Row,
    database: Database,
    protocol: Protocol,
) -> impl Iterator<Item = Point> {
    let named = options.yardstick.contains(&yardstick);
    let without_goal = move |connections: &&usize| named && goals.iter().all(|(c, ..)| c != *connections);
    let (goal, stretch) = (None, None);
    options.connections.iter().filter(without_goal).map(move |connections| {
        let connections = *connections;
        Point { database, workload, protocol, connections, yardstick, metric, goal, stretch }
    })
}

/// The service alone: only where it is asked for.
fn alone(options: &Options) -> Vec<Point> {
    let mut points = Vec::new();
    if !options.yardstick.contains(&Yardstick::None) {
        return points;
    }
    let connections = if options.connections.is_empty() { &[1, 16, 64][..] } else { &options.connections };
    for database in [Database::Sqlite, Database::Postgres] {
        for protocol in [Protocol::Grpc, Protocol::Rest] {
            for workload in [Set, List, Resolve, Delete] {
                if protocol == Protocol::Rest && workload == Resolve {
                    continue; // no REST call gives values
                }
                points.extend(connections.iter().map(|connections| Point {
                    database,
                    workload,
                    protocol,
                    connections: *connections,
                    yardstick: Yardstick::None,
                    metric: Rate,
                    goal: None,
                    stretch: None,
                }));
            }
        }
    }
    points
}

fn passes(options: &Options, point: &Point) -> bool {
    fn any<T: PartialEq>(filter: &[T], value: &T) -> bool {
        filter.is_empty() || filter.contains(value)
    }
    options.wants_workload(point.workload)
        && any(&options.database, &point.database)
        && any(&options.protocol, &point.protocol)
        && any(&options.connections, &point.connections)
        && any(&options.yardstick, &point.yardstick)
}

impl Metric {
    pub fn name(self) -> &'static str {
        match self {
            Self::Rate => "calls/s",
            Self::P50 => "p50",
            Self::P99 => "p99",
        }
    }

    /// Whether a ratio is as good as asked for.
    pub fn reaches(self, ratio: f64, goal: f64) -> bool {
        match self {
            Self::Rate => ratio >= goal,
            Self::P50 | Self::P99 => ratio <= goal,
        }
    }
}

impl Yardstick {
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "alone",
            Self::Grpc => "the same over gRPC",
            Self::OneReplica => "one of two replicas",
            Self::BareTonic => "bare tonic",
            Self::BareAxum => "bare axum",
            Self::SqliteLoop => "SQLite, a transaction a request",
            Self::SqliteWriter => "SQLite, a writer thread",
            Self::Pgbench => "pgbench",
            Self::RaftV1 => "OpenBao raft v1",
            Self::RaftV2 => "OpenBao raft v2",
            Self::PgV1 => "OpenBao PostgreSQL v1",
            Self::PgV2 => "OpenBao PostgreSQL v2",
        }
    }

    /// Whether it is OpenBao, and then its KV version and whether it is on PostgreSQL.
    pub fn openbao(self) -> Option<(u8, bool)> {
        match self {
            Self::RaftV1 => Some((1, false)),
            Self::RaftV2 => Some((2, false)),
            Self::PgV1 => Some((1, true)),
            Self::PgV2 => Some((2, true)),
            _ => None,
        }
    }
}
