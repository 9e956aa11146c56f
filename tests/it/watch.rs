//! Watching: a change is told on every replica, at once, whatever the database goes through; and each stream has
//! an end that says why.

use std::time::{Duration, Instant};

use prost_types::Timestamp;
use serde_json::json;
use superserve::proto::v1::{
    CreateTokenRequest, DeleteAgentRequest, RevokeTokenRequest, WatchSecretsRequest, WatchSecretsResponse,
};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::harness::{
    Database, LIMIT, eventually, fixtures::secrets_of, grpc::Grpc, on_each_database, postgres,
    server::Server, sql::Sql, steps::create_token,
};

/// Word of a change takes a few milliseconds; a look at all watched agents takes seconds. Where many tests run
/// at a time, this tells one from the other.
const BY_WORD: Duration = Duration::from_secs(2);

on_each_database!(
    a_deleted_agent_ends_the_stream,
    an_ended_token_ends_the_stream,
    a_stopped_server_ends_it,
    there_is_an_end_of_room_for_watches
);

#[tokio::test]
#[expect(clippy::print_stderr, reason = "the figure is for who measures")]
async fn a_change_is_told_on_the_other_replica_at_once() {
    let Some(database) = postgres::Database::create().await else { return };
    let here = Server::with(Database::Postgres(database)).with_notifications().start();
    let there = here.replica().with_notifications().start();
    let agent = here.deploy("demo").await;
    let mut watch = Watch::open(&there.grpc().await, &agent).await;
    assert_eq!(watch.revision().await, 0);
    // The first may come before the other replica listens, and is then found by looking
    here.set(&agent, &json!({"A": "first"})).await;
    assert_eq!(watch.revision().await, 1);
    let mut took = Vec::new();
    for n in 2..=101 {
        here.set(&agent, &json!({"A": format!("value {n}")})).await;
        let start = Instant::now();
        assert_eq!(watch.revision().await, n);
        took.push(start.elapsed());
    }
    took.sort();
    let (median, most, longest) =
        (took[took.len() / 2], took[took.len() * 95 / 100 - 1], took[took.len() - 1]);
    eprintln!("told on the other replica after {median:?} (median), {most:?} (95 %), {longest:?} (longest)");
    assert!(most < Duration::from_millis(100), "{took:?}");
    assert!(longest < Duration::from_secs(1), "{took:?}");

    let deleted = there.rest().delete(&format!("{}/A", secrets_of(&agent))).send().await;
    assert_eq!((deleted.status.as_u16(), watch.revision().await), (200, 102));
    here.grpc().await.agents.delete_agent(DeleteAgentRequest { agent_id: agent }).await.unwrap();
    assert_eq!(watch.end().await.code(), Code::NotFound);
}

#[tokio::test]
async fn watchers_outlive_the_database() {
    let Some(mut cluster) = postgres::Cluster::start() else { return };
    let here = Server::with(Database::Postgres(cluster.create_database().await)).with_notifications().start();
    let there = here.replica().with_notifications().start();
    let (first, second) = (here.deploy("first").await, here.deploy("second").await);
    let grpc = there.grpc().await;
    let (mut changed, mut deleted) = (Watch::open(&grpc, &first).await, Watch::open(&grpc, &second).await);
    assert_eq!((changed.revision().await, deleted.revision().await), (0, 0));

    for round in 1..=2 {
        cluster.kill9();
        cluster.start_again();
        // Written by a replica that is ready before the other has noticed
        let set = async || {
            let body = json!({"secrets": {"A": format!("round {round}")}});
            let answer = here.rest().patch(&secrets_of(&first)).json(&body).send().await;
            (answer.status == 200).then(|| answer.header("etag").trim_matches('"').parse::<i64>().unwrap())
        };
        let last = eventually("a write", set).await;
        changed.reaches(last).await;
        is_told_by_word(&here, &first, &mut changed).await;
    }
    // Once for each time that it was away
    let told = |message: &str| there.log().lines().filter(|line| line.contains(message)).count();
    assert!((1..=2).contains(&told("no word of changes")), "{}", there.log());
    assert_eq!(told("no word of changes"), told("there is word of changes"));
    cluster.kill9();
    cluster.start_again();
    let delete = || DeleteAgentRequest { agent_id: second.clone() };
    eventually("a delete", async || here.grpc().await.agents.delete_agent(delete()).await.ok()).await;
    assert_eq!(deleted.end().await.code(), Code::NotFound);
}

