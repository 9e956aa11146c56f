//! Rotating a secret: the value before is given out beside the new one for a while, and runs that hold an old one
//! are listed.

use std::collections::HashMap;

use prost_types::Duration as WireDuration;
use serde_json::json;
use superserve::proto::v1::{ListRunsRequest, Run, SetSecretsRequest, SetSecretsResponse};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    harness::{
        Database, eventually,
        fixtures::secrets_of,
        grpc::Grpc,
        on_each_database,
        server::Server,
        steps::{resolve as values, resolver},
    },
    runtime::{Ask, resolve},
};

/// Longer than a test.
const LONG: i64 = 24 * 60 * 60;

on_each_database!(
    a_rotation_from_start_to_end,
    the_next_value_or_a_delete_ends_an_overlap,
    names_do_not_collide,
    a_previous_value_counts_against_the_limits,
    stale_runs_are_those_that_hold_an_old_version,
    stale_runs_come_in_pages,
    many_runs_are_looked_through_in_several_calls
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

    for seconds in [0, -1, 30 * LONG + 1] {
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

async fn stale_runs_are_those_that_hold_an_old_version(database: Database) {
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    let (grpc, admin) = (resolver(&server).await, server.grpc().await);
    server.set(&agent, &json!({"A": "a1", "B": "b1"})).await;
    for run in ["both", "again"] {
        resolve(&grpc, Ask::all(&agent).run(run)).await.unwrap();
    }
    resolve(&grpc, Ask::only(&agent, &["B"]).run("only-b")).await.unwrap();
    resolve(&grpc, Ask::all(&agent)).await.unwrap();
    assert_eq!(runs(&admin, &agent, "", true).await, [""; 0]);
    assert_eq!(runs(&admin, &agent, "", false).await, ["", "only-b", "again", "both"], "newest first");
    assert_eq!(runs(&admin, &agent, "A", false).await, ["", "again", "both"]);

    server.set(&agent, &json!({"A": "a2", "NEW": "n"})).await;
    assert_eq!(runs(&admin, &agent, "", true).await, ["", "again", "both"], "a new key makes none stale");
    assert_eq!(runs(&admin, &agent, "B", true).await, [""; 0]);
    assert_eq!(runs(&admin, &agent, "NEW", true).await, [""; 0]);
    // Under the same id: it holds the new version. Without one: another run
    resolve(&grpc, Ask::all(&agent).run("again")).await.unwrap();
    resolve(&grpc, Ask::all(&agent)).await.unwrap();
    assert_eq!(runs(&admin, &agent, "A", true).await, ["", "both"]);
    assert_eq!(runs(&admin, &agent, "", false).await, ["", "again", "", "only-b", "both"]);

    let gone = server.rest().delete(&format!("{}/B", secrets_of(&agent))).send().await;
    assert_eq!(gone.status, 200, "{}", gone.text());
    assert_eq!(runs(&admin, &agent, "B", true).await, ["", "again", "", "only-b", "both"]);
    let other = server.deploy("other").await;
    assert_eq!(runs(&admin, &other, "", true).await, [""; 0]);
}

async fn stale_runs_come_in_pages(database: Database) {
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    let (grpc, admin) = (resolver(&server).await, server.grpc().await);
    let mut expected = Vec::new();
    for n in 0..12 {
        server.set(&agent, &json!({"A": format!("a{}", n / 3), "B": format!("b{n}")})).await;
        let key = if n % 3 == 0 { "A" } else { "B" };
        resolve(&grpc, Ask::only(&agent, &[key]).run(&format!("run-{n}"))).await.unwrap();
        if key == "B" {
            expected.insert(0, format!("run-{n}"));
        }
    }
    server.set(&agent, &json!({"B": "last"})).await;
    for page_size in [1, 2, 3, 7, 8, 9] {
        let pages = pages(&admin, &agent, "B", true, page_size).await;
        let found: Vec<_> = pages.iter().flatten().map(|run| run.run_id.clone()).collect();
        assert_eq!(found, expected, "{page_size} on a page");
        let full = usize::try_from(page_size).unwrap();
        assert!(pages.iter().rev().skip(1).all(|page| page.len() == full), "{page_size} on a page");
    }
}

/// Where few of very many runs are asked for, one call does not read them all.
async fn many_runs_are_looked_through_in_several_calls(database: Database) {
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    let (grpc, admin) = (resolver(&server).await, server.grpc().await);
    server.set(&agent, &json!({"A": "a", "B": "b"})).await;
    resolve(&grpc, Ask::only(&agent, &["A"]).run("rare")).await.unwrap();
    resolve(&grpc, Ask::only(&agent, &["B"]).run("common")).await.unwrap();
    // As many as would take long by calls: copies of the second, later than both
    let copies = (0..2500).map(|n| {
        format!(
            "INSERT INTO audit_events SELECT agent_id, 'evt_z{n:04}', tenant_id, at, action, actor, request_id, \
             remote, secrets, revision, 'copy-{n}', subject FROM audit_events WHERE run_id = 'common'"
        )
    });
    let copies: Vec<String> = copies.collect();
    server.backdoor().await.run(&format!("BEGIN; {}; COMMIT", copies.join("; "))).await;
    let pages = pages(&admin, &agent, "A", false, 10).await;
    let lengths: Vec<_> = pages.iter().map(Vec::len).collect();
    assert_eq!(lengths, [0, 1]);
    assert_eq!(pages[1][0].run_id, "rare");
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

/// The names of all runs that are asked for.
async fn runs(grpc: &Grpc, agent: &str, key: &str, stale: bool) -> Vec<String> {
    pages(grpc, agent, key, stale, 0).await.into_iter().flatten().map(|run| run.run_id).collect()
}

async fn pages(grpc: &Grpc, agent: &str, key: &str, stale: bool, page_size: i32) -> Vec<Vec<Run>> {
    let mut pages = Vec::new();
    let mut page_token = String::new();
    loop {
        let (agent_id, key) = (agent.to_owned(), key.to_owned());
        let request = ListRunsRequest { agent_id, key, stale, page_size, page_token };
        let page = grpc.audit.clone().list_runs(request).await.unwrap().into_inner();
        pages.push(page.runs);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return pages;
        }
    }
}

fn faults(status: &Status) -> Vec<(String, String)> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status.get_details_bad_request().unwrap();
    details.field_violations.into_iter().map(|it| (it.field, it.reason.to_lowercase())).collect()
}

fn map(entries: &[(&str, &str)]) -> HashMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
