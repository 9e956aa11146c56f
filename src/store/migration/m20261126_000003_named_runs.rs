//! The index by which runs are found, of those rows alone that have a run: sets and deletes have none, and pay for none.

use sea_orm_migration::prelude::*;

/// An index in place of a larger one.
#[derive(DeriveMigrationName)]
pub(super) struct Migration;

const OF_ALL: &str = "audit_events_run";
const OF_NAMED: &str = "audit_events_named_run";

fn by_run(name: &'static str) -> IndexCreateStatement {
    let mut index = Index::create();
    index.name(name).table("audit_events").col("agent_id").col("run_id").col("id");
    index
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut named = by_run(OF_NAMED);
        named.and_where(Expr::cust("run_id <> ''"));
        manager.create_index(named).await?;
        manager.drop_index(Index::drop().name(OF_ALL).table("audit_events").to_owned()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_index(by_run(OF_ALL)).await?;
        manager.drop_index(Index::drop().name(OF_NAMED).table("audit_events").to_owned()).await
    }
}
