//! Promise: a traced call is told of to the collector, step by step, below its caller's span; and no collector holds up a
//! call.

use std::{
    collections::BTreeSet,
    net::TcpListener,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode};
use serde_json::{Value, json};
use superserve::proto::v1::{ListSecretsRequest, ResolveSecretsRequest, WhoAmIRequest};
use tonic::Request;

use crate::harness::{
    Database,
    collector::{Collector, attribute, hex, is_call},
    eventually,
    fixtures::secrets_of,
    on_each_database,
    server::Server,
    steps::resolver,
    transit::Transit,
};

/// Calls that are made to see whether one waits.
const MANY: usize = 1500;

/// The longest that a call may take then. One that waits for the collector would take as long as that has, five seconds.
const AT_ONCE: Duration = Duration::from_secs(4);

/// What a set on SQLite does beside looking things up.
const SQLITE: [&str; 5] =
    ["seal", "database: transaction", "database: turn", "database: write", "database: commit"];

/// Ids of a trace and of a span in it, for each case its own.
fn ids(number: u8) -> (String, String) {
    (format!("{number:02x}").repeat(16), format!("{:02x}", number + 0x80).repeat(8))
}

fn traceparent(number: u8, flags: &str) -> String {
    let (trace, span) = ids(number);
    format!("00-{trace}-{span}-{flags}")
}

fn traced<T>(number: u8, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", traceparent(number, "01").parse().unwrap());
    request
}

async fn metric(server: &Server, name: &str) -> u64 {
    let text = server.ops().get("/metrics").send().await.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.expect("the metric").parse().unwrap()
}

on_each_database!(a_set_is_told_of_step_by_step, a_resolve_is_told_of_step_by_step);

async fn a_set_is_told_of_step_by_step(database: Database) {
    let sqlite = matches!(database, Database::Sqlite);
    let collector = Collector::start();
    let server = collector.of_callers(Server::with(database)).start();
    let agent = server.deploy("demo").await;
    let set = server.rest().patch(&secrets_of(&agent)).header("traceparent", &traceparent(1, "01"));
    let set = set.header("x-request-id", "mine").json(&json!({"secrets": {"KEY": "v"}})).send().await;
    assert_eq!(set.status, 200, "{}", set.text());
    let (trace, parent) = ids(1);
    let (call, steps) = collector.call(&trace).await;
    assert_eq!(
        (call.name.as_str(), hex(&call.parent_span_id)),
        ("PATCH /v1/agents/{agent_id}/secrets", parent)
    );
    let line = eventually("the line", async || {
        server
            .log()
            .lines()
            .find(|line| line.contains("\"request\",\"request_id\":\"mine\""))
            .map(str::to_owned)
    })
    .await;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["trace_id"], &line["span_id"]), (&json!(trace), &json!(hex(&call.span_id))));
    for (key, value) in [
        ("url.scheme", "http"),
        ("http.request.method", "PATCH"),
        ("http.route", "/v1/agents/{agent_id}/secrets"),
        ("http.response.status_code", "200"),
        ("superserve.request_id", "mine"),
        ("superserve.principal", line["principal"].as_str().unwrap()),
    ] {
        assert_eq!(attribute(&call, key), value, "{key}");
    }
    lie_within(&call, &steps);
    expect(&steps, &["authenticate", "database: token"]);
    expect(&steps, if sqlite { &SQLITE } else { &["database: change"] });
}

async fn a_resolve_is_told_of_step_by_step(database: Database) {
    let collector = Collector::start();
    let server = collector.of_callers(Server::with(database)).start();
    let agent = server.deploy("demo").await;
    server.set(&agent, &json!({"KEY": "v"})).await;
    let resolver = resolver(&server).await;
    let request = ResolveSecretsRequest { agent_id: agent, ..Default::default() };
    resolver.clone().runtime.resolve_secrets(traced(2, request)).await.unwrap();
    let (trace, parent) = ids(2);
    let (call, steps) = collector.call(&trace).await;
    let service = "superserve.secrets.v1.RuntimeService";
    assert_eq!((call.name.clone(), hex(&call.parent_span_id)), (format!("{service}/ResolveSecrets"), parent));
    for (key, value) in [
        ("rpc.system", "grpc"),
        ("rpc.service", service),
        ("rpc.method", "ResolveSecrets"),
        ("rpc.grpc.status_code", "0"),
    ] {
        assert_eq!(attribute(&call, key), value, "{key}");
    }
    lie_within(&call, &steps);
    expect(&steps, &["authenticate", "database: agent", "open", "database: audit record"]);
}

fn expect(steps: &[Span], expected: &[&str]) {
    let names: BTreeSet<_> = steps.iter().map(|step| step.name.as_str()).collect();
    assert!(expected.iter().all(|name| names.contains(name)), "{expected:?} of {names:?}");
}

