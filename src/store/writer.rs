//! Transactions.
//!
//! On PostgreSQL each write is a transaction on a connection of its own, run again when it met another one, or lost
//! its connection before it was to be committed. On SQLite one task owns the one connection that writes: writes that
//! arrive together share a transaction, each in a savepoint of its own, and so share the fsync that makes them durable. A write
//! that fails rolls back to its savepoint and leaves its neighbours alone; one whose caller has gone is not
//! begun. Until their transaction is committed nobody is told anything, not even a refusal: it may rest on
//! what a neighbour wrote.

use std::{
    fmt,
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use async_trait::async_trait;
use futures_util::{FutureExt as _, future::BoxFuture};
use sea_orm::{
    DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, SqliteTransactionMode, TransactionOptions,
    TransactionTrait,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::{
    Error, Store, Transient,
    patience::{CONTENDED, patiently},
    pool::Pool,
    rows::Rows,
};

/// The most writes in one SQLite transaction: more would make the first wait long for the last.
const GROUP: usize = 64;

/// Writes that may wait for SQLite before callers wait to be let in.
const QUEUE: usize = 1024;

/// A transaction: what happens in it happens as a whole or not at all.
#[derive(Debug)]
pub struct Tx(pub(super) DatabaseTransaction);

/// How writes reach the database.
#[derive(Clone)]
pub(super) enum Writer {
    /// A transaction each.
    Pool(Pool),
    /// One task that groups them.
    Queue(mpsc::Sender<Box<dyn Job>>, DatabaseConnection),
}

/// A write on its way to the task.
#[async_trait]
pub(super) trait Job: Send {
    /// Whether its caller is still there.
    fn is_awaited(&self) -> bool;

    /// Does it, and says whether to keep what it did.
    async fn run(&mut self, tx: &Tx) -> bool;

    /// Tells its caller how it ended, now that its transaction is committed or is known not to be.
    fn answer(self: Box<Self>, committed: Result<(), Error>);
}

/// A write, and who waits for it.
struct Waiting<T, E, F> {
    operation: F,
    caller: oneshot::Sender<Result<T, E>>,
    /// `None` until it ran.
    outcome: Option<Result<T, E>>,
}

// === impl Store ===

impl Store {
    /// Runs `operation` in a transaction and commits what it did if it returns `Ok`. It may run several
    /// times, so it must do nothing that outlives the transaction.
    ///
    /// # Errors
    /// What `operation` returns, [`Error::Panicked`] if it panics, or what the database says of beginning and
    /// committing.
    pub async fn write<T, E, F>(&self, operation: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Transient + Send + 'static,
        F: for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<T, E>> + Send + Sync + 'static,
    {
        self.writer.write(operation).await
    }
}

async fn write_pooled<T, E, F>(pool: &Pool, operation: F) -> Result<T, E>
where
    E: From<Error> + Transient,
    F: for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<T, E>>,
{
    let until = Instant::now() + pool.patience();
    let (has_met, has_lost) = (AtomicBool::new(false), AtomicBool::new(false));
    let noted = async || {
        let until = has_lost.load(Ordering::Relaxed).then_some(until);
        let outcome = attempt(pool, &operation, has_met.load(Ordering::Relaxed), until).await;
        match &outcome {
            Err(error) if error.is_interrupted() => {
                has_lost.store(true, Ordering::Relaxed);
                pool.lost_one();
            }
            Err(error) if error.is_transient() => has_met.store(true, Ordering::Relaxed),
            _ => {}
        }
        outcome
    };
    let limit = |error: &E| {
        if error.is_interrupted() { Some(pool.patience()) } else { error.is_transient().then_some(CONTENDED) }
    };
    patiently(limit, noted).await
}

async fn attempt<T, E, F>(pool: &Pool, operation: &F, in_turn: bool, until: Option<Instant>) -> Result<T, E>
where
    E: From<Error>,
    F: for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<T, E>>,
{
    let tx = Tx(pool.begin(until).await.map_err(Error::from)?);
    // Not before there is a connection: who waits for one in vain must not keep the others waiting
    let _turn = if in_turn { Some(pool.turn().await) } else { None };
    match run(operation, &tx).await {
        Ok(value) => {
            pool.noted(tx.0.commit().await).map_err(Error::of_commit)?;
            Ok(value)
        }
        Err(error) => {
            // The cause is already known; a connection that cannot roll back is closed by the pool
            drop(tx.0.rollback().await);
            Err(error)
        }
    }
}

/// Runs an operation. A panic is a bug of this one: its caller is told so, and others go on.
async fn run<T, E, F>(operation: &F, tx: &Tx) -> Result<T, E>
where
    E: From<Error>,
    F: for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<T, E>>,
{
    let running = AssertUnwindSafe(async { operation(tx).await });
    running.catch_unwind().await.unwrap_or_else(|_panic| Err(Error::Panicked.into()))
}

async fn write_queued<T, E, F>(queue: &mpsc::Sender<Box<dyn Job>>, operation: F) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Error> + Send + 'static,
    F: for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<T, E>> + Send + Sync + 'static,
{
    let (caller, receiver) = oneshot::channel();
    let stopped = || E::from(Error::stopped());
    let job = Box::new(Waiting { operation, caller, outcome: None });
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
            Self::Pool(pool) => write_pooled(pool, operation).await,
            Self::Queue(queue, _) => write_queued(queue, operation).await,
        }
    }

    /// Inserts rows, all or none. They must be such that inserting them a second time does nothing.
    pub(super) async fn insert(&self, rows: Rows) -> Result<(), Error> {
        match self {
            Self::Pool(pool) => {
                for statement in rows.into_statements(DbBackend::Postgres) {
                    pool.execute_harmless(&statement).await?;
                }
                Ok(())
            }
            Self::Queue(..) => {
                self.write(move |tx| {
                    let rows = rows.clone();
                    async move { rows.insert(&tx.0).await }.boxed()
                })
                .await
            }
        }
    }

    /// The connection to migrate on.
    pub(super) fn connection(&self) -> &DatabaseConnection {
        match self {
            Self::Pool(pool) => pool.connections(),
            Self::Queue(_, connection) => connection,
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

// === impl Waiting ===

#[async_trait]
impl<T, E, F> Job for Waiting<T, E, F>
where
    T: Send + 'static,
    E: From<Error> + Send + 'static,
    F: for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<T, E>> + Send + Sync + 'static,
{
    fn is_awaited(&self) -> bool {
        !self.caller.is_closed()
    }

    async fn run(&mut self, tx: &Tx) -> bool {
        let outcome = run(&self.operation, tx).await;
        self.outcome.insert(outcome).is_ok()
    }

    fn answer(self: Box<Self>, committed: Result<(), Error>) {
        let Self { operation: _, caller, outcome } = *self;
        let told = committed.map_or_else(|error| Some(Err(error.into())), |()| outcome);
        if let Some(told) = told {
            // A caller that hung up does not want to know
            drop(caller.send(told));
        }
    }
}

async fn run_queue(connection: DatabaseConnection, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
    let mut group = Vec::with_capacity(GROUP);
    while jobs.recv_many(&mut group, GROUP).await > 0 {
        let committed = commit_group(&connection, &mut group).await.map_err(Error::from);
        for job in group.drain(..) {
            job.answer(committed.clone());
        }
    }
}

async fn commit_group(connection: &DatabaseConnection, group: &mut [Box<dyn Job>]) -> Result<(), DbErr> {
    let immediate = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let shared = connection.begin_with_options(immediate).await?;
    if let [alone] = group {
        // Who has no neighbours needs no savepoint
        return run_if_awaited(alone.as_mut(), Tx(shared)).await;
    }
    for job in group {
        run_if_awaited(job.as_mut(), Tx(shared.begin().await?)).await?;
    }
    shared.commit().await
}

/// Runs a job in a transaction or savepoint of its own, and ends that. Whether it is awaited is asked just before: the
/// neighbours ahead may have taken longer than it was waited for.
async fn run_if_awaited(job: &mut dyn Job, tx: Tx) -> Result<(), DbErr> {
    if job.is_awaited() && job.run(&tx).await { tx.0.commit().await } else { tx.0.rollback().await }
}
