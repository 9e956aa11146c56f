//! Word of changes, from server to server.
//!
//! PostgreSQL carries it (LISTEN/NOTIFY). It is told after the commit and by one task: NOTIFY inside each
//! transaction would make all commits of the database wait for one lock. So word can be lost, by a crash
//! in between or while the connection is down; who listens must look for himself now and then, and at once
//! when [`Word::Lost`] says so. SQLite has one server, which knows of its own changes.

use std::time::Duration;

use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::{Store, pool::Pool};
use crate::domain::{AgentId, Revision};

/// The channel, on PostgreSQL.
const CHANNEL: &str = "superserve_changes";

/// The most changes told at once: PostgreSQL carries 8,000 bytes, and a change takes at most 90.
const AT_ONCE: usize = 80;

/// Changes that may wait to be told; more are lost, and found by looking.
const QUEUE: usize = 4096;

/// The pause before a lost connection is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// An agent that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The agent.
    pub agent: AgentId,
    /// Its revision now; `None` if it was deleted.
    pub revision: Option<Revision>,
}

/// What a listener hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// A change.
    Of(Changed),
    /// Others may have gone unheard: look.
    Lost,
}

/// How word gets to other servers.
#[derive(Clone, Debug)]
pub(super) enum Announcer {
    /// There are none.
    Nobody,
    /// By a task that tells PostgreSQL; the options are for those who listen.
    Postgres(mpsc::Sender<Changed>, Box<PgConnectOptions>),
}

// === impl Changed ===

impl Changed {
    fn to_line(&self) -> String {
        match self.revision {
            Some(revision) => format!("{} {}", self.agent, revision.0),
            None => self.agent.to_string(),
        }
    }

    fn from_line(line: &str) -> Option<Self> {
        let (agent, revision) = match line.split_once(' ') {
            Some((agent, revision)) => (agent, Some(Revision(revision.parse().ok()?))),
            None => (line, None),
        };
        Some(Self { agent: AgentId::parse(agent)?, revision })
    }
}

// === impl Announcer ===

impl Announcer {
    /// Starts the task that tells PostgreSQL. It ends with the last clone of the store.
    pub(super) fn postgres(pool: Pool, options: PgConnectOptions, tasks: &TaskTracker) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tasks.spawn(tell(pool, receiver));
        Self::Postgres(sender, Box::new(options))
    }
}

async fn tell(pool: Pool, mut changes: mpsc::Receiver<Changed>) {
    let mut some = Vec::with_capacity(AT_ONCE);
    while changes.recv_many(&mut some, AT_ONCE).await > 0 {
        let lines: Vec<_> = some.drain(..).map(|change| change.to_line()).collect();
        let notify = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT pg_notify($1, $2)",
            [CHANNEL.into(), lines.join("\n").into()],
        );
        // A query, so that it outlives a dead connection: what is told twice does no harm
        if let Err(error) = pool.query_one_raw(notify).await {
            tracing::debug!(%error, "a change was not announced");
        }
    }
}

// === impl Store ===

impl Store {
    /// Tells other servers of a change, soon and not for certain.
    pub fn announce(&self, change: Changed) {
        if let Announcer::Postgres(sender, _) = &self.announcer {
            // A full queue loses word, which listeners allow for
            drop(sender.try_send(change));
        }
    }

    /// Listens to what other servers tell, by a task that ends with the receiver. On SQLite nothing is ever
    /// heard.
    #[must_use]
    pub fn listen(&self, tasks: &TaskTracker) -> mpsc::Receiver<Word> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        if let Announcer::Postgres(_, options) = &self.announcer {
            tasks.spawn(listen((**options).clone(), sender));
        } else {
            tasks.spawn(async move { sender.closed().await });
        }
        receiver
    }
}

async fn listen(options: PgConnectOptions, sender: mpsc::Sender<Word>) {
    while !sender.is_closed() {
        tokio::select! {
            () = sender.closed() => return,
            Err(error) = hear(&options, &sender) => tracing::debug!(%error, "listening was interrupted"),
        }
        tokio::select! {
            () = sender.closed() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Listens on one connection until it is lost.
async fn hear(options: &PgConnectOptions, sender: &mpsc::Sender<Word>) -> Result<(), sqlx::Error> {
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(CHANNEL).await?;
    // Whatever happened before this moment went unheard
    let mut word = vec![Word::Lost];
    loop {
        for word in word.drain(..) {
            if sender.send(word).await.is_err() {
                return Ok(());
            }
        }
        match listener.try_recv().await? {
            None => word.push(Word::Lost),
            Some(notification) => {
                word.extend(notification.payload().lines().filter_map(Changed::from_line).map(Word::Of));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_read_as_it_was_written() {
        let agent = AgentId::parse("agt_abc").unwrap();
        for revision in [None, Some(Revision(7))] {
            let change = Changed { agent: agent.clone(), revision };
            assert_eq!(Changed::from_line(&change.to_line()), Some(change));
        }
        for line in ["", "agt_", "agt_a x", "x 1", "agt_a 1 2"] {
            assert_eq!(Changed::from_line(line), None, "{line}");
        }
    }
}
