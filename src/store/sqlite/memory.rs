//! What was read lately, kept in memory for as long as it is true.
//!
//! SQLite counts the commits of a database where all processes see it. What is kept is given out only while that count
//! stands where it stood when all of it was known to be true. The writer of this process moves it on with each of its own
//! commits, after it has dropped what that commit changed and before anybody is told of it. The commit of anybody else (an
//! operator's command, a shell) shows as a count that nobody here has moved on to, and everything is dropped. So an answer
//! from here is never older than one of the database's would be.

use std::{
    any::Any,
    fs::File,
    io,
    mem::ManuallyDrop,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    domain::AgentId,
    store::room::{Kept, Key, Room, Something},
};

/// What a write may have changed of that which is kept.
#[derive(Clone, Debug)]
pub(in crate::store) enum Touched {
    /// Nothing: it only adds to the audit trail.
    Nothing,
    /// One agent and its secrets.
    Agent(AgentId),
    /// Who knows.
    Anything,
}

/// What is kept.
pub(super) struct Memory {
    commits: Commits,
    state: Mutex<State>,
}

struct State {
    kept: Room<()>,
    /// The count of commits at which all that is kept is true.
    as_of: Option<Count>,
    /// The writer of this process commits just now: a count that moves on is his.
    committing: bool,
}

/// What came of asking.
pub(super) enum Recalled<T> {
    /// It is kept.
    Known(Arc<T>),
    /// It has to be read, and may be kept if nothing is committed meanwhile.
    Unknown(Reading),
}

/// A read that begins at this count of commits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading(Option<Count>);

/// A count of commits. It wraps.
type Count = u32;

/// Where the commits of a database are counted: the header of its index of the write-ahead log ("WAL-mode File Format",
/// 2.1), which all connections share, in the machine's byte order.
///
/// The file is never closed: that would end the locks that SQLite, in this process, has on it ("File Locking And
/// Concurrency", 6.0; fcntl(2)).
struct Commits(ManuallyDrop<File>);

/// The length of the header, of which there are two copies.
const HEADER: usize = 48;

/// The first field of the header, as long as its format is the one that is known here.
const FORMAT: u32 = 3_007_000;

// === impl Memory ===

impl Memory {
    /// `database` is open already, so that its commits are counted.
    pub(super) fn new(database: &Path) -> io::Result<Self> {
        let mut index = database.as_os_str().to_owned();
        index.push("-shm");
        let state = State { kept: Room::new(), as_of: None, committing: false };
        Ok(Self { commits: Commits(ManuallyDrop::new(File::open(index)?)), state: Mutex::new(state) })
    }

    /// Gives what is kept under a key. What is kept under keys of one kind is of one type.
    pub(super) fn recall<T: Any + Send + Sync>(&self, key: &Key) -> Recalled<T> {
        let mut state = self.lock();
        let now = self.commits.count();
        state.catch_up(now);
        if now.is_none() || state.as_of != now {
            return Recalled::Unknown(Reading(None));
        }
        let value = state.kept.get(key).map(|kept| Arc::clone(&kept.value).downcast());
        match value {
            Some(Ok(value)) => Recalled::Known(value),
            Some(Err(_)) | None => Recalled::Unknown(Reading(now)),
        }
    }

    /// Keeps what was read, if it is certain that it is still so.
    pub(super) fn keep<T: Any + Send + Sync>(
        &self,
        reading: Reading,
        key: Key,
        value: &Arc<T>,
        bytes: usize,
    ) {
        let mut state = self.lock();
        // A commit of this process may be visible and not yet be taken account of
        if reading.0.is_some() && state.as_of == reading.0 && self.commits.count() == reading.0 {
            let value: Something = Arc::<T>::clone(value);
            state.kept.insert(key, Kept { value, bytes, note: () });
        }
    }

    /// Commits by `commit` what the one transaction that may write has done, and drops what it has touched. If it has
    /// touched anything, it has written something.
    pub(super) fn commit<E>(
        &self,
        touched: &[Touched],
        commit: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let before = {
            let mut state = self.lock();
            let before = self.commits.count();
            state.catch_up(before);
            state.committing = true;
            before
        };
        let committed = commit();
        let mut state = self.lock();
        state.committing = false;
        if committed.is_err() {
            // Whoever has moved it on meanwhile: it was not this commit, or not this one alone
            state.kept.clear();
            state.as_of = None;
            return committed;
        }
        // Nobody else can have moved it on before this commit, and who has written nothing did not do so either
        if !touched.is_empty() && self.commits.count() != before {
            state.forget(touched);
            state.as_of = before.map(|count| count.wrapping_add(1));
        }
        committed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    /// Drops everything if it was another process that moved the count on.
    fn catch_up(&mut self, now: Option<Count>) {
        if self.as_of != now && !self.committing {
            self.kept.clear();
            self.as_of = now;
        }
    }

    fn forget(&mut self, touched: &[Touched]) {
        for touched in touched {
            match touched {
                Touched::Nothing => {}
                Touched::Agent(agent) => {
                    for key in [Key::Metadata(agent.clone()), Key::Values(agent.clone())] {
                        self.kept.remove(&key);
                    }
                }
                Touched::Anything => return self.kept.clear(),
            }
        }
    }
}

// === impl Commits ===

impl Commits {
    /// How many there were; `None` if that cannot be told, as in the moment in which it changes.
    fn count(&self) -> Option<Count> {
        let mut copies = [0; 2 * HEADER];
        self.0.read_exact_at(&mut copies, 0).ok()?;
        let (first, second) = copies.split_at(HEADER);
        let field = |at: usize| first.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
        (first == second && field(0)? == FORMAT).then(|| field(8)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        _directory: tempfile::TempDir,
        sql: rusqlite::Connection,
        memory: Memory,
    }

    impl Case {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("d.db");
            let sql = rusqlite::Connection::open(&path).unwrap();
            sql.pragma_update(None, "journal_mode", "WAL").unwrap();
            sql.execute_batch("CREATE TABLE t (n); INSERT INTO t VALUES (1)").unwrap();
            let memory = Memory::new(&path).unwrap();
            Self { _directory: directory, sql, memory }
        }

        fn write(&self, touched: &[Touched]) {
            self.sql.execute_batch("BEGIN IMMEDIATE; UPDATE t SET n = n + 1").unwrap();
            self.memory.commit(touched, || self.sql.execute_batch("COMMIT")).unwrap();
        }

        fn read(&self, key: &Key) -> Reading {
            match self.memory.recall::<u8>(key) {
                Recalled::Unknown(reading) => reading,
                Recalled::Known(_) => panic!("{key:?} is kept"),
            }
        }

        fn keep(&self, key: &Key, bytes: usize) {
            self.memory.keep(self.read(key), key.clone(), &Arc::new(7_u8), bytes);
        }

        fn is_kept(&self, key: &Key) -> bool {
            matches!(self.memory.recall::<u8>(key), Recalled::Known(value) if *value == 7)
        }
    }

