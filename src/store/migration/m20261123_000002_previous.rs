//! The value a secret had before, kept for an overlap, with an index by which those whose overlap has ended are
//! found; and the index by which runs are found.

use sea_orm_migration::prelude::*;

/// Columns beside the value they precede, so that one statement reads and writes both.
#[derive(DeriveMigrationName)]
pub(super) struct Migration;

const COLUMNS: [&str; 4] = ["previous_version", "previous_sealed", "previous_fingerprint", "previous_until"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // SQLite adds one column a statement
        for name in COLUMNS {
            let mut column = ColumnDef::new(name);
            if matches!(name, "previous_sealed" | "previous_fingerprint") {
                column.blob();
            } else {
                column.big_integer();
            }
            manager.alter_table(Table::alter().table("secrets").add_column(&mut column).take()).await?;
        }
        // Few secrets have one: the others are not in it
        let mut index = Index::create();
        index.name("secrets_previous_until").table("secrets").col("previous_until");
        index.and_where(Expr::col("previous_until").is_not_null());
        manager.create_index(index).await?;
        let mut index = Index::create();
        index.name("audit_events_named_run").table("audit_events").col("agent_id").col("run_id").col("id");
        // Sets and deletes have no run, and pay for none
        index.and_where(Expr::cust("run_id <> ''"));
        manager.create_index(index).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .drop_index(Index::drop().name("audit_events_named_run").table("audit_events").to_owned())
            .await?;
        manager.drop_index(Index::drop().name("secrets_previous_until").table("secrets").to_owned()).await?;
        for name in COLUMNS {
            manager.alter_table(Table::alter().table("secrets").drop_column(name).take()).await?;
        }
        Ok(())
    }
}
