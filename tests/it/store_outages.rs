//! Changes while their database goes away: nothing is done twice, and nobody waits twice. On PostgreSQL.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, join_all},
};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use superserve::{
    domain::{AgentId, AgentScope, PageRequest, SecretName},
    store::{Config, Error, Store},
};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::{
    harness::{
        Database, LIMIT, eventually,
        postgres::Cluster,
        relay::{Relay, relay},
    },
    store::{Scene, agent_id, config, deploying, putting, question, tenant},
};

/// How long a call waits for a connection.
const PATIENCE: Duration = Duration::from_secs(6);

/// How long a statement may take where the way is lost.
const STATEMENT: Duration = Duration::from_secs(6);

/// Makes who inserts a secret or an agent wait for as long as the table is locked.
const GATE: &str = "CREATE TABLE gate ();
    CREATE VIEW calls AS SELECT * FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'superserve';
    CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        LOCK TABLE gate IN ACCESS SHARE MODE;
        RETURN NEW;
    END $$;
    CREATE TRIGGER gate BEFORE INSERT ON secrets FOR EACH ROW EXECUTE FUNCTION wait_at_gate();
    CREATE TRIGGER gate BEFORE INSERT ON agents FOR EACH ROW EXECUTE FUNCTION wait_at_gate()";

/// A database to which the way can be lost, with a gate in it.
struct Way {
    relay: Relay,
    store: Store,
    url: String,
}

#[tokio::test]
async fn what_was_lost_with_its_answer_is_not_done_again() {
    let Some(cluster) = Cluster::start() else { return };
    for batching in [true, false] {
        let database = cluster.create_database().await;
        let url = database.url().to_owned();
        let scene = Scene::open(Database::Postgres(database)).await;
        let config = Config { batching, ..config(&url) };
        let store = Store::open(&config, &TaskTracker::new()).await.unwrap();
        let id = agent_id("a");
        store.write(deploying(&tenant("t"), &id, "a")).await.unwrap();
        // It hangs up where the client cannot know whether it is done. A sequence forgets nothing
        let mut sql = PgConnection::connect(&url).await.unwrap();
        let hang_up = "CREATE SEQUENCE tries;
            CREATE FUNCTION hang_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                PERFORM nextval('tries'), pg_terminate_backend(pg_backend_pid());
                RETURN NULL;
            END $$;
            CREATE CONSTRAINT TRIGGER hang_up AFTER INSERT ON secrets DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION hang_up();";
        sqlx::raw_sql(hang_up).execute(&mut sql).await.unwrap();
        let outcome = set(&store, &id, "KEY").await;
        assert!(matches!(outcome, Err(Error::Unavailable(_))), "{batching}: {outcome:?}");
        let tries: i64 =
            sqlx::query_scalar("SELECT last_value FROM tries").fetch_one(&mut sql).await.unwrap();
        assert_eq!(tries, 1, "{batching}");
        sqlx::raw_sql("DROP TRIGGER hang_up ON secrets").execute(&mut sql).await.unwrap();
        set(&store, &id, "KEY").await.unwrap();
        let found = scene.store.secrets(&tenant("t"), &id).await.unwrap().unwrap();
        assert_eq!(found.agent.revision.0, 1, "{batching}");
    }
}

