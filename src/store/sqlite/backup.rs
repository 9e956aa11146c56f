//! A copy of the database as it was at one moment, while others go on reading and writing it.
//!
//! SQLite's backup API copies page by page, so that one can tell how far it is and end in between; `VACUUM INTO` is one
//! statement, and writes every row anew. Left to itself a copy begins from the first page again whenever another
//! process has written, which next to a busy server has no end. So it is made within one read transaction: for this
//! connection the database stands still meanwhile, and nobody waits for it. What others write stays in the log until then.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{
    Connection, ErrorCode, OpenFlags,
    backup::{Backup, StepResult},
};

use super::BUSY;
use crate::store::Error;

/// Pages that are copied in one go: 4 MiB of the usual size.
const PAGES: i32 = 1024;

/// Copies a database into a file that is there and empty, and leaves it as one file that needs no other. `progress` is
/// told how many pages are copied, and of how many. All that was committed before this is called is in the copy. It is
/// not on the disk yet.
///
/// # Errors
/// [`Error::Setup`] that names the file.
pub async fn copy_database(from: &Path, to: &Path, mut progress: impl FnMut(u64, u64)) -> Result<(), Error> {
    let cannot = |error| cannot("copy", from, &error);
    let source = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(cannot)?;
    source.busy_timeout(BUSY).map_err(cannot)?;
    let mut target = Connection::open_with_flags(to, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(cannot)?;
    // What a crash leaves of it is thrown away anyway
    target.pragma_update(None, "synchronous", "OFF").map_err(cannot)?;
    // The moment that the copy shows
    let hold = "BEGIN; SELECT COUNT(*) FROM sqlite_master";
    source.execute_batch(hold).map_err(cannot)?;
    let backup = Backup::new(&source, &mut target).map_err(cannot)?;
    loop {
        let step = backup.step(PAGES).map_err(cannot)?;
        if step == StepResult::Done {
            break;
        }
        if step != StepResult::More {
            return Err(Error::Setup(format!("cannot copy to {}: somebody has locked it", to.display())));
        }
        let state = backup.progress();
        let (all, left) = (state.pagecount.unsigned_abs(), state.remaining.unsigned_abs());
        progress(all.saturating_sub(left).into(), all.into());
        // So that whoever waits for it can give it up
        tokio::task::yield_now().await;
    }
    drop(backup);
    // The database's own mode would have it make two files beside it whenever somebody looks at it
    target.pragma_update(None, "journal_mode", "DELETE").map_err(cannot)
}

/// Puts a database file in the place of another one, which is kept under the name of `aside`, unless somebody has that
/// open. Says whether there was one.
///
/// # Errors
/// [`Error::Setup`] when it is in use, or cannot be opened, so that one does not know; nothing has changed then.
pub fn replace_database(new: &Path, place: &Path, aside: &Path) -> Result<(), Error> {
    let replaced = |error: io::Error| {
        Error::Setup(format!("cannot put a database in the place of {}: {error}", place.display()))
    };
    let _held = alone(place)?;
    fs::hard_link(place, aside).map_err(replaced)?;
    fs::rename(new, place).map_err(replaced)
}

/// Holds a database for oneself. Its log is in it then, and gone: one that stayed would be taken for that of the next
/// file of this name.
fn alone(path: &Path) -> Result<Connection, Error> {
    let opened =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).and_then(|connection| {
            connection.busy_timeout(Duration::ZERO)?;
            // Who has it open in this mode holds a lock that this needs
            connection.pragma_update(None, "journal_mode", "DELETE")?;
            connection.execute_batch("BEGIN EXCLUSIVE")?;
            Ok(connection)
        });
    opened.map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Setup(format!(
            "the database {} is in use: stop the server that has it open, and run this again",
            path.display()
        )),
        _ => Error::Setup(format!(
            "the database {} cannot be opened, so that nobody knows whether a server uses it ({error}): see that none \
             does, move it away with its -wal and -shm, and run this again",
            path.display()
        )),
    })
}

/// The log of a database that may be beside it.
pub(super) fn log_of(database: &Path) -> PathBuf {
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

/// Whether the log of a database lies beside the place of its file, which is not there.
#[must_use]
pub fn has_orphaned_log(database: &Path) -> bool {
    !database.exists() && log_of(database).exists()
}

pub(super) fn cannot(what: &str, path: &Path, error: &rusqlite::Error) -> Error {
    Error::Setup(format!("cannot {what} the database {}: {error}", path.display()))
}
