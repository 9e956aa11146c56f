//! Rotating a secret: the value before is given out beside the new one for a while, and nothing is kept of it then.

use std::collections::HashMap;

use prost_types::Duration as WireDuration;
use serde_json::json;
use superserve::proto::v1::{ListSecretsRequest, SecretMetadata, SetSecretsRequest, SetSecretsResponse};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    harness::{
        Database, eventually,
        fixtures::secrets_of,
        grpc::Grpc,
        on_each_database,
        server::Server,
        sql::Sql,
        steps::{audit, resolve as values, resolver},
    },
    runs::runs,
    runtime::{Ask, resolve},
};

/// Longer than a test.
const LONG: i64 = 24 * 60 * 60;

on_each_database!(
    a_rotation_from_start_to_end,
    the_next_value_or_a_delete_ends_an_overlap,
    the_end_of_an_overlap_is_moved_by_the_present_value,
    an_overlap_that_cannot_be_is_warned_of,
    nothing_is_kept_of_an_overlap_that_has_ended,
    names_do_not_collide,
    a_previous_value_counts_against_the_limits,
);

async fn a_rotation_from_start_to_end(database: Database) {
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    let (grpc, admin) = (resolver(&server).await, server.grpc().await);
    set(&grpc, &agent, &[("KEY", "v1"), ("OTHER", "o")], None).await.unwrap();
    resolve(&grpc, Ask::all(&agent).run("before")).await.unwrap();

    set(&grpc, &agent, &[("KEY", "v2")], Some(6)).await.unwrap();
    assert_eq!(runs(&admin, &agent, "KEY", true).await, ["before"]);
    let both = resolve(&grpc, Ask::all(&agent).run("between")).await.unwrap();
    assert_eq!((both.revision, both.env), (2, map(&[("KEY", "v2"), ("KEY_PREVIOUS", "v1"), ("OTHER", "o")])));
    let one = resolve(&grpc, Ask::only(&agent, &["KEY"]).run("one")).await.unwrap();
    assert_eq!(one.env, map(&[("KEY", "v2"), ("KEY_PREVIOUS", "v1")]));
    assert_eq!(runs(&admin, &agent, "", true).await, ["before"], "who has both values has the new one");
    assert_eq!(server.keys(&agent).await, json!(["KEY", "OTHER"]), "it is no key of its own");
    resolve(&grpc, Ask::all(&agent).run("before")).await.unwrap();
    assert_eq!(runs(&admin, &agent, "", true).await, [""; 0], "it has been given the new one");

    let only_new = map(&[("KEY", "v2"), ("OTHER", "o")]);
    let is_over = async || (values(&grpc, &agent).await.unwrap() == only_new).then_some(());
    eventually("the end of the overlap", is_over).await;
    assert_eq!(runs(&admin, &agent, "", true).await, [""; 0], "no old value is needed any more");
    // What is over gives its name free
    set(&grpc, &agent, &[("KEY_PREVIOUS", "of its own")], None).await.unwrap();
    assert_eq!(values(&grpc, &agent).await.unwrap()["KEY_PREVIOUS"], "of its own");
}

async fn the_next_value_or_a_delete_ends_an_overlap(database: Database) {
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    let grpc = resolver(&server).await;
    set(&grpc, &agent, &[("KEY", "v1")], Some(LONG)).await.unwrap();
    assert_eq!(values(&grpc, &agent).await.unwrap(), map(&[("KEY", "v1")]), "there was none before");
    set(&grpc, &agent, &[("KEY", "v2")], Some(LONG)).await.unwrap();
    set(&grpc, &agent, &[("KEY", "v2")], None).await.unwrap();
    let kept = map(&[("KEY", "v2"), ("KEY_PREVIOUS", "v1")]);
    assert_eq!(values(&grpc, &agent).await.unwrap(), kept, "an equal value is no change");
    set(&grpc, &agent, &[("KEY", "v3")], Some(LONG)).await.unwrap();
    assert_eq!(values(&grpc, &agent).await.unwrap()["KEY_PREVIOUS"], "v2", "there is one, the last");
    set(&grpc, &agent, &[("KEY", "v4")], None).await.unwrap();
    assert_eq!(values(&grpc, &agent).await.unwrap(), map(&[("KEY", "v4")]));

    set(&grpc, &agent, &[("KEY", "v5")], Some(LONG)).await.unwrap();
    let gone = server.rest().delete(&format!("{}/KEY", secrets_of(&agent))).send().await;
    assert_eq!(gone.status, 200, "{}", gone.text());
    assert_eq!(values(&grpc, &agent).await.unwrap(), map(&[]));
    set(&grpc, &agent, &[("KEY", "v6")], None).await.unwrap();
    assert_eq!(values(&grpc, &agent).await.unwrap(), map(&[("KEY", "v6")]), "the old ones do not come back");
}

