//! Agents with their secrets, read as they were at one moment.
//!
//! On PostgreSQL an agent is one row, into which the database gathers its secrets as JSON: row by row they would cost more
//! than all the rest of a read, because sea-orm and the driver copy each column of each. SQLite, which is called where it
//! stands, gives them as rows, which are read column by column.

use std::{collections::HashMap, marker::PhantomData};

use async_trait::async_trait;
use data_encoding::HEXLOWER_PERMISSIVE;
use sea_orm::{
    ConnectionTrait, DbBackend, FromQueryResult as _, QueryResult, Statement, Value, sea_query::ArrayType,
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use super::{
    AgentRow, Error, Reader,
    agent_row::{AgentColumns, OfTenant},
    batch::Together,
    engine::Engine,
    pool::Pool,
    sqlite::{self, Row},
    transaction::Transaction,
};
use crate::domain::{AgentId, SecretName};

/// The column of what is gathered.
const GATHERED: &str = "gathered";

/// What is read of a secret: these columns, as an array in JSON or as those of a row.
pub(super) trait Gathered: DeserializeOwned + Send + 'static {
    /// In their order.
    const COLUMNS: &'static [Column];
    /// The most agents that are read at once.
    const AT_ONCE: usize;
    /// What is made of it.
    type Secret: Clone + Send;

    /// Reads the columns of a row from the first of them on.
    fn from_row(row: &Row<'_>, first: usize) -> sqlite::Result<Self>;

    fn into_secret(self) -> Self::Secret;

    fn name(secret: &Self::Secret) -> &SecretName;
}

/// What agents are read from, of any tenant.
#[async_trait]
pub(super) trait Agents {
    /// Reads those of these that there are, with their secrets.
    async fn read<G: Gathered>(&self, agents: Vec<String>) -> Result<Found<G>, Error>;
}

/// An agent, and what was read of its secrets, sorted by name.
type AgentWith<S> = (AgentRow, Vec<S>);

/// What was read of several.
type Found<G> = HashMap<AgentId, AgentWith<<G as Gathered>::Secret>>;

/// How a column is read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Column {
    /// As it is: text or a number.
    Plain(&'static str),
    /// Bytes; in JSON, as [`Hex`].
    Bytes(&'static str),
    /// How many bytes there are. They are not read for it.
    Length(&'static str),
}

/// Bytes; in JSON in hexadecimal digits. Where there are none, NULL.
#[derive(Debug, Default)]
pub(super) struct Hex(pub(super) Vec<u8>);

/// Reads what many ask for together, and gives each what is his tenant's.
pub(super) struct Gathering<G>(Reader, PhantomData<fn() -> G>);

impl<G> Gathering<G> {
    pub(super) fn new(reader: Reader) -> Self {
        Self(reader, PhantomData)
    }
}

#[async_trait]
impl<G: Gathered> Together for Gathering<G> {
    type Item = OfTenant;
    type Outcome = Option<AgentWith<G::Secret>>;
    const AT_ONCE: usize = G::AT_ONCE;

    async fn run(&self, items: &[OfTenant]) -> Result<Vec<Option<AgentWith<G::Secret>>>, Error> {
        let found = self.0.read::<G>(items.iter().map(OfTenant::id).collect()).await?;
        Ok(items.iter().map(|item| item.pick(&found)).collect())
    }
}

#[async_trait]
impl<P: Agents + Sync, S: Agents + Sync> Agents for Engine<P, S> {
    async fn read<G: Gathered>(&self, agents: Vec<String>) -> Result<Found<G>, Error> {
        match self {
            Self::Postgres(it) => it.read::<G>(agents).await,
            Self::Sqlite(it) => it.read::<G>(agents).await,
        }
    }
}

// === as JSON ===

#[async_trait]
impl Agents for Pool {
    async fn read<G: Gathered>(&self, agents: Vec<String>) -> Result<Found<G>, Error> {
        read_json::<G>(self, agents).await
    }
}

#[async_trait]
impl Agents for Transaction {
    async fn read<G: Gathered>(&self, agents: Vec<String>) -> Result<Found<G>, Error> {
        read_json::<G>(self, agents).await
    }
}

async fn read_json<G: Gathered>(
    connection: &impl ConnectionTrait,
    agents: Vec<String>,
) -> Result<Found<G>, Error> {
    let columns: Vec<_> = G::COLUMNS.iter().map(|column| column.in_json()).collect();
    let text = format!(
        "SELECT {agent}, (SELECT json_agg(json_build_array({columns}))::text FROM secrets \
         WHERE secrets.agent_id = agents.id) AS {GATHERED} FROM agents WHERE agents.id = ANY($1)",
        agent = AgentColumns::NAMES.join(", "),
        columns = columns.join(", "),
    );
    let agents = agents.into_iter().map(Value::from).collect();
    let agents = Value::Array(ArrayType::String, Some(Box::new(agents)));
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, text, [agents]);
    let rows = connection.query_all_raw(statement).await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in &rows {
        let agent = AgentRow::try_from(AgentColumns::from_query_result(row, "")?)?;
        found.insert(agent.id.clone(), (agent, secrets::<G>(row)?));
    }
    Ok(found)
}

fn secrets<G: Gathered>(row: &QueryResult) -> Result<Vec<G::Secret>, Error> {
    let gathered: Option<String> = row.try_get("", GATHERED)?;
    let Some(gathered) = gathered else { return Ok(Vec::new()) };
    let gathered: Vec<G> = serde_json::from_str(&gathered)
        .map_err(|_unreadable| Error::Inconsistent("secrets are gathered as our JSON"))?;
    Ok(sorted(gathered))
}

fn sorted<G: Gathered>(secrets: Vec<G>) -> Vec<G::Secret> {
    let mut secrets: Vec<_> = secrets.into_iter().map(G::into_secret).collect();
    secrets.sort_unstable_by(|a, b| G::name(a).cmp(G::name(b)));
    secrets
}

// === as rows ===

#[async_trait]
impl Agents for sqlite::Readers {
    async fn read<G: Gathered>(&self, agents: Vec<String>) -> Result<Found<G>, Error> {
        let connection = self.lend().await?;
        read_rows::<G>(&connection, agents)
    }
}

#[async_trait]
impl Agents for sqlite::Connection {
    async fn read<G: Gathered>(&self, agents: Vec<String>) -> Result<Found<G>, Error> {
        read_rows::<G>(self, agents)
    }
}

fn read_rows<G: Gathered>(connection: &sqlite::Connection, agents: Vec<String>) -> Result<Found<G>, Error> {
    let columns: Vec<_> = G::COLUMNS.iter().map(|column| column.in_row()).collect();
    let text = format!(
        "SELECT secrets.name, {columns}, agents.{agent} FROM agents \
         LEFT JOIN secrets ON secrets.agent_id = agents.id WHERE agents.id = ?",
        columns = columns.join(", "),
        agent = AgentColumns::NAMES.join(", agents."),
    );
    let mut found = HashMap::with_capacity(agents.len());
    for id in agents {
        let (mut agent, mut secrets) = (None, Vec::<G>::new());
        connection.read(&text, [&id], |row| {
            if agent.is_none() {
                agent = Some(AgentColumns::from_row(row, 1 + G::COLUMNS.len())?);
            }
            // An agent without secrets is a row all the same
            if !matches!(row.get_ref(0)?, sqlite::ValueRef::Null) {
                secrets.push(G::from_row(row, 1)?);
            }
            Ok(())
        })?;
        if let Some(agent) = agent {
            let agent = AgentRow::try_from(agent)?;
            found.insert(agent.id.clone(), (agent, sorted(secrets)));
        }
    }
    Ok(found)
}

// === impl Column ===

impl Column {
    fn in_json(self) -> String {
        match self {
            Self::Plain(column) => column.to_owned(),
            Self::Bytes(column) => format!("encode({column}, 'hex')"),
            Self::Length(column) => format!("length({column})"),
        }
    }

    fn in_row(self) -> String {
        match self {
            Self::Plain(column) | Self::Bytes(column) => format!("secrets.{column}"),
            Self::Length(column) => format!("length(secrets.{column})"),
        }
    }
}

// === impl Hex ===

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = Option::<&str>::deserialize(deserializer)?.unwrap_or_default();
        HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).map(Self).map_err(serde::de::Error::custom)
    }
}

impl rusqlite::types::FromSql for Hex {
    fn column_result(value: sqlite::ValueRef<'_>) -> rusqlite::types::FromSqlResult<Self> {
        Ok(Self(value.as_blob_or_null()?.unwrap_or_default().to_vec()))
    }
}

impl Hex {
    /// The bytes, if there are any.
    pub(super) fn some(self) -> Option<Vec<u8>> {
        Some(self.0).filter(|bytes| !bytes.is_empty())
    }
}
