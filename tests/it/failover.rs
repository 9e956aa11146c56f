//! Promise: what was acknowledged survives a failover to a synchronous standby, and replicas find the new primary by
//! themselves, through a proxy and without one. `just failover-test` runs it; `docs/scaling.md` has the figures.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::harness::{
    Database, LIMIT, environment,
    fixtures::secrets_of,
    patroni::Patroni,
    postgres,
    programs::say_once,
    rest::Rest,
    server::Server,
    steps::{audit, resolve, resolver},
};

/// Writers on each replica, each with a key of its own.
const WRITERS: usize = 4;

/// The pause between two writes of a writer: an outage is measured no finer.
const PACE: Duration = Duration::from_millis(20);

/// Writes that have to succeed before and after the failover.
const ENOUGH: usize = 100;

/// What happens to the leader; gives its name.
type Act = fn(&mut Patroni) -> String;

/// With the longest that it may keep anybody from writing: more than twice what was measured, for machines that are busy.
type Drill = (&'static str, Act, Duration);

const DRILLS: [Drill; 3] = [
    ("planned switchover", Patroni::switch_over, Duration::from_secs(15)),
    ("kill -9 of PostgreSQL", Patroni::kill_postgres, Duration::from_secs(25)),
    ("kill -9 of a whole member", Patroni::kill_member, Duration::from_secs(50)),
];

/// Takes root, and a network of our own.
const SILENCE: Drill = ("silence of a whole member", Patroni::lose_member, Duration::from_secs(50));

/// A replica under load.
struct Load {
    way: &'static str,
    writers: Vec<JoinHandle<Vec<Write>>>,
    reader: JoinHandle<Vec<Instant>>,
    progress: Arc<Mutex<usize>>,
    stop: Arc<AtomicBool>,
}

/// A write that was sent.
struct Write {
    key: String,
    value: String,
    /// When it was acknowledged, and with which revision.
    acknowledged: Option<(Instant, i64)>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_loses_nothing() {
    let Some(drills) = environment("SUPERSERVE_TEST_FAILOVER") else {
        return say_once("the failover of a real PostgreSQL is tried by `just failover-test` alone\n");
    };
    let silence = (drills == "all").then_some(SILENCE);
    if silence.is_none() {
        say_once("the silence of a member is left out: that takes root\n");
    }
    let mut patroni = tokio::task::spawn_blocking(Patroni::start).await.unwrap();
    let mut connection = PgConnection::connect(&patroni.by_proxy("postgres")).await.unwrap();
    sqlx::raw_sql("CREATE DATABASE secrets").execute(&mut connection).await.unwrap();
    drop(connection);
    let by_proxy = Server::start(Database::Postgres(postgres::Database::at(patroni.by_proxy("secrets"))));
    let by_hosts = by_proxy.replica().database_url(&patroni.by_hosts("secrets")).start();
    let replicas = [("through HAProxy", &by_proxy), ("by three hosts", &by_hosts)];
    for (n, (drill, act, limit)) in DRILLS.into_iter().chain(silence).enumerate() {
        let agent = by_proxy.deploy(&format!("drill-{n}")).await;
        let mut loads = Vec::new();
        for (way, server) in replicas {
            loads.push(Load::start(way, server, &agent).await);
        }
        for load in &loads {
            load.has_written(ENOUGH).await;
        }
        let (member, back) = tokio::task::spawn_blocking(move || {
            let member = act(&mut patroni);
            (member, patroni)
        })
        .await
        .unwrap();
        patroni = back;
        // Nobody is told and nothing is restarted: they find their way
        for load in &loads {
            let before = load.written();
            load.has_written(before + ENOUGH).await;
        }
        let mut writes = Vec::new();
        for load in loads {
            writes.extend(load.finish(drill, limit).await);
        }
        for (way, server) in replicas {
            assert_eq!(server.ops().get("/readyz").send().await.status, 200, "{way}");
        }
        check(&replicas.map(|(_, server)| server), &agent, &writes).await;
        let began = Instant::now();
        patroni = tokio::task::spawn_blocking(move || {
            patroni.return_member(&member);
            patroni
        })
        .await
        .unwrap();
        say(&format!("{drill}: the old leader follows {:.1} s after", began.elapsed().as_secs_f64()));
        // What it brought back is what it should have: nothing of its own, and all of the others'
        check(&replicas.map(|(_, server)| server), &agent, &writes).await;
    }
}

// === impl Load ===

impl Load {
    async fn start(way: &'static str, server: &Server, agent: &str) -> Self {
        let tasks = TaskTracker::new();
        let (progress, stop) = (Arc::new(Mutex::new(0)), Arc::new(AtomicBool::new(false)));
        let writers = (0..WRITERS).map(|writer| {
            let key = format!("{}_{writer}", way.to_uppercase().replace(' ', "_"));
            tasks.spawn(write(server.rest(), agent.to_owned(), key, Arc::clone(&progress), Arc::clone(&stop)))
        });
        let writers = writers.collect();
        let (grpc, agent, done) = (resolver(server).await, agent.to_owned(), Arc::clone(&stop));
        let reader = tasks.spawn(async move {
            let mut successes = vec![Instant::now()];
            while !done.load(Ordering::Relaxed) {
                if resolve(&grpc, &agent).await.is_ok() {
                    successes.push(Instant::now());
                }
                tokio::time::sleep(PACE).await;
            }
            successes
        });
        Self { way, writers, reader, progress, stop }
    }

    fn written(&self) -> usize {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn has_written(&self, count: usize) {
        // An outage may take longer than one wait
        for _ in 0..2 {
            let reached = tokio::time::timeout(LIMIT, async {
                while self.written() < count {
                    tokio::time::sleep(PACE).await;
                }
            });
            if reached.await.is_ok() {
                return;
            }
        }
        panic!("{}: {} of {count} writes", self.way, self.written());
    }

    /// Stops, says how long nothing went, and gives what was written.
    async fn finish(self, drill: &str, limit: Duration) -> Vec<Write> {
        self.stop.store(true, Ordering::Relaxed);
        let writes: Vec<Write> =
            join_all(self.writers).await.into_iter().flat_map(|writer| writer.expect("it ends")).collect();
        let mut written: Vec<Instant> =
            writes.iter().filter_map(|write| Some(write.acknowledged?.0)).collect();
        written.sort_unstable();
        let refused = writes.len() - written.len();
        let (writing, reading) = (outage(&written), outage(&self.reader.await.expect("it ends")));
        say(&format!(
            "{drill}, {}: no write for {:.1} s, no resolve for {:.1} s; {} writes acknowledged, {refused} not",
            self.way,
            writing.as_secs_f64(),
            reading.as_secs_f64(),
            written.len(),
        ));
        assert!(writing < limit && reading < limit, "{drill}, {}: {limit:?} is the limit", self.way);
        writes
    }
}

/// Sets one key to one number after the other. What is not acknowledged is not sent again.
async fn write(
    rest: Rest,
    agent: String,
    key: String,
    progress: Arc<Mutex<usize>>,
    stop: Arc<AtomicBool>,
) -> Vec<Write> {
    let mut writes = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let value = writes.len().to_string();
        let set = rest.patch(&secrets_of(&agent)).json(&json!({"secrets": {&key: &value}})).send().await;
        let acknowledged = (set.status == 200).then(|| {
            *progress.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            (Instant::now(), set.header("etag").trim_matches('"').parse().expect("a revision"))
        });
        assert!(acknowledged.is_some() || set.status == 503, "{}: {}", set.status, set.text());
        writes.push(Write { key: key.clone(), value, acknowledged });
        tokio::time::sleep(PACE).await;
    }
    writes
}

/// The longest time between two successes.
fn outage(successes: &[Instant]) -> Duration {
    successes.windows(2).map(|pair| pair[1] - pair[0]).max().expect("two successes")
}

/// Every acknowledged write was done once, in the order of the revisions, and what each replica resolves is the
/// last of each key, or one that was sent after it.
async fn check(replicas: &[&Server; 2], agent: &str, writes: &[Write]) {
    let mut last = HashMap::<&str, (i64, usize)>::new();
    let mut revisions = Vec::new();
    for (n, write) in writes.iter().enumerate() {
        if let Some((_, revision)) = write.acknowledged {
            revisions.push(revision);
            last.insert(&write.key, (revision, n));
        }
    }
    let acknowledged = revisions.len();
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), acknowledged, "no revision was given to two writes");
    for server in replicas {
        let values = resolve(&resolver(server).await, agent).await.expect("it serves again");
        for (key, (_, n)) in &last {
            let found: usize = values[*key].parse().expect("a number");
            let at_least: usize = writes[*n].value.parse().expect("a number");
            let sent = writes.iter().filter(|write| write.key == *key).count();
            assert!((at_least..sent).contains(&found), "{key}: {found}, acknowledged {at_least} of {sent}");
        }
        let listed = server.rest().get(&format!("{}?view=full", secrets_of(agent))).send().await.json();
        for secret in listed["secrets"].as_array().expect("a list") {
            let (revision, _) = last[secret["key"].as_str().expect("a key")];
            assert!(secret["version"].as_i64() >= Some(revision), "{secret}: {revision} was acknowledged");
        }
        // Each change has one record: those acknowledged, and at most those of which nobody was told
        let revision = listed["revision"].as_u64().expect("a number");
        let events = audit(&server.grpc().await, agent).await;
        let sets: Vec<u64> = events
            .iter()
            .filter(|event| event.action == "secrets.set")
            .map(|event| event.revision.try_into().expect("a revision"))
            .collect();
        assert_eq!(sets.len() as u64, revision, "one record for each revision");
        let recorded = |revision: &i64| sets.iter().any(|set| i64::try_from(*set) == Ok(*revision));
        assert!(revisions.iter().all(recorded), "an acknowledged write has no record");
        let done = usize::try_from(revision).expect("a small number");
        assert!((acknowledged..=writes.len()).contains(&done), "{done} done, {acknowledged} acknowledged");
    }
}

#[expect(clippy::print_stderr, reason = "the figures are for who runs the drill")]
fn say(line: &str) {
    eprintln!("{line}");
}
