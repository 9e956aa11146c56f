//! Promises: what was acknowledged survives, concurrent writers lose nothing, replicas agree at once.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures_util::{StreamExt as _, future::join_all, stream};
use serde_json::{Value, json};

use crate::harness::{
    Database, eventually,
    fixtures::secrets_of,
    on_each_database, postgres,
    rest::{Answer, Rest},
    server::Server,
    steps::{audit, create_token, resolve, resolver},
    writers::Writers,
};

/// Requests on their way at a time: more would only run into the test's own limit of open files.
const AT_A_TIME: usize = 200;

on_each_database!(
    concurrent_writes_lose_nothing,
    acknowledged_writes_survive_kill9,
    a_repeat_has_no_second_effect
);

async fn concurrent_writes_lose_nothing(database: Database) {
    const WRITES: usize = 1000; // to the one agent, and as many to the others
    const AGENTS: usize = 250;
    let server = Server::start(database);
    let rest = server.rest();
    let one = server.deploy("one").await;
    let others: Vec<String> = all((0..AGENTS).map(|n| {
        let server = &server;
        async move { server.deploy(&format!("other-{n:03}")).await }
    }))
    .await;

    let to_one = (0..WRITES).map(|n| (one.clone(), format!("KEY_{}", n % 100), format!("value {n}")));
    let to_others =
        (0..WRITES).map(|n| (others[n % AGENTS].clone(), format!("KEY_{}", n / AGENTS), "v".to_owned()));
    let writes = to_one.zip(to_others).flat_map(|(one, other)| [one, other]);
    let revisions = all(writes.map(|(agent, key, value)| {
        let set = set(&rest, &agent, &json!({&key: &value}));
        async move { (agent, key, value, revision(&set.await)) }
    }))
    .await;
    assert_eq!(revisions.len(), 2 * WRITES);

    // Each write has a revision of its own, and the last one of a key is what there is
    let mut last = BTreeMap::<String, (i64, String)>::new();
    let mut seen = HashSet::new();
    for (_, key, value, revision) in revisions.into_iter().filter(|(agent, ..)| *agent == one) {
        assert!(seen.insert(revision), "revision {revision} twice");
        let entry = last.entry(key).or_default();
        if revision > entry.0 {
            *entry = (revision, value);
        }
    }
    assert_eq!(seen.into_iter().max(), i64::try_from(WRITES).ok());
    let expected: HashMap<_, _> = last.into_iter().map(|(key, (_, value))| (key, value)).collect();
    let values = resolve(&resolver(&server).await, &one).await.unwrap();
    assert_eq!(values, expected);

    let same = set(&rest, &one, &json!({"KEY_7": &expected["KEY_7"]})).await;
    assert_eq!(revision(&same), i64::try_from(WRITES).unwrap(), "an equal value is no change");
    let mut page = String::new();
    let mut whole = 0;
    loop {
        let agents = rest.get(&format!("/v1/agents?page_token={page}")).send().await.json();
        let agents_with =
            |agent: &&Value| agent["environment_keys"] == json!(["KEY_0", "KEY_1", "KEY_2", "KEY_3"]);
        whole += agents["agents"].as_array().unwrap().iter().filter(agents_with).count();
        agents["next_page_token"].as_str().unwrap().clone_into(&mut page);
        if page.is_empty() {
            break;
        }
    }
    assert_eq!(whole, AGENTS);
}

async fn acknowledged_writes_survive_kill9(database: Database) {
    let mut server = Server::start(database);
    let agent = server.deploy("demo").await;
    let (writers, rest) = (Writers::new(20), server.rest());
    let crash = async {
        eventually("writes", async || (writers.acknowledged() >= 200).then_some(())).await;
        server.kill9();
    };
    tokio::join!(writers.run(&rest, &agent), crash);
    server.restart();
    writers.check(&resolve(&resolver(&server).await, &agent).await.unwrap());
}

#[tokio::test]
async fn acknowledged_writes_survive_kill9_of_postgres() {
    let Some(mut cluster) = postgres::Cluster::start() else { return };
    let server = Server::start(Database::Postgres(cluster.create_database().await));
    let agent = server.deploy("demo").await;
    let writers = Writers::new(20);
    let crash = async {
        eventually("writes", async || (writers.acknowledged() >= 200).then_some(())).await;
        cluster.kill9();
    };
    let rest = server.rest();
    tokio::join!(writers.run(&rest, &agent), crash);
    cluster.start_again();
    eventually("readiness", async || (server.ops().get("/readyz").send().await.status == 200).then_some(()))
        .await;
    writers.check(&resolve(&resolver(&server).await, &agent).await.unwrap());
}