/// Waits until changes are told faster than by looking: several in a row, of which a look can find one.
async fn is_told_by_word(server: &Server, agent: &str, watch: &mut Watch) {
    let mut in_a_row = 0;
    let several_at_once = async || {
        let etag = server.rest().get(&secrets_of(agent)).send().await.header("etag").to_owned();
        let next = etag.trim_matches('"').parse::<i64>().unwrap() + 1;
        server.set(agent, &json!({"A": format!("revision {next}")})).await;
        let start = Instant::now();
        watch.reaches(next).await;
        in_a_row = if start.elapsed() < Duration::from_secs(1) { in_a_row + 1 } else { 0 };
        (in_a_row == 4).then_some(())
    };
    eventually("word of changes", several_at_once).await;
}

/// As behind a pooler that gives each transaction another connection: LISTEN is taken, and nothing arrives.
#[tokio::test]
async fn without_word_watchers_learn_by_looking_and_the_operator_is_told() {
    let Some(database) = postgres::Database::create().await else { return };
    let sql = Sql::open(database.url()).await;
    let name = database.url().rsplit('/').next().unwrap();
    sql.run(&format!(
        "CREATE FUNCTION public.pg_notify(text, text) RETURNS void LANGUAGE sql AS ''; \
         ALTER DATABASE \"{name}\" SET search_path = public, pg_catalog"
    ))
    .await;
    let here = Server::with(Database::Postgres(database)).with_notifications().start();
    let there = here.replica().with_notifications().start();
    let agent = here.deploy("demo").await;
    let mut watch = Watch::open(&there.grpc().await, &agent).await;
    assert_eq!(watch.revision().await, 0);
    for n in 1..=2 {
        here.set(&agent, &json!({"A": format!("value {n}")})).await;
        watch.reaches(n).await;
    }
    let warnings = || there.log().lines().filter(|line| line.contains("no word of changes")).count();
    eventually("a warning", async || (warnings() > 0).then_some(())).await;
    here.set(&agent, &json!({"A": "value 3"})).await;
    watch.reaches(3).await;
    assert_eq!(warnings(), 1, "it is said once");
    let line = there.log().lines().find(|line| line.contains("no word of changes")).unwrap().to_owned();
    assert!(line.contains("WARN") && line.contains("pooler"), "{line}");
}

async fn there_is_an_end_of_room_for_watches(database: Database) {
    let server = Server::with(database).arg("--max-watches=2").start();
    let agent = server.deploy("demo").await;
    let grpc = server.grpc().await;
    let first = Watch::open(&grpc, &agent).await;
    let mut second = Watch::open(&grpc, &agent).await;
    let request = WatchSecretsRequest { agent_id: agent.clone() };
    let refused = grpc.runtime.clone().watch_secrets(request.clone()).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, "Too many requests"));
    assert!(refused.get_details_retry_info().unwrap().retry_delay.is_some());
    assert_eq!(second.revision().await, 0, "those that are there go on");
    drop(first);
    let again = async || grpc.runtime.clone().watch_secrets(request.clone()).await.ok();
    eventually("room", again).await;
}

async fn a_deleted_agent_ends_the_stream(database: Database) {
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    let mut grpc = server.grpc().await;
    let mut watches = [Watch::open(&grpc, &agent).await, Watch::open(&grpc, &agent).await];
    grpc.agents.delete_agent(DeleteAgentRequest { agent_id: agent.clone() }).await.unwrap();
    for watch in &mut watches {
        assert_eq!(watch.end().await.code(), Code::NotFound);
    }
    let again = WatchSecretsRequest { agent_id: agent };
    assert_eq!(grpc.runtime.watch_secrets(again).await.unwrap_err().code(), Code::NotFound);
}