    fn agent(name: &str) -> AgentId {
        AgentId::from_stored(name.to_owned())
    }

    #[test]
    fn what_a_write_touched_goes_and_the_rest_stays() {
        let case = Case::new();
        let one = [Key::Metadata(agent("one")), Key::Values(agent("one"))];
        let others = [Key::Metadata(agent("two")), Key::Token(vec![1])];
        for key in one.iter().chain(&others) {
            case.keep(key, 1);
        }
        case.write(&[Touched::Nothing]);
        assert!(one.iter().chain(&others).all(|key| case.is_kept(key)));
        case.write(&[Touched::Nothing, Touched::Agent(agent("one"))]);
        assert!(!one.iter().any(|key| case.is_kept(key)) && others.iter().all(|key| case.is_kept(key)));
        case.write(&[Touched::Anything]);
        assert!(!others.iter().any(|key| case.is_kept(key)));
    }

    #[test]
    fn what_others_commit_makes_all_of_it_void() {
        let case = Case::new();
        let key = Key::Token(vec![1]);
        case.keep(&key, 1);
        case.sql.execute_batch("UPDATE t SET n = n + 1").unwrap();
        assert!(!case.is_kept(&key));
        case.keep(&key, 1);
        assert!(case.is_kept(&key));
        // Also just before a commit of our own
        case.sql.execute_batch("UPDATE t SET n = n + 1").unwrap();
        case.write(&[Touched::Nothing]);
        assert!(!case.is_kept(&key));
        // And just after it, before the count was looked at
        case.keep(&key, 1);
        case.sql.execute_batch("BEGIN IMMEDIATE; UPDATE t SET n = n + 1").unwrap();
        let twice = || case.sql.execute_batch("COMMIT; UPDATE t SET n = n + 1");
        case.memory.commit(&[Touched::Nothing], twice).unwrap();
        assert!(!case.is_kept(&key));
    }

    #[test]
    fn what_was_read_before_a_commit_is_not_kept_after_it() {
        let case = Case::new();
        let key = Key::Values(agent("one"));
        let reading = case.read(&key);
        case.write(&[Touched::Agent(agent("one"))]);
        case.memory.keep(reading, key.clone(), &Arc::new(7_u8), 1);
        assert!(!case.is_kept(&key));
        // Nor while it is visible and the writer has not come to dropping it
        let kept = Key::Token(vec![1]);
        case.keep(&kept, 1);
        case.sql.execute_batch("BEGIN IMMEDIATE; UPDATE t SET n = n + 1").unwrap();
        let commit = || {
            let reading = case.read(&key);
            case.sql.execute_batch("COMMIT").unwrap();
            case.memory.keep(reading, key.clone(), &Arc::new(7_u8), 1);
            case.memory.keep(case.read(&key), key.clone(), &Arc::new(7_u8), 1);
            assert!(!case.is_kept(&key) && !case.is_kept(&kept));
            Ok::<_, ()>(())
        };
        case.memory.commit(&[Touched::Nothing], commit).unwrap();
        assert!(case.is_kept(&kept) && !case.is_kept(&key));
    }

    #[test]
    fn a_transaction_that_writes_nothing_drops_nothing_and_one_that_fails_everything() {
        let case = Case::new();
        let key = Key::Token(vec![1]);
        case.keep(&key, 1);
        case.memory.commit(&[], || case.sql.execute_batch("BEGIN IMMEDIATE; COMMIT")).unwrap();
        assert!(case.is_kept(&key));
        // What a commit that fails has done, and who has come before the next, nobody knows
        let failing = || {
            case.sql.execute_batch("BEGIN IMMEDIATE; UPDATE t SET n = n + 1; COMMIT").unwrap();
            Err(())
        };
        assert!(case.memory.commit(&[Touched::Nothing], failing).is_err());
        assert!(!case.is_kept(&key));
        case.keep(&key, 1);
        assert!(case.is_kept(&key));
        // Where it has written nothing it was another who moved the count on
        let other = || case.sql.execute_batch("BEGIN IMMEDIATE; COMMIT; UPDATE t SET n = n + 1");
        case.memory.commit(&[], other).unwrap();
        assert!(!case.is_kept(&key));
    }
}