/// Each step has its time in that of what it is a step of.
fn lie_within(call: &Span, steps: &[Span]) {
    for step in steps {
        let parent = steps.iter().chain([call]).find(|span| span.span_id == step.parent_span_id);
        let parent = parent.unwrap_or_else(|| panic!("{step:?} is a step of nothing"));
        assert!(parent.start_time_unix_nano <= step.start_time_unix_nano, "{parent:?} {step:?}");
        assert!(step.end_time_unix_nano <= parent.end_time_unix_nano, "{parent:?} {step:?}");
    }
}

#[tokio::test]
async fn failures_and_refusals_are_told_apart() {
    let collector = Collector::start();
    let server = collector.of_all(Server::with(Database::Sqlite)).arg("--request-timeout=2").start();
    let refused = server
        .rest()
        .token("none")
        .get("/v1/agents")
        .header("traceparent", &traceparent(3, "00"))
        .send()
        .await;
    assert_eq!(refused.status, 401);
    let (call, _) = collector.call(&ids(3).0).await;
    assert_eq!((attribute(&call, "superserve.principal"), call.status), (String::new(), None));
    let agent = server.deploy("demo").await;
    let lock = server.backdoor().await;
    lock.block_writers(&agent).await;
    let delete = server.rest().delete(&format!("/v1/agents/{agent}"));
    let late = delete.header("traceparent", &traceparent(4, "00")).send().await;
    lock.run("COMMIT").await;
    assert_eq!(late.status, 504, "{}", late.text());
    let (call, steps) = collector.call(&ids(4).0).await;
    assert_eq!(call.status.as_ref().unwrap().code(), StatusCode::Error);
    // What was given up tells where its time went
    let waited = steps.iter().find(|step| step.name == "database: transaction").unwrap();
    assert!(waited.end_time_unix_nano - waited.start_time_unix_nano > 1_000_000_000, "{steps:?}");
}

#[tokio::test]
async fn the_dice_choose_calls_that_nobody_traces() {
    let collector = Collector::start();
    let setup = collector.of_all(Server::with(Database::Sqlite)).env("OTEL_SERVICE_NAME", "mine");
    let server = setup.env("SUPERSERVE_OTLP_HEADERS", "x-team=a%20b").start();
    for _ in 0..3 {
        assert_eq!(server.rest().get("/v1/agents").send().await.status, 200);
    }
    let calls = eventually("three calls", async || {
        let calls: Vec<_> = collector.spans().into_iter().filter(is_call).collect();
        (calls.len() == 3).then_some(calls)
    })
    .await;
    let traces: BTreeSet<_> = calls.iter().map(|call| &call.trace_id).collect();
    assert_eq!(traces.len(), 3);
    assert!(calls.iter().all(|call| call.parent_span_id.is_empty()), "{calls:?}");
    let resource = collector.resources().remove(0).resource.unwrap();
    let told = Span { attributes: resource.attributes, ..Span::default() };
    assert_eq!(attribute(&told, "service.name"), "mine");
    assert_eq!(attribute(&told, "service.version"), env!("CARGO_PKG_VERSION"));
    assert!(
        collector.headers()[0].contains("\"x-team\": Sensitive") || collector.headers()[0].contains("a b")
    );
    eventually("the metric", async || {
        (metric(&server, "superserve_traces_exported_total").await == 3).then_some(())
    })
    .await;
    assert_eq!(metric(&server, "superserve_traces_dropped_total").await, 0);
}

#[tokio::test]
async fn nothing_is_sent_of_what_is_not_chosen() {
    let collector = Collector::start();
    let setup = collector.of_callers(Server::with(Database::Sqlite));
    let mut server = setup.arg("--trace-callers=0").start();
    let agent = server.deploy("demo").await;
    let list = ListSecretsRequest { agent_id: agent };
    server.grpc().await.secrets.list_secrets(traced(5, list)).await.unwrap();
    let asked = server.rest().get("/v1/agents").header("traceparent", &traceparent(6, "01")).send().await;
    assert_eq!(asked.status, 200);
    // What came is told in the log all the same
    assert!(server.stop().await.success());
    assert!(server.log().contains(&format!("\"trace_id\":\"{}\",\"span_id\":\"{}\"", ids(6).0, ids(6).1)));
    assert!(collector.spans().is_empty(), "{:?}", collector.spans());
}

#[tokio::test]
async fn callers_cannot_have_more_traced_than_is_allowed() {
    let collector = Collector::start();
    let setup = collector.of_callers(Server::with(Database::Sqlite));
    let mut server = setup.arg("--trace-callers=3").start();
    let mut tokens = server.grpc().await.tokens;
    let start = Instant::now();
    for _ in 0..200 {
        tokens.who_am_i(traced(7, WhoAmIRequest {})).await.unwrap();
    }
    // Three at the beginning, and three for each second
    let at_most = 3 + 3 * (1 + usize::try_from(start.elapsed().as_secs()).unwrap());
    assert!(server.stop().await.success());
    let calls = collector.spans().into_iter().filter(is_call).count();
    assert!((3..=at_most.min(199)).contains(&calls), "{calls} of {at_most}");
}