async fn an_ended_token_ends_the_stream(database: Database) {
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    let mut admin = server.grpc().await;
    let (token, text) = create_token(&admin, &["secrets:list"]).await;
    let made = token.created_at.unwrap();
    let soon = Timestamp { seconds: made.seconds + 3, ..made };
    let expiring = CreateTokenRequest {
        name: "expiring".to_owned(),
        scopes: vec!["secrets:list".to_owned()],
        expires_at: Some(soon),
        ..Default::default()
    };
    let expiring = admin.tokens.create_token(expiring).await.unwrap().into_inner().text;
    let mut kept = Watch::open(&admin, &agent).await;
    let mut revoked = Watch::open(&admin.token(&text), &agent).await;
    let mut expired = Watch::open(&admin.token(&expiring), &agent).await;
    for watch in [&mut kept, &mut revoked, &mut expired] {
        assert_eq!(watch.revision().await, 0);
    }

    let start = Instant::now();
    admin.tokens.revoke_token(RevokeTokenRequest { token_id: token.id }).await.unwrap();
    assert_eq!(revoked.end().await.code(), Code::Unauthenticated);
    assert!(start.elapsed() < BY_WORD, "{:?}", start.elapsed());
    assert_eq!(expired.end().await.code(), Code::Unauthenticated);
    server.set(&agent, &json!({"A": "a"})).await;
    assert_eq!(kept.revision().await, 1, "the others go on");
}

#[tokio::test]
async fn a_token_revoked_on_one_replica_ends_streams_on_the_other() {
    let Some(database) = postgres::Database::create().await else { return };
    let here = Server::start(Database::Postgres(database));
    let there = here.replica().start();
    let agent = here.deploy("demo").await;
    let mut admin = here.grpc().await;
    let (token, text) = create_token(&admin, &["secrets:list"]).await;
    let mut watch = Watch::open(&there.grpc().await.token(&text), &agent).await;
    assert_eq!(watch.revision().await, 0);
    admin.tokens.revoke_token(RevokeTokenRequest { token_id: token.id }).await.unwrap();
    // Found by looking, also while word of changes comes all the time
    let end = watch.end();
    tokio::pin!(end);
    let mut n = 0;
    let status = loop {
        let value = json!({"A": format!("value {n}")});
        tokio::select! {
            status = &mut end => break status,
            _ = here.set(&agent, &value) => n += 1,
        }
    };
    assert_eq!(status.code(), Code::Unauthenticated);
}

async fn a_stopped_server_ends_it(database: Database) {
    let mut server = Server::start(database);
    let agent = server.deploy("demo").await;
    let mut watch = Watch::open(&server.grpc().await, &agent).await;
    assert_eq!(watch.revision().await, 0);
    let (status, end) = tokio::join!(server.stop(), watch.end());
    assert_eq!((status.code(), end.code()), (Some(0), Code::Unavailable));
}

/// An open watch.
struct Watch(Streaming<WatchSecretsResponse>);

// === impl Watch ===

impl Watch {
    async fn open(grpc: &Grpc, agent: &str) -> Self {
        let mut client = grpc.runtime.clone();
        let request = WatchSecretsRequest { agent_id: agent.to_owned() };
        Self(client.watch_secrets(request).await.unwrap().into_inner())
    }

    /// The next revision.
    async fn revision(&mut self) -> i64 {
        let next = timeout(LIMIT, self.0.message()).await.expect("it is told in time");
        next.unwrap().expect("the stream goes on").revision
    }

    /// Waits for a revision; those before it may be told or not.
    async fn reaches(&mut self, revision: i64) {
        let mut told = i64::MIN;
        while told < revision {
            told = self.revision().await;
        }
        assert_eq!(told, revision);
    }

    /// How the stream ends.
    async fn end(&mut self) -> Status {
        let end = async {
            loop {
                match self.0.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("it ends without a reason"),
                    Err(status) => return status,
                }
            }
        };
        timeout(LIMIT, end).await.expect("it ends in time")
    }
}
