//! Changes while their database goes away: nothing is done twice, and nobody waits twice. On PostgreSQL.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, join_all},
};
use sqlx::{Connection, PgConnection};
use superserve::{
    domain::{AgentId, SecretName},
    store::{Config, Error, Store},
};
use tokio_util::task::TaskTracker;

use crate::{
    harness::{Database, postgres::Cluster, relay::relay},
    store::{Scene, agent_id, config, deploying, putting, question, tenant},
};

/// How long a call waits for a connection.
const PATIENCE: Duration = Duration::from_secs(6);

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
    let mut behind = url::Url::parse(database.url()).unwrap();
    behind.set_host(Some("127.0.0.1")).unwrap();
    behind.set_port(Some(relay(move || Some(server)).port())).unwrap();
    let mut stores = Vec::new();
    for url in [database.url(), behind.as_str()] {
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

fn set<'a>(store: &'a Store, id: &'a AgentId, name: &str) -> BoxFuture<'a, Result<(), Error>> {
    let name = SecretName::parse(name).unwrap();
    store.change(question(&tenant("t"), id), move |found| Ok(putting(found.unwrap(), &name))).boxed()
}
