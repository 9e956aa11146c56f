//! Agents with their secrets, read as they were at one moment.
//!
//! PostgreSQL gathers an agent and its secrets into one text, JSON: as rows they would cost more than all the rest of a
//! read, because sea-orm and the driver copy each column of each. SQLite, which is called where it stands, gives them as
//! rows, which are read column by column.

use std::{collections::HashMap, fmt, sync::Arc};

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use serde::de::DeserializeOwned;

use super::{
    AgentRow, Error,
    agent_row::AgentColumns,
    columns::Statements,
    engine::Engine,
    pool::Pool,
    room::Key,
    rows::texts,
    sqlite::{self, Row},
    transaction::Transaction,
};
use crate::domain::{AgentId, SecretName};

/// An agent, and what was read of its secrets.
#[derive(Clone, Debug)]
pub struct AgentWith<S> {
    /// The agent.
    pub agent: AgentRow,
    /// Of each secret, sorted by name.
    pub secrets: Vec<S>,
}

/// What is read of a secret: some columns, as an array in JSON or as those of a row.
pub(super) trait Gathered: DeserializeOwned + Send + 'static {
    /// What is made of it.
    type Secret: fmt::Debug + Send + Sync + 'static;

    fn statements() -> &'static Statements;

    /// Reads the first columns of a row.
    fn from_row(row: &Row<'_>) -> sqlite::Result<Self>;

    fn into_secret(self) -> Self::Secret;

    fn name(secret: &Self::Secret) -> &SecretName;

    /// How many bytes it takes in memory beside itself, about.
    fn bytes(secret: &Self::Secret) -> usize;

    /// Under what it is asked for.
    fn key(agent: AgentId) -> Key;
}

/// What agents are read from, of any tenant.
#[async_trait]
pub(super) trait Agents {
    /// Reads those of these that there are, with their secrets.
    async fn read<G: Gathered>(&self, agents: Vec<AgentId>) -> Result<Found<G>, Error>;
}

/// What was read of several.
type Found<G> = HashMap<AgentId, Arc<AgentWith<<G as Gathered>::Secret>>>;

#[async_trait]
impl<P: Agents + Sync, S: Agents + Sync> Agents for Engine<P, S> {
    async fn read<G: Gathered>(&self, agents: Vec<AgentId>) -> Result<Found<G>, Error> {
        match self {
            Self::Postgres(it) => it.read::<G>(agents).await,
            Self::Sqlite(it) => it.read::<G>(agents).await,
        }
    }
}

// === as JSON ===

#[async_trait]
impl Agents for Pool {
    async fn read<G: Gathered>(&self, agents: Vec<AgentId>) -> Result<Found<G>, Error> {
        read_json::<G>(self, &agents).await
    }
}

#[async_trait]
impl Agents for Transaction {
    async fn read<G: Gathered>(&self, agents: Vec<AgentId>) -> Result<Found<G>, Error> {
        read_json::<G>(self, &agents).await
    }
}

async fn read_json<G: Gathered>(
    connection: &impl ConnectionTrait,
    agents: &[AgentId],
) -> Result<Found<G>, Error> {
    let (agents, _) = texts(agents.iter().map(AgentId::as_str));
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, &G::statements().many, [agents]);
    let rows = connection.query_all_raw(statement).await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in &rows {
        let read = parse::<G>(&row.try_get_by_index::<String>(0)?)?;
        found.insert(read.agent.id.clone(), Arc::new(read));
    }
    Ok(found)
}

/// Reads an agent from what [`Statements::content`] has made of it.
pub(super) fn parse<G: Gathered>(content: &str) -> Result<AgentWith<G::Secret>, Error> {
    let (agent, secrets): (AgentColumns, Option<Vec<G>>) = serde_json::from_str(content)
        .map_err(|_unreadable| Error::Inconsistent("agents are gathered as our JSON"))?;
    Ok(AgentWith { agent: agent.try_into()?, secrets: sorted(secrets.unwrap_or_default()) })
}

fn sorted<G: Gathered>(secrets: Vec<G>) -> Vec<G::Secret> {
    let mut secrets: Vec<_> = secrets.into_iter().map(G::into_secret).collect();
    secrets.sort_unstable_by(|a, b| G::name(a).cmp(G::name(b)));
    secrets
}

// === as rows ===

#[async_trait]
impl Agents for sqlite::Readers {
    async fn read<G: Gathered>(&self, agents: Vec<AgentId>) -> Result<Found<G>, Error> {
        let mut found = HashMap::with_capacity(agents.len());
        for id in agents {
            if let Some(agent) = look_up::<G>(self, id.clone()).await? {
                found.insert(id, agent);
            }
        }
        Ok(found)
    }
}

#[async_trait]
impl Agents for sqlite::Connection {
    async fn read<G: Gathered>(&self, agents: Vec<AgentId>) -> Result<Found<G>, Error> {
        let mut found = HashMap::with_capacity(agents.len());
        for id in agents {
            if let Some(agent) = read_rows::<G>(self, &id)? {
                found.insert(id, Arc::new(agent));
            }
        }
        Ok(found)
    }
}

/// Looks an agent up, of any tenant.
pub(super) async fn look_up<G: Gathered>(
    readers: &sqlite::Readers,
    id: AgentId,
) -> Result<Option<Arc<AgentWith<G::Secret>>>, Error> {
    readers.look_up(G::key(id.clone()), |connection| read_rows::<G>(connection, &id), bytes::<G>).await
}

/// How many bytes it takes in memory, about.
pub(super) fn bytes<G: Gathered>(found: &AgentWith<G::Secret>) -> usize {
    let AgentWith { agent, secrets } = found;
    let secrets = secrets.iter().map(|secret| size_of::<G::Secret>() + G::bytes(secret));
    agent.bytes() + secrets.sum::<usize>()
}

fn read_rows<G: Gathered>(
    connection: &sqlite::Connection,
    id: &AgentId,
) -> Result<Option<AgentWith<G::Secret>>, Error> {
    let statements = G::statements();
    let (mut agent, mut secrets) = (None, Vec::<G>::new());
    connection.read(&statements.rows, [id.as_str()], |row| {
        if agent.is_none() {
            agent = Some(AgentColumns::from_row(row, statements.of_agent)?);
        }
        // An agent without secrets is a row all the same
        if !matches!(row.get_ref(0)?, sqlite::ValueRef::Null) {
            secrets.push(G::from_row(row)?);
        }
        Ok(())
    })?;
    let agent = agent.map(AgentRow::try_from).transpose()?;
    Ok(agent.map(|agent| AgentWith { agent, secrets: sorted(secrets) }))
}
