//! More calls than are answered: those that are let in are answered soon, the others are told at once, and nobody is kept
//! out by another. `docs/operations.md` has the figures.

use std::{process::Command, time::Duration};

use serde_json::json;
use superserve::proto::v1::{ListSecretsRequest, ResolveSecretsRequest, SetSecretsRequest};
use tokio::task::JoinSet;

use crate::harness::{
    Database, environment, eventually,
    fixtures::secrets_of,
    open_loop::{Connections, Outcome, What},
    server::Server,
};

/// How long each load lasts, where the environment does not say otherwise.
const LASTS: Duration = Duration::from_secs(4);

/// Calls under way that are no overload.
const NORMAL: usize = 64;

const CONNECTIONS: usize = 32;

/// So many that the server has more to do for each call than this process has.
const KEYS: usize = 30;

const LIST: &str = "/superserve.secrets.v1.SecretsService/ListSecrets";
const SET: &str = "/superserve.secrets.v1.SecretsService/SetSecrets";
const RESOLVE: &str = "/superserve.secrets.v1.RuntimeService/ResolveSecrets";

/// The calls of a workload, of many agents in turn.
fn calls(workload: &str, agents: Vec<String>) -> impl Fn(usize) -> What + Clone + Send + 'static {
    let workload = workload.to_owned();
    move |n| {
        let agent_id = agents[n % agents.len()].clone();
        match workload.as_str() {
            "list" => What::new(LIST, &ListSecretsRequest { agent_id }),
            "resolve" => What::new(RESOLVE, &ResolveSecretsRequest { agent_id, ..Default::default() }),
            "set" => {
                let secrets = (0..KEYS).map(|key| (format!("K{key}"), format!("{n:064}"))).collect();
                What::new(SET, &SetSecretsRequest { agent_id, secrets, ..Default::default() })
            }
            other => panic!("there is no workload {other:?}"),
        }
    }
}

/// Has the server on one processor and this process on another, from now on.
fn pin(processor: &str) {
    let own = std::process::id().to_string();
    let pinned = Command::new("taskset").args(["-a", "-c", "-p", processor, &own]).output().expect("taskset");
    assert!(pinned.status.success(), "{pinned:?}");
}

async fn metric(server: &Server, name: &str) -> f64 {
    let text = server.ops().get("/metrics").send().await.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    line.unwrap_or_else(|| panic!("{name} is not in\n{text}"))
}

