//! A change in a transaction: read, decide and write, statement by statement, while nobody else can change the agent.

use std::sync::Arc;

use futures_util::FutureExt as _;
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbBackend, EntityTrait as _, QueryFilter as _, Statement,
};

use super::{Change, Job, tables::Written};
use crate::{
    domain::{AgentId, SecretName},
    store::{Error, engine::Engine, entity::secret, found, previous, writer::Writer},
};

/// The most secrets that one statement deletes; its text grows with them.
const DELETED_AT_ONCE: usize = 64;

/// Does one by itself. On PostgreSQL it waits for its agent; on SQLite nobody else writes anyway.
pub(super) async fn carry_out(writer: &Writer, job: Arc<dyn Job>) -> Result<(), Error> {
    writer
        .write(move |tx| {
            let job = Arc::clone(&job);
            async move {
                let question = job.question();
                if let Engine::Postgres(_) = tx.0 {
                    tx.lock_agent(&question.tenant, &question.agent).await?;
                }
                let found = found::read(&tx.0, &[question]).await?;
                match job.decide(found.get(&question.agent)) {
                    Some(change) => write(&tx.0, &question.agent, &change).await,
                    None => Ok(()),
                }
            }
            .boxed()
        })
        .await
}

async fn write(connection: &impl ConnectionTrait, agent: &AgentId, change: &Change) -> Result<(), Error> {
    let Written { secrets, deleted, overlaps, events, answers } = Written::of(&[(agent, change)])?;
    secrets.insert(connection).await?;
    for few in deleted.chunks(DELETED_AT_ONCE) {
        delete(connection, few).await?;
    }
    for (agent, name, until) in overlaps {
        previous::keep_until(until).filter(of_key(agent, name)).exec(connection).await?;
    }
    if change.moves_on {
        move_on(connection, agent).await?;
    }
    events.insert(connection).await?;
    answers.insert(connection).await
}

async fn delete(connection: &impl ConnectionTrait, secrets: &[(&AgentId, &SecretName)]) -> Result<(), Error> {
    let is_one = secrets.iter().fold(Condition::any(), |any, (agent, name)| any.add(of_key(agent, name)));
    secret::Entity::delete_many().filter(is_one).exec(connection).await?;
    Ok(())
}

fn of_key(agent: &AgentId, name: &SecretName) -> Condition {
    let of_agent = secret::Column::AgentId.eq(agent.as_str());
    Condition::all().add(of_agent).add(secret::Column::Name.eq(name.as_str()))
}

async fn move_on(connection: &impl ConnectionTrait, agent: &AgentId) -> Result<(), Error> {
    let backend = connection.get_database_backend();
    let place = if backend == DbBackend::Postgres { "$1" } else { "?" };
    let text = format!("UPDATE agents SET revision = revision + 1 WHERE id = {place}");
    let values = [agent.as_str().into()];
    connection.execute_raw(Statement::from_sql_and_values(backend, text, values)).await?;
    Ok(())
}
