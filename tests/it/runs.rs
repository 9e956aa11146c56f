//! The manifest of runs: which run holds which version of which key, so that those that hold an old one can be
//! restarted.

use prost_types::Duration as WireDuration;
use serde_json::json;
use superserve::proto::v1::{ListRunsRequest, Run, SetSecretsRequest};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    harness::{
        Database, fixtures::secrets_of, grpc::Grpc, on_each_database, server::Server, steps::resolver,
    },
    runtime::{Ask, resolve},
};

on_each_database!(
    stale_runs_are_those_that_hold_an_old_version,
    a_run_holds_what_any_of_its_resolves_gave,
    a_run_that_resolves_often_is_read_whole,
    a_run_with_nothing_but_the_value_before_is_stale,
    runs_since_a_time,
    a_key_that_never_was_is_no_reassurance,
    stale_runs_come_in_pages,
    many_runs_are_looked_through_in_several_calls
);

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

async fn a_run_holds_what_any_of_its_resolves_gave(database: Database) {
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    let (grpc, admin) = (resolver(&server).await, server.grpc().await);
    server.set(&agent, &json!({"KEY": "v1", "OTHER": "o"})).await;
    resolve(&grpc, Ask::all(&agent).run("run-1")).await.unwrap();
    server.set(&agent, &json!({"KEY": "v2", "NEW": "n"})).await;
    resolve(&grpc, Ask::only(&agent, &["NEW"]).run("run-1")).await.unwrap();
    assert_eq!(runs(&admin, &agent, "KEY", true).await, ["run-1"], "it has not been given the new one");
    assert_eq!(runs(&admin, &agent, "", true).await, ["run-1"]);
    assert_eq!(runs(&admin, &agent, "OTHER", false).await, ["run-1"]);
    assert_eq!(runs(&admin, &agent, "OTHER", true).await, [""; 0]);

    let run = pages(&admin, &agent, "", false, 0).await.remove(0).remove(0);
    let held: Vec<_> = run.secrets.iter().map(|it| (it.key.as_str(), it.version)).collect();
    assert_eq!(held, [("KEY", 1), ("NEW", 2), ("OTHER", 1)]);
    assert!(run.secrets.iter().all(|secret| secret.fingerprint.len() == 12));
    assert_eq!((run.agent_id.as_str(), run.revision), (agent.as_str(), 2));
    assert!(run.remote.starts_with("127.0.0.1:") && run.actor.starts_with("tok_"), "{run:?}");

    resolve(&grpc, Ask::only(&agent, &["KEY"]).run("run-1")).await.unwrap();
    assert_eq!(runs(&admin, &agent, "", true).await, [""; 0]);
}

/// What a run was given is not lost behind many other resolves of it.
async fn a_run_that_resolves_often_is_read_whole(database: Database) {
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    let (grpc, admin) = (resolver(&server).await, server.grpc().await);
    server.set(&agent, &json!({"KEY": "v1"})).await;
    resolve(&grpc, Ask::all(&agent).run("run-1")).await.unwrap();
    server.set(&agent, &json!({"KEY": "v2"})).await;
    let later = (0..2500).map(|n| {
        format!(
            "INSERT INTO audit_events SELECT agent_id, 'evt_z{n:04}', tenant_id, at, action, actor, request_id, \
             remote, '[{{\"key\":\"ONCE_{n}\",\"version\":1}}]', revision, run_id, subject FROM audit_events \
             WHERE run_id = 'run-1' AND id NOT LIKE 'evt_z%'"
        )
    });
    let later: Vec<String> = later.collect();
    server.backdoor().await.run(&format!("BEGIN; {}; COMMIT", later.join("; "))).await;
    assert_eq!(runs(&admin, &agent, "KEY", true).await, ["run-1"]);
}

