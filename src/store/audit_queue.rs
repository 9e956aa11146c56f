//! Audit records of calls that write nothing else: those that come together share a statement and a commit.

use async_trait::async_trait;

use super::{
    Error, Store,
    batch::{Batcher, Together},
    engine::Engine,
    rows,
    writer::Writer,
};
use crate::{domain::AuditEvent, trace};

/// The way to what writes them.
pub(super) type AuditQueue = Batcher<Recording>;

/// Writes audit records.
pub(super) struct Recording(pub(super) Writer);

#[async_trait]
impl Together for Recording {
    type Item = AuditEvent;
    type Outcome = ();
    const AT_ONCE: usize = 64;

    async fn run(&self, events: &[AuditEvent]) -> Result<Vec<()>, Error> {
        let events: Vec<_> = events.iter().collect();
        self.0.record(rows::of_events(&events)?).await?;
        if let Engine::Postgres(pool) = &self.0 {
            pool.measures().commit(events.len());
        }
        Ok(vec![(); events.len()])
    }
}

impl Store {
    /// Adds an event, durable when it returns, in a transaction that it may share with others.
    ///
    /// # Errors
    /// [`Error`]; the event is then not recorded.
    pub async fn record_in_batch(&self, event: AuditEvent) -> Result<(), Error> {
        let recorded = trace::step("database: audit record", self.audit.ask(event)).await;
        recorded.inspect_err(|_error| self.measures.audit_failed())
    }
}
