//! Transactions.
//!
//! On PostgreSQL each write is a transaction on a connection of its own, run again when it met another
//! one. On SQLite one task owns the one connection that writes: writes that arrive together share a
//! transaction, each in a savepoint of its own, and so share the fsync that makes them durable. A write
//! that fails rolls back to its savepoint and leaves its neighbours alone.

use std::{
    fmt,
    panic::AssertUnwindSafe,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use sea_orm::{
    DatabaseConnection, DatabaseTransaction, DbErr, SqliteTransactionMode, TransactionOptions,
    TransactionTrait,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::{Error, Store, Transient};

/// The most writes in one SQLite transaction: more would make the first wait long for the last.
const GROUP: usize = 64;

/// Writes that may wait for SQLite before callers wait to be let in.
const QUEUE: usize = 1024;

/// How often a PostgreSQL transaction that met another one is run in all.
const ATTEMPTS: u32 = 6;

/// The longest pause before the second run; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(4);

/// A transaction: what happens in it happens as a whole or not at all.
#[derive(Debug)]
pub struct Tx(pub(super) DatabaseTransaction);

/// How writes reach the database.
#[derive(Clone)]
pub(super) enum Writer {
    /// A transaction each.
    Pool(DatabaseConnection),
    /// One task that groups them.
    Queue(mpsc::Sender<Job>, DatabaseConnection),
}

/// A write on its way to the task.
pub(super) type Job = Box<dyn for<'t> FnOnce(&'t Tx) -> BoxFuture<'t, Finished> + Send>;

/// A write that ran, and whom to tell once it is durable.
pub(super) struct Finished {
    keep: bool,
    answer: Answer,
}

type Answer = Box<dyn FnOnce(Result<(), Error>) + Send>;

// === impl Store ===

impl Store {
    /// Runs `operation` in a transaction and commits what it did if it returns `Ok`. It may run several
    /// times, so it must do nothing that outlives the transaction.
    ///
    /// # Errors
    /// What `operation` returns, or what the database says of beginning and committing.
    pub async fn write<T, E, F>(&self, operation: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Transient + Send + 'static,
        F: for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<T, E>> + Send + Sync + 'static,
    {
        self.writer.write(operation).await
    }
}

async fn write_pooled<T, E, F>(connection: &DatabaseConnection, operation: F) -> Result<T, E>
where
    E: From<Error> + Transient,
    F: for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<T, E>>,
{
    let mut pause = FIRST_PAUSE;
    for _ in 1..ATTEMPTS {
        match attempt(connection, &operation).await {
            Err(error) if error.is_transient() => {}
            outcome => return outcome,
        }
        tokio::time::sleep(jittered(pause)).await;
        pause = pause.saturating_mul(2);
    }
    attempt(connection, &operation).await
}

async fn attempt<T, E, F>(connection: &DatabaseConnection, operation: &F) -> Result<T, E>
where
    E: From<Error>,
    F: for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<T, E>>,
{
    let tx = Tx(connection.begin().await.map_err(Error::from)?);
    match operation(&tx).await {
        Ok(value) => {
            tx.0.commit().await.map_err(Error::from)?;
            Ok(value)
        }
        Err(error) => {
            // The cause is already known; a connection that cannot roll back is closed by the pool
            drop(tx.0.rollback().await);
            Err(error)
        }
    }
}

/// Some part of the pause, so that transactions that met do not meet again. Nothing secret depends on it.
#[expect(clippy::disallowed_methods, reason = "the clock's lowest digits serve as dice")]
fn jittered(pause: Duration) -> Duration {
    let dice = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.subsec_nanos() % 1000);
    pause.mul_f64(f64::from(dice) / 1000.0)
}

async fn write_queued<T, E, F>(queue: &mpsc::Sender<Job>, operation: F) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Error> + Send + 'static,
    F: for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<T, E>> + Send + Sync + 'static,
{
    let (sender, receiver) = oneshot::channel();
    let job: Job = Box::new(move |tx| {
        Box::pin(async move {
            let outcome = operation(tx).await;
            let keep = outcome.is_ok();
            let answer: Answer = Box::new(move |committed| {
                let outcome = match committed {
                    Ok(()) => outcome,
                    Err(error) => outcome.and(Err(error.into())),
                };
                // A caller that hung up does not want to know
                drop(sender.send(outcome));
            });
            Finished { keep, answer }
        })
    });
    let stopped = || E::from(Error::stopped());
    queue.send(job).await.map_err(|_unsent| stopped())?;
    receiver.await.unwrap_or_else(|_dropped| Err(stopped()))
}

// === impl Writer ===

impl Writer {
    /// Starts the task that owns SQLite's writing connection.
    pub(super) fn queue(connection: DatabaseConnection, tasks: &TaskTracker) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tasks.spawn(run_queue(connection.clone(), receiver));
        Self::Queue(sender, connection)
    }

    /// See [`Store::write`].
    pub(super) async fn write<T, E, F>(&self, operation: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Transient + Send + 'static,
        F: for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<T, E>> + Send + Sync + 'static,
    {
        match self {
            Self::Pool(connection) => write_pooled(connection, operation).await,
            Self::Queue(queue, _) => write_queued(queue, operation).await,
        }
    }

    /// The connection to migrate on.
    pub(super) fn connection(&self) -> &DatabaseConnection {
        match self {
            Self::Pool(connection) | Self::Queue(_, connection) => connection,
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pool(_) => "Writer::Pool",
            Self::Queue(..) => "Writer::Queue",
        })
    }
}

async fn run_queue(connection: DatabaseConnection, mut jobs: mpsc::Receiver<Job>) {
    let mut group = Vec::with_capacity(GROUP);
    while jobs.recv_many(&mut group, GROUP).await > 0 {
        let mut answers = Vec::with_capacity(group.len());
        let committed = commit_group(&connection, &mut group, &mut answers).await.map_err(Error::from);
        // Left over when the transaction could not begin: dropping them tells their callers
        group.clear();
        for answer in answers {
            answer(committed.clone());
        }
    }
}

async fn commit_group(
    connection: &DatabaseConnection,
    group: &mut Vec<Job>,
    answers: &mut Vec<Answer>,
) -> Result<(), DbErr> {
    let immediate = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let shared = connection.begin_with_options(immediate).await?;
    for job in group.drain(..) {
        run_in_savepoint(&shared, job, answers).await?;
    }
    shared.commit().await
}

async fn run_in_savepoint(
    shared: &DatabaseTransaction,
    job: Job,
    answers: &mut Vec<Answer>,
) -> Result<(), DbErr> {
    let tx = Tx(shared.begin().await?);
    // A panic is a bug of one operation: its caller learns that nothing happened, the others go on
    match AssertUnwindSafe(job(&tx)).catch_unwind().await {
        Ok(Finished { keep, answer }) => {
            answers.push(answer);
            if keep { tx.0.commit().await } else { tx.0.rollback().await }
        }
        Err(_panic) => tx.0.rollback().await,
    }
}
