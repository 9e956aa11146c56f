//! Audit records of calls that write nothing else: those that come together share a statement and a commit.

use futures_util::FutureExt as _;
use sea_orm::EntityTrait as _;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::{Error, Store, audit::to_row, entity::audit_event, writer::Writer};
use crate::domain::AuditEvent;

/// The most records in one statement.
const AT_ONCE: usize = 64;

/// Records that may wait before callers wait to be let in.
const QUEUE: usize = 1024;

/// A record, and whom to tell once it is durable.
type Waiting = (AuditEvent, oneshot::Sender<Result<(), Error>>);

/// The way to the task that writes them.
#[derive(Clone, Debug)]
pub(super) struct AuditQueue(mpsc::Sender<Waiting>);

impl AuditQueue {
    /// Starts the task. It ends with the last clone of the store.
    pub(super) fn new(writer: Writer, tasks: &TaskTracker) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tasks.spawn(run(writer, receiver));
        Self(sender)
    }
}

impl Store {
    /// Adds an event, durable when it returns, in a transaction that it may share with others.
    ///
    /// # Errors
    /// [`Error`]; the event is then not recorded.
    pub async fn record_in_batch(&self, event: AuditEvent) -> Result<(), Error> {
        let (sender, receiver) = oneshot::channel();
        self.audit.0.send((event, sender)).await.map_err(|_stopped| Error::stopped())?;
        receiver.await.unwrap_or_else(|_dropped| Err(Error::stopped()))
    }
}

async fn run(writer: Writer, mut queue: mpsc::Receiver<Waiting>) {
    let mut batch = Vec::with_capacity(AT_ONCE);
    while queue.recv_many(&mut batch, AT_ONCE).await > 0 {
        // Who gave up waiting gets no value, so there is nothing to record
        let waiting = batch.drain(..).filter(|(_, caller)| !caller.is_closed());
        let (events, callers): (Vec<_>, Vec<_>) = waiting.unzip();
        if events.is_empty() {
            continue;
        }
        let events: Arc<[AuditEvent]> = events.into();
        let outcome = write(&writer, Arc::clone(&events)).await;
        // One bad record must not fail its neighbours; but where the database is away, each try would take long
        if callers.len() > 1 && matches!(outcome, Err(Error::Refused(_) | Error::Inconsistent(_))) {
            for (event, caller) in events.iter().zip(callers) {
                let alone: Arc<[AuditEvent]> = [event.clone()].into();
                tell(caller, write(&writer, alone).await);
            }
        } else {
            for caller in callers {
                tell(caller, outcome.clone());
            }
        }
    }
}

/// A caller that hung up does not want to know.
fn tell(caller: oneshot::Sender<Result<(), Error>>, outcome: Result<(), Error>) {
    drop(caller.send(outcome));
}

async fn write(writer: &Writer, events: Arc<[AuditEvent]>) -> Result<(), Error> {
    writer
        .write(move |tx| {
            let events = Arc::clone(&events);
            async move {
                let rows = events.iter().map(to_row).collect::<Result<Vec<_>, Error>>()?;
                audit_event::Entity::insert_many(rows).exec_without_returning(&tx.0).await?;
                Ok(())
            }
            .boxed()
        })
        .await
}
