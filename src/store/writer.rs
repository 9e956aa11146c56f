//! Transactions.
//!
//! On PostgreSQL each write is a transaction on a connection of its own, run again when it met another one, or lost
//! its connection before it was to be committed. On SQLite writes go to the one thread that writes, which puts those
//! that wait into one transaction (`sqlite`).

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use futures_util::{FutureExt as _, future::BoxFuture};

use super::{
    Error, Store, Transient,
    engine::Engine,
    patience::{CONTENDED, patiently},
    pool::Pool,
    rows::Rows,
    sqlite::{self, Touched},
    transaction::Transaction,
};
use crate::trace;

/// A transaction: what happens in it happens as a whole or not at all.
#[derive(Debug)]
pub struct Tx(pub(super) Session);

/// On what a transaction is.
pub(super) type Session = Engine<Transaction, sqlite::Connection>;

/// How writes reach the database: each in a transaction of its own, or by the one thread that writes.
pub(super) type Writer = Engine<Pool, sqlite::Queue>;

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
        self.writer.write(Touched::Anything, operation).await
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
    let tx = Tx(Engine::Postgres(pool.begin(until).await.map_err(Error::from)?));
    // Not before there is a connection: who waits for one in vain must not keep the others waiting
    let _turn = if in_turn { Some(pool.turn().await) } else { None };
    let outcome = run(operation, &tx).await;
    let Engine::Postgres(transaction) = tx.0 else { return outcome };
    match outcome {
        Ok(value) => {
            let committed = trace::step("database: commit", transaction.commit()).await;
            pool.noted(committed).map_err(Error::of_commit)?;
            pool.measures().commit(1);
            Ok(value)
        }
        Err(error) => {
            // The cause is already known; a connection that cannot roll back is closed by the pool
            drop(transaction.roll_back().await);
            Err(error)
        }
    }
}

/// Runs an operation. A panic is a bug of this one: its caller is told so, and others go on.
pub(super) async fn run<T, E, F>(operation: &F, tx: &Tx) -> Result<T, E>
where
    E: From<Error>,
    F: for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<T, E>>,
{
    let running = AssertUnwindSafe(async { operation(tx).await });
    running.catch_unwind().await.unwrap_or_else(|_panic| Err(Error::Panicked.into()))
}

// === impl Writer ===

impl Writer {
    /// See [`Store::write`]. It changes no more of what SQLite has in memory than it `touches`.
    pub(super) async fn write<T, E, F>(&self, touches: Touched, operation: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Transient + Send + 'static,
        F: for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<T, E>> + Send + Sync + 'static,
    {
        let written = async {
            match self {
                Self::Postgres(pool) => write_pooled(pool, operation).await,
                Self::Sqlite(queue) => queue.write(touches, operation).await,
            }
        };
        trace::step("database: transaction", written).await
    }

    /// Inserts audit records, all or none. Inserting them a second time does nothing.
    pub(super) async fn record(&self, rows: Rows) -> Result<(), Error> {
        match self {
            Self::Postgres(pool) => Ok(pool.execute_harmless(&rows.into_statement()).await?),
            Self::Sqlite(_) => {
                let rows = Arc::new(rows);
                self.write(Touched::Nothing, move |tx| {
                    let rows = Arc::clone(&rows);
                    async move { rows.insert(&tx.0).await }.boxed()
                })
                .await
            }
        }
    }
}