#[tokio::test]
async fn nobody_waits_twice_for_a_database_that_is_away() {
    let Some(mut cluster) = Cluster::start() else { return };
    let scene = Scene::open(Database::Postgres(cluster.create_database().await)).await;
    let Database::Postgres(database) = &scene.database else { unreachable!() };
    let ids: Vec<_> = (0..10).map(|n| agent_id(&format!("n{n}"))).collect();
    for (n, id) in ids.iter().enumerate() {
        scene.store.write(deploying(&tenant("t"), id, &format!("agent {n}"))).await.unwrap();
    }
    // One is refused at the door, the other is let in and hung up on
    let server = SocketAddr::from(([127, 0, 0, 1], cluster.port()));
    let behind = database.by_way_of(relay(move || Some(server)));
    let mut stores = Vec::new();
    for url in [database.url(), behind.url()] {
        let config = Config { acquire_timeout: PATIENCE, ..config(url) };
        let store = Store::open(&config, &TaskTracker::new()).await.unwrap();
        join_all(ids.iter().map(|id| set(&store, id, "KEY"))).await.into_iter().for_each(Result::unwrap);
        stores.push(store);
    }
    cluster.kill9();
    // Those who come second find the first waiting
    let calls = [Duration::ZERO, PATIENCE / 8].into_iter().flat_map(|after| {
        let (stores, ids) = (&stores, &ids);
        stores.iter().enumerate().flat_map(move |(way, store)| {
            ids.iter().flat_map(move |id| {
                let changes = (0..3).map(|n| set(store, id, &format!("KEY_{n}")));
                let read = async { store.secrets(&tenant("t"), id).await.map(drop) }.boxed();
                changes.chain([read]).map(move |call| async move {
                    tokio::time::sleep(after).await;
                    let began = Instant::now();
                    (way, call.await, began.elapsed())
                })
            })
        })
    });
    for (way, outcome, waited) in join_all(calls).await {
        let is_away = matches!(outcome, Err(Error::Unavailable(_) | Error::Interrupted(_)));
        assert!(is_away, "{way}: {outcome:?}");
        // Once more would be nearly twice
        assert!(waited < 3 * PATIENCE / 2, "{way}: {waited:?}");
    }
}

#[tokio::test]
async fn what_waits_on_a_lost_way_is_ended() {
    let Some(cluster) = Cluster::start() else { return };
    for batching in [true, false] {
        let way = Way::open(&cluster, batching, 16).await;
        let (store, t, page) = (&way.store, tenant("t"), PageRequest::new(0, None));
        let ids: Vec<_> = (0..4).map(|n| agent_id(&format!("n{n}"))).collect();
        for id in &ids {
            store.write(deploying(&t, id, id.as_str())).await.unwrap();
            set(store, id, "BEFORE").await.unwrap();
        }
        let gate = way.closed_gate().await;
        // Two transactions and at least one statement that is one
        let changing = if batching { 3 } else { 6 };
        let sets = join_all(ids.iter().map(|id| set(store, id, "AFTER")));
        let deploys = way.deploy_all("new", 2);
        let reads = async {
            way.has_waiting(changing).await;
            let locking = async {
                let lock = "BEGIN; LOCK TABLE secrets IN ACCESS EXCLUSIVE MODE; COMMIT";
                sqlx::raw_sql(lock).execute(&mut way.past().await).await.unwrap();
            };
            let reading = async {
                let is_asked_for = "EXISTS (SELECT FROM pg_locks
                    WHERE relation = 'secrets'::regclass AND mode = 'AccessExclusiveLock')";
                way.eventually("the lock", is_asked_for).await;
                let read = join_all(ids.iter().map(|id| store.secrets(&t, id)));
                let resolved = join_all(ids.iter().map(|id| store.sealed_secrets(&t, id)));
                tokio::join!(read, resolved, store.agents(&t, &AgentScope::All, None, &page))
            };
            tokio::join!(reading, locking).0
        };
        let losing = async {
            // With them a lane of each kind of reads, and a list
            way.has_waiting(changing + 3).await;
            way.lose(gate).await;
        };
        let calls = Box::pin(async { tokio::join!(sets, deploys, reads, losing) });
        let (sets, deploys, (read, resolved, listed), ()) =
            timeout(LIMIT, calls).await.expect("nobody waits for ever");
        // What was not to be committed yet was done again
        deploys.into_iter().for_each(Result::unwrap);
        assert!(read.into_iter().all(|read| read.unwrap().is_some()), "{batching}");
        assert!(resolved.into_iter().all(|read| read.unwrap().is_some()), "{batching}");
        listed.unwrap();
        let refused = sets.iter().filter(|set| set.is_err()).count();
        assert_eq!(refused > 0, batching, "{sets:?}");
        // The old connections are still silent
        let later = timeout(LIMIT, way.deploy_all("later", 20)).await.expect("there are connections");
        later.into_iter().for_each(Result::unwrap);
        for (id, outcome) in ids.iter().zip(sets) {
            assert!(matches!(outcome, Ok(()) | Err(Error::Unavailable(_))), "{batching}: {outcome:?}");
            timeout(LIMIT, set(store, id, "LATER")).await.expect("there are lanes").unwrap();
            let found = store.secrets(&t, id).await.unwrap().unwrap();
            let is_there = found.secrets.iter().any(|secret| secret.name.as_str() == "AFTER");
            assert!(is_there || outcome.is_err(), "{batching}: what was acknowledged is there");
            assert_eq!(
                usize::try_from(found.agent.revision.0),
                Ok(found.secrets.len()),
                "{batching}: each was set once"
            );
        }
    }
}

