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
    let mut values = values(connection, questions).await?;
    let mut found = HashMap::with_capacity(questions.len());
    for Question { tenant, agent: id, with_values, recall: _ } in questions.iter().copied() {
        let Some((agent, secrets)) = metadata.remove(id).filter(|(agent, _)| agent.tenant == *tenant) else {
            continue;
        };
        let values = with_values.then(|| values.remove(id).unwrap_or_default());
        found.insert(id.clone(), Found { agent, secrets, values, remembered: remembered.remove(id) });
    }
    Ok(found)
}

fn ids(questions: &[&Question]) -> Vec<String> {
    questions.iter().map(|question| question.agent.as_str().to_owned()).collect()
}

async fn values(
    connection: &impl Agents,
    questions: &[&Question],
) -> Result<HashMap<AgentId, Vec<super::SealedSecret>>, Error> {
    let wanted: Vec<_> = questions.iter().copied().filter(|question| question.with_values).collect();
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let found = connection.read::<secrets::Row>(ids(&wanted)).await?;
    Ok(found.into_iter().map(|(agent, (_, values))| (agent, values)).collect())
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
