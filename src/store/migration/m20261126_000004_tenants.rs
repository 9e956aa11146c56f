//! Tenants that are being deleted, and the tenant that every database has.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

/// A column that says since when a tenant goes.
#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut column = ColumnDef::new("deleted_at");
        column.big_integer();
        manager.alter_table(Table::alter().table("tenants").add_column(&mut column).take()).await?;
        let now = if manager.get_database_backend() == DbBackend::Sqlite {
            "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
        } else {
            "CAST(extract(epoch FROM now()) * 1000000 AS BIGINT)"
        };
        let mut insert = Query::insert();
        insert.into_table("tenants").columns(["id", "name", "created_at"]);
        insert.values_panic(["ten_default".into(), "default".into(), Expr::cust(now)]);
        insert.on_conflict(OnConflict::new().do_nothing().to_owned());
        manager.execute(insert).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.alter_table(Table::alter().table("tenants").drop_column("deleted_at").take()).await
    }
}
