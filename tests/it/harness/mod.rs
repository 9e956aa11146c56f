//! What the tests stand on: databases, the server as a process, and three kinds of client.
//!
//! | part | gives |
//! |---|---|
//! | [`postgres`] | a throw-away PostgreSQL cluster, and a database of its own for each test |
//! | [`patroni`] | a PostgreSQL of three members that fails over |
//! | [`engine`] | as what PostgreSQL is spoken to: as itself, or as a distributed database |
//! | [`server`] | `superserve serve` as a process: start, SIGTERM, SIGKILL, restart, its log |
//! | [`rest`] | plain HTTP with JSON, or with any bytes |
//! | [`frames`] | HTTP/2 frame by frame, with any bytes |
//! | [`grpc`] | the generated clients with a token |
//! | [`grpc_web`] | gRPC-Web by hand, with any bytes |
//! | [`cli`] | the binary as a client, with pipes or on a terminal |
//! | [`document`] | the commands of a Markdown document, run as they stand there |
//! | [`issuer`] | an issuer of signed tokens, and the server that publishes its keys |
//! | [`load`] | callers that go on while something goes wrong, and what became of their calls |
//! | [`open_loop`] | calls that come when they come, and how long each took |
//! | [`relay`] | an address that stays the same for a server that does not, that hangs up, or that falls silent |
//! | [`pki`] | an authority, its certificates, servers and clients that show them |
//! | [`programs`] | which programs of the machine are there |
//! | [`collector`] | a receiver of traces, which takes them, or says nothing |
//! | [`fixtures`] | agents and tokens that a case begins with |
//! | [`sql`] | rows behind the server's back, and locks that make a call slow |
//! | [`steps`] | what a case looks at: values, the audit trail |
//! | [`transit`] | a transit engine, a real OpenBao or a small one, that can be lost |
//! | [`writers`] | writers that go on until the server is gone |
//! | [`search`] | finds a text in whatever form it was written |
//!
//! Nothing here sleeps and hopes: what has to happen is waited for, with a limit ([`wait_for`]).

pub(crate) mod cli;
pub(crate) mod collector;
pub(crate) mod document;
pub(crate) mod engine;
pub(crate) mod fixtures;
pub(crate) mod frames;
pub(crate) mod grpc;
pub(crate) mod grpc_web;
pub(crate) mod issuer;
pub(crate) mod load;
pub(crate) mod memory;
pub(crate) mod moto;
pub(crate) mod open_loop;
pub(crate) mod patroni;
pub(crate) mod pki;
pub(crate) mod postgres;
pub(crate) mod programs;
pub(crate) mod relay;
pub(crate) mod rest;
pub(crate) mod search;
pub(crate) mod server;
pub(crate) mod sql;
pub(crate) mod steps;
pub(crate) mod transit;
pub(crate) mod writers;

use std::{
    ffi::OsString,
    thread,
    time::{Duration, Instant},
};

/// The longest that anything here is waited for.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Where a server under test keeps its rows.
#[derive(Debug)]
pub(crate) enum Database {
    /// A file in the server's data directory.
    Sqlite,
    /// A fresh database on a PostgreSQL server.
    Postgres(postgres::Database),
}

/// Makes two tests of one `async fn case(database: Database)`: `case::sqlite` and `case::postgres`.
///
/// ```ignore
/// on_each_database!(a_write_survives);
/// async fn a_write_survives(database: Database) { … }
/// ```
macro_rules! on_each_database {
    ($($(#[$attribute:meta])* $case:ident),+ $(,)?) => {$(
        mod $case {
            use crate::harness::{Database, postgres};

            $(#[$attribute])*
            #[tokio::test]
            async fn sqlite() {
                super::$case(Database::Sqlite).await;
            }

            $(#[$attribute])*
            #[tokio::test]
            async fn postgres() {
                if let Some(database) = postgres::Database::create().await {
                    super::$case(Database::Postgres(database)).await;
                }
            }
        }
    )+};
}
pub(crate) use on_each_database;

/// Polls until there is an answer.
///
/// # Panics
/// After [`LIMIT`], naming what was waited for.
pub(crate) fn wait_for<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(start.elapsed() < LIMIT, "waited {LIMIT:?} for {what}");
        thread::sleep(POLL_INTERVAL);
    }
}

/// Polls an asynchronous question until there is an answer.
///
/// # Panics
/// After [`LIMIT`], naming what was waited for.
pub(crate) async fn eventually<T>(what: &str, poll: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(LIMIT, what, poll).await
}

/// The same for what takes its time by design.
///
/// # Panics
/// After `limit`, naming what was waited for.
pub(crate) async fn eventually_within<T>(
    limit: Duration,
    what: &str,
    mut poll: impl AsyncFnMut() -> Option<T>,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = poll().await {
            return found;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} for {what}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// One setting of the test run.
#[expect(clippy::disallowed_methods, reason = "a test run has no other settings than its environment")]
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The search path: the one variable that programs under test inherit.
pub(crate) fn search_path() -> OsString {
    std::env::var_os("PATH").expect("PATH is set")
}