async fn the_end_of_an_overlap_is_moved_by_the_present_value(database: Database) {
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    let grpc = resolver(&server).await;
    let (one, both) = (map(&[("KEY", "v2")]), map(&[("KEY", "v2"), ("KEY_PREVIOUS", "v1")]));
    set(&grpc, &agent, &[("KEY", "v1"), ("OTHER", "o")], None).await.unwrap();
    set(&grpc, &agent, &[("KEY", "v2")], Some(LONG)).await.unwrap();
    let asked = metadata(&grpc, &agent).await;
    let kept = Ask::only(&agent, &["KEY"]);
    assert_eq!(resolve(&grpc, kept.clone()).await.unwrap().env, both);

    // Longer, and the revision does not move
    let answer = set(&grpc, &agent, &[("KEY", "v2")], Some(2 * LONG)).await.unwrap();
    assert_eq!((answer.revision, answer.warnings.len()), (2, 0));
    let longer = metadata(&grpc, &agent).await;
    assert!(until(&longer) >= until(&asked) + LONG, "{longer:?}");
    assert_eq!((longer.version, &longer.updated_at), (2, &asked.updated_at), "it is no new version");
    // Shorter: it ends when it is said to
    set(&grpc, &agent, &[("KEY", "v2")], Some(1)).await.unwrap();
    assert!(until(&metadata(&grpc, &agent).await) < until(&asked));
    let is_over = async || (resolve(&grpc, kept.clone()).await.unwrap().env == one).then_some(());
    eventually("the end of the overlap", is_over).await;
    assert_eq!(metadata(&grpc, &agent).await.previous_until, None);

    // At once
    set(&grpc, &agent, &[("KEY", "v1")], None).await.unwrap();
    set(&grpc, &agent, &[("KEY", "v2")], Some(LONG)).await.unwrap();
    validate(&grpc, &agent, ("KEY", "v2"), 0).await;
    assert_eq!(resolve(&grpc, kept.clone()).await.unwrap().env, both, "that was a question");
    let ended = set(&grpc, &agent, &[("KEY", "v2")], Some(0)).await.unwrap();
    assert_eq!((ended.revision, ended.warnings.len()), (4, 0));
    assert_eq!(resolve(&grpc, kept).await.unwrap().env, one);
    assert_eq!(kept_values(&server).await, 0, "nothing of it is kept");

    let events = audit(&server.grpc().await, &agent).await;
    let sets: Vec<_> = events.iter().rev().filter(|event| event.action == "secrets.set").collect();
    let said = |n: usize| {
        let secret = &sets[n].secrets[0];
        let after = |until: i64| (until - sets[n].time.unwrap().seconds) / 10;
        (secret.key.as_str(), secret.version, secret.previous_until.map(|until| after(until.seconds)))
    };
    let told: Vec<_> = (0..sets.len()).map(said).collect();
    let expected = [
        ("KEY", 1, None),
        ("KEY", 2, Some(LONG / 10)),
        ("KEY", 2, Some(2 * LONG / 10)),
        ("KEY", 2, Some(0)),
        ("KEY", 3, None),
        ("KEY", 4, Some(LONG / 10)),
        ("KEY", 4, Some(0)),
    ];
    assert_eq!(told, expected, "the audit trail says which overlap was asked for");
}

