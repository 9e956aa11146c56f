//! Tenants, agents, secrets, tokens, audit events, keys, idempotency.
//!
//! Every row of an agent is led by its id: no sequence, no foreign key and no transaction crosses agents,
//! so that the tables can be spread by agent. Times are microseconds since the epoch: exact and the same
//! on both databases.

use sea_orm_migration::prelude::*;

use sea_orm_migration::sea_orm::DbBackend;

/// The first schema.
#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_database_backend();
        for table in [tenants(), agents(), secrets(), tokens(), audit_events(), keys(), idempotency()] {
            manager.create_table(table.build(backend)).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["idempotency", "keys", "audit_events", "tokens", "secrets", "agents", "tenants"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

/// A table: its name, its columns, its primary key, and whether its rows are long.
struct Definition {
    name: &'static str,
    is_wide: bool,
    columns: Vec<Column>,
    key: &'static [&'static str],
}

enum Column {
    Text(&'static str),
    OptionalText(&'static str),
    Number(&'static str),
    OptionalNumber(&'static str),
    Bytes(&'static str),
}

use Column::{Bytes, Number, OptionalNumber, OptionalText, Text};

impl Definition {
    fn build(self, backend: DbBackend) -> TableCreateStatement {
        let mut table = Table::create();
        table.table(self.name);
        for column in self.columns {
            table.col(column.build(backend));
        }
        let mut key = Index::create();
        for column in self.key {
            key.col(*column);
        }
        table.primary_key(&mut key);
        if backend == DbBackend::Sqlite && !self.is_wide {
            // The primary key is the table: one look-up, no second tree. Rows over a quarter of a page would spill into
            // pages of their own there, each of which is written whole
            table.extra("WITHOUT ROWID");
        }
        table
    }
}

impl Column {
    fn build(self, backend: DbBackend) -> ColumnDef {
        match self {
            Text(name) => text(name, backend).not_null().take(),
            OptionalText(name) => text(name, backend),
            Number(name) => ColumnDef::new(name).big_integer().not_null().take(),
            OptionalNumber(name) => ColumnDef::new(name).big_integer().take(),
            Bytes(name) => ColumnDef::new(name).blob().not_null().take(),
        }
    }
}

/// Text that compares by byte on both databases: names keep their case, and lists have one order.
fn text(name: &'static str, backend: DbBackend) -> ColumnDef {
    let mut column = ColumnDef::new(name);
    column.text();
    if backend == DbBackend::Postgres {
        column.extra("COLLATE \"C\"");
    }
    column
}

fn tenants() -> Definition {
    Definition {
        name: "tenants",
        is_wide: false,
        columns: vec![Text("id"), Text("name"), Number("created_at")],
        key: &["id"],
    }
}

fn agents() -> Definition {
    Definition {
        name: "agents",
        is_wide: true,
        columns: vec![
            Text("id"),
            Text("tenant_id"),
            Text("name"),
            OptionalText("command"),
            Text("required_secrets"),
            Number("revision"),
            Text("kek_id"),
            Bytes("wrapped_key"),
            Number("created_at"),
            Number("updated_at"),
        ],
        key: &["id"],
    }
}

fn secrets() -> Definition {
    Definition {
        name: "secrets",
        is_wide: false,
        columns: vec![
            Text("agent_id"),
            Text("name"),
            Number("version"),
            Bytes("sealed"),
            Bytes("fingerprint"),
            Number("created_at"),
            Number("updated_at"),
            Text("updated_by"),
        ],
        key: &["agent_id", "name"],
    }
}

fn tokens() -> Definition {
    Definition {
        name: "tokens",
        is_wide: false,
        columns: vec![
            Text("id"),
            Bytes("hash"),
            Text("tenant_id"),
            Text("name"),
            Text("scopes"),
            OptionalText("agents"),
            Text("email"),
            Number("created_at"),
            OptionalNumber("expires_at"),
            OptionalNumber("revoked_at"),
        ],
        key: &["id"],
    }
}

fn audit_events() -> Definition {
    Definition {
        name: "audit_events",
        is_wide: true,
        columns: vec![
            Text("agent_id"),
            Text("id"),
            Text("tenant_id"),
            Number("at"),
            Text("action"),
            Text("actor"),
            Text("request_id"),
            Text("remote"),
            Text("secrets"),
            Number("revision"),
            Text("run_id"),
            Text("subject"),
        ],
        key: &["agent_id", "id"],
    }
}

fn keys() -> Definition {
    Definition {
        name: "keys",
        is_wide: false,
        columns: vec![Text("id"), Bytes("check_value"), Number("created_at")],
        key: &["id"],
    }
}

fn idempotency() -> Definition {
    Definition {
        name: "idempotency",
        is_wide: false,
        columns: vec![
            Text("agent_id"),
            Text("name"),
            Bytes("request_digest"),
            Text("answer"),
            Number("created_at"),
        ],
        key: &["agent_id", "name"],
    }
}

fn indexes() -> [IndexCreateStatement; 5] {
    let unique = |name: &'static str, table: &'static str, columns: &[&'static str]| {
        let mut index = Index::create();
        index.name(name).table(table).unique();
        for column in columns {
            index.col(*column);
        }
        index
    };
    let plain = |name: &'static str, table: &'static str, columns: &[&'static str]| {
        let mut index = Index::create();
        index.name(name).table(table);
        for column in columns {
            index.col(*column);
        }
        index
    };
    [
        unique("tenants_name", "tenants", &["name"]),
        unique("agents_tenant_name", "agents", &["tenant_id", "name"]),
        unique("tokens_hash", "tokens", &["hash"]),
        plain("tokens_tenant", "tokens", &["tenant_id", "created_at", "id"]),
        plain("audit_events_tenant", "audit_events", &["tenant_id", "id"]),
    ]
}
