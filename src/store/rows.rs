//! Rows of a table, many in one statement.
//!
//! PostgreSQL gets an array for each column: so the text stays the same however many rows there are, and each
//! connection prepares it once. SQLite, which has no arrays and is called where it stands, gets one row after the other.

use std::sync::OnceLock;

use sea_orm::{ConnectionTrait as _, DbBackend, Statement, Value, sea_query::ArrayType};

use super::{Error, engine::Engine, writer::Session};
use crate::domain::{AgentId, AuditEvent, AuditedSecret};

/// What a column holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Text,
    Number,
    Bytes,
    /// A positive number, or NULL.
    OptionalNumber,
    /// Some bytes, or NULL.
    OptionalBytes,
}

/// A table that rows are put into.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static [(&'static str, Kind)],
    /// What is done where a row is there already.
    pub(super) on_conflict: &'static str,
    /// The text that inserts a row on SQLite, once it was needed.
    pub(super) insert: OnceLock<String>,
}

/// Rows of one table.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    table: &'static Table,
    /// One row after the other.
    values: Vec<Value>,
}

/// What has happened.
static EVENTS: Table = Table {
    name: "audit_events",
    columns: &[
        ("agent_id", Kind::Text),
        ("id", Kind::Text),
        ("tenant_id", Kind::Text),
        ("at", Kind::Number),
        ("action", Kind::Text),
        ("actor", Kind::Text),
        ("request_id", Kind::Text),
        ("remote", Kind::Text),
        ("secrets", Kind::Text),
        ("revision", Kind::Number),
        ("run_id", Kind::Text),
        ("subject", Kind::Text),
    ],
    // The same one again, by somebody who could not know that it is here
    on_conflict: "ON CONFLICT (agent_id, id) DO NOTHING",
    insert: OnceLock::new(),
};

// === impl Kind ===

impl Kind {
    fn array_type(self) -> (ArrayType, &'static str) {
        match self {
            Self::Text => (ArrayType::String, "text[]"),
            Self::Number | Self::OptionalNumber => (ArrayType::BigInt, "bigint[]"),
            Self::Bytes | Self::OptionalBytes => (ArrayType::Bytes, "bytea[]"),
        }
    }

    /// An array as it is bound has no NULL in it; what stands for it there is none of the values that there are.
    fn for_array(self, value: Value) -> Value {
        match (self, value) {
            (Self::OptionalNumber, Value::BigInt(None)) => Value::BigInt(Some(0)),
            (Self::OptionalBytes, Value::Bytes(None)) => Value::Bytes(Some(Vec::new())),
            (_, value) => value,
        }
    }

    fn read_from_array(self, column: &str) -> String {
        match self {
            Self::Text | Self::Number | Self::Bytes => format!("new.{column}"),
            Self::OptionalNumber => format!("NULLIF(new.{column}, 0)"),
            Self::OptionalBytes => format!("NULLIF(new.{column}, ''::bytea)"),
        }
    }
}

// === impl Table ===

impl Table {
    fn names(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|(name, _)| *name).collect();
        names.join(", ")
    }

    /// The text that inserts a row on SQLite.
    fn insert(&self) -> &str {
        self.insert.get_or_init(|| {
            let Self { name, on_conflict, .. } = self;
            let (names, places) = (self.names(), vec!["?"; self.columns.len()].join(", "));
            format!("INSERT INTO {name} ({names}) VALUES ({places}) {on_conflict}")
        })
    }
}

// === impl Rows ===

impl Rows {
    /// No rows yet.
    pub(super) fn new(table: &'static Table) -> Self {
        Self { table, values: Vec::new() }
    }

