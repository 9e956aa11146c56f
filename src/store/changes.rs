//! Word of changes, from server to server.
//!
//! PostgreSQL carries it (LISTEN/NOTIFY). It is told after the commit and by one task: NOTIFY inside each
//! transaction would make all commits of the database wait for one lock. So word can be lost, by a crash
//! in between or while the connection is down, and behind some poolers none arrives; who listens must look for
//! himself now and then, and at once when [`Word::Lost`] says so. It can be switched off, for databases that speak
//! PostgreSQL without LISTEN. SQLite has one server, which knows of its own changes.

use std::time::Duration;

use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, Statement};
use sqlx::{
    PgPool,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_util::task::TaskTracker;

use super::{Store, line::Moves, pool::Pool};
use crate::domain::{AgentId, Revision};

/// The channel, on PostgreSQL.
const CHANNEL: &str = "superserve_changes";

/// The most changes told at once: PostgreSQL carries 8,000 bytes, and a change takes at most 90.
const AT_ONCE: usize = 80;

/// Changes that may wait to be told; more are lost, and found by looking.
const QUEUE: usize = 4096;

/// The pause before a lost connection is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// How long what a listener tells itself may take to arrive.
const OWN_WORD: Duration = Duration::from_secs(5);

/// A listener that has heard nothing for so long tells itself something.
const QUIET: Duration = Duration::from_secs(10);

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
    /// There are none, or they look for themselves.
    Nobody,
    /// By a task that tells PostgreSQL; the rest is for those who listen.
    Postgres(mpsc::Sender<Changed>, Box<Ear>),
}

/// What listening takes.
#[derive(Clone, Debug)]
pub(super) struct Ear {
    /// Knows how to open the connection that hears.
    connections: PgPool,
    /// Tells when another server has the database.
    moves: Moves,
    /// Connections to tell something on.
    pool: Pool,
    /// The operator knows that nothing is heard.
    has_warned: bool,
}

/// Why listening came to an end.
#[derive(Debug, thiserror::Error)]
enum Deaf {
    #[error("{0}")]
    Listen(#[from] sqlx::Error),
    #[error("{0}")]
    Tell(#[from] DbErr),
    #[error("the connection was lost")]
    Lost,
    #[error(
        "the database takes LISTEN and delivers nothing, as behind a pooler that gives each transaction another \
         connection"
    )]
    Nothing,
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
    pub(super) fn postgres(pool: Pool, connections: PgPool, moves: Moves, tasks: &TaskTracker) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tasks.spawn(tell(pool.clone(), receiver));
        Self::Postgres(sender, Box::new(Ear { connections, moves, pool, has_warned: false }))
    }
}

async fn tell(pool: Pool, mut changes: mpsc::Receiver<Changed>) {
    let mut some = Vec::with_capacity(AT_ONCE);
    while changes.recv_many(&mut some, AT_ONCE).await > 0 {
        let lines: Vec<_> = some.drain(..).map(|change| change.to_line()).collect();
        // A query, so that it outlives a dead connection: what is told twice does no harm
        if let Err(error) = pool.query_one_raw(notify(&lines.join("\n"))).await {
            tracing::debug!(%error, "a change was not announced");
        }
    }
}

fn notify(text: &str) -> Statement {
    let values = [CHANNEL.into(), text.into()];
    Statement::from_sql_and_values(DbBackend::Postgres, "SELECT pg_notify($1, $2)", values)
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
        if let Announcer::Postgres(_, ear) = &self.announcer {
            tasks.spawn((**ear).clone().listen(sender));
        } else {
            tasks.spawn(async move { sender.closed().await });
        }
        receiver
    }
}

// === impl Ear ===

impl Ear {
    async fn listen(mut self, sender: mpsc::Sender<Word>) {
        let closed = sender.clone();
        while !sender.is_closed() {
            let ended = tokio::select! {
                () = closed.closed() => return,
                ended = self.hear(&sender) => ended,
            };
            if let Err(reason) = ended {
                self.warn(&reason);
            }
            tokio::select! {
                () = closed.closed() => return,
                () = sleep(PAUSE) => {}
            }
        }
    }

    /// Listens on one connection until it is lost. It is told something at once: a pooler may take LISTEN for one
    /// of its connections and never pass on what arrives there. And again when it was quiet: a connection to a machine
    /// that went without a word is quiet too.
    async fn hear(&mut self, sender: &mpsc::Sender<Word>) -> Result<(), Deaf> {
        self.moves.mark_unchanged();
        let options = self.connections.connect_options();
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with((*options).clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        timeout(OWN_WORD, listener.listen(CHANNEL)).await.map_err(|_elapsed| Deaf::Lost)??;
        self.pool.query_one_raw(notify("")).await?;
        let (mut is_told, mut is_heard) = (true, false);
        let wait = sleep(OWN_WORD);
        tokio::pin!(wait);
        // Whatever happened before this moment went unheard
        let mut words = vec![Word::Lost];
        loop {
            for word in words.drain(..) {
                if sender.send(word).await.is_err() {
                    return Ok(());
                }
            }
            let heard = listener.try_recv();
            tokio::pin!(heard);
            let heard = loop {
                tokio::select! {
                    heard = &mut heard => break heard?.ok_or(Deaf::Lost)?,
                    Ok(()) = self.moves.changed() => return Err(Deaf::Lost),
                    () = &mut wait, if is_told || is_heard => {
                        if is_told && is_heard {
                            return Err(Deaf::Lost);
                        } else if is_told {
                            self.warn(&Deaf::Nothing);
                            is_told = false;
                        } else {
                            self.pool.query_one_raw(notify("")).await?;
                            is_told = true;
                            wait.as_mut().reset(Instant::now() + OWN_WORD);
                        }
                    }
                }
            };
            (is_told, is_heard) = (false, true);
            wait.as_mut().reset(Instant::now() + QUIET);
            self.hears();
            words.extend(heard.payload().lines().filter_map(Changed::from_line).map(Word::Of));
        }
    }

    /// Tells the operator once what keeps word from arriving, until some does.
    fn warn(&mut self, reason: &Deaf) {
        if std::mem::replace(&mut self.has_warned, true) {
            tracing::debug!(%reason, "still no word of changes");
        } else {
            tracing::warn!(
                %reason,
                "no word of changes from other servers: until there is, watchers learn of them in seconds \
                 instead of at once"
            );
        }
    }

    fn hears(&mut self) {
        if std::mem::take(&mut self.has_warned) {
            tracing::info!("there is word of changes from other servers again");
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