async fn an_overlap_that_cannot_be_is_warned_of(database: Database) {
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    let grpc = resolver(&server).await;
    let warnings = async |value: &str, previous_for| {
        let answer = set(&grpc, &agent, &[("KEY", value)], previous_for).await.unwrap();
        answer.warnings.into_iter().map(|it| format!("{} {}", it.key, it.code)).collect::<Vec<_>>()
    };
    let (no_previous, dropped) = (["KEY no_previous"], ["KEY previous_dropped"]);
    assert_eq!(warnings("v1", Some(LONG)).await, no_previous, "it was not set before");
    assert_eq!(warnings("v1", Some(LONG)).await, no_previous, "it had no other value before");
    assert_eq!(warnings("v1", Some(0)).await, [""; 0], "there is nothing to end");
    assert_eq!(warnings("v2", Some(LONG)).await, [""; 0]);
    assert_eq!(warnings("v3", Some(LONG)).await, dropped, "the first is needed no less than before");
    assert_eq!(warnings("v4", None).await, dropped);
    assert_eq!(warnings("v5", None).await, [""; 0]);
    assert_eq!(warnings("v6", Some(LONG)).await, [""; 0]);
    assert_eq!(warnings("v7", Some(0)).await, [""; 0], "it was told to end");
    assert_eq!(values(&grpc, &agent).await.unwrap(), map(&[("KEY", "v7")]));
}

async fn nothing_is_kept_of_an_overlap_that_has_ended(database: Database) {
    let mut server = Server::start(database);
    let (agent, other) = (server.deploy("demo").await, server.deploy("other").await);
    let grpc = resolver(&server).await;
    for agent in [&agent, &other] {
        set(&grpc, agent, &[("KEY", "v1")], None).await.unwrap();
    }
    set(&grpc, &agent, &[("KEY", "v2")], Some(1)).await.unwrap();
    set(&grpc, &other, &[("KEY", "v2")], Some(LONG)).await.unwrap();
    // More than are cleared at once
    let copies = (0..1200).map(|n| {
        format!(
            "INSERT INTO secrets SELECT agent_id, 'COPY_{n}', version, sealed, fingerprint, created_at, updated_at, \
             updated_by, previous_version, previous_sealed, previous_fingerprint, previous_until FROM secrets \
             WHERE agent_id = '{agent}' AND name = 'KEY'"
        )
    });
    let copies: Vec<String> = copies.collect();
    server.backdoor().await.run(&format!("BEGIN; {}; COMMIT", copies.join("; "))).await;
    assert_eq!(kept_values(&server).await, 1202);
    let is_over = async || {
        let env = resolve(&grpc, Ask::only(&agent, &["KEY"])).await.unwrap().env;
        (env.len() == 1).then_some(())
    };
    eventually("the end of the overlap", is_over).await;

    // The first sweep comes with the start
    server.kill9();
    server.restart();
    eventually("a sweep", async || (kept_values(&server).await == 1).then_some(())).await;
    let sql = Sql::connect(&server).await;
    let left = "SELECT COUNT(*) AS n FROM secrets WHERE previous_version IS NOT NULL \
                OR previous_fingerprint IS NOT NULL OR previous_until IS NOT NULL";
    assert_eq!(sql.row(left, []).await.try_get::<i64>("", "n").unwrap(), 1);
    let grpc = resolver(&server).await;
    assert_eq!(values(&grpc, &other).await.unwrap()["KEY_PREVIOUS"], "v1", "it is not over");
    let present = resolve(&grpc, Ask::only(&agent, &["KEY"])).await.unwrap().env;
    assert_eq!(present, map(&[("KEY", "v2")]));
}

