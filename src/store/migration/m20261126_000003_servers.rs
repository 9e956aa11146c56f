//! Which servers there are and which key-encryption keys each has, and since when a key wraps: by both it is told when
//! a key may be used.

use sea_orm_migration::prelude::*;

use sea_orm_migration::sea_orm::DbBackend;

/// A table, and a column of `keys` that is empty for a key that has wrapped nothing yet.
#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut since = ColumnDef::new("primary_since");
        since.big_integer();
        manager.alter_table(Table::alter().table("keys").add_column(&mut since).take()).await?;
        let mut servers = Table::create();
        servers.table("servers");
        for name in ["id", "keks", "wraps"] {
            let mut column = ColumnDef::new(name);
            column.text().not_null();
            if manager.get_database_backend() == DbBackend::Postgres {
                column.extra("COLLATE \"C\"");
            }
            servers.col(&mut column);
        }
        servers.col(ColumnDef::new("seen_at").big_integer().not_null());
        servers.primary_key(Index::create().col("id"));
        manager.create_table(servers).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("servers").to_owned()).await?;
        manager.alter_table(Table::alter().table("keys").drop_column("primary_since").take()).await
    }
}