#[tokio::test]
async fn who_gives_up_on_a_lost_way_takes_no_connection_along() {
    let Some(cluster) = Cluster::start() else { return };
    let way = Way::open(&cluster, true, 8).await;
    let gate = way.closed_gate().await;
    // As many as may wait for locks
    tokio::select! {
        _ = way.deploy_all("early", 8) => panic!("the gate is closed"),
        () = way.has_waiting(2) => {}
    }
    way.lose(gate).await;
    let deployed = timeout(LIMIT, way.deploy_all("later", 8)).await.expect("there are connections");
    deployed.into_iter().for_each(Result::unwrap);
}

// === impl Way ===

impl Way {
    async fn open(cluster: &Cluster, batching: bool, max_connections: u32) -> Self {
        let database = cluster.create_database().await;
        let relay = Relay::start(SocketAddr::from(([127, 0, 0, 1], cluster.port())));
        let (url, behind) = (database.url().to_owned(), database.by_way_of(relay.address()));
        let scene = Scene::open(Database::Postgres(database)).await;
        scene.sql().await.run(GATE).await;
        let config = Config {
            max_connections,
            // That it is done again is tried here, not how soon on a busy machine
            acquire_timeout: Duration::from_secs(20),
            statement_timeout: STATEMENT,
            batching,
            ..config(behind.url())
        };
        Self { relay, store: Store::open(&config, &TaskTracker::new()).await.unwrap(), url }
    }

    /// A connection that does not go that way.
    async fn past(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    /// Deploys so many agents at once.
    async fn deploy_all(&self, name: &str, count: usize) -> Vec<Result<(), Error>> {
        let ids: Vec<_> = (0..count).map(|n| agent_id(&format!("{name}{n}"))).collect();
        join_all(ids.iter().map(|id| self.store.write(deploying(&tenant("t"), id, id.as_str())))).await
    }

    /// Closes the gate until the connection is dropped.
    async fn closed_gate(&self) -> PgConnection {
        let mut gate = self.past().await;
        sqlx::raw_sql("BEGIN; LOCK TABLE gate IN ACCESS EXCLUSIVE MODE").execute(&mut gate).await.unwrap();
        gate
    }

    async fn has_waiting(&self, statements: i64) {
        let waiting = format!("(SELECT count(*) >= {statements} FROM calls WHERE wait_event_type = 'Lock')");
        self.eventually("statements under way", &waiting).await;
    }

    /// The way is lost, what waits at the gate is done, and then the server loses those connections too.
    async fn lose(&self, gate: PgConnection) {
        self.relay.lose_clients();
        let mut past = self.past().await;
        sqlx::raw_sql("CREATE TABLE lost AS SELECT pid FROM calls").execute(&mut past).await.unwrap();
        drop(gate);
        let is_done = "NOT EXISTS (SELECT FROM calls WHERE state = 'active' AND query LIKE 'WITH locked%')";
        self.eventually("the commit", is_done).await;
        sqlx::raw_sql("SELECT pg_terminate_backend(pid) FROM lost").execute(&mut past).await.unwrap();
    }

    async fn eventually(&self, what: &str, condition: &str) {
        let mut past = self.past().await;
        eventually(what, async || {
            let query = AssertSqlSafe(format!("SELECT {condition}"));
            let is_so: bool = sqlx::query_scalar(query).fetch_one(&mut past).await.unwrap();
            is_so.then_some(())
        })
        .await;
    }
}

fn set<'a>(store: &'a Store, id: &'a AgentId, name: &str) -> BoxFuture<'a, Result<(), Error>> {
    let name = SecretName::parse(name).unwrap();
    store.change(question(&tenant("t"), id), move |found| Ok(putting(found.unwrap(), &name))).boxed()
}
