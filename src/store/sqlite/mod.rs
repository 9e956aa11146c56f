//! SQLite, called where it stands.
//!
//! A statement takes SQLite a few microseconds; to hand it to a thread of the driver's and its rows back, as sea-orm's
//! own driver does for each, takes many times that. So sea-orm speaks here to a connection that answers at once
//! ([`Connection`]). One thread owns the one that writes, and puts writes that wait into one transaction (`queue`);
//! reads take one of a few that only read, on the thread that asks (`readers`).

mod checkpoint;
mod connection;
mod error;
mod queue;
mod readers;

use std::{path::Path, time::Duration};

use tokio_util::task::TaskTracker;

use checkpoint::Checkpoints;
pub(super) use connection::Connection;
pub(super) use queue::Queue;
pub(super) use readers::Readers;
pub(super) use rusqlite::{Result, Row, types::ValueRef};

use super::Error;

/// Another process (a backup, a shell) may hold SQLite's lock this long.
const BUSY: Duration = Duration::from_secs(10);

/// Opens a database, makes its file if there is none, and starts its writer, which runs on `tasks` until nobody can
/// write any more.
pub(super) fn open(
    path: &Path,
    patience: Duration,
    tasks: &TaskTracker,
) -> std::result::Result<(Readers, Queue), Error> {
    let cannot = |error: rusqlite::Error| {
        Error::Setup(format!("cannot open the database {}: {error}", path.display()))
    };
    let writer = Connection::writing(path).map_err(cannot)?;
    let checkpoints = Checkpoints::start(Connection::moving(path).map_err(cannot)?, tasks);
    let readers = Readers::open(path, patience).map_err(cannot)?;
    Ok((readers, Queue::start(writer, checkpoints, tasks)))
}
