//! A change in a transaction: read, decide and write, statement by statement, while nobody else can change the agent.

use std::sync::Arc;

use futures_util::FutureExt as _;
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait as _, DbBackend, EntityTrait as _, QueryFilter as _,
    Statement,
};

use super::{Change, Job, tables::Written};
use crate::{
    domain::{AgentId, Revision, SecretName},
    store::{
        Error,
        engine::Engine,
        entity::secret,
        found, previous,
        sqlite::{self, Touched},
        writer::{Session, Writer},
    },
};

/// The most secrets that one statement deletes; its text grows with them.
const DELETED_AT_ONCE: usize = 64;

/// What was decided before there was a transaction, by what the agent was at this revision.
pub(super) struct Beforehand(Revision, Outcome);

/// What is written of a change of one agent.
struct Outcome {
    moves_on: bool,
    writes_secrets: bool,
    written: Written,
}

/// Reads and decides without keeping anybody from writing; `None` where nothing has to be written.
pub(super) async fn decide_beforehand(
    readers: &sqlite::Readers,
    job: &dyn Job,
) -> Result<Option<Beforehand>, Error> {
    let question = job.question();
    let found = found::read(readers, &[question]).await?;
    let found = found.get(&question.agent);
    let revision = found.map_or_else(Revision::default, |found| found.metadata.agent.revision);
    let outcome = job.decide(found).map(|change| Outcome::of(&question.agent, &change));
    Ok(outcome.transpose()?.map(|outcome| Beforehand(revision, outcome)))
}

/// Does one by itself. On PostgreSQL it waits for its agent; on SQLite nobody else writes anyway. What was decided
/// beforehand holds if the agent has not moved on since, and is decided anew otherwise.
pub(super) async fn carry_out(
    writer: &Writer,
    job: Arc<dyn Job>,
    beforehand: Option<Beforehand>,
) -> Result<(), Error> {
    let touches = Touched::Agent(job.question().agent.clone());
    let job = Arc::new((job, beforehand));
    writer
        .write(touches, move |tx| {
            let job = Arc::clone(&job);
            async move {
                let (job, beforehand) = &*job;
                let question = job.question();
                if let Engine::Postgres(_) = tx.0 {
                    tx.lock_agent(&question.tenant, &question.agent).await?;
                }
                if let (Engine::Sqlite(connection), Some(Beforehand(revision, outcome))) = (&tx.0, beforehand)
                    && revision_of(connection, &question.agent)? == Some(*revision)
                {
                    return outcome.write(&tx.0, &question.agent).await;
                }
                let found = found::read(&tx.0, &[question]).await?;
                match job.decide(found.get(&question.agent)) {
                    Some(change) => {
                        Outcome::of(&question.agent, &change)?.write(&tx.0, &question.agent).await
                    }
                    None => Ok(()),
                }
            }
            .boxed()
        })
        .await
}

fn revision_of(connection: &sqlite::Connection, agent: &AgentId) -> Result<Option<Revision>, Error> {
    let mut revision = None;
    connection.read("SELECT revision FROM agents WHERE id = ?", [agent.as_str()], |row| {
        revision = Some(Revision(row.get(0)?));
        Ok(())
    })?;
    Ok(revision)
}

impl Outcome {
    fn of(agent: &AgentId, change: &Change) -> Result<Self, Error> {
        let written = Written::of(&[(agent, change)])?;
        Ok(Self { moves_on: change.moves_on, writes_secrets: change.writes_secrets(), written })
    }

    async fn write(&self, session: &Session, agent: &AgentId) -> Result<(), Error> {
        let Written { secrets, deleted, overlaps, events, answers } = &self.written;
        secrets.insert(session).await?;
        delete(session, deleted).await?;
        for (agent, name, until) in overlaps {
            previous::keep_until(*until).filter(of_key(agent, name)).exec(session).await?;
        }
        if self.writes_secrets {
            write_agent(session, agent, i64::from(self.moves_on)).await?;
        }
        events.insert(session).await?;
        answers.insert(session).await
    }
}

async fn delete(session: &Session, secrets: &[(AgentId, SecretName)]) -> Result<(), Error> {
    match session {
        Engine::Postgres(transaction) => {
            for few in secrets.chunks(DELETED_AT_ONCE) {
                let is_one =
                    few.iter().fold(Condition::any(), |any, (agent, name)| any.add(of_key(agent, name)));
                secret::Entity::delete_many().filter(is_one).exec(transaction).await?;
            }
        }
        Engine::Sqlite(connection) => {
            for (agent, name) in secrets {
                let text = "DELETE FROM secrets WHERE agent_id = ? AND name = ?";
                connection.execute(text, &[agent.as_str().into(), name.as_str().into()])?;
            }
        }
    }
    Ok(())
}

fn of_key(agent: &AgentId, name: &SecretName) -> Condition {
    let of_agent = secret::Column::AgentId.eq(agent.as_str());
    Condition::all().add(of_agent).add(secret::Column::Name.eq(name.as_str()))
}

async fn write_agent(session: &Session, agent: &AgentId, step: i64) -> Result<(), Error> {
    let values = [step.into(), agent.as_str().into()];
    match session {
        Engine::Postgres(transaction) => {
            let text = "UPDATE agents SET revision = revision + $1 WHERE id = $2";
            let statement = Statement::from_sql_and_values(DbBackend::Postgres, text, values);
            transaction.execute_raw(statement).await?;
        }
        Engine::Sqlite(connection) => {
            connection.execute("UPDATE agents SET revision = revision + ? WHERE id = ?", &values)?;
        }
    }
    Ok(())
}
