//! Promise: a call that was lost with its replica can be repeated under its key, here and there, and is done once.

use futures_util::future::join_all;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use crate::harness::{
    Database, eventually,
    fixtures::secrets_of,
    postgres::Cluster,
    rest::Rest,
    server::Server,
    steps::{audit, resolve, resolver},
};

/// How many sets lose their answer, each of an agent of its own.
const SETS: usize = 6;

/// What is set waits for the gate before it is written.
const GATE: &str = "CREATE TABLE gate ();
    CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        LOCK TABLE gate IN ACCESS SHARE MODE;
        RETURN NEW;
    END $$;
    CREATE TRIGGER gate BEFORE INSERT ON secrets FOR EACH ROW EXECUTE FUNCTION wait_at_gate()";

#[tokio::test]
async fn a_set_that_was_lost_with_its_replica_is_done_once() {
    let Some(cluster) = Cluster::start() else { return };
    let database = cluster.create_database().await;
    let database_url = database.url().to_owned();
    let mut sql = PgConnection::connect(&database_url).await.unwrap();
    let here = Server::start(Database::Postgres(database));
    let mut there = here.replica().start();
    let agents = join_all((0..SETS).map(|n| {
        let here = &here;
        async move { here.deploy(&format!("agent-{n}")).await }
    }))
    .await;
    sqlx::raw_sql(GATE).execute(&mut sql).await.unwrap();

    let mut gate = PgConnection::connect(&database_url).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE gate IN ACCESS EXCLUSIVE MODE").execute(&mut gate).await.unwrap();
    let (rest, again) = (here.rest(), there.rest());
    let kill = async {
        let waiting = "SELECT count(*) > 0 FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        eventually("a set at the gate", async || {
            let waits: bool = sqlx::query_scalar(waiting).fetch_one(&mut sql).await.unwrap();
            waits.then_some(())
        })
        .await;
        there.kill9();
    };
    let (lost, ()) = tokio::join!(set_all(&again, &agents), kill);
    assert_eq!(lost, vec![None; SETS], "no answer");
    there.restart();
    let again = there.rest();
    sqlx::raw_sql("ROLLBACK").execute(&mut gate).await.unwrap();

    // What was at the gate may be written while it is repeated, here and there at once
    let (first, second) = tokio::join!(set_all(&rest, &agents), set_all(&again, &agents));
    assert_eq!((first, second), (vec![Some(200); SETS], vec![Some(200); SETS]));
    let (grpc, resolver) = (here.grpc().await, resolver(&there).await);
    for agent in &agents {
        let events = audit(&grpc, agent).await;
        let sets = events.iter().filter(|event| event.action == "secrets.set");
        assert_eq!(sets.map(|event| event.revision).collect::<Vec<_>>(), [1], "{agent}");
        assert_eq!(resolve(&resolver, agent).await.unwrap()["A"], "a");
    }
}

/// Sets the same of each agent under one key, all at once, and says how each was answered, if it was.
async fn set_all(rest: &Rest, agents: &[String]) -> Vec<Option<u16>> {
    let sets = agents.iter().map(|agent| async {
        let set = rest.patch(&secrets_of(agent)).header("idempotency-key", "attempt-1");
        let answer = set.json(&json!({"secrets": {"A": "a"}})).try_send().await;
        answer.ok().map(|answer| answer.status.as_u16())
    });
    join_all(sets).await
}
