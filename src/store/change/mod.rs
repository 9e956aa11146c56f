//! Changes of an agent's secrets: read what there is, decide, write what follows from it.
//!
//! The deciding is a function of what was read and does nothing else, so it can be done again. That lets changes
//! of different agents go together on PostgreSQL, in a few statements for all of them, which is what makes them cheap.
//! Two changes of one agent never go together: the second begins with what the first has left.
//!
//! On PostgreSQL other servers write too: there one statement writes, and leaves those agents alone that are taken or
//! have moved on since they were read (`at_once`). Who finds his agent so goes alone: he locks it, waiting if he must,
//! and does the same in a transaction of his own (`in_order`). So nobody waits for another's agent, and everybody comes
//! to his turn. Where calls are to share no statements, everybody goes alone from the beginning; so he does on SQLite,
//! where a transaction is shared with all that waits anyway; there the deciding is done before the transaction.

mod at_once;
mod in_order;
mod tables;

use std::{
    collections::hash_map::RandomState,
    fmt,
    hash::BuildHasher as _,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use tokio_util::task::TaskTracker;

use super::{
    AgentWith, Error, Remembered, SealedSecret, SealedWrite, Store, StoredSecret,
    batch::{Batcher, Together},
    engine::Engine,
    pool::Pool,
    writer::Writer,
};
use crate::{
    domain::{AgentId, AuditEvent, IdempotencyKey, SecretName, TenantId, Timestamp},
    trace,
};

/// How many batches may be under way on PostgreSQL. An agent's changes all go by the same lane, one after the other.
const LANES: usize = 2;

/// Whose secrets are to change, and what has to be known for it.
#[derive(Clone, Debug)]
pub struct Question {
    /// The tenant.
    pub tenant: TenantId,
    /// The tenant's agent.
    pub agent: AgentId,
    /// What was answered under this key since some time. Older answers are forgotten.
    pub recall: Option<(IdempotencyKey, Timestamp)>,
    /// The sealed values too.
    pub with_values: bool,
}

/// What there is.
#[derive(Clone, Debug)]
pub struct Found {
    /// The agent, and the metadata of its secrets.
    pub metadata: Arc<AgentWith<StoredSecret>>,
    /// Its sealed values, if they were asked for.
    pub values: Option<Arc<AgentWith<SealedSecret>>>,
    /// What was answered under the key that was asked for.
    pub remembered: Option<Remembered>,
}

/// What is to be written. All of it is, or nothing.
#[derive(Clone, Debug)]
pub struct Change {
    /// The agent moves on to its next revision.
    pub moves_on: bool,
    /// Values to set or replace. A replaced one keeps the time at which its name was first set, and loses the
    /// value before it unless the write brings that along.
    pub puts: Vec<SealedWrite>,
    /// Secrets to delete.
    pub deletes: Vec<SecretName>,
    /// Until when the value before a secret is given out from now on; `None` clears it.
    pub overlaps: Vec<(SecretName, Option<Timestamp>)>,
    /// Its audit record, which names the agent.
    pub event: AuditEvent,
    /// What to answer to a repeat under this key.
    pub remember: Option<(IdempotencyKey, Remembered)>,
}

/// What was decided: the answer, and what has to be written for it to be true.
#[derive(Debug)]
pub struct Decided<T> {
    /// What the caller is told once it is written.
    pub answer: T,
    /// What is written, if anything.
    pub change: Option<Change>,
}

/// The way to the lanes. Cheap to clone.
#[derive(Clone)]
pub(super) struct Changes {
    /// None, where each goes alone.
    lanes: Vec<Batcher<Lane>>,
    hasher: RandomState,
}

/// What changes agents.
pub(super) struct Lane(Pool);

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is written, as far as there is anything to write.
    Done,
    /// Somebody else was at the agent, or it was not to be written with others.
    Taken,
}

/// A change on its way.
pub(super) trait Job: Send + Sync {
    fn question(&self) -> &Question;

    /// Decides, and keeps the answer until what has to be written is.
    fn decide(&self, found: Option<&Found>) -> Option<Change>;
}

/// A change, and its answer.
struct Deciding<T, E, F> {
    question: Question,
    decide: F,
    answer: Mutex<Option<Result<T, E>>>,
}

// === impl Store ===

