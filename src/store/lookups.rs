//! What calls begin with: tokens, and agents with their secrets, each looked up by its key.
//!
//! On PostgreSQL one statement looks up what many calls ask for. What was read lately is kept in memory, and PostgreSQL is
//! asked whether it is still so: each row has the number of the transaction that wrote it (`xmin`), and each change of an
//! agent's secrets writes the agent's row too. Only what has another number than the one that is kept is read and sent.
//! So what is given out is what the database has at a moment after it was asked for, whoever has written it. Secrets that
//! somebody changes by hand, past all servers and without touching the agent's row, count [`TRUSTED`] later.

use std::{
    array,
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use data_encoding::HEXLOWER;
use sea_orm::{ConnectionTrait as _, DbBackend, QueryResult, Statement, Value};

use super::{
    AgentWith, Error,
    batch::{Batcher, Together},
    engine::Engine,
    gathered::{self, Gathered},
    metadata,
    pool::Pool,
    room::{Kept, Key, Room, Something},
    rows::texts,
    secrets, sqlite, tokens,
};
use crate::{
    domain::{AgentId, TenantId, TokenRecord, Weigh as _},
    trace,
};

/// How long an agent's row answers for its secrets.
const TRUSTED: Duration = Duration::from_secs(5);

/// The way by which single things are looked up: on PostgreSQL together with what others ask for.
pub(super) type Reading = Engine<Batcher<Lookups>, sqlite::Readers>;

/// Looks up what many ask for, in one statement.
pub(super) struct Lookups {
    pool: Pool,
    /// The statement for each set of kinds that may be asked for (their bits).
    texts: [String; 1 << KINDS],
    memory: Option<Mutex<Room<Version>>>,
}

/// Which version of a row is kept, and since when.
#[derive(Clone)]
struct Version {
    xmin: String,
    since: Instant,
}

/// Keys of one kind, and which versions of what they stand for are kept.
#[derive(Default)]
struct Asked<'k>(Vec<(&'k Key, Option<Version>)>);

// === impl Reading ===

impl Reading {
    /// Finds a token by the SHA-256 of its text.
    pub(super) async fn token(&self, hash: &[u8]) -> Result<Option<Arc<TokenRecord>>, Error> {
        let key = Key::Token(hash.to_vec());
        let found = async {
            match self {
                Self::Postgres(batcher) => typed(batcher.ask(key).await?),
                Self::Sqlite(readers) => {
                    let read = |connection: &sqlite::Connection| tokens::by_hash(connection, hash);
                    readers.look_up(key, read, TokenRecord::weight).await
                }
            }
        };
        trace::step("database: token", found).await
    }

    /// Finds a tenant's agent.
    pub(super) async fn agent<G: Gathered>(
        &self,
        tenant: &TenantId,
        id: &AgentId,
    ) -> Result<Option<Arc<AgentWith<G::Secret>>>, Error> {
        let found = async {
            match self {
                Self::Postgres(batcher) => typed(batcher.ask(G::key(id.clone())).await?),
                Self::Sqlite(readers) => gathered::look_up::<G>(readers, id.clone()).await,
            }
        };
        let found = trace::step("database: agent", found).await?;
        Ok(found.filter(|found: &Arc<AgentWith<_>>| found.agent.tenant == *tenant))
    }
}

fn typed<T: Send + Sync + 'static>(found: Option<Something>) -> Result<Option<Arc<T>>, Error> {
    let found = found.map(Arc::downcast::<T>).transpose();
    found.map_err(|_other| Error::Inconsistent("what a key stands for is of one type"))
}

// === impl Lookups ===

impl Lookups {
    /// Where the database is known to number its rows' versions, what was read is kept.
    pub(super) fn new(pool: Pool, has_versions: bool) -> Self {
        let version = if has_versions { "xmin::text" } else { "'unknown'" };
        let memory = has_versions.then(|| Mutex::new(Room::new()));
        Self { pool, texts: array::from_fn(|kinds| text(kinds, version)), memory }
    }

