//! The thread that writes: writes that wait share a transaction, each in a savepoint of its own, and so share the
//! fsync that makes them durable.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use sea_orm::DbErr;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};
use tokio_util::task::TaskTracker;

use super::{Connection, Touched, checkpoint::Checkpoints, memory::Memory};
use crate::{
    store::{
        Error,
        engine::Engine,
        writer::{Tx, run},
    },
    trace::{self, Stages},
};

/// The most writes in one transaction: more would make the first wait long for the last.
const GROUP: usize = 64;

/// Writes that may wait before callers wait to be let in.
const QUEUE: usize = 1024;

/// The way to the thread. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::store) struct Queue {
    jobs: mpsc::Sender<Box<dyn Job>>,
    connection: Connection,
}

/// A write on its way.
#[async_trait]
trait Job: Send {
    /// Whether its caller is still there.
    fn is_awaited(&self) -> bool;

    /// Does it, and says whether to keep what it did.
    async fn run(&mut self, tx: &Tx) -> bool;

    /// What it changes, where it changes anything.
    fn touches(&self) -> Touched;

    /// Tells its caller how it ended, now that its transaction is committed or is known not to be.
    fn answer(self: Box<Self>, committed: Result<(), Error>);
}

/// A write, and who waits for it.
struct Waiting<T, E, F> {
    operation: F,
    touches: Touched,
    stages: Stages,
    caller: oneshot::Sender<Result<T, E>>,
    /// `None` until it ran.
    outcome: Option<Result<T, E>>,
}

// === impl Queue ===

impl Queue {
    pub(super) fn start(
        connection: Connection,
        memory: Arc<Memory>,
        mut checkpoints: Checkpoints,
        tasks: &TaskTracker,
    ) -> Self {
        let (sender, mut jobs) = mpsc::channel::<Box<dyn Job>>(QUEUE);
        let (writing, runtime) = (Tx(Engine::Sqlite(connection.clone())), Handle::current());
        tasks.spawn_blocking({
            let connection = connection.clone();
            move || {
                let mut group = Vec::with_capacity(GROUP);
                while jobs.blocking_recv_many(&mut group, GROUP) > 0 {
                    let committed = commit_group(&connection, &memory, &writing, &runtime, &mut group);
                    let committed = committed.map_err(Error::from);
                    let writes = group.len();
                    for job in group.drain(..) {
                        job.answer(committed.clone());
                    }
                    checkpoints.after(writes);
                }
            }
        });
        Self { jobs: sender, connection }
    }

    /// See [`Store::write`](crate::store::Store::write).
    pub(in crate::store) async fn write<T, E, F>(&self, touches: Touched, operation: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<T, E>> + Send + Sync + 'static,
    {
        let (caller, receiver) = oneshot::channel();
        let stopped = || E::from(Error::stopped());
        let job = Box::new(Waiting { operation, touches, stages: trace::stages(), caller, outcome: None });
        self.jobs.send(job).await.map_err(|_unsent| stopped())?;
        receiver.await.unwrap_or_else(|_dropped| Err(stopped()))
    }

    /// The connection, to migrate on while nobody writes.
    pub(in crate::store) fn connection(&self) -> &Connection {
        &self.connection
    }
}

/// Runs all of a group and commits. Until then nobody is told anything, not even a refusal: it may rest on what a
/// neighbour wrote.
fn commit_group(
    connection: &Connection,
    memory: &Memory,
    writing: &Tx,
    runtime: &Handle,
    group: &mut [Box<dyn Job>],
) -> Result<(), DbErr> {
    connection.control("BEGIN IMMEDIATE")?;
    let committed = runtime
        .block_on(run_group(connection, writing, group))
        .and_then(|touched| memory.commit(&touched, || connection.control("COMMIT")));
    connection.measures().commit(group.len());
    if committed.is_err() {
        connection.roll_back();
    }
    committed
}

/// Says what was touched. Whether a write is awaited is asked just before it is begun: the neighbours ahead may have taken
/// longer than it was waited for.
async fn run_group(
    connection: &Connection,
    writing: &Tx,
    group: &mut [Box<dyn Job>],
) -> Result<Vec<Touched>, DbErr> {
    let mut touched = Vec::with_capacity(group.len());
    for job in group {
        if !job.is_awaited() {
            continue;
        }
        let before = connection.changes();
        connection.control("SAVEPOINT one")?;
        let is_kept = job.run(writing).await;
        if !is_kept {
            connection.control("ROLLBACK TO one")?;
        }
        connection.control("RELEASE one")?;
        if connection.changes() != before {
            // What was taken back may leave a commit with something to write, or not
            touched.push(if is_kept { job.touches() } else { Touched::Anything });
        }
    }
    Ok(touched)
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
        self.stages.passed("database: turn");
        let outcome = run(&self.operation, tx).await;
        self.stages.passed("database: write");
        self.outcome.insert(outcome).is_ok()
    }

    fn touches(&self) -> Touched {
        self.touches.clone()
    }

    fn answer(self: Box<Self>, committed: Result<(), Error>) {
        let Self { operation: _, touches: _, mut stages, caller, outcome } = *self;
        stages.passed("database: commit");
        let told = committed.map_or_else(|error| Some(Err(error.into())), |()| outcome);
        if let Some(told) = told {
            // A caller that hung up does not want to know
            drop(caller.send(told));
        }
    }
}
