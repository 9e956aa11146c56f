//! The database: the only place that knows sea-orm. It sees sealed bytes, never a value.
//!
//! Reads are methods of [`Store`] and take one statement each, so that what they return was true at one
//! moment; only [`Store::agents`] takes a second one, for the keys of its page. Writes are methods of [`Tx`], which exists only inside [`Store::write`]: all of them together
//! happen or none does. Every query of an agent starts from its tenant or from the agent's locked row.
//!
//! To add a table: an entity, a migration, a file here named after it. Rules: never ask for a second
//! connection inside a transaction; read back in the same transaction; lists come in pages.

mod agents;
mod audit;
mod audit_queue;
mod changes;
mod connect;
mod entity;
mod error;
mod hosts;
mod idempotency;
mod keys;
mod metadata;
mod migrate;
mod migration;
mod patience;
mod pool;
mod previous;
mod scout;
mod secrets;
mod tokens;
mod writer;

pub use agents::{AgentRow, Deployment, WrappedKeyRow};
pub use audit::Given;
pub use changes::{Changed, Word};
pub use connect::{Config, DatabaseUrl};
pub use error::{Error, Transient};
pub use hosts::Hosts;
pub use idempotency::Remembered;
pub use keys::KeyRow;
pub use metadata::StoredSecret;
pub use secrets::{PreviousSecret, SealedSecret, SealedWrite};
pub use writer::Tx;

/// The database, of either kind. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    reader: pool::Pool,
    writer: writer::Writer,
    audit: audit_queue::AuditQueue,
    announcer: changes::Announcer,
}

impl Store {
    /// Whether the database answers.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it does not.
    pub async fn ping(&self) -> Result<(), Error> {
        Ok(self.reader.ping().await?)
    }
}