#[tokio::test]
async fn what_waits_is_sent_when_the_server_ends() {
    let collector = Collector::start();
    let mut server = collector.of_all(Server::with(Database::Sqlite)).start();
    let mut tokens = server.grpc().await.tokens;
    for _ in 0..20 {
        tokens.who_am_i(WhoAmIRequest {}).await.unwrap();
    }
    assert!(server.stop().await.success());
    assert_eq!(collector.spans().into_iter().filter(is_call).count(), 20);
}

#[tokio::test]
async fn a_collector_that_is_away_holds_up_no_call() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    goes_on_without(&nobody).await;
}

#[tokio::test]
async fn a_collector_that_says_nothing_holds_up_no_call() {
    goes_on_without(&Collector::stalling().url()).await;
}

/// More calls than the queue has room for are answered as they come; what is lost is counted, and told once.
async fn goes_on_without(collector: &str) {
    let setup = Server::with(Database::Sqlite).arg("--trace-sample-ratio=1");
    let mut server = setup.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector).start();
    let mut tokens = server.grpc().await.tokens;
    let mut longest = Duration::ZERO;
    for _ in 0..MANY {
        let start = Instant::now();
        tokens.who_am_i(WhoAmIRequest {}).await.unwrap();
        longest = longest.max(start.elapsed());
    }
    assert!(longest < AT_ONCE, "{longest:?}");
    eventually("what is lost to be counted", async || {
        (metric(&server, "superserve_traces_dropped_total").await > 0).then_some(())
    })
    .await;
    assert_eq!(metric(&server, "superserve_traces_exported_total").await, 0);
    let start = Instant::now();
    assert!(server.stop().await.success());
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    assert_eq!(server.log().matches("\"traces are lost\"").count(), 1);
}

#[tokio::test]
async fn a_key_provider_is_told_of_the_trace() {
    let (collector, transit) = (Collector::start(), Transit::small().await);
    let server = transit.settings(collector.of_callers(Server::with(Database::Sqlite))).start();
    let create = server.rest().post("/v1/agents").header("traceparent", &traceparent(8, "01"));
    assert_eq!(create.json(&json!({"name": "demo"})).send().await.status, 201);
    let (call, steps) = collector.call(&ids(8).0).await;
    let asked = steps.iter().find(|step| step.name == "key provider").unwrap();
    let expected = format!("00-{}-{}-01", hex(&call.trace_id), hex(&asked.span_id));
    assert!(
        transit.traceparents().await.contains(&expected),
        "{expected}: {:?}",
        transit.traceparents().await
    );
    // One that is not recorded here goes on as it came
    let create = server.rest().post("/v1/agents").header("traceparent", &traceparent(9, "00"));
    assert_eq!(create.json(&json!({"name": "other"})).send().await.status, 201);
    assert!(transit.traceparents().await.contains(&traceparent(9, "00")));
}

#[tokio::test]
async fn a_command_continues_the_trace_that_it_is_given() {
    let server = Server::start(Database::Sqlite);
    let cli = server.cli();
    cli.run(&["agents", "deploy", "demo"]).done();
    cli.run(&["secrets", "set", "demo", "KEY=v"]).done();
    let runner = server.runner("demo");
    let run = ["secrets", "run", "demo", "--", "sh", "-c", "echo ${TRACEPARENT-none}"];
    assert_eq!(runner.run(&run).done(), "none\n");
    let given = traceparent(10, "01");
    assert_eq!(runner.env("TRACEPARENT", &given).run(&run).done(), format!("{given}\n"));
    let traces = async |route: &str| {
        eventually("the lines of both calls", async || {
            let log = server.log();
            let lines = log.lines().filter(|line| line.contains(route));
            let traces = lines.filter_map(|line| {
                serde_json::from_str::<Value>(line).ok()?["trace_id"].as_str().map(str::to_owned)
            });
            let traces: Vec<_> = traces.collect();
            (traces.len() == 2).then_some(traces)
        })
        .await
    };
    let resolved = traces("/ResolveSecrets\"").await;
    assert_eq!(resolved[1], ids(10).0);
    assert_ne!(resolved[0], resolved[1]);
}

#[tokio::test]
async fn a_setting_that_cannot_be_ends_the_start() {
    for (variable, value) in [
        ("SUPERSERVE_OTLP_ENDPOINT", "collector"),
        ("SUPERSERVE_OTLP_HEADERS", "sentinel"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_TRACES_SAMPLER_ARG", "all"),
    ] {
        let setup = Server::with(Database::Sqlite).env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
        let output = setup.env(variable, value).run_serve();
        assert_eq!(output.code, 1, "{variable}");
        let named = variable.replace("SUPERSERVE_OTLP_ENDPOINT", "--otlp-endpoint");
        assert!(output.stderr.contains(&named) && !output.stderr.contains("sentinel"), "{}", output.stderr);
    }
}