impl Store {
    /// Changes an agent's secrets as `decide` says, who is shown what there is (nothing, if the tenant has no such
    /// agent), perhaps several times. It returns when the change is durable.
    ///
    /// # Errors
    /// What `decide` returns; then nothing is written. [`Error::Panicked`] if it panics; [`Error::Contended`] when
    /// other servers changed the agent again and again meanwhile; [`Error`].
    pub async fn change<T, E, F>(&self, question: Question, decide: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: Fn(Option<&Found>) -> Result<Decided<T>, E> + Send + Sync + 'static,
    {
        let lane = self.changes.lane_of(&question.agent);
        let job = Arc::new(Deciding { question, decide, answer: Mutex::new(None) });
        let fate = match lane {
            Some(lane) => {
                trace::step("database: change", lane.ask(Arc::clone(&job) as Arc<dyn Job>)).await??
            }
            None => Fate::Taken,
        };
        if fate == Fate::Taken {
            self.change_alone(Arc::clone(&job) as Arc<dyn Job>).await?;
        }
        job.take_answer().unwrap_or_else(|| Err(Error::Inconsistent("what is written was decided").into()))
    }
}

impl Store {
    /// On SQLite one thread writes, and has as little to do as can be: deciding is done before, but for what has to
    /// forget old answers first.
    async fn change_alone(&self, job: Arc<dyn Job>) -> Result<(), Error> {
        let beforehand = match &self.reader {
            Engine::Sqlite(readers) if job.question().recall.is_none() => {
                let Some(decided) = in_order::decide_beforehand(readers, &*job).await? else { return Ok(()) };
                Some(decided)
            }
            Engine::Sqlite(_) | Engine::Postgres(_) => None,
        };
        in_order::carry_out(&self.writer, job, beforehand).await
    }
}

// === impl Change ===

impl Change {
    /// Whether anything of the agent's secrets is written. Its own row is then written too, by which those who have read
    /// it know.
    fn writes_secrets(&self) -> bool {
        self.moves_on || !(self.puts.is_empty() && self.deletes.is_empty() && self.overlaps.is_empty())
    }
}

// === impl Changes ===

impl Changes {
    /// Starts the lanes, if there are tasks to do so. They end with the last clone of the store.
    pub(super) fn new(writer: &Writer, tasks: Option<&TaskTracker>) -> Self {
        let lanes = match (writer, tasks) {
            (Engine::Postgres(pool), Some(tasks)) => {
                let lane = || Batcher::start(Lane(pool.clone()), 1, tasks);
                std::iter::repeat_with(lane).take(LANES).collect()
            }
            (Engine::Postgres(_), None) | (Engine::Sqlite(_), _) => Vec::new(),
        };
        Self { lanes, hasher: RandomState::new() }
    }

    fn lane_of(&self, agent: &AgentId) -> Option<&Batcher<Lane>> {
        let number = self.hasher.hash_one(agent).checked_rem(self.lanes.len() as u64)?;
        self.lanes.get(usize::try_from(number).unwrap_or_default())
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Changes")
    }
}

// === impl Lane ===

#[async_trait]
impl Together for Lane {
    type Item = Arc<dyn Job>;
    type Outcome = Result<Fate, Error>;
    const AT_ONCE: usize = 64;

    /// The second change of an agent begins with what the first has left.
    fn goes_with(job: &Arc<dyn Job>, other: &Arc<dyn Job>) -> bool {
        other.question().agent != job.question().agent
    }

    async fn run(&self, jobs: &[Arc<dyn Job>]) -> Result<Vec<Result<Fate, Error>>, Error> {
        let fates = at_once::carry_out(&self.0, jobs).await;
        self.0.measures().commit(fates.iter().filter(|fate| matches!(fate, Ok(Fate::Done))).count());
        // Of all, so that those who wait for this lane are told too
        let outage = |fate: &Result<_, Error>| fate.as_ref().err().filter(|it| it.is_outage()).cloned();
        match fates.iter().map(outage).collect::<Option<Vec<_>>>() {
            Some(outages) => outages.into_iter().next().map_or_else(|| Ok(fates), Err),
            None => Ok(fates),
        }
    }
}

// === impl Deciding ===

impl<T, E, F> Deciding<T, E, F> {
    fn take_answer(&self) -> Option<Result<T, E>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<T, E, F> Job for Deciding<T, E, F>
where
    T: Send,
    E: From<Error> + Send,
    F: Fn(Option<&Found>) -> Result<Decided<T>, E> + Send + Sync,
{
    fn question(&self) -> &Question {
        &self.question
    }

    fn decide(&self, found: Option<&Found>) -> Option<Change> {
        // A panic is a bug of this one: its caller is told so, and others go on
        let decided = catch_unwind(AssertUnwindSafe(|| (self.decide)(found)));
        let decided = decided.unwrap_or_else(|_panic| Err(Error::Panicked.into()));
        let (answer, change) = match decided {
            Ok(Decided { answer, change }) => (Ok(answer), change),
            Err(error) => (Err(error), None),
        };
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        change
    }
}
