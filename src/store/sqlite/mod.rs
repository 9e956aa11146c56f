//! SQLite, called where it stands.
//!
//! A statement takes SQLite a few microseconds; to hand it to a thread of the driver's and its rows back, as sea-orm's
//! own driver does for each, takes many times that. So sea-orm speaks here to a connection that answers at once
//! ([`Connection`]). One thread owns the one that writes, and puts writes that wait into one transaction (`queue`);
//! reads take one of a few that only read (`readers`), unless
//! what they ask for is in memory (`memory`).

mod backup;
mod checkpoint;
mod connection;
mod contents;
mod error;
mod memory;
mod queue;
mod readers;

use std::{path::Path, sync::Arc, time::Duration};

use tokio_util::task::TaskTracker;

pub use backup::{copy_database, has_orphaned_log, replace_database};
use checkpoint::Checkpoints;
pub(super) use connection::Connection;
pub use contents::{Care, Contents};
use memory::Memory;
pub(super) use memory::Touched;
pub(super) use queue::Queue;
pub(super) use readers::Readers;
pub(super) use rusqlite::{Result, Row, types::ValueRef};

use super::{Error, measures::Measures};

/// Another process (a backup, a shell) may hold SQLite's lock this long before a write fails.
const BUSY: Duration = Duration::from_secs(10);

/// The same for reads, which nothing but an exclusive lock of another process holds up, and which keep the thread that
/// asks.
const BUSY_READING: Duration = Duration::from_millis(100);

/// Opens a database, makes its file if there is none, and starts its writer, which runs on `tasks` until nobody can
/// write any more.
pub(super) fn open(
    path: &Path,
    patience: Duration,
    measures: &Measures,
    tasks: &TaskTracker,
) -> std::result::Result<(Readers, Queue), Error> {
    let cannot = |error: rusqlite::Error| {
        Error::Setup(format!("cannot open the database {} (--database-url): {error}", path.display()))
    };
    let writer = Connection::writing(path, measures).map_err(cannot)?;
    let checkpoints = Checkpoints::start(Connection::moving(path, measures).map_err(cannot)?, tasks);
    let memory = writer.path().and_then(|path| Memory::new(&path));
    let memory = memory.map_err(|error| {
        let path = path.display();
        Error::Setup(format!("cannot read where the commits of the database {path} are counted: {error}"))
    })?;
    let memory = Arc::new(memory);
    let readers = Readers::open(path, patience, Arc::clone(&memory), measures).map_err(cannot)?;
    Ok((readers, Queue::start(writer, memory, checkpoints, tasks)))
}
