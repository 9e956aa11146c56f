//! The database: the only place that knows sea-orm. It sees sealed bytes, never a value.
//!
//! Reads are methods of [`Store`] and take one statement each, so that what they return was true at one
//! moment; only [`Store::agents`] takes a second one, for the keys of its page. What every call needs is read for
//! many calls at once (`batch`). An agent's secrets change by [`Store::change`]; everything else is written by
//! methods of [`Tx`], which exists only inside [`Store::write`]: all of them together happen or none does. Every
//! query of an agent starts from its tenant, or drops what is not the tenant's.
//!
//! To add a table: an entity, a migration, a file here named after it. Rules: never ask for a second
//! connection inside a transaction; read back in the same transaction; lists come in pages.

mod agent_row;
mod agents;
mod audit;
mod audit_queue;
mod batch;
mod change;
mod changes;
mod columns;
mod connect;
mod engine;
mod entity;
mod error;
mod examine;
mod found;
mod gathered;
mod hosts;
mod kept;
mod keys;
mod line;
mod lookups;
mod measures;
mod metadata;
mod migrate;
mod migration;
mod patience;
mod pool;
mod previous;
mod rewrap;
mod room;
mod rows;
mod schema;
mod scout;
mod secrets;
mod servers;
mod sqlite;
mod tenants;
mod token_uses;
mod tokens;
mod transaction;
mod writer;

pub use agent_row::{AgentRow, WrappedKeyRow};
pub use agents::Deployment;
pub use audit::Given;
pub use change::{Change, Decided, Found, Question};
pub use changes::{Changed, Word};
pub use connect::{Config, DatabaseUrl};
pub use error::{Error, Transient};
pub use examine::{Examined, examine};
pub use found::Remembered;
pub use gathered::AgentWith;
pub use hosts::Hosts;
pub use keys::KeyRow;
pub use metadata::StoredSecret;
pub use rewrap::{Rewrapped, Wrapping};
pub use schema::Schema;
pub use secrets::{PreviousSecret, SealedSecret, SealedWrite};
pub use servers::ServerRow;
pub use sqlite::{Care, Contents, copy_database, has_orphaned_log, replace_database};
pub use tenants::Belongings;
pub use writer::Tx;

use tokio_util::task::TaskTracker;

use batch::Batcher;
use changes::Announcer;
use engine::Engine;
use lookups::Lookups;
use measures::Measures;
use pool::Pool;
use writer::Writer;

/// The database, of either kind. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    reader: Reader,
    lookups: lookups::Reading,
    /// Of what may be large, so that nothing small waits behind it.
    values: lookups::Reading,
    writer: Writer,
    changes: change::Changes,
    audit: audit_queue::AuditQueue,
    announcer: Announcer,
    measures: Measures,
    /// Whether a statement may be about several agents.
    batching: bool,
}

/// By what the database is read.
type Reader = Engine<Pool, sqlite::Readers>;

// === impl Store ===

impl Store {
    /// Calls that come together share statements where `batching` says so.
    fn new(
        reader: Reader,
        writer: Writer,
        announcer: Announcer,
        measures: Measures,
        batching: bool,
        tasks: &TaskTracker,
    ) -> Self {
        let lanes = |lanes| batching.then_some((lanes, tasks));
        let lookups = || match &reader {
            Engine::Postgres(pool) => {
                Engine::Postgres(Batcher::new(Lookups::new(pool.clone(), batching), lanes(1)))
            }
            Engine::Sqlite(readers) => Engine::Sqlite(readers.clone()),
        };
        Self {
            lookups: lookups(),
            values: lookups(),
            changes: change::Changes::new(&writer, batching.then_some(tasks)),
            // One after the other: what waits meanwhile shares the next commit
            audit: Batcher::new(audit_queue::Recording(writer.clone()), lanes(1)),
            reader,
            writer,
            announcer,
            measures,
            batching,
        }
    }

    /// Whether there is still somebody to write. Where a thread does that for all, and has come to an end by a fault of ours,
    /// nothing is written any more until the next start.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        match &self.writer {
            Engine::Postgres(_) => true,
            Engine::Sqlite(queue) => queue.is_open(),
        }
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it does not.
    pub async fn ping(&self) -> Result<(), Error> {
        match &self.reader {
            Engine::Postgres(pool) => pool.ping().await?,
            Engine::Sqlite(readers) => readers.ping().await?,
        }
        Ok(())
    }
}
