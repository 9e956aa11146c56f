//! The schema and its history, the same for SQLite and PostgreSQL.
//!
//! To change it: add a file `m<date>_<number>_<name>.rs` and name it below. A migration never names the
//! entities (they move on, it does not), and is safe beside the version before it: add first, take away
//! one release later. One that takes away says so in `schema_reach`, so that programs that still need it leave the
//! database alone. And it needs databases with data of the step before, see `tests/it/upgrades.rs`.
#![expect(elided_lifetimes_in_paths, reason = "sea-orm-migration declares its trait without lifetimes")]

use sea_orm_migration::prelude::*;

mod m20261123_000001_initial;
mod m20261123_000002_previous;
mod m20261126_000003_servers;
mod m20261126_000004_tenants;
mod m20261126_000005_tokens;
mod m20261126_000006_reach;

/// All migrations, oldest first.
pub(super) struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261123_000001_initial::Migration),
            Box::new(m20261123_000002_previous::Migration),
            Box::new(m20261126_000003_servers::Migration),
            Box::new(m20261126_000004_tenants::Migration),
            Box::new(m20261126_000005_tokens::Migration),
            Box::new(m20261126_000006_reach::Migration),
        ]
    }
}
