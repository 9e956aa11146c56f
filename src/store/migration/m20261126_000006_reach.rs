//! Which programs may use this schema: a program that meets migrations it does not know looks here whether it understands
//! the database all the same.

use sea_orm_migration::prelude::*;

/// A table of one row. A later migration that takes something away sets `oldest` to the number of the first one whose
/// programs can do without.
#[derive(DeriveMigrationName)]
pub(super) struct Migration;

/// The number of the newest migration that the oldest program knows that may use this schema.
const OLDEST: i64 = 5;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut reach = Table::create();
        reach.table("schema_reach");
        reach.col(ColumnDef::new("id").text().not_null());
        reach.col(ColumnDef::new("oldest").big_integer().not_null());
        reach.primary_key(Index::create().col("id"));
        manager.create_table(reach).await?;
        let mut insert = Query::insert();
        insert.into_table("schema_reach").columns(["id", "oldest"]);
        insert.values_panic(["schema".into(), OLDEST.into()]);
        manager.execute(insert).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("schema_reach").to_owned()).await
    }
}
