//! Rows of a table, many in one statement.
//!
//! PostgreSQL gets an array for each column: so the text stays the same however many rows there are, and each
//! connection prepares it once. SQLite, which has no arrays and prepares in microseconds, gets the rows as they are.

use sea_orm::{ConnectionTrait, DbBackend, Statement, Value, sea_query::ArrayType};

use super::Error;
use crate::domain::{AgentId, AuditEvent, AuditedSecret};

/// The most rows in one statement of SQLite, which takes 32,766 values.
const SQLITE_ROWS: usize = 1000;

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
}

/// Rows of one table, kept by column.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    table: &'static Table,
    columns: Vec<Vec<Value>>,
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

// === impl Rows ===

impl Rows {
    /// No rows yet.
    pub(super) fn new(table: &'static Table) -> Self {
        Self { table, columns: table.columns.iter().map(|_| Vec::new()).collect() }
    }

    /// Adds a row: its values, in the order of the table's columns.
    pub(super) fn push<const N: usize>(&mut self, row: [Value; N]) {
        debug_assert_eq!(N, self.columns.len(), "a value for each column of {}", self.table.name);
        for (column, value) in self.columns.iter_mut().zip(row) {
            column.push(value);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.columns.first().map_or(0, Vec::len)
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.table.columns.iter().map(|(name, _)| *name).collect();
        names.join(", ")
    }

    /// The text that inserts on PostgreSQL those rows that a condition holds for, which may name the row `new`.
    /// Its parameters are put behind those that are there.
    pub(super) fn into_insert(self, condition: &str, parameters: &mut Vec<Value>) -> String {
        let (mut arrays, mut wanted) = (Vec::new(), Vec::new());
        let names = self.names();
        for ((name, kind), values) in self.table.columns.iter().zip(self.columns) {
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

    /// The statements that insert the rows on SQLite.
    fn into_values(self) -> Vec<Statement> {
        let (rows, columns) = (self.len(), self.columns.len());
        let one = format!("({})", vec!["?"; columns].join(", "));
        let head = format!("INSERT INTO {} ({}) VALUES ", self.table.name, self.names());
        let on_conflict = self.table.on_conflict;
        let mut values: Vec<_> = self.columns.into_iter().map(Vec::into_iter).collect();
        let mut statements = Vec::new();
        for first in (0..rows).step_by(SQLITE_ROWS) {
            let some = SQLITE_ROWS.min(rows - first);
            let text = format!("{head}{} {on_conflict}", vec![one.as_str(); some].join(", "));
            let bound: Vec<_> = (0..some)
                .flat_map(|_| values.iter_mut().filter_map(Iterator::next).collect::<Vec<_>>())
                .collect();
            statements.push(Statement::from_sql_and_values(DbBackend::Sqlite, text, bound));
        }
        statements
    }

    /// The statements that insert the rows. On PostgreSQL it is one, which needs no transaction to be done as a whole.
    pub(super) fn into_statements(self, backend: DbBackend) -> Vec<Statement> {
        if self.is_empty() {
            return Vec::new();
        }
        if backend == DbBackend::Postgres {
            let mut parameters = Vec::new();
            let text = self.into_insert("true", &mut parameters);
            return vec![Statement::from_sql_and_values(backend, text, parameters)];
        }
        self.into_values()
    }

    /// Inserts the rows in a transaction.
    pub(super) async fn insert(self, tx: &impl ConnectionTrait) -> Result<(), Error> {
        for statement in self.into_statements(tx.get_database_backend()) {
            tx.execute_raw(statement).await?;
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