async fn a_run_with_nothing_but_the_value_before_is_stale(database: Database) {
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    let (grpc, admin) = (resolver(&server).await, server.grpc().await);
    server.set(&agent, &json!({"KEY": "v1"})).await;
    let request = SetSecretsRequest {
        agent_id: agent.clone(),
        secrets: [("KEY".to_owned(), "v2".to_owned())].into(),
        previous_for: Some(WireDuration { seconds: 3600, nanos: 0 }),
        ..Default::default()
    };
    grpc.secrets.clone().set_secrets(request).await.unwrap();
    resolve(&grpc, Ask::only(&agent, &["KEY"]).run("both")).await.unwrap();
    resolve(&grpc, Ask::only(&agent, &["KEY_PREVIOUS"]).run("old")).await.unwrap();
    assert_eq!(runs(&admin, &agent, "KEY", false).await, ["old", "both"]);
    assert_eq!(runs(&admin, &agent, "KEY_PREVIOUS", false).await, ["old", "both"]);
    assert_eq!(runs(&admin, &agent, "KEY", true).await, ["old"]);
    assert_eq!(runs(&admin, &agent, "", true).await, ["old"]);
}

async fn runs_since_a_time(database: Database) {
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    let (grpc, admin) = (resolver(&server).await, server.grpc().await);
    server.set(&agent, &json!({"KEY": "v"})).await;
    for run in ["first", "second", "third", "first"] {
        resolve(&grpc, Ask::all(&agent).run(run)).await.unwrap();
    }
    let all = pages(&admin, &agent, "", false, 0).await.remove(0);
    let ids: Vec<_> = all.iter().map(|run| run.run_id.as_str()).collect();
    assert_eq!(ids, ["first", "third", "second"]);
    for (n, run) in all.iter().enumerate() {
        let (agent_id, since) = (agent.clone(), run.resolved_at);
        let request = ListRunsRequest { agent_id, since, ..Default::default() };
        let found = admin.audit.clone().list_runs(request).await.unwrap().into_inner().runs;
        assert_eq!(found, all[..=n], "at that time or later");
    }
}

async fn a_key_that_never_was_is_no_reassurance(database: Database) {
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    let (grpc, admin) = (resolver(&server).await, server.grpc().await);
    server.set(&agent, &json!({"KEY": "v", "UNUSED": "u", "GONE": "g"})).await;
    resolve(&grpc, Ask::only(&agent, &["KEY", "GONE"]).run("run-1")).await.unwrap();
    for key in ["UNUSED", "GONE"] {
        let gone = server.rest().delete(&format!("{}/{key}", secrets_of(&agent))).send().await;
        assert_eq!(gone.status, 200, "{}", gone.text());
    }
    assert_eq!(runs(&admin, &agent, "GONE", true).await, ["run-1"]);
    assert_eq!(runs(&admin, &agent, "UNUSED", true).await, [""; 0], "it was a key");

    let list = async |key: &str| {
        let request = ListRunsRequest { agent_id: agent.clone(), key: key.to_owned(), ..Default::default() };
        admin.audit.clone().list_runs(request).await.unwrap_err()
    };
    for key in ["NEVER", "key", "KE", "KEY_"] {
        let refused = list(key).await;
        assert_eq!((refused.code(), refused.message()), (Code::NotFound, "Secret not found"), "{key}");
        assert_eq!(refused.get_details_error_info().unwrap().reason, "SECRET_NOT_FOUND");
    }
    for key in ["1", "A-B", "no key", "%", "É"] {
        let refused = list(key).await;
        assert_eq!(refused.code(), Code::InvalidArgument, "{key}");
        let fault = refused.get_details_bad_request().unwrap().field_violations.remove(0);
        assert_eq!((fault.field.as_str(), fault.reason.as_str()), ("key", "INVALID_KEY"));
    }
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

/// The names of all runs that are asked for.
pub(crate) async fn runs(grpc: &Grpc, agent: &str, key: &str, stale: bool) -> Vec<String> {
    pages(grpc, agent, key, stale, 0).await.into_iter().flatten().map(|run| run.run_id).collect()
}

async fn pages(grpc: &Grpc, agent: &str, key: &str, stale: bool, page_size: i32) -> Vec<Vec<Run>> {
    let mut pages = Vec::new();
    let mut page_token = String::new();
    loop {
        let (agent_id, key) = (agent.to_owned(), key.to_owned());
        let request = ListRunsRequest { agent_id, key, stale, page_size, page_token, ..Default::default() };
        let page = grpc.audit.clone().list_runs(request).await.unwrap().into_inner();
        pages.push(page.runs);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return pages;
        }
    }
}