async fn a_repeat_has_no_second_effect(database: Database) {
    let server = Server::start(database);
    let (rest, agent) = (server.rest(), server.deploy("demo").await);
    let call = |value: &str| {
        let call = rest.patch(&secrets_of(&agent)).header("idempotency-key", "attempt-1");
        call.json(&json!({"secrets": {"A": value, "B": "b"}})).send()
    };
    let answers = join_all((0..50).map(|_| call("a"))).await;
    for answer in &answers {
        assert_eq!((answer.json(), revision(answer)), (json!({"keys": ["A", "B"]}), 1));
    }
    let other = call("other").await;
    assert_eq!(other.status, 422, "{}", other.text());
    assert_eq!(other.json()["details"]["errors"][0]["code"], "idempotency_key_reused");
    let events = audit(&server.grpc().await, &agent).await;
    assert_eq!(events.iter().filter(|event| event.action == "secrets.set").count(), 1);

    // A repeat after something else has happened still gets its own answer and changes nothing
    assert_eq!(revision(&set(&rest, &agent, &json!({"A": "later", "C": "c"})).await), 2);
    assert_eq!(call("a").await.json(), json!({"keys": ["A", "B"]}));
    assert_eq!(resolve(&resolver(&server).await, &agent).await.unwrap()["A"], "later");
}

#[tokio::test]
async fn replicas_agree_at_once() {
    let Some(database) = postgres::Database::create().await else { return };
    let first = Server::start(Database::Postgres(database));
    let second = first.replica().start();
    let (here, there) = (first.rest(), second.rest());
    let agent = first.deploy("demo").await;
    let writes = (0..300).map(|n| {
        let rest = if n % 2 == 0 { &here } else { &there };
        set(rest, &agent, &json!({format!("KEY_{}", n % 30): format!("value {n}")}))
    });
    let revisions: HashSet<i64> = all(writes).await.iter().map(revision).collect();
    assert_eq!(revisions, (1..=300).collect());
    let (one, two) = (resolver(&first).await, resolver(&second).await);
    assert_eq!(resolve(&one, &agent).await.unwrap(), resolve(&two, &agent).await.unwrap());

    for n in 0..10 {
        let value = format!("fresh {n}");
        set(&here, &agent, &json!({"KEY_0": value})).await;
        assert_eq!(resolve(&two, &agent).await.unwrap()["KEY_0"], value);
        let gone = there.delete(&format!("{}/KEY_0", secrets_of(&agent))).send().await;
        assert_eq!(gone.status, 200);
        assert!(!resolve(&one, &agent).await.unwrap().contains_key("KEY_0"));
    }
    let admin = first.grpc().await;
    for _ in 0..10 {
        let (token, text) = create_token(&admin, &["agents:read"]).await;
        let elsewhere = there.token(&text);
        assert_eq!(elsewhere.get("/v1/agents").send().await.status, 200);
        let revoke = superserve::proto::v1::RevokeTokenRequest { token_id: token.id };
        admin.clone().tokens.revoke_token(revoke).await.unwrap();
        assert_eq!(elsewhere.get("/v1/agents").send().await.status, 401);
    }
    assert_eq!(here.delete(&format!("/v1/agents/{agent}")).send().await.status, 204);
    assert_eq!(there.get(&secrets_of(&agent)).send().await.status, 404);
    assert_eq!(resolve(&two, &agent).await.unwrap_err().code(), tonic::Code::NotFound);
}

/// Runs them all, many at a time.
async fn all<T>(futures: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    stream::iter(futures).buffer_unordered(AT_A_TIME).collect().await
}

fn set(rest: &Rest, agent: &str, secrets: &Value) -> impl Future<Output = Answer> + use<> {
    let sent = rest.patch(&secrets_of(agent)).json(&json!({"secrets": secrets})).send();
    async move {
        let answer = sent.await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer
    }
}

fn revision(answer: &Answer) -> i64 {
    answer.header("etag").trim_matches('"').parse().unwrap_or_else(|_| panic!("{}", answer.text()))
}
