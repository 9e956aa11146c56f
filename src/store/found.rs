//! What changes begin with, read for many agents together.

use std::collections::HashMap;

use sea_orm::{ColumnTrait as _, Condition, ConnectionTrait, EntityTrait as _, QueryFilter as _};

use super::{Error, Found, Question, entity::idempotency, gathered::Agents, metadata, secrets};
use crate::domain::AgentId;

/// What is kept of a request that may be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// A keyed digest of the request.
    pub request_digest: Vec<u8>,
    /// What was answered; never a value.
    pub answer: String,
}

/// Reads what there is of each agent that is asked about, if it is the tenant's. No two ask about one.
pub(super) async fn read(
    connection: &(impl ConnectionTrait + Agents),
    questions: &[&Question],
) -> Result<HashMap<AgentId, Found>, Error> {
    let mut metadata = connection.read::<metadata::Row>(ids(questions)).await?;
    let mut remembered = recall(connection, questions).await?;
    let with_values: Vec<_> = questions.iter().copied().filter(|question| question.with_values).collect();
    let mut values = if with_values.is_empty() {
        HashMap::new()
    } else {
        connection.read::<secrets::Row>(ids(&with_values)).await?
    };
    let mut found = HashMap::with_capacity(questions.len());
    for Question { tenant, agent, .. } in questions.iter().copied() {
        let Some(metadata) = metadata.remove(agent).filter(|it| it.agent.tenant == *tenant) else { continue };
        let (values, remembered) = (values.remove(agent), remembered.remove(agent));
        found.insert(agent.clone(), Found { metadata, values, remembered });
    }
    Ok(found)
}

fn ids(questions: &[&Question]) -> Vec<AgentId> {
    questions.iter().map(|question| question.agent.clone()).collect()
}

/// Forgets old answers of the agents, and finds those that are asked for.
async fn recall(
    connection: &impl ConnectionTrait,
    questions: &[&Question],
) -> Result<HashMap<AgentId, Remembered>, Error> {
    let (mut is_old, mut is_asked_for) = (Condition::any(), Condition::any());
    for question in questions {
        let Some((key, since)) = &question.recall else { continue };
        let of_agent = || Condition::all().add(idempotency::Column::AgentId.eq(question.agent.as_str()));
        is_old = is_old.add(of_agent().add(idempotency::Column::CreatedAt.lt(since.0)));
        is_asked_for = is_asked_for.add(of_agent().add(idempotency::Column::Name.eq(key.as_str())));
    }
    if is_old.is_empty() {
        return Ok(HashMap::new());
    }
    idempotency::Entity::delete_many().filter(is_old).exec(connection).await?;
    let rows = idempotency::Entity::find().filter(is_asked_for).all(connection).await?;
    let rows = rows.into_iter().map(|row| {
        let remembered = Remembered { request_digest: row.request_digest, answer: row.answer };
        (AgentId::from_stored(row.agent_id), remembered)
    });
    Ok(rows.collect())
}
