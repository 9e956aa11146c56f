//! What a database file holds, looked at without changing it: a backup, or the database of a server.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::{
    BUSY,
    backup::{cannot, log_of},
};
use crate::{
    domain::{KekId, Timestamp},
    store::{Error, KeyRow, Schema},
};

/// How closely a file is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// Whether its pages hang together: some seconds a gigabyte.
    Quick,
    /// Also whether every index has every row: some times as long.
    Whole,
}

/// What a database file holds.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The migrations that made it what it is.
    pub schema: Schema,
    /// How many tenants there are.
    pub tenants: u64,
    /// How many agents.
    pub agents: u64,
    /// How many secrets.
    pub secrets: u64,
    /// The keys that it was written with, oldest first.
    pub keys: Vec<KeyRow>,
    /// How many agents' data keys each key wraps.
    pub usage: Vec<(KekId, u64)>,
    /// The latest time that a server has written, by the clock of then.
    pub last_seen: Option<Timestamp>,
    /// SQLite's journal mode: `wal` when a server has had it.
    pub journal_mode: String,
}

// === impl Contents ===

impl Contents {
    /// Looks at a file. A later version's is told by its schema alone.
    ///
    /// # Errors
    /// [`Error::Setup`] when it is damaged, or no database of this service.
    pub fn of(path: &Path, care: Care) -> Result<Self, Error> {
        let failed = |error| cannot("read", path, &error);
        let file = open(path).map_err(failed)?;
        let check = match care {
            Care::Quick => "PRAGMA quick_check(1)",
            Care::Whole => "PRAGMA integrity_check(1)",
        };
        let found: String = file.query_row(check, [], |row| row.get(0)).map_err(failed)?;
        if found != "ok" {
            return Err(Error::Setup(format!("the database {} is damaged: {found}", path.display())));
        }
        let schema = schema(&file).map_err(failed)?;
        if schema.applied.is_empty() {
            return Err(Error::Setup(format!("{} is no database of this service", path.display())));
        }
        if schema.too_new().is_some() {
            return Ok(Self::unknown(schema));
        }
        read(&file, schema).map_err(failed)
    }

    fn unknown(schema: Schema) -> Self {
        let (keys, usage, last_seen, journal_mode) = (Vec::new(), Vec::new(), None, String::new());
        Self { schema, tenants: 0, agents: 0, secrets: 0, keys, usage, last_seen, journal_mode }
    }
}

/// Without a log beside it nobody has a database open, and one that was open so last makes such files anew for whoever
/// reads it, unless he says that it stands still.
fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let absolute = std::path::absolute(path).unwrap_or_else(|_as_given| path.to_owned());
    let file = match url::Url::from_file_path(absolute) {
        Ok(mut url) if !log_of(path).exists() => {
            url.set_query(Some("immutable=1"));
            Connection::open_with_flags(url.as_str(), flags)?
        }
        Ok(_) | Err(()) => Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?,
    };
    file.busy_timeout(BUSY)?;
    Ok(file)
}

fn has(file: &Connection, table: &str) -> rusqlite::Result<bool> {
    let query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?";
    file.query_row(query, [table], |_row| Ok(())).optional().map(|row| row.is_some())
}

fn schema(file: &Connection) -> rusqlite::Result<Schema> {
    let mut schema = Schema::default();
    if has(file, Schema::MIGRATIONS)? {
        let mut names = file.prepare("SELECT version FROM seaql_migrations ORDER BY version")?;
        schema.applied = names.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    }
    if has(file, Schema::REACH)? {
        schema.oldest = file.query_row(Schema::OLDEST, [], |row| row.get(0)).optional()?;
    }
    Ok(schema)
}

fn read(file: &Connection, schema: Schema) -> rusqlite::Result<Contents> {
    let count = |table: &str| {
        file.query_row(&format!("SELECT COUNT(*) FROM {table}"), [], |row| row.get::<_, i64>(0))
            .map(i64::unsigned_abs)
    };
    let since = "SELECT 1 FROM pragma_table_info('keys') WHERE name = 'primary_since'";
    let since = file.query_row(since, [], |_row| Ok(())).optional()?.map_or("NULL", |()| "primary_since");
    let keys = format!("SELECT id, check_value, created_at, {since} FROM keys ORDER BY created_at");
    let mut keys = file.prepare(&keys)?;
    let keys = keys.query_map([], |row| {
        Ok(KeyRow {
            id: KekId::from_stored(row.get(0)?),
            check_value: row.get(1)?,
            noted_at: Timestamp(row.get(2)?),
            primary_since: row.get::<_, Option<i64>>(3)?.map(Timestamp),
        })
    });
    let keys = keys?.collect::<Result<_, _>>()?;
    let mut usage = file.prepare("SELECT kek_id, COUNT(*) FROM agents GROUP BY kek_id")?;
    let usage = usage
        .query_map([], |row| Ok((KekId::from_stored(row.get(0)?), row.get::<_, i64>(1)?.unsigned_abs())));
    let usage = usage?.collect::<Result<_, _>>()?;
    let journal_mode = file.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    // Those of servers that were stopped in order are gone
    let servers = if has(file, "servers")? { "UNION ALL SELECT MAX(seen_at) FROM servers" } else { "" };
    let last_seen = format!("SELECT MAX(at) FROM (SELECT MAX(updated_at) AS at FROM agents {servers})");
    let last_seen: Option<i64> = file.query_row(&last_seen, [], |row| row.get(0))?;
    let last_seen = last_seen.map(Timestamp);
    let (tenants, agents, secrets) = (count("tenants")?, count("agents")?, count("secrets")?);
    Ok(Contents { schema, tenants, agents, secrets, keys, usage, last_seen, journal_mode })
}
