//! Moving what was committed from the write-ahead log into the database, beside the writer.
//!
//! SQLite's own checkpoints are made by whoever commits, who meanwhile keeps all others waiting. Here another thread does
//! most of that work. The log begins anew only once all of it was moved, which never happens while writes go on; so the
//! writer still makes a checkpoint himself when the log has become long ([`LONGEST`]), and finds little left to do.

use std::sync::mpsc;

use sea_orm::DbErr;
use tokio_util::task::TaskTracker;

use super::Connection;

/// So many pages may be in the log before the writer sees to it: 64 MiB.
pub(super) const LONGEST: i64 = 16_384;

/// So many pages make the other thread see to it.
const LONG: i64 = 2_000;

/// After so many writes it has a look. Each adds some four pages, and more for large values.
const LOOK_EVERY: usize = 200;

/// What tells the thread of writes.
pub(super) struct Checkpoints {
    wake: mpsc::SyncSender<()>,
    writes: usize,
}

// === impl Checkpoints ===

impl Checkpoints {
    /// Starts the thread, which ends with this.
    pub(super) fn start(connection: Connection, tasks: &TaskTracker) -> Self {
        let (wake, woken) = mpsc::sync_channel(1);
        tasks.spawn_blocking(move || {
            while woken.recv().is_ok() {
                if let Err(error) = see_to(&connection) {
                    // The writer makes up for it
                    tracing::warn!(%error, "a checkpoint was not made");
                }
            }
        });
        Self { wake, writes: 0 }
    }

    /// So many writes were committed.
    pub(super) fn after(&mut self, writes: usize) {
        self.writes += writes;
        if self.writes >= LOOK_EVERY {
            self.writes = 0;
            // It may be at it already
            let _is_woken = self.wake.try_send(()).is_ok();
        }
    }
}

fn see_to(connection: &Connection) -> Result<(), DbErr> {
    let (in_log, moved) = connection.checkpoint("NOOP")?;
    if in_log - moved >= LONG {
        connection.checkpoint("PASSIVE")?;
    }
    Ok(())
}