    /// Adds a row: its values, in the order of the table's columns.
    pub(super) fn push<const N: usize>(&mut self, row: [Value; N]) {
        debug_assert_eq!(N, self.table.columns.len(), "a value for each column of {}", self.table.name);
        self.values.extend(row);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The text that inserts on PostgreSQL those rows that a condition holds for, which may name the row `new`.
    /// Its parameters are put behind those that are there.
    pub(super) fn into_insert(self, condition: &str, parameters: &mut Vec<Value>) -> String {
        let (mut arrays, mut wanted) = (Vec::new(), Vec::new());
        let names = self.table.names();
        let mut columns: Vec<_> = self.table.columns.iter().map(|_| Vec::new()).collect();
        for (place, value) in self.values.into_iter().enumerate() {
            if let Some(column) = place.checked_rem(columns.len()).and_then(|place| columns.get_mut(place)) {
                column.push(value);
            }
        }
        for ((name, kind), values) in self.table.columns.iter().zip(columns) {
            let (array, cast) = kind.array_type();
            let values = values.into_iter().map(|value| kind.for_array(value)).collect();
            parameters.push(Value::Array(array, Some(Box::new(values))));
            arrays.push(format!("${}::{cast}", parameters.len()));
            wanted.push(kind.read_from_array(name));
        }
        format!(
            "INSERT INTO {table} ({names}) SELECT {wanted} FROM unnest({arrays}) AS new({names}) \
             WHERE {condition} {on_conflict}",
            table = self.table.name,
            wanted = wanted.join(", "),
            arrays = arrays.join(", "),
            on_conflict = self.table.on_conflict,
        )
    }

    /// The statement that inserts the rows on PostgreSQL, which needs no transaction to be done as a whole.
    pub(super) fn into_statement(self) -> Statement {
        let mut parameters = Vec::new();
        let text = self.into_insert("true", &mut parameters);
        Statement::from_sql_and_values(DbBackend::Postgres, text, parameters)
    }

    /// Inserts the rows in a transaction.
    pub(super) async fn insert(&self, session: &Session) -> Result<(), Error> {
        match session {
            Engine::Postgres(transaction) if !self.is_empty() => {
                transaction.execute_raw(self.clone().into_statement()).await?;
            }
            Engine::Postgres(_) => {}
            Engine::Sqlite(connection) => {
                for row in self.values.chunks_exact(self.table.columns.len()) {
                    connection.execute(self.table.insert(), row)?;
                }
            }
        }
        Ok(())
    }
}

/// Events as rows.
pub(super) fn of_events(events: &[&AuditEvent]) -> Result<Rows, Error> {
    let mut rows = Rows::new(&EVENTS);
    for event in events {
        let AuditEvent { id, at, tenant, agent, action, actor, origin, secrets, revision, run_id, subject } =
            event;
        rows.push([
            agent.as_ref().map(AgentId::as_str).unwrap_or_default().into(),
            id.as_str().into(),
            tenant.as_str().into(),
            at.0.into(),
            action.as_str().into(),
            actor.as_str().into(),
            origin.request_id.as_str().into(),
            origin.remote.as_str().into(),
            to_json(secrets)?.into(),
            revision.0.into(),
            run_id.as_str().into(),
            subject.as_str().into(),
        ]);
    }
    Ok(rows)
}

fn to_json(secrets: &[AuditedSecret]) -> Result<String, Error> {
    serde_json::to_string(secrets)
        .map_err(|_unwritable| Error::Inconsistent("audited secrets can be written as JSON"))
}

/// Texts as an array, and its type.
pub(super) fn texts<'t, T: Iterator<Item = &'t str>>(texts: T) -> (Value, &'static str) {
    array(Kind::Text, texts.map(Value::from))
}

/// Numbers as an array, and its type.
pub(super) fn numbers(numbers: impl Iterator<Item = i64>) -> (Value, &'static str) {
    array(Kind::Number, numbers.map(Value::from))
}

/// Bytes as an array, and its type.
pub(super) fn blobs<'b, T: Iterator<Item = &'b [u8]>>(blobs: T) -> (Value, &'static str) {
    array(Kind::Bytes, blobs.map(Value::from))
}

fn array(kind: Kind, values: impl Iterator<Item = Value>) -> (Value, &'static str) {
    let (array, name) = kind.array_type();
    (Value::Array(array, Some(Box::new(values.collect()))), name)
}
