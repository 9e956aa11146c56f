//! Resolving: every value that leaves is on record, a run takes no more than it asks for, or a clear no.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, future::join_all, stream};
use prost_types::Duration as WireDuration;
use serde_json::json;
use superserve::proto::v1::{
    DeployAgentRequest, ListRunsRequest, RequiredSecret, ResolveSecretsRequest, ResolveSecretsResponse,
    SetSecretsRequest,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{
    Database,
    grpc::Grpc,
    on_each_database, postgres,
    server::Server,
    steps::{RUNTIME_SCOPES, audit, resolver},
};

/// Connections, and calls on each.
const CONNECTIONS: usize = 10;
const CALLS_A_CONNECTION: usize = 100;
const AT_ONCE: usize = 400;

on_each_database!(
    every_resolve_is_on_record,
    no_value_leaves_without_a_record,
    a_run_takes_what_it_asks_for,
    who_is_up_to_date_gets_nothing,
    every_missing_key_is_named,
    what_is_missing_is_told_to_who_is_up_to_date,
    a_value_before_is_asked_for_by_its_name,
    a_refusal_is_on_record
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
    // Many at once, and not so many that some are refused for the load
    let mut answers = stream::iter(calls).buffer_unordered(AT_ONCE);
    while let Some(answer) = answers.next().await {
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
    let database = server.backdoor().await;
    let (refuse, allow) = if database.is_sqlite() {
        (
            "CREATE TRIGGER no_audit BEFORE INSERT ON audit_events WHEN NEW.action = 'secrets.resolve' \
             BEGIN SELECT RAISE(ABORT, 'refused by a trigger'); END",
            "DROP TRIGGER no_audit",
        )
    } else {
        (
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'refused by a trigger'; END $$; \
             CREATE TRIGGER no_audit BEFORE INSERT ON audit_events \
             FOR EACH ROW WHEN (NEW.action = 'secrets.resolve') EXECUTE FUNCTION refuse()",
            "DROP TRIGGER no_audit ON audit_events",
        )
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
    let database = server.backdoor().await;
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

/// A deployment may require more without a change of any value.
async fn what_is_missing_is_told_to_who_is_up_to_date(database: Database) {
    let server = Server::start(database);
    let agent = deploy_with(&server, &[("A", false)]).await;
    server.set(&agent, &json!({"A": "a"})).await;
    let grpc = resolver(&server).await;
    let up_to_date = |ask| Ask { if_revision_not: Some(1), ..ask };
    assert!(resolve(&grpc, up_to_date(Ask::all(&agent))).await.unwrap().not_modified);
    assert_eq!(deploy_with(&server, &[("A", false), ("NEW", false)]).await, agent);
    let refused = resolve(&grpc, up_to_date(Ask::all(&agent))).await.unwrap_err();
    assert_eq!(missing(&refused), ["NEW"]);
    let refused = resolve(&grpc, up_to_date(Ask::only(&agent, &["A", "OTHER"]))).await.unwrap_err();
    assert_eq!(missing(&refused), ["OTHER"]);
    assert!(resolve(&grpc, up_to_date(Ask::only(&agent, &["A"]))).await.unwrap().not_modified);
}

async fn a_value_before_is_asked_for_by_its_name(database: Database) {
    let server = Server::start(database);
    let agent = deploy_with(&server, &[("A", false)]).await;
    let grpc = resolver(&server).await;
    let set = async |value: &str, seconds| {
        let request = SetSecretsRequest {
            agent_id: agent.clone(),
            secrets: HashMap::from([("A".to_owned(), value.to_owned())]),
            previous_for: Some(WireDuration { seconds, nanos: 0 }),
            ..Default::default()
        };
        grpc.secrets.clone().set_secrets(request).await.unwrap();
    };
    set("a1", 0).await;
    let previous = Ask::only(&agent, &["A_PREVIOUS"]);
    assert_eq!(missing(&resolve(&grpc, previous.clone()).await.unwrap_err()), ["A_PREVIOUS"]);
    set("a2", 3600).await;
    let given = resolve(&grpc, previous.clone().run("previous")).await.unwrap();
    assert_eq!(given.env, HashMap::from([("A_PREVIOUS".to_owned(), "a1".to_owned())]));
    let both = resolve(&grpc, Ask::only(&agent, &["A"])).await.unwrap().env;
    assert_eq!(both.len(), 2, "the name of a key means both");
    assert_eq!(resolve(&grpc, Ask::only(&agent, &["A", "A_PREVIOUS"])).await.unwrap().env, both);
    let events = audit(&server.grpc().await, &agent).await;
    let record = events.iter().find(|event| event.run_id == "previous").unwrap();
    let held: Vec<_> = record.secrets.iter().map(|it| (it.key.as_str(), it.version)).collect();
    assert_eq!(held, [("A_PREVIOUS", 1)]);
    set("a2", 0).await;
    assert_eq!(missing(&resolve(&grpc, previous).await.unwrap_err()), ["A_PREVIOUS"], "it is over");
}

async fn a_refusal_is_on_record(database: Database) {
    let server = Server::start(database);
    let agent = deploy_with(&server, &[("A", false), ("B", false)]).await;
    server.set(&agent, &json!({"A": "a"})).await;
    let (grpc, admin) = (resolver(&server).await, server.grpc().await);
    let other = server.deploy("other").await;
    let limited = admin.token(&server.token(&["secrets:list"], &[&other]).await);
    resolve(&grpc, Ask::all(&agent).run("run-1")).await.unwrap_err();
    resolve(&admin, Ask::all(&agent)).await.unwrap_err();
    // Who may not know of the agent, or of none, writes nothing; nor does who is not known at all
    resolve(&limited, Ask::all(&agent)).await.unwrap_err();
    resolve(&admin, Ask::all("agt_unknown")).await.unwrap_err();
    resolve(&admin.token("ss_unknown"), Ask::all(&agent)).await.unwrap_err();
    resolve(&grpc, Ask::only(&agent, &["no key"])).await.unwrap_err();
    // More names than an agent can have are not kept
    let many: Vec<String> = (0..500).map(|n| format!("NAME_{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    resolve(&grpc, Ask::only(&agent, &many)).await.unwrap_err();

    let events = audit(&admin, "").await;
    let refused: Vec<_> = events.iter().filter(|event| event.action == "secrets.resolve_refused").collect();
    let told: Vec<_> =
        refused.iter().map(|it| (it.subject.as_str(), it.run_id.as_str(), it.secrets.len())).collect();
    let missing = "REQUIRED_SECRETS_MISSING";
    assert_eq!(told, [(missing, "", 100), ("PERMISSION_DENIED", "", 0), (missing, "run-1", 1)]);
    for event in &refused {
        assert_eq!((event.agent_id.as_str(), event.revision), (agent.as_str(), 1));
        assert!(event.remote.starts_with("127.0.0.1:") && event.actor.starts_with("tok_"), "{event:?}");
    }
    let named = &refused[2].secrets[0];
    assert_eq!((named.key.as_str(), named.version, named.fingerprint.as_str()), ("B", 0, ""));
    let runs = ListRunsRequest { agent_id: agent, ..Default::default() };
    assert!(admin.audit.clone().list_runs(runs).await.unwrap().into_inner().runs.is_empty(), "no run");
}

/// What to ask for; all by default.
#[derive(Clone, Default)]
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
