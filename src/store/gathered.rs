//! Agents with their secrets, one row an agent: the database gathers the secrets into JSON.
//!
//! Row by row they would cost more than all the rest of a read: sea-orm and the driver copy each column of each row.

use std::{collections::HashMap, marker::PhantomData};

use async_trait::async_trait;
use data_encoding::HEXLOWER_PERMISSIVE;
use sea_orm::{
    ConnectionTrait, DbBackend, FromQueryResult as _, QueryResult, Statement, sea_query::ArrayType,
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use super::{
    AgentRow, Error, Reader,
    agent_row::{AgentColumns, OfTenant},
    batch::Together,
    rows::is_any,
};
use crate::domain::{AgentId, SecretName};

/// The column of what is gathered.
const GATHERED: &str = "gathered";

/// What is read of a secret: an array in JSON, of these columns.
pub(super) trait Gathered: DeserializeOwned + 'static {
    /// In their order.
    const COLUMNS: &'static [Column];
    /// The most agents that are read at once.
    const AT_ONCE: usize;
    /// What is made of it.
    type Secret: Clone + Send;

    fn into_secret(self) -> Self::Secret;

    fn name(secret: &Self::Secret) -> &SecretName;
}

/// How a column is written in JSON.
#[derive(Clone, Copy, Debug)]
pub(super) enum Column {
    /// As it is: text or a number.
    Plain(&'static str),
    /// Bytes, as [`Hex`].
    Bytes(&'static str),
    /// How many bytes there are. They are not read for it.
    Length(&'static str),
}

/// Bytes in hexadecimal digits. Where there are none, SQLite writes an empty text and PostgreSQL NULL.
#[derive(Debug, Default)]
pub(super) struct Hex(pub(super) Vec<u8>);

/// An agent, and what was read of its secrets, sorted by name.
type AgentWith<S> = (AgentRow, Vec<S>);

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
        let found = read::<G>(&self.0, items.iter().map(OfTenant::id).collect()).await?;
        Ok(items.iter().map(|item| item.pick(&found)).collect())
    }
}

/// Reads agents of any tenant with their secrets, as they were at one moment.
pub(super) async fn read<G: Gathered>(
    connection: &impl ConnectionTrait,
    agents: Vec<String>,
) -> Result<HashMap<AgentId, AgentWith<G::Secret>>, Error> {
    let statement = statement::<G>(connection.get_database_backend(), agents);
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
    let mut secrets: Vec<_> = gathered.into_iter().map(G::into_secret).collect();
    secrets.sort_unstable_by(|a, b| G::name(a).cmp(G::name(b)));
    Ok(secrets)
}

/// Its text depends on the number of agents on SQLite alone, and there it is one of few.
fn statement<G: Gathered>(backend: DbBackend, agents: Vec<String>) -> Statement {
    let columns: Vec<_> = G::COLUMNS.iter().map(|column| column.in_json(backend)).collect();
    let columns = columns.join(", ");
    let gathered = if backend == DbBackend::Postgres {
        format!("json_agg(json_build_array({columns}))::text")
    } else {
        format!("json_group_array(json_array({columns}))")
    };
    let (is_asked_for, values) = is_any(backend, ArrayType::String, agents);
    let text = format!(
        "SELECT {agent}, (SELECT {gathered} FROM secrets WHERE secrets.agent_id = agents.id) AS {GATHERED} \
         FROM agents WHERE agents.id {is_asked_for}",
        agent = AgentColumns::NAMES.join(", "),
    );
    Statement::from_sql_and_values(backend, text, values)
}

// === impl Column ===

impl Column {
    fn in_json(self, backend: DbBackend) -> String {
        match self {
            Self::Plain(column) => column.to_owned(),
            Self::Bytes(column) if backend == DbBackend::Postgres => format!("encode({column}, 'hex')"),
            Self::Bytes(column) => format!("hex({column})"),
            Self::Length(column) => format!("length({column})"),
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

impl Hex {
    /// The bytes, if there are any.
    pub(super) fn some(self) -> Option<Vec<u8>> {
        Some(self.0).filter(|bytes| !bytes.is_empty())
    }
}
