//! Resolving: every value that leaves is on record, a run takes no more than it asks for, or a clear no.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::json;
use superserve::proto::v1::{
    DeployAgentRequest, RequiredSecret, ResolveSecretsRequest, ResolveSecretsResponse,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{
    Database,
    fixtures::Backdoor,
    grpc::Grpc,
    on_each_database, postgres,
    server::Server,
    steps::{RUNTIME_SCOPES, audit, resolver},
};

/// Connections, each with as many calls under way as one may have.
const CONNECTIONS: usize = 10;
const CALLS_A_CONNECTION: usize = 100;

on_each_database!(
    every_resolve_is_on_record,
    no_value_leaves_without_a_record,
    a_run_takes_what_it_asks_for,
    who_is_up_to_date_gets_nothing,
    every_missing_key_is_named
);

async fn every_resolve_is_on_record(database: Database) {
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    server.set(&agent, &json!({"A": "a", "B": "b"})).await;
    let token = server.token(&RUNTIME_SCOPES, &[]).await;
    let clients = join_all((0..CONNECTIONS).map(|_| Grpc::connect(server.address(), &token))).await;
    let expected = HashMap::from([("A", "a"), ("B", "b")].map(|(k, v)| (k.to_owned(), v.to_owned())));
    let calls = (0..CONNECTIONS * CALLS_A_CONNECTION).map(|n| {
        let request = Ask::all(&agent).run(&format!("run-{n}"));
        resolve(&clients[n % CONNECTIONS], request)
    });
    for answer in join_all(calls).await {
        assert_eq!(answer.unwrap().env, expected);
    }

    let events = audit(&server.grpc().await, &agent).await;
    let resolves: Vec<_> = events.iter().filter(|event| event.action == "secrets.resolve").collect();
    assert_eq!(resolves.len(), CONNECTIONS * CALLS_A_CONNECTION);
    let runs: HashSet<_> = resolves.iter().map(|event| event.run_id.as_str()).collect();
    assert_eq!(runs.len(), resolves.len(), "a run is on record twice");
    for event in resolves {
        let held: Vec<_> = event.secrets.iter().map(|secret| (secret.key.as_str(), secret.version)).collect();
        assert_eq!(held, [("A", 1), ("B", 1)]);
        assert!(event.secrets.iter().all(|secret| secret.fingerprint.len() == 12));
        assert!(event.remote.starts_with("127.0.0.1") && !event.request_id.is_empty());
    }
}

async fn no_value_leaves_without_a_record(database: Database) {
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    server.set(&agent, &json!({"A": "sentinel-value"})).await;
    let grpc = resolver(&server).await;
    let mut database = server.backdoor().await;
    let (refuse, allow) = match &database {
        Backdoor::Sqlite(_) => (
            "CREATE TRIGGER no_audit BEFORE INSERT ON audit_events WHEN NEW.action = 'secrets.resolve' \
             BEGIN SELECT RAISE(ABORT, 'refused by a trigger'); END",
            "DROP TRIGGER no_audit",
        ),
        Backdoor::Postgres(_) => (
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'refused by a trigger'; END $$; \
             CREATE TRIGGER no_audit BEFORE INSERT ON audit_events \
             FOR EACH ROW WHEN (NEW.action = 'secrets.resolve') EXECUTE FUNCTION refuse()",
            "DROP TRIGGER no_audit ON audit_events",
        ),
    };
    database.run(refuse).await;
    for answer in join_all((0..50).map(|_| resolve(&grpc, Ask::all(&agent)))).await {
        let refused = answer.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::Internal, "Internal error"));
        let whole = format!("{refused:?}");
        assert!(!whole.contains("sentinel") && !whole.contains("trigger"), "{whole}");
    }
    assert!(server.log().contains("refused by a trigger"), "the operator is told why");
    // Nothing else is held up by it
    server.set(&agent, &json!({"B": "b"})).await;

    database.run(allow).await;
    assert_eq!(resolve(&grpc, Ask::all(&agent)).await.unwrap().env["A"], "sentinel-value");
    let events = audit(&server.grpc().await, &agent).await;
    assert_eq!(events.iter().filter(|event| event.action == "secrets.resolve").count(), 1);
}

/// Where the database has no room for records, many callers wait for it together and not one after the other.
#[tokio::test]
async fn callers_wait_together_for_records_that_cannot_be_written() {
    let Some(database) = postgres::Database::create().await else { return };
    let server = Server::start(Database::Postgres(database));
    let agent = server.deploy("demo").await;
    server.set(&agent, &json!({"A": "a"})).await;
    let grpc = resolver(&server).await;
    let mut database = server.backdoor().await;
    // SQLSTATE 53100 is a full disk
    database
        .run(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM pg_sleep(0.3); RAISE EXCEPTION 'full' USING ERRCODE = '53100'; END $$; \
             CREATE TRIGGER no_audit BEFORE INSERT ON audit_events \
             FOR EACH ROW WHEN (NEW.action = 'secrets.resolve') EXECUTE FUNCTION refuse()",
        )
        .await;
    let start = Instant::now();
    for answer in join_all((0..60).map(|_| resolve(&grpc, Ask::all(&agent)))).await {
        assert_eq!(answer.unwrap_err().code(), Code::Unavailable);
    }
    // One after the other would take 18 seconds
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    database.run("DROP TRIGGER no_audit ON audit_events").await;
    assert_eq!(resolve(&grpc, Ask::all(&agent)).await.unwrap().env["A"], "a");
}

