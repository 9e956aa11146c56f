//! Promise: when the database is gone, everybody is told so in time; when it is back, all is well without a restart.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, future::join_all};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tonic::{Code, Request};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::harness::{
    Database, LIMIT, eventually, eventually_within,
    fixtures::secrets_of,
    postgres::Cluster,
    relay::Relay,
    server::Server,
    steps::{resolve, resolver},
};

/// Longer than a call waits for a connection, shorter than it may take in all.
const IN_TIME: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_database_that_goes_and_comes_back() {
    let Some(mut cluster) = Cluster::start() else { return };
    let server = Server::start(Database::Postgres(cluster.create_database().await));
    let (rest, grpc) = (server.rest(), resolver(&server).await);
    let agent = server.deploy("demo").await;
    let set = |value: &str| rest.patch(&secrets_of(&agent)).json(&json!({"secrets": {"A": value}})).send();
    assert_eq!(set("before").await.status, 200);
    // Many connections lie idle when the database goes
    for answer in join_all((0..40).map(|_| rest.get(&secrets_of(&agent)).send())).await {
        assert_eq!(answer.status, 200);
    }
    assert_eq!(health(&server).await, ServingStatus::Serving);

    cluster.stop();
    eventually("the health service to see it", async || {
        (health(&server).await == ServingStatus::NotServing).then_some(())
    })
    .await;
    let start = Instant::now();
    let (ready, written, listed, resolved) = tokio::join!(
        server.ops().get("/readyz").send(),
        set("meanwhile"),
        rest.get(&secrets_of(&agent)).send(),
        resolve(&grpc, &agent),
    );
    assert!(start.elapsed() < IN_TIME, "{:?}", start.elapsed());
    assert_eq!((ready.status.as_u16(), ready.text().contains("database")), (503, true));
    for refused in [written, listed] {
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert_eq!(refused.json(), json!({"status": 503, "detail": "Service unavailable", "details": {}}));
        assert_ne!(refused.header("retry-after"), "");
    }
    assert_eq!(resolved.unwrap_err().code(), Code::Unavailable);
    assert_eq!(server.ops().get("/livez").send().await.status, 200);

    cluster.start_again();
    let ready = async || (server.ops().get("/readyz").send().await.status == 200).then_some(());
    eventually("readiness", ready).await;
    eventually("the health service to see it", async || {
        (health(&server).await == ServingStatus::Serving).then_some(())
    })
    .await;
    // No dead connection is left for anybody to stumble on
    for answer in join_all((0..40).map(|_| rest.get(&secrets_of(&agent)).send())).await {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(resolve(&grpc, &agent).await.unwrap()["A"], "before");
    assert_eq!(set("after").await.status, 200);
    assert_eq!(resolve(&grpc, &agent).await.unwrap()["A"], "after");
}

#[tokio::test]
async fn a_short_restart_of_the_database_is_not_seen() {
    let Some(mut cluster) = Cluster::start() else { return };
    let server = Server::start(Database::Postgres(cluster.create_database().await));
    let (rest, agent) = (server.rest(), server.deploy("demo").await);
    for answer in join_all((0..40).map(|_| rest.get(&secrets_of(&agent)).send())).await {
        assert_eq!(answer.status, 200);
    }
    for round in 0..2 {
        if round == 0 {
            cluster.kill9();
        } else {
            cluster.stop();
        }
        cluster.start_again();
        // Nobody waits for anything: the connections that died meanwhile are ours to deal with
        let mut calls: Vec<_> = (0..40).map(|_| rest.get(&secrets_of(&agent)).send().boxed()).collect();
        let body = json!({"secrets": {"A": format!("value {round}")}});
        calls.extend((0..5).map(|_| rest.patch(&secrets_of(&agent)).json(&body).send().boxed()));
        calls.push(server.ops().get("/readyz").send().boxed());
        for answer in join_all(calls).await {
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
}

#[tokio::test]
async fn a_lost_way_to_the_database_is_noticed_by_who_listens() {
    let Some(cluster) = Cluster::start() else { return };
    let relay = Relay::start(SocketAddr::from(([127, 0, 0, 1], cluster.port())));
    let database = cluster.create_database().await.by_way_of(relay.address());
    let server = Server::with(Database::Postgres(database));
    let server = server.with_notifications().start();
    let listens = "SELECT count(*) = 1 FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    let sql = server.backdoor().await;
    eventually("the listener", async || {
        sql.row(listens, []).await.try_get_by_index::<bool>(0).unwrap().then_some(())
    })
    .await;
    // Nothing else is under way that could find out
    relay.lose_clients();
    // It is quiet for a while, then asks by connections that are lost as well, and waits for what it has said itself
    for word in ["no word of changes", "there is word of changes"] {
        eventually_within(3 * LIMIT, word, async || server.log().contains(word).then_some(())).await;
    }
}

#[tokio::test]
async fn who_waits_for_an_agent_keeps_nobody_else_waiting() {
    let Some(cluster) = Cluster::start() else { return };
    let database = cluster.create_database().await;
    let url = database.url().to_owned();
    let (mut sql, mut holder) =
        (PgConnection::connect(&url).await.unwrap(), PgConnection::connect(&url).await.unwrap());
    let server = Server::start(Database::Postgres(database));
    let rest = server.rest();
    let (taken, other) = (server.deploy("taken").await, server.deploy("other").await);
    let lock = AssertSqlSafe(format!("BEGIN; SELECT FROM agents WHERE id = '{taken}' FOR UPDATE"));
    sqlx::raw_sql(lock).execute(&mut holder).await.unwrap();
    let path = secrets_of(&taken);
    let sets = (0..40).map(|n| rest.patch(&path).json(&json!({"secrets": {"A": n.to_string()}})).send());
    let others = async {
        let waiting = "SELECT count(*) > 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        eventually("sets that wait", async || {
            let waits: bool = sqlx::query_scalar(waiting).fetch_one(&mut sql).await.unwrap();
            waits.then_some(())
        })
        .await;
        // More than there are connections
        let calls = (0..40).map(|n| {
            let (rest, other) = (&rest, &other);
            async move {
                let set = rest.patch(&secrets_of(other)).json(&json!({"secrets": {format!("K{n}"): "k"}}));
                assert_eq!(set.send().await.status, 200);
                assert_eq!(rest.get(&secrets_of(other)).send().await.status, 200);
            }
        });
        join_all(calls).await;
        assert_eq!(server.ops().get("/readyz").send().await.status, 200);
        sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    };
    let (sets, ()) = tokio::join!(join_all(sets), others);
    for set in sets {
        assert_eq!(set.status, 200, "{}", set.text());
    }
}

async fn health(server: &Server) -> ServingStatus {
    let mut client = HealthClient::new(server.grpc().await.channel());
    let request = HealthCheckRequest { service: "superserve.secrets.v1.SecretsService".to_owned() };
    let answer = client.check(Request::new(request)).await.expect("health is always told");
    answer.into_inner().status()
}
