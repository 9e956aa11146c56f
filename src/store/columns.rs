//! Which columns of secrets are read, and the statements that do it.

use data_encoding::HEXLOWER_PERMISSIVE;
use serde::{Deserialize, Deserializer};

use super::{agent_row::AgentColumns, sqlite};

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

/// The statements that read some columns of secrets, and their agents.
#[derive(Debug)]
pub(super) struct Statements {
    /// For PostgreSQL: agents, each as one text ([`Statements::content`]).
    pub(super) many: String,
    /// For PostgreSQL: the expression that makes a text of an agent's row, JSON: its columns, and an array for each of its
    /// secrets.
    pub(super) content: String,
    /// For SQLite: an agent, with a row for each of its secrets.
    pub(super) rows: String,
    /// The place of the first column of the agent in such a row.
    pub(super) of_agent: usize,
}

/// Bytes; in JSON in hexadecimal digits. Where there are none, NULL.
#[derive(Debug, Default)]
pub(super) struct Hex(pub(super) Vec<u8>);

// === impl Statements ===

impl Statements {
    /// Those that read these columns, of which the first is never NULL.
    pub(super) fn of(columns: &[Column]) -> Self {
        let listed = |read: fn(Column) -> String| {
            columns.iter().map(|column| read(*column)).collect::<Vec<_>>().join(", ")
        };
        let content = format!(
            "json_build_array(json_build_array({agent}), (SELECT json_agg(json_build_array({columns})) \
             FROM secrets WHERE secrets.agent_id = agents.id))::text",
            agent = AgentColumns::IN_JSON.join(", "),
            columns = listed(Column::in_json),
        );
        Self {
            many: format!("SELECT {content} FROM agents WHERE agents.id = ANY($1)"),
            content,
            rows: format!(
                "SELECT {columns}, agents.{agent} FROM agents \
                 LEFT JOIN secrets ON secrets.agent_id = agents.id WHERE agents.id = ?",
                columns = listed(Column::in_row),
                agent = AgentColumns::NAMES.join(", agents."),
            ),
            of_agent: columns.len(),
        }
    }
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
    /// Reads bytes from JSON.
    pub(super) fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        Self::deserialize(deserializer).map(|Self(bytes)| bytes)
    }

    /// The bytes, if there are any.
    pub(super) fn some(self) -> Option<Vec<u8>> {
        Some(self.0).filter(|bytes| !bytes.is_empty())
    }
}