async fn a_run_takes_what_it_asks_for(database: Database) {
    let server = Server::start(database);
    let agent = deploy_with(&server, &[("A", false), ("NEVER_SET", false), ("MAYBE", true)]).await;
    server.set(&agent, &json!({"A": "a", "B": "b", "C": "c"})).await;
    let grpc = resolver(&server).await;
    let given = |answer: Result<ResolveSecretsResponse, Status>| {
        let mut keys: Vec<_> = answer.unwrap().env.into_keys().collect();
        keys.sort();
        keys
    };

    // What it does not ask for does not keep it from starting
    assert_eq!(given(resolve(&grpc, Ask::only(&agent, &["B"])).await), ["B"]);
    assert_eq!(given(resolve(&grpc, Ask::only(&agent, &["C", "A", "C", "MAYBE"])).await), ["A", "C"]);
    assert_eq!(given(resolve(&grpc, Ask::only(&agent, &["MAYBE"])).await), [""; 0]);
    let events = audit(&server.grpc().await, &agent).await;
    let held: Vec<Vec<_>> = events
        .iter()
        .filter(|event| event.action == "secrets.resolve")
        .map(|event| event.secrets.iter().map(|secret| secret.key.as_str()).collect())
        .collect();
    assert_eq!(held, [vec![], vec!["A", "C"], vec!["B"]], "on record is what was given and no more");

    let undeclared = resolve(&grpc, Ask::only(&agent, &["B", "OTHER"])).await.unwrap_err();
    assert_eq!(missing(&undeclared), ["OTHER"]);
    let required = resolve(&grpc, Ask::only(&agent, &["NEVER_SET"])).await.unwrap_err();
    assert_eq!(missing(&required), ["NEVER_SET"]);
    let invalid = resolve(&grpc, Ask::only(&agent, &["B", "no key", "1"])).await.unwrap_err();
    assert_eq!(invalid.code(), Code::InvalidArgument);
    assert_eq!(invalid.get_details_bad_request().unwrap().field_violations.len(), 2);
}

async fn who_is_up_to_date_gets_nothing(database: Database) {
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    server.set(&agent, &json!({"A": "a"})).await;
    let grpc = resolver(&server).await;
    let ask = |revision| Ask { if_revision_not: Some(revision), ..Ask::all(&agent) };
    let same = resolve(&grpc, ask(1)).await.unwrap();
    assert_eq!((same.env.len(), same.revision, same.not_modified), (0, 1, true));
    for other in [0, 2, -1, i64::MAX] {
        let answer = resolve(&grpc, ask(other)).await.unwrap();
        assert_eq!((answer.env["A"].as_str(), answer.revision, answer.not_modified), ("a", 1, false));
    }
    server.set(&agent, &json!({"A": "b"})).await;
    assert_eq!(resolve(&grpc, ask(1)).await.unwrap().env["A"], "b");
    let events = audit(&server.grpc().await, &agent).await;
    let resolves = events.iter().filter(|event| event.action == "secrets.resolve").count();
    assert_eq!(resolves, 5, "only what was given is on record");
}

async fn every_missing_key_is_named(database: Database) {
    let server = Server::start(database);
    let required = [("Z", false), ("SET", false), ("MAYBE", true), ("A", false)];
    let agent = deploy_with(&server, &required).await;
    server.set(&agent, &json!({"SET": "s", "OTHER": "o"})).await;
    let grpc = resolver(&server).await;
    let refused = resolve(&grpc, Ask::all(&agent)).await.unwrap_err();
    assert_eq!(missing(&refused), ["Z", "A"], "in the order in which they were declared");
    assert_eq!(refused.get_details_error_info().unwrap().reason, "REQUIRED_SECRETS_MISSING");
    let events = audit(&server.grpc().await, &agent).await;
    assert!(events.iter().all(|event| event.action != "secrets.resolve"), "nothing was given");
    server.set(&agent, &json!({"A": "a", "Z": "z"})).await;
    assert_eq!(resolve(&grpc, Ask::all(&agent)).await.unwrap().env.len(), 4);
}

/// What to ask for; all by default.
#[derive(Default)]
pub(crate) struct Ask {
    agent: String,
    run_id: Option<String>,
    only: Vec<String>,
    if_revision_not: Option<i64>,
}

// === impl Ask ===

impl Ask {
    /// All of an agent's values.
    pub(crate) fn all(agent: &str) -> Self {
        Self { agent: agent.to_owned(), ..Self::default() }
    }

    /// These of an agent's values.
    pub(crate) fn only(agent: &str, keys: &[&str]) -> Self {
        Self { only: keys.iter().map(ToString::to_string).collect(), ..Self::all(agent) }
    }

    /// For a run of this name.
    pub(crate) fn run(self, run_id: &str) -> Self {
        Self { run_id: Some(run_id.to_owned()), ..self }
    }
}

/// Resolves what is asked for.
pub(crate) async fn resolve(grpc: &Grpc, ask: Ask) -> Result<ResolveSecretsResponse, Status> {
    let Ask { agent: agent_id, run_id, only, if_revision_not } = ask;
    let request = ResolveSecretsRequest { agent_id, run_id, only, if_revision_not };
    let mut client = grpc.runtime.clone();
    Ok(client.resolve_secrets(request).await?.into_inner())
}

/// Deploys an agent that declares these names; whether each is optional.
async fn deploy_with(server: &Server, names: &[(&str, bool)]) -> String {
    let declared = names.iter().map(|(name, optional)| RequiredSecret {
        name: (*name).to_owned(),
        optional: *optional,
        ..Default::default()
    });
    let required_secrets = declared.collect();
    let request = DeployAgentRequest { name: "demo".to_owned(), required_secrets, ..Default::default() };
    let deployed = server.grpc().await.agents.deploy_agent(request).await.unwrap().into_inner();
    deployed.agent.unwrap().id
}

fn missing(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    let details = status.get_details_precondition_failure().unwrap();
    details.violations.into_iter().map(|violation| violation.subject).collect()
}
