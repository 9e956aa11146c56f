//! Brings the schema up to date, one process at a time.
//!
//! sea-orm-migration takes no lock of its own (of six replicas that started at once three failed), and
//! refuses a database that a later version has migrated, which would keep an old replica from starting in
//! the middle of a rolling upgrade. So: a lock, and a look first.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use sea_orm::{ConnectionTrait as _, DbBackend, Statement, TransactionTrait as _};
use sea_orm_migration::{MigratorTrait as _, SchemaManager};

use super::{Config, DatabaseUrl, Error, Store, migration::Migrator};

/// Any number, the same in every release: it names our lock among PostgreSQL's advisory locks.
const POSTGRES_LOCK: i64 = 0x5375_7065_7253_6572;

impl Store {
    /// Applies the migrations that are missing and returns their names. A database that is ahead of this
    /// version is left as it is.
    ///
    /// # Errors
    /// [`Error`] when one fails; it is then not applied at all.
    pub async fn migrate(&self, config: &Config) -> Result<Vec<String>, Error> {
        match &config.url {
            DatabaseUrl::Sqlite(path) => {
                let _lock = lock_file(path)?;
                self.apply().await
            }
            DatabaseUrl::Postgres(_) => self.apply_locked().await,
        }
    }

    /// The names of the migrations that this database still lacks.
    ///
    /// # Errors
    /// [`Error`] when the database cannot be asked.
    pub async fn pending_migrations(&self) -> Result<Vec<String>, Error> {
        let connection = self.writer.connection();
        let applied = if SchemaManager::new(connection).has_table("seaql_migrations").await? {
            Migrator::get_migration_models(connection).await?
        } else {
            Vec::new()
        };
        let is_applied = |name: &str| applied.iter().any(|model| model.version == name);
        let names = Migrator::migrations().into_iter().map(|migration| migration.name().to_owned());
        Ok(names.filter(|name| !is_applied(name)).collect())
    }

    /// On PostgreSQL the lock belongs to a transaction that does nothing else, so that it is let go
    /// whatever happens to this process.
    async fn apply_locked(&self) -> Result<Vec<String>, Error> {
        let lock = self.writer.connection().begin().await?;
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT pg_advisory_xact_lock($1)",
            [POSTGRES_LOCK.into()],
        );
        lock.execute_raw(statement).await?;
        let applied = self.apply().await;
        lock.rollback().await?;
        applied
    }

    async fn apply(&self) -> Result<Vec<String>, Error> {
        let pending = self.pending_migrations().await?;
        if !pending.is_empty() {
            Migrator::up(self.writer.connection(), None).await?;
        }
        Ok(pending)
    }
}

/// A file of our own beside the database: `secrets.db.migrate-lock`. It stays, empty: taking it away would
/// let two processes hold the lock of two files of one name.
fn lock_file(database: &Path) -> Result<File, Error> {
    let mut path = database.as_os_str().to_owned();
    path.push(".migrate-lock");
    let path = Path::new(&path);
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let locked = file.and_then(|file| file.lock().map(|()| file));
    locked.map_err(|error| Error::Setup(format!("cannot lock {}: {error}", path.display())))
}
