//! SQLite itself, with the settings of the service (WAL, `synchronous=FULL`): what one transaction a request can
//! reach, and what a thread can that puts all waiting requests into one transaction.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Instant,
};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use super::Side;
use crate::{
    load::{Outcome, Shape},
    machine,
    workload::{KEYS, Random, SET_KEYS, key_name},
};

const UPSERT: &str = "INSERT INTO bench (agent_id, key, value) VALUES (?1, ?2, ?3)
    ON CONFLICT (agent_id, key) DO UPDATE SET value = excluded.value";

/// Most requests of one transaction.
const BATCH: usize = 512;

/// A database of its own.
pub struct Sqlite {
    file: PathBuf,
    agents: usize,
    /// Whether requests share transactions.
    shared: bool,
}

/// Three new values of an agent.
struct Write {
    agent: String,
    rows: Vec<(String, Vec<u8>)>,
}

type Job = (Write, oneshot::Sender<()>);

impl Sqlite {
    /// Fills a fresh database.
    pub fn start(directory: &Path, agents: usize, shared: bool) -> Result<Self> {
        let file = directory.join("yardstick.db");
        for end in ["", "-wal", "-shm"] {
            let _not_there = fs::remove_file(format!("{}{end}", file.display()));
        }
        let mut connection = open(&file)?;
        connection.execute_batch(
            "CREATE TABLE bench (agent_id TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
             PRIMARY KEY (agent_id, key)) WITHOUT ROWID",
        )?;
        let transaction = connection.transaction()?;
        {
            let mut upsert = transaction.prepare(UPSERT)?;
            for (agent, key) in (0..agents).flat_map(|agent| (0..KEYS).map(move |key| (agent, key))) {
                upsert.execute(params![agent_name(agent), key_name(key), vec![0u8; 200]])?;
            }
        }
        transaction.commit()?;
        connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
        Ok(Self { file, agents, shared })
    }

    fn one_by_one(&self, shape: &Shape) -> Result<Outcome> {
        let (mut connection, random) = (open(&self.file)?, Random::new());
        let warm = Instant::now() + shape.warm_up;
        while Instant::now() < warm {
            write_all(&mut connection, &[self.write(&random)])?;
        }
        let mut latency = Histogram::new_with_bounds(1, 120_000_000, 3)?;
        let before = self.snapshot()?;
        let begin = Instant::now();
        while begin.elapsed() < shape.duration {
            let started = Instant::now();
            write_all(&mut connection, &[self.write(&random)])?;
            latency.record(u64::try_from(started.elapsed().as_micros())?)?;
        }
        let seconds = begin.elapsed().as_secs_f64();
        let usage = before.until(&self.snapshot()?);
        Ok(Outcome { calls: latency.len(), seconds, latency: Some(latency), usage })
    }

    async fn by_a_writer(&self, shape: &Shape) -> Result<Outcome> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let mut connection = open(&self.file)?;
        let writer = thread::spawn(move || serve(&mut connection, &queue));
        let from = Instant::now() + shape.warm_up;
        let to = from + shape.duration;
        let clients = (0..shape.connections).map(|_| self.client(jobs.clone(), from, to));
        let clients: Vec<_> = clients.map(Box::pin).collect();
        drop(jobs);
        let watch = async {
            tokio::time::sleep_until(from.into()).await;
            let before = self.snapshot()?;
            tokio::time::sleep_until(to.into()).await;
            anyhow::Ok(before.until(&self.snapshot()?))
        };
        let all = async {
            let mut latency = Histogram::new_with_bounds(1, 120_000_000, 3)?;
            let mut set = tokio::task::JoinSet::new();
            for client in clients {
                set.spawn(client);
            }
            while let Some(client) = set.join_next().await {
                latency.add(client??)?;
            }
            anyhow::Ok(latency)
        };
        let (usage, latency) = tokio::try_join!(watch, all)?;
        writer.join().map_err(|_panic| anyhow::anyhow!("the writer has panicked"))??;
        let seconds = shape.duration.as_secs_f64();
        Ok(Outcome { calls: latency.len(), seconds, latency: Some(latency), usage })
    }

    fn client(
        &self,
        jobs: mpsc::Sender<Job>,
        from: Instant,
        to: Instant,
    ) -> impl Future<Output = Result<Histogram<u64>>> + Send + 'static {
        let (agents, random) = (self.agents, Random::new());
        async move {
            let mut latency = Histogram::new_with_bounds(1, 120_000_000, 3)?;
            loop {
                let started = Instant::now();
                if started >= to {
                    return Ok(latency);
                }
                let (done, answer) = oneshot::channel();
                jobs.send((write(agents, &random), done))?;
                answer.await?;
                let ended = Instant::now();
                if (from..to).contains(&ended) {
                    latency.record(u64::try_from((ended - started).as_micros())?)?;
                }
            }
        }
    }

    fn write(&self, random: &Random) -> Write {
        write(self.agents, random)
    }

    /// It all happens in this process.
    fn snapshot(&self) -> Result<machine::Snapshot> {
        machine::snapshot(&[std::process::id()], &self.file)
    }
}

impl Side for Sqlite {
    fn run(&mut self, shape: &Shape) -> Result<Outcome> {
        ensure!(shape.rate.is_none(), "SQLite alone is only run in a closed loop here");
        if !self.shared {
            return self.one_by_one(shape);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        runtime.block_on(self.by_a_writer(shape))
    }
}

fn open(file: &Path) -> Result<Connection> {
    let connection = Connection::open(file)?;
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")?;
    Ok(connection)
}

/// Writes whatever waits in one transaction, until nobody can send any more.
fn serve(connection: &mut Connection, queue: &mpsc::Receiver<Job>) -> Result<()> {
    while let Ok(first) = queue.recv() {
        let more = queue.try_iter().take(BATCH - 1);
        let (writes, waiting): (Vec<_>, Vec<_>) = std::iter::once(first).chain(more).unzip();
        write_all(connection, &writes)?;
        for waiting in waiting {
            let _gone = waiting.send(());
        }
    }
    Ok(())
}

fn write_all(connection: &mut Connection, writes: &[Write]) -> Result<()> {
    let transaction = connection.transaction()?;
    {
        let mut upsert = transaction.prepare_cached(UPSERT)?;
        for write in writes {
            for (key, value) in &write.rows {
                upsert.execute(params![write.agent, key, value])?;
            }
        }
    }
    Ok(transaction.commit()?)
}

fn write(agents: usize, random: &Random) -> Write {
    // As many bytes as the service keeps of a value of 64
    let sealed = |value: String| value.into_bytes().repeat(4).into_iter().take(200).collect();
    let rows = random.secrets(SET_KEYS).into_iter().map(|(key, value)| (key, sealed(value))).collect();
    Write { agent: agent_name(random.below(agents)), rows }
}

fn agent_name(agent: usize) -> String {
    format!("agt_{agent:022}")
}
