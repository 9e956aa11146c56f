//! Changes in a transaction: read, decide and write, statement by statement, while nobody else can change the agents.

use std::sync::Arc;

use futures_util::FutureExt as _;
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, EntityTrait as _, QueryFilter as _, sea_query::Expr,
};

use super::{Change, Job, Round, tables::Written};
use crate::{
    domain::{AgentId, SecretName},
    store::{
        Error, Tx,
        entity::{agent, secret},
        found, previous,
        rows::is_among,
        writer::Writer,
    },
};

/// The most secrets that one statement deletes; its text grows with them.
const DELETED_AT_ONCE: usize = 64;

/// Does the rounds one after the other, all of them or none.
pub(super) async fn carry_out(writer: &Writer, rounds: Vec<Round>) -> Result<(), Error> {
    let rounds = Arc::new(rounds);
    writer
        .write(move |tx| {
            let rounds = Arc::clone(&rounds);
            async move {
                for round in rounds.iter() {
                    carry_out_round(tx, round).await?;
                }
                Ok(())
            }
            .boxed()
        })
        .await
}

/// Does one that found its agent taken: it waits for it.
pub(super) async fn carry_out_alone(writer: &Writer, job: Arc<dyn Job>) -> Result<(), Error> {
    let round = Arc::new(vec![job]);
    writer
        .write(move |tx| {
            let round = Arc::clone(&round);
            async move {
                for job in round.iter() {
                    let question = job.question();
                    tx.lock_agent(&question.tenant, &question.agent).await?;
                }
                carry_out_round(tx, &round).await
            }
            .boxed()
        })
        .await
}

async fn carry_out_round(tx: &Tx, round: &Round) -> Result<(), Error> {
    let questions: Vec<_> = round.iter().map(|job| job.question()).collect();
    let found = found::read(&tx.0, &questions).await?;
    let changes: Vec<_> = round
        .iter()
        .filter_map(|job| {
            let agent = &job.question().agent;
            Some((agent, job.decide(found.get(agent))?))
        })
        .collect();
    write(&tx.0, &changes).await
}

async fn write(connection: &impl ConnectionTrait, changes: &[(&AgentId, Change)]) -> Result<(), Error> {
    let Written { secrets, deleted, overlaps, events, answers } =
        Written::of(&changes.iter().map(|(agent, change)| (*agent, change)).collect::<Vec<_>>())?;
    secrets.insert(connection).await?;
    for few in deleted.chunks(DELETED_AT_ONCE) {
        delete(connection, few).await?;
    }
    for (agent, name, until) in overlaps {
        let key = (agent.as_str().to_owned(), name.as_str().to_owned());
        previous::keep_until(until).filter(of_key(&key.0, &key.1)).exec(connection).await?;
    }
    move_on(connection, changes).await?;
    events.insert(connection).await?;
    answers.insert(connection).await
}

async fn delete(connection: &impl ConnectionTrait, secrets: &[(&AgentId, &SecretName)]) -> Result<(), Error> {
    let is_one = secrets
        .iter()
        .fold(Condition::any(), |any, (agent, name)| any.add(of_key(agent.as_str(), name.as_str())));
    secret::Entity::delete_many().filter(is_one).exec(connection).await?;
    Ok(())
}

fn of_key(agent: &str, name: &str) -> Condition {
    Condition::all().add(secret::Column::AgentId.eq(agent)).add(secret::Column::Name.eq(name))
}

async fn move_on(connection: &impl ConnectionTrait, changes: &[(&AgentId, Change)]) -> Result<(), Error> {
    let moving = changes.iter().filter(|(_, change)| change.moves_on);
    let ids: Vec<_> = moving.map(|(agent, _)| agent.as_str().to_owned()).collect();
    if ids.is_empty() {
        return Ok(());
    }
    agent::Entity::update_many()
        .col_expr(agent::Column::Revision, Expr::cust("revision + 1"))
        .filter(is_among(agent::Column::Id, ids, connection.get_database_backend()))
        .exec(connection)
        .await?;
    Ok(())
}