#[expect(clippy::print_stderr, reason = "the figures are for who measures")]
fn tell(what: &str, server: &Server, outcome: &Outcome) {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    eprintln!(
        "{what:9} {:7.0}/s answered, p50 {:6.2} ms, p99 {:6.2} ms; {:4.1} % refused, p50 {:6.2} ms, p99 {:6.2} ms; {} MiB",
        outcome.rate(),
        ms(outcome.quantile(50)),
        ms(outcome.quantile(99)),
        100.0 * outcome.share_refused(),
        ms(outcome.refusal(50)),
        ms(outcome.refusal(99)),
        server.resident_bytes() >> 20,
    );
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "the figures are for who measures")]
async fn twice_as_much_as_can_be_answered() {
    let workload = environment("SUPERSERVE_TEST_OVERLOAD").unwrap_or_else(|| "set".to_owned());
    let seconds = environment("SUPERSERVE_TEST_OVERLOAD_SECONDS").map(|n| n.parse().expect("a number"));
    let lasts = seconds.map_or(LASTS, Duration::from_secs);
    let pinned = environment("SUPERSERVE_TEST_OVERLOAD_PIN").is_some();
    if pinned {
        pin("0");
    }
    let server = Server::start(Database::Sqlite);
    if pinned {
        pin("1");
    }
    let keys: serde_json::Map<_, _> = (0..KEYS).map(|key| (format!("K{key}"), json!("0"))).collect();
    let (keys, mut agents) = (json!(keys), Vec::new());
    for n in 0..100 {
        agents.push(server.deploy(&format!("agent-{n}")).await);
        server.set(&agents[n], &keys).await;
    }
    let token = server.token(&["secrets:list", "secrets:write", "secrets:resolve"], &[]).await;
    let mut tasks = JoinSet::new();
    let connections = Connections::open(server.address(), CONNECTIONS, &token, &mut tasks).await;
    let calls = calls(&workload, agents);

    // The first time is for the caches
    connections.at_a_time(NORMAL, lasts / 4, calls.clone()).await;
    let normal = connections.at_a_time(NORMAL, lasts, calls.clone()).await;
    tell("64 at once", &server, &normal);
    assert!(normal.refused.is_empty() && normal.failed.is_empty(), "nothing is refused: {:?}", normal.failed);
    let half = connections.at_rate(normal.rate() / 2.0, lasts, calls.clone()).await;
    tell("half", &server, &half);
    let twice = connections.at_rate(normal.rate() * 2.0, lasts, calls.clone()).await;
    tell("twice", &server, &twice);
    let ratio = twice.quantile(99).as_secs_f64() / half.quantile(99).as_secs_f64();
    eprintln!("p99 of what is answered: {ratio:.2} times that of half the load");

    assert!(twice.failed.is_empty(), "{:?}", twice.failed.first());
    // How soon depends on what else the machine does, and on how the programs were built: it is for who measures
    if seconds.is_some() {
        assert!(twice.rate() > normal.rate() / 8.0, "hardly anything is answered");
        assert!(ratio < 3.0, "{ratio}");
    }
    // It is over at once, and counted
    let again = connections.at_a_time(NORMAL, lasts / 4, calls).await;
    assert!(again.failed.is_empty(), "{:?}", again.failed.first());
    let refused = metric(&server, r#"superserve_refused_total{limit="load"}"#).await;
    assert!(refused >= f64::from(u32::try_from(twice.refused.len()).unwrap()), "{refused}");
    eventually("nothing to be under way", async || {
        let (reads, writes) = (r#"{kind="read"}"#, r#"{kind="write"}"#);
        let under_way = async |kind| metric(&server, &format!("superserve_requests_under_way{kind}")).await;
        (under_way(reads).await + under_way(writes).await == 0.0).then_some(())
    })
    .await;
}

/// The database takes no writes for a while: as if its disk were slow.
#[tokio::test]
async fn who_has_many_calls_under_way_keeps_nobody_out() {
    let server = Server::start(Database::Sqlite);
    let agent = server.deploy("demo").await;
    let made = server.setup().run(&["tenants", "create", "other", "--json"]).done();
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let others = server.rest().token(made["text"].as_str().unwrap());
    let mut tasks = JoinSet::new();
    let open = Connections::open(server.address(), CONNECTIONS, server.admin_token(), &mut tasks).await;
    let set = calls("set", vec![agent.clone()]);
    let list = calls("list", vec![agent.clone()]);
    let backdoor = server.backdoor().await;
    backdoor.block_writers(&agent).await;

    // More and more come, until some are refused
    let (mut greedy, mut calls_made) = (JoinSet::new(), 0);
    let refused = eventually("a refusal", async || {
        for _ in 0..20 {
            greedy.spawn(open.call(calls_made, set(calls_made)));
            calls_made += 1;
        }
        greedy.try_join_next().map(|call| call.unwrap())
    });
    assert_eq!(refused.await, "14");
    assert!(metric(&server, r#"superserve_refused_total{limit="load"}"#).await > 0.0);
    assert_eq!(open.call(0, set(0)).await, "14");
    assert_eq!(open.call(0, list(0)).await, "0", "reads have places of their own");
    // The other tenant has a place too, and waits for the database
    let mut other = JoinSet::new();
    other.spawn(others.post("/v1/agents").json(&json!({"name": "demo"})).send());
    for _ in 0..5 {
        assert_eq!(open.call(0, set(0)).await, "14");
        assert!(other.try_join_next().is_none(), "it is refused");
    }

    drop(backdoor);
    assert_eq!(other.join_next().await.unwrap().unwrap().status, 201);
    let mut statuses = Vec::new();
    while let Some(status) = greedy.join_next().await {
        statuses.push(status.unwrap());
    }
    let answered = statuses.iter().filter(|status| *status == "0").count();
    assert!(answered >= NORMAL, "those that were let in are answered: {answered} of {}", statuses.len());
    let again = async || (open.call(0, set(0)).await == "0").then_some(());
    eventually("a place", again).await;
}

/// All of it or nothing: what a write that was given up has done is seen by reading.
#[tokio::test]
async fn a_write_that_times_out_is_done_or_not() {
    let server = Server::with(Database::Sqlite).arg("--request-timeout=1").start();
    let agent = server.deploy("demo").await;
    let backdoor = server.backdoor().await;
    backdoor.block_writers(&agent).await;
    let set = server.rest().patch(&secrets_of(&agent)).json(&json!({"secrets": {"A": "x", "B": "x"}}));
    assert_eq!(set.send().await.status, 504);
    drop(backdoor);
    let next = async || {
        let set = server.rest().patch(&secrets_of(&agent)).json(&json!({"secrets": {"C": "x"}})).send().await;
        (set.status == 200).then(|| set.json()["keys"].clone())
    };
    // Writes are made in their order, so what became of the first is settled
    let keys = eventually("a write after it", next).await;
    assert!(keys == json!(["A", "B", "C"]) || keys == json!(["C"]), "a part of it: {keys}");
}
