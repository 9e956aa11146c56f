//! Brings the schema up to date, one process at a time.
//!
//! sea-orm-migration takes no lock of its own (of six replicas that started at once three failed), and
//! refuses a database that a later version has migrated, which would keep an old replica from starting in
//! the middle of a rolling upgrade. So: a lock, and a look first. On PostgreSQL the lock is that of a row, and no
//! advisory one: not every database that speaks PostgreSQL has those, and row locks all have.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbBackend, Statement, TransactionTrait as _};
use sea_orm_migration::{MigratorTrait as _, SchemaManager};

use super::{
    Config, DatabaseUrl, Error, Schema, Store,
    engine::Engine,
    error::is_contended,
    migration::Migrator,
    patience::{CONTENDED, patiently},
};

/// Makes the row. Of two that make the table at once PostgreSQL refuses one, who then finds it there.
const MAKE_LOCK: [&str; 2] = [
    "CREATE TABLE IF NOT EXISTS migration_lock (id text PRIMARY KEY)",
    "INSERT INTO migration_lock (id) VALUES ('schema') ON CONFLICT (id) DO NOTHING",
];

const TAKE_LOCK: &str = "SELECT id FROM migration_lock WHERE id = 'schema' FOR UPDATE";

impl Store {
    /// Applies the migrations that are missing and returns their names. A database that is ahead of this
    /// version is left as it is.
    ///
    /// # Errors
    /// [`Error`] when one fails; it is then not applied at all. [`Error::Setup`] when the database is of a
    /// [later version](Schema::too_new).
    pub async fn migrate(&self, config: &Config) -> Result<Vec<String>, Error> {
        match &config.url {
            DatabaseUrl::Sqlite(path) => {
                let _lock = lock_file(path)?;
                self.apply_as_a_whole().await
            }
            DatabaseUrl::Postgres(_) => self.apply_locked().await,
        }
    }

    /// The names of the migrations that this database still lacks.
    ///
    /// # Errors
    /// [`Error`] when the database cannot be asked, or is of a [later version](Schema::too_new).
    pub async fn pending_migrations(&self) -> Result<Vec<String>, Error> {
        let schema = self.schema().await?;
        schema.too_new().map_or_else(|| Ok(schema.pending()), |why| Err(Error::Setup(why)))
    }

    /// What the database says of its schema.
    ///
    /// # Errors
    /// [`Error`] when the database cannot be asked.
    pub async fn schema(&self) -> Result<Schema, Error> {
        let connection = &self.schema_connection();
        let mut schema = Schema::default();
        if self.has_table(connection, Schema::MIGRATIONS).await? {
            let applied = Migrator::get_migration_models(connection).await?;
            schema.applied = applied.into_iter().map(|model| model.version).collect();
            schema.applied.sort();
        }
        if self.has_table(connection, Schema::REACH).await? {
            let backend = connection.get_database_backend();
            let oldest = Statement::from_sql_and_values(backend, Schema::OLDEST, []);
            let row = connection.query_one_raw(oldest).await?;
            schema.oldest = row.map(|row| row.try_get("", "oldest")).transpose()?;
        }
        Ok(schema)
    }

    /// The same of a database that has a schema of this version at least, beside all that goes on.
    ///
    /// # Errors
    /// [`Error`] when the database cannot be asked.
    pub async fn present_schema(&self) -> Result<Schema, Error> {
        let read = async |text: &str| {
            let statement = Statement::from_sql_and_values(self.reader.get_database_backend(), text, []);
            self.reader.query_all_raw(statement).await
        };
        let applied = read("SELECT version FROM seaql_migrations ORDER BY version").await?;
        let applied = applied.iter().map(|row| row.try_get("", "version")).collect::<Result<_, _>>()?;
        let oldest = read(Schema::OLDEST).await?;
        let oldest = oldest.first().map(|row| row.try_get("", "oldest")).transpose()?;
        Ok(Schema { applied, oldest })
    }

    async fn has_table(&self, connection: &DatabaseConnection, table: &'static str) -> Result<bool, Error> {
        match &self.writer {
            Engine::Postgres(_) => Ok(SchemaManager::new(connection).has_table(table).await?),
            Engine::Sqlite(_) => {
                let query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name = ?";
                let query = Statement::from_sql_and_values(DbBackend::Sqlite, query, [table.into()]);
                Ok(connection.query_one_raw(query).await?.is_some())
            }
        }
    }

    /// On PostgreSQL the lock belongs to a transaction that does nothing else, so that it is let go
    /// whatever happens to this process.
    async fn apply_locked(&self) -> Result<Vec<String>, Error> {
        if self.pending_migrations().await?.is_empty() {
            return Ok(Vec::new());
        }
        let connection = self.schema_connection();
        let [make_table, make_row] = MAKE_LOCK;
        let made = connection.execute_unprepared(make_table).await;
        let make_row = async || connection.execute_unprepared(make_row).await;
        // Why there is no table is of more interest than that there is none
        patiently(|error| is_contended(error).then_some(CONTENDED), make_row)
            .await
            .map_err(|error| made.err().unwrap_or(error))?;
        let lock = connection.begin().await?;
        lock.execute_unprepared(TAKE_LOCK).await?;
        let applied = self.apply().await;
        lock.rollback().await?;
        applied
    }

    /// sea-orm begins no transaction for migrations of SQLite.
    async fn apply_as_a_whole(&self) -> Result<Vec<String>, Error> {
        let Engine::Sqlite(queue) = &self.writer else { return self.apply().await };
        let connection = queue.connection();
        connection.control("BEGIN IMMEDIATE")?;
        let applied = self.apply().await;
        let committed = applied.and_then(|applied| Ok(connection.control("COMMIT").map(|()| applied)?));
        if committed.is_err() {
            connection.roll_back();
        }
        committed
    }

    /// The connection to migrate on. On SQLite it is the one that writes, while nobody writes yet.
    fn schema_connection(&self) -> DatabaseConnection {
        match &self.writer {
            Engine::Postgres(pool) => pool.connections(),
            Engine::Sqlite(queue) => queue.connection().for_migrations(),
        }
    }

    async fn apply(&self) -> Result<Vec<String>, Error> {
        let pending = self.pending_migrations().await?;
        if !pending.is_empty() {
            Migrator::up(&self.schema_connection(), None).await?;
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