async fn names_do_not_collide(database: Database) {
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    let grpc = resolver(&server).await;
    // A key stands where a previous value would
    set(&grpc, &agent, &[("A", "a1"), ("A_PREVIOUS", "own")], None).await.unwrap();
    let taken = [("A_PREVIOUS".to_owned(), "previous_name_taken".to_owned())];
    assert_eq!(faults(&set(&grpc, &agent, &[("A", "a2")], Some(LONG)).await.unwrap_err()), taken);
    set(&grpc, &agent, &[("A", "a2")], None).await.unwrap();
    // A previous value stands where a key would
    set(&grpc, &agent, &[("B", "b1")], None).await.unwrap();
    set(&grpc, &agent, &[("B", "b2")], Some(LONG)).await.unwrap();
    let taken = [("B_PREVIOUS".to_owned(), "previous_name_taken".to_owned())];
    assert_eq!(faults(&set(&grpc, &agent, &[("B_PREVIOUS", "own")], None).await.unwrap_err()), taken);
    // Both come with one set
    set(&grpc, &agent, &[("C", "c1")], None).await.unwrap();
    let both = set(&grpc, &agent, &[("C", "c2"), ("C_PREVIOUS", "own")], Some(LONG)).await;
    assert_eq!(faults(&both.unwrap_err()), [("C_PREVIOUS".to_owned(), "previous_name_taken".to_owned())]);
    let expected = [("A", "a2"), ("A_PREVIOUS", "own"), ("B", "b2"), ("B_PREVIOUS", "b1"), ("C", "c1")];
    assert_eq!(values(&grpc, &agent).await.unwrap(), map(&expected), "what is refused changes nothing");

    for seconds in [-1, 30 * LONG + 1] {
        let refused = set(&grpc, &agent, &[("C", "c2")], Some(seconds)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{seconds} s");
    }
}

async fn a_previous_value_counts_against_the_limits(database: Database) {
    let server = Server::with(database).arg("--max-keys-per-agent=2").arg("--max-agent-bytes=3000").start();
    let agent = server.deploy("demo").await;
    let grpc = resolver(&server).await;
    let long = |letter: &str| letter.repeat(1400);
    set(&grpc, &agent, &[("A", &long("a"))], None).await.unwrap();
    set(&grpc, &agent, &[("A", &long("b"))], Some(LONG)).await.unwrap();
    let codes = |status: Status| faults(&status).into_iter().map(|(_, code)| code).collect::<Vec<_>>();
    let third = set(&grpc, &agent, &[("B", "b")], None).await.unwrap_err();
    assert_eq!(codes(third), ["too_many_keys"]);
    // 1,600 + 1,400 and their names are too many
    let larger = set(&grpc, &agent, &[("A", &"c".repeat(1600))], Some(LONG)).await.unwrap_err();
    assert_eq!(codes(larger), ["agent_too_large"]);
    set(&grpc, &agent, &[("A", &"c".repeat(1600))], None).await.unwrap();
    set(&grpc, &agent, &[("B", "b")], None).await.unwrap();
    assert_eq!(values(&grpc, &agent).await.unwrap().len(), 2);
}

async fn set(
    grpc: &Grpc,
    agent: &str,
    secrets: &[(&str, &str)],
    previous_for: Option<i64>,
) -> Result<SetSecretsResponse, Status> {
    let request = SetSecretsRequest {
        agent_id: agent.to_owned(),
        secrets: map(secrets),
        previous_for: previous_for.map(|seconds| WireDuration { seconds, nanos: 0 }),
        ..Default::default()
    };
    Ok(grpc.secrets.clone().set_secrets(request).await?.into_inner())
}

fn faults(status: &Status) -> Vec<(String, String)> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status.get_details_bad_request().unwrap();
    details.field_violations.into_iter().map(|it| (it.field, it.reason.to_lowercase())).collect()
}

fn map(entries: &[(&str, &str)]) -> HashMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// How many values before the database has.
async fn kept_values(server: &Server) -> i64 {
    let sql = Sql::connect(server).await;
    let query = "SELECT COUNT(*) AS n FROM secrets WHERE previous_sealed IS NOT NULL";
    sql.row(query, []).await.try_get("", "n").unwrap()
}

async fn validate(grpc: &Grpc, agent: &str, (key, value): (&str, &str), previous_for: i64) {
    let request = SetSecretsRequest {
        agent_id: agent.to_owned(),
        secrets: map(&[(key, value)]),
        previous_for: Some(WireDuration { seconds: previous_for, nanos: 0 }),
        validate_only: true,
        ..Default::default()
    };
    grpc.secrets.clone().set_secrets(request).await.unwrap();
}

/// What may be told of an agent's first secret.
async fn metadata(grpc: &Grpc, agent: &str) -> SecretMetadata {
    let request = ListSecretsRequest { agent_id: agent.to_owned() };
    grpc.secrets.clone().list_secrets(request).await.unwrap().into_inner().secrets.remove(0)
}

fn until(secret: &SecretMetadata) -> i64 {
    secret.previous_until.expect("there is an overlap").seconds
}