    fn statement(&self, asked: &[Asked<'_>; KINDS]) -> Statement {
        let is_asked = asked.iter().enumerate().filter(|(_, asked)| !asked.0.is_empty());
        let (kinds, parameters) = is_asked.fold((0, Vec::new()), |(kinds, mut parameters), (kind, asked)| {
            parameters.extend(asked.parameters());
            (kinds | 1 << kind, parameters)
        });
        let text = self.texts.get(kinds).map_or("", String::as_str);
        Statement::from_sql_and_values(DbBackend::Postgres, text, parameters)
    }

    async fn look_up(&self, keys: &[Key]) -> Result<Vec<Option<Something>>, Error> {
        let mut found: HashMap<&Key, Option<Something>> = HashMap::with_capacity(keys.len());
        let mut asked: [Asked<'_>; KINDS] = Default::default();
        for key in keys {
            if found.contains_key(key) {
                continue;
            }
            let (value, version) = self.recall(key).unzip();
            found.insert(key, value);
            if let Some(asked) = asked.get_mut(kind(key)) {
                asked.0.push((key, version));
            }
        }
        let since = Instant::now();
        for row in self.pool.query_all_raw(self.statement(&asked)).await? {
            let (key, xmin, content) = read(&row, &asked)?;
            let Some((xmin, content)) = xmin.zip(content) else {
                found.insert(key, None);
                self.forget(key);
                continue;
            };
            let (value, bytes) = parse(key, &content)?;
            found.insert(key, Some(Arc::clone(&value)));
            self.keep(key, Kept { value, bytes, note: Version { xmin, since } });
        }
        Ok(keys.iter().map(|key| found.get(key).cloned().flatten()).collect())
    }

    fn recall(&self, key: &Key) -> Option<(Something, Version)> {
        let mut room = self.room()?;
        let Kept { value, note, .. } = room.get(key)?;
        let age = note.since.elapsed();
        // Another server that has taken over may have given a number that was lost with the one before to something else
        (age < TRUSTED && !self.pool.has_died_within(age)).then(|| (Arc::clone(value), note.clone()))
    }

    fn forget(&self, key: &Key) {
        if let Some(mut room) = self.room() {
            room.remove(key);
        }
    }

    fn keep(&self, key: &Key, kept: Kept<Version>) {
        if let Some(mut room) = self.room() {
            room.insert(key.clone(), kept);
        }
    }

    fn room(&self) -> Option<MutexGuard<'_, Room<Version>>> {
        Some(self.memory.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Together for Lookups {
    type Item = Key;
    type Outcome = Option<Something>;
    // An agent's values may take a megabyte
    const AT_ONCE: usize = 32;

    async fn run(&self, keys: &[Key]) -> Result<Vec<Option<Something>>, Error> {
        let since = Instant::now();
        let found = self.look_up(keys).await?;
        // The answer may be that of another server than the one that gave the numbers; nothing is kept from before now
        if self.pool.has_died_within(since.elapsed()) { self.look_up(keys).await } else { Ok(found) }
    }
}

// === the statement ===

/// How many kinds of keys there are.
const KINDS: usize = 3;

fn kind(key: &Key) -> usize {
    match key {
        Key::Token(_) => 0,
        Key::Metadata(_) => 1,
        Key::Values(_) => 2,
    }
}

/// The statement for those kinds whose bits are set. It gives a row for everything that has another version than the one that
/// is kept: of which kind it is, at which place it was asked for, its version and its content, which are NULL where there is
/// none.
fn text(kinds: usize, version: &str) -> String {
    let all: [_; KINDS] = [
        ("tokens", "hash = decode(asked.key, 'hex')", tokens::CONTENT),
        ("agents", "id = asked.key", &metadata::Row::statements().content),
        ("agents", "id = asked.key", &secrets::Row::statements().content),
    ];
    let asked = all.into_iter().enumerate().filter(|(kind, _)| kinds & 1 << kind != 0);
    let parts = asked.enumerate().map(|(place, (kind, (table, is_it, content)))| {
        // Behind OFFSET each is looked up by itself, whatever PostgreSQL knows of the table
        format!(
            "SELECT {kind}::bigint, asked.place, now.version, now.content \
             FROM unnest(${keys}::text[], ${versions}::text[]) WITH ORDINALITY AS asked(key, version, place) \
             LEFT JOIN LATERAL (SELECT {version} AS version, \
             CASE WHEN {version} <> asked.version THEN {content} END AS content \
             FROM {table} WHERE {table}.{is_it} OFFSET 0) AS now ON true \
             WHERE now.version IS DISTINCT FROM asked.version",
            keys = 2 * place + 1,
            versions = 2 * place + 2,
        )
    });
    parts.collect::<Vec<_>>().join(" UNION ALL ")
}

impl Asked<'_> {
    /// Texts that stand for the keys, and the versions.
    fn parameters(&self) -> [Value; 2] {
        let keys: Vec<_> = self
            .0
            .iter()
            .map(|(key, _)| match key {
                Key::Token(hash) => Cow::Owned(HEXLOWER.encode(hash)),
                Key::Metadata(agent) | Key::Values(agent) => Cow::Borrowed(agent.as_str()),
            })
            .collect();
        let versions = self.0.iter().map(|(_, version)| version.as_ref());
        let versions = versions.map(|version| version.map_or("", |version| version.xmin.as_str()));
        let ((keys, _), (versions, _)) = (texts(keys.iter().map(Cow::as_ref)), texts(versions));
        [keys, versions]
    }
}

/// Reads a row: of which of the keys it is, and the version and content of what was found.
fn read<'k>(
    row: &QueryResult,
    asked: &[Asked<'k>; KINDS],
) -> Result<(&'k Key, Option<String>, Option<String>), Error> {
    let (kind, place): (i64, i64) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
    let asked = usize::try_from(kind).ok().and_then(|kind| asked.get(kind));
    let place = usize::try_from(place).ok().and_then(|place| place.checked_sub(1));
    let key = asked.zip(place).and_then(|(asked, place)| asked.0.get(place));
    let (key, _) = key.ok_or(Error::Inconsistent("rows are of what was asked for"))?;
    Ok((*key, row.try_get_by_index(2)?, row.try_get_by_index(3)?))
}

/// Makes of a text what the key stands for, and says how many bytes it takes in memory, about.
fn parse(key: &Key, content: &str) -> Result<(Something, usize), Error> {
    fn agent<G: Gathered>(content: &str) -> Result<(Something, usize), Error> {
        let agent = gathered::parse::<G>(content)?;
        let bytes = gathered::bytes::<G>(&agent);
        Ok((Arc::new(agent), bytes))
    }
    match key {
        Key::Token(_) => {
            let token = tokens::parse(content)?;
            let bytes = token.weight();
            Ok((Arc::new(token), bytes))
        }
        Key::Metadata(_) => agent::<metadata::Row>(content),
        Key::Values(_) => agent::<secrets::Row>(content),
    }
}
