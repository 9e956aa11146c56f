//! Whether this server can serve, and what keeps it from that.

use super::{Error, Service, held::Lacking};
use crate::domain::KekId;

/// Why a server is not ready.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// The database does not answer.
    #[error("the database does not answer")]
    Database(#[from] Error),
    /// The servers wrap by a key that this one has not.
    #[error(
        "the keyring lacks the key {id} of the fingerprint {needed}, by which the servers wrap the data keys of agents"
    )]
    Key {
        /// The key's id.
        id: KekId,
        /// The key's fingerprint.
        needed: String,
    },
}

/// Something that a server needs to be ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What it is called.
    pub name: &'static str,
    /// Why it is not met; `None` if it is.
    pub failure: Option<String>,
}

// === impl Service ===

impl Service {
    /// Whether this server can serve: the database answers, and the keyring has the key in use. One agent whose key is
    /// missing is no reason to send the calls for all others elsewhere.
    ///
    /// # Errors
    /// [`NotReady`].
    pub async fn ready(&self) -> Result<(), NotReady> {
        self.parts.store.ping().await.map_err(Error::from)?;
        self.keys_at_hand()
    }

    /// All that this server needs to be ready, also that no later version has changed the schema under it.
    pub async fn conditions(&self) -> [Condition; 3] {
        let database = self.parts.store.ping().await.map_err(|error| NotReady::Database(error.into()));
        let schema = match database {
            // Who does not answer is not asked again
            Err(_) => None,
            Ok(()) => match self.parts.store.present_schema().await {
                Ok(schema) => schema.too_new(),
                Err(error) => Some(error.to_string()),
            },
        };
        [
            Condition::of("database", database),
            Condition { name: "schema", failure: schema },
            Condition::of("keys", self.keys_at_hand()),
        ]
    }

    /// Whether all is there that does the work, so that a new start would change nothing. A database that does not answer
    /// is no reason for one.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.parts.store.is_writing()
    }

    fn keys_at_hand(&self) -> Result<(), NotReady> {
        match self.parts.keyring.lacking() {
            Some(Lacking { id, needed }) => Err(NotReady::Key { id, needed }),
            None => Ok(()),
        }
    }
}

// === impl Condition ===

impl Condition {
    fn of(name: &'static str, outcome: Result<(), NotReady>) -> Self {
        Self { name, failure: outcome.err().map(|why| why.to_string()) }
    }
}
