//! When tokens were last used, apart from the tokens: their rows are compared by version at each call, so that they must
//! change with nothing but what a token may. And by which token another was replaced.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

/// A table, and a column of `tokens` that is empty for a token that was not replaced.
#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let is_postgres = manager.get_database_backend() == DbBackend::Postgres;
        let text = |name: &'static str| {
            let mut column = ColumnDef::new(name);
            column.text();
            if is_postgres {
                column.extra("COLLATE \"C\"");
            }
            column
        };
        let mut replaced_by = text("replaced_by");
        manager.alter_table(Table::alter().table("tokens").add_column(&mut replaced_by).take()).await?;
        let mut uses = Table::create();
        uses.table("token_uses");
        uses.col(text("token_id").not_null());
        uses.col(ColumnDef::new("used_at").big_integer().not_null());
        uses.primary_key(Index::create().col("token_id"));
        if !is_postgres {
            uses.extra("WITHOUT ROWID");
        }
        manager.create_table(uses).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("token_uses").to_owned()).await?;
        manager.alter_table(Table::alter().table("tokens").drop_column("replaced_by").take()).await
    }
}
