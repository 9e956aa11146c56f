//! What `/metrics` tells of a server at work, and that no label tells of whom.

use std::collections::BTreeSet;

use serde_json::json;
use superserve::proto::v1::RevokeTokenRequest;

use crate::harness::{
    Database, eventually,
    fixtures::secrets_of,
    on_each_database,
    server::Server,
    steps::{create_token, resolve, resolver},
};

on_each_database!(a_server_at_work_is_measured, callers_who_are_nobody_are_counted_by_reason);

/// The metrics of a server, as Prometheus reads them.
struct Metrics(String);

impl Metrics {
    async fn of(server: &Server) -> Self {
        let answer = server.ops().get("/metrics").send().await;
        assert_eq!(answer.status, 200);
        let text = answer.text();
        assert!(text.ends_with("# EOF\n"), "{text}");
        Self(text)
    }

    /// The value of a series, named as it is written.
    fn value(&self, series: &str) -> f64 {
        let line = self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in\n{}", self.0)).parse().expect("a number")
    }
}

async fn a_server_at_work_is_measured(database: Database) {
    let is_sqlite = matches!(database, Database::Sqlite);
    let server = Server::start(database);
    let (rest, runtime) = (server.rest(), resolver(&server).await);
    let agent = rest.post("/v1/agents").json(&json!({"name": "measured"})).send().await.json();
    let agent = agent["id"].as_str().unwrap().to_owned();
    let path = secrets_of(&agent);
    let before = Metrics::of(&server).await;
    for value in ["one-value", "other-value"] {
        let body = json!({"secrets": {"MEASURED_KEY": value}});
        assert_eq!(rest.patch(&path).json(&body).send().await.status, 200);
    }
    resolve(&runtime, &agent).await.unwrap();
    let after = Metrics::of(&server).await;
    let grown = |series: &str| after.value(series) - before.value(series);

    let requests = |route: &str| format!("superserve_requests_total{{{route}}}");
    let set = requests(r#"protocol="rest",route="PATCH /v1/agents/{agent_id}/secrets",code="200""#);
    assert!(is(after.value(&set), 2), "{}", after.0);
    let resolved = r#"protocol="grpc",route="/superserve.secrets.v1.RuntimeService/ResolveSecrets",code="0""#;
    assert!(is(after.value(&requests(resolved)), 1), "{}", after.0);
    // Two sets and the record of a resolve
    assert!(grown("superserve_database_commit_writes_sum") >= 3.0, "{}", after.0);
    assert!(grown(r#"superserve_database_statement_duration_seconds_count{statement="select"}"#) >= 1.0);
    if is_sqlite {
        assert!(grown(r#"superserve_database_statement_duration_seconds_count{statement="commit"}"#) >= 3.0);
        assert!(grown(r#"superserve_database_lookups_total{from="memory"}"#) >= 1.0);
    } else {
        assert!(grown("superserve_database_wait_seconds_count") >= 3.0);
        assert!(after.value("superserve_database_connections") >= 1.0);
        assert!(after.value("superserve_database_max_connections") >= 2.0);
        eventually("no connection to be in use", async || {
            let rest = Metrics::of(&server).await;
            let (all, idle) = ("superserve_database_connections", "superserve_database_idle_connections");
            (rest.value(all) - rest.value(idle) < 0.5).then_some(())
        })
        .await;
    }
    let same = ["superserve_audit_failures_total", r#"superserve_unreadable_total{of="value"}"#];
    assert!(same.iter().all(|series| is(after.value(series), 0)), "{}", after.0);
    assert!(["superserve_ready", "superserve_up"].iter().all(|series| is(after.value(series), 1)));
    assert!(after.value("process_resident_memory_bytes") > 1e6 && after.value("process_open_fds") > 5.0);

    for told in [&agent, "MEASURED_KEY", "one-value", "other-value", server.admin_token(), "tok_", "ten_"] {
        assert!(!after.0.contains(told), "{told} in\n{}", after.0);
    }
    every_label_is_known(&after);
}

/// Whether a counter is there.
fn is(value: f64, count: u32) -> bool {
    (value - f64::from(count)).abs() < 0.5
}

/// So that none comes to tell of somebody unseen.
fn every_label_is_known(metrics: &Metrics) {
    let known =
        ["protocol", "route", "code", "le", "statement", "from", "reason", "of", "version", "limit", "kind"];
    let lines = metrics.0.lines().filter(|line| !line.starts_with('#'));
    let labels = lines.filter_map(|line| Some(line.split_once('{')?.1.rsplit_once('}')?.0));
    // No value has a quotation mark in it
    let names =
        labels.flat_map(|labels| labels.split("=\"").filter_map(|part| part.rsplit(['"', ',']).next()));
    let names: BTreeSet<_> = names.filter(|name| !name.is_empty()).collect();
    assert!(names.iter().all(|name| known.contains(name)), "{names:?}");
}

async fn callers_who_are_nobody_are_counted_by_reason(database: Database) {
    let server = Server::start(database);
    let grpc = server.grpc().await;
    let (revoked, revoked_text) = create_token(&grpc, &["agents:read"]).await;
    let request = RevokeTokenRequest { token_id: revoked.id };
    grpc.tokens.clone().revoke_token(request).await.unwrap();
    let unknown = superserve_token_of_nobody();
    let before = Metrics::of(&server).await;
    for token in [revoked_text.as_str(), &unknown, "no-token"] {
        assert_eq!(server.rest().token(token).get("/v1/agents").send().await.status, 401);
    }
    assert_eq!(server.rest().anonymous().get("/v1/agents").send().await.status, 401);
    let after = Metrics::of(&server).await;
    for reason in ["revoked", "unknown", "malformed", "shows_nothing"] {
        let series = format!("superserve_authentications_refused_total{{reason=\"{reason}\"}}");
        assert!(is(after.value(&series) - before.value(&series), 1), "{reason}\n{}", after.0);
    }
}

/// As `superserve tokens generate` prints one.
fn superserve_token_of_nobody() -> String {
    let output =
        std::process::Command::new(crate::harness::server::BINARY).args(["tokens", "generate"]).output();
    String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
}
