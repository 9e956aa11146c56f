//! What can be wrong with an input: each code, all of them at once, and the limits to the byte.

use serde_json::{Value, json};
use superserve::proto::v1::{
    CreateTokenRequest, DeployAgentRequest, RequiredSecret, ResolveSecretsRequest, SetSecretsRequest,
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{Database, fixtures::secrets_of, on_each_database, rest::Answer, server::Server};

on_each_database!(
    every_fault_is_told_at_once,
    limits_hold_to_the_byte,
    an_agent_holds_a_hundred_keys,
    an_agent_holds_a_quarter_mebibyte,
);

async fn every_fault_is_told_at_once(database: Database) {
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    let long = "v".repeat(65_537);
    let body = format!(
        r#"{{"secrets": {{"GOOD": "x", "A": "1", "A": "2", "NUMBER": 7, "NULL": null, "LIST": ["x"], "1DIGIT": "x",
            "DA-SH": "", "": "x", "EMPTY": "", "NUL": "a\u0000b", "LONG": "{long}", "PATH": "x", "LD_PRELOAD": "x",
            "SUPERSERVE_TOKEN": "x", "NODE_OPTIONS": "x", "É": "x"}}, "more": 1, "again": {{}}, "again": {{}}}}"#
    );
    let refused = patch(&server, &agent, body).await;
    assert_eq!(
        faults(&refused),
        [
            " invalid_key",
            "1DIGIT invalid_key",
            "A duplicate",
            "DA-SH empty_value",
            "DA-SH invalid_key",
            "EMPTY empty_value",
            "LD_PRELOAD reserved_key",
            "LIST wrong_type",
            "LONG too_long 65536",
            "NODE_OPTIONS reserved_key",
            "NUL nul_in_value",
            "NULL wrong_type",
            "NUMBER wrong_type",
            "PATH reserved_key",
            "SUPERSERVE_TOKEN reserved_key",
            "again duplicate",
            "again unknown_field",
            "again unknown_field",
            "more unknown_field",
            "É invalid_key",
        ]
    );
    assert!(!refused.text().contains("vvv"));
    let bodies = [
        ("", " malformed"),
        ("{", " malformed"),
        ("{\"secrets\": {\"A\": \"x\"}} {}", " malformed"),
        ("{\"secrets\": {\"A\": \"x\",}}", " malformed"),
        ("{\"secrets\": {\"A\": \"\\ud800\"}}", " malformed"),
        ("{\"secrets\": {\"A\": 1e999}}", " malformed"),
        ("[]", " wrong_type"),
        ("null", " wrong_type"),
        ("{}", "secrets missing_field"),
        ("{\"secrets\": {}}", "secrets empty_set"),
        ("{\"secrets\": []}", "secrets wrong_type"),
        ("{\"secrets\": null}", "secrets wrong_type"),
    ];
    for (body, expected) in bodies {
        assert_eq!(faults(&patch(&server, &agent, body.to_owned()).await), [expected], "{body}");
    }
    for body in
        [b"{\"secrets\": {\"A\": \"\xff\"}}".to_vec(), b"\0".to_vec(), "[".repeat(100_000).into_bytes()]
    {
        assert_eq!(faults(&patch(&server, &agent, body).await), [" malformed"]);
    }
    assert_eq!(server.keys(&agent).await, json!([]), "all or nothing");
}

async fn limits_hold_to_the_byte(database: Database) {
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    let (key, value) = ("K".repeat(128), "é".repeat(32_768));
    assert_eq!(server.set(&agent, &json!({&key: &value, "A": "x"})).await, json!({"keys": ["A", key]}));
    let refused = set(&server, &agent, &json!({"A": format!("{value}.")})).await;
    assert_eq!(faults(&refused), ["A too_long 65536"]);
    let refused = set(&server, &agent, &json!({format!("{key}K"): "x"})).await;
    assert_eq!(faults(&refused), [format!("{key} invalid_key 128")]);

    let mut grpc = server.grpc().await;
    let secrets = [("A".to_owned(), format!("{value}.")), ("B-".to_owned(), "x".to_owned())].into();
    let request = SetSecretsRequest { agent_id: agent, secrets, ..Default::default() };
    let refused = grpc.secrets.set_secrets(request).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "Invalid secret format"));
    assert_eq!(refused.get_details_error_info().unwrap().reason, "INVALID_FORMAT");
    let violations = refused.get_details_bad_request().unwrap().field_violations;
    let violations: Vec<_> = violations.iter().map(|it| (it.field.as_str(), it.reason.as_str())).collect();
    assert_eq!(violations, [("A", "TOO_LONG"), ("B-", "INVALID_KEY")]);

    let required = |name: &str, pattern: &str| RequiredSecret {
        name: name.to_owned(),
        pattern: pattern.to_owned(),
        ..Default::default()
    };
    let required_secrets = vec![required("A", "("), required("A", ""), required("PATH", "")];
    let request = DeployAgentRequest { name: "agt_x".to_owned(), required_secrets, ..Default::default() };
    let refused = grpc.agents.deploy_agent(request).await.unwrap_err();
    let violations = refused.get_details_bad_request().unwrap().field_violations;
    let violations: Vec<_> = violations.iter().map(|it| (it.field.as_str(), it.reason.as_str())).collect();
    let expected =
        [("name", "INVALID_NAME"), ("A", "INVALID_PATTERN"), ("A", "DUPLICATE"), ("PATH", "RESERVED_KEY")];
    assert_eq!(violations, expected);
}

async fn an_agent_holds_a_hundred_keys(database: Database) {
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    let keys = |range: std::ops::Range<usize>| -> Value {
        range.map(|n| (format!("K{n:03}"), json!("x"))).collect::<serde_json::Map<_, _>>().into()
    };
    assert_eq!(faults(&set(&server, &agent, &keys(0..101)).await), [" too_many_keys 100"]);
    server.set(&agent, &keys(0..60)).await;
    assert_eq!(faults(&set(&server, &agent, &keys(40..101)).await), [" too_many_keys 100"]);
    server.set(&agent, &keys(40..100)).await;
    server.set(&agent, &json!({"K050": "replaced"})).await;
    assert_eq!(faults(&set(&server, &agent, &json!({"K": "x"})).await), [" too_many_keys 100"]);
    // Also with other faults, and also when the keys that are wrong make it too many
    let refused = set(&server, &agent, &json!({"K": "x", "PATH": "x"})).await;
    assert_eq!(faults(&refused), [" too_many_keys 100", "PATH reserved_key"]);
    let mut many = keys(0..100);
    many["1"] = json!("x");
    assert_eq!(faults(&set(&server, &agent, &many).await), [" too_many_keys 100", "1 invalid_key"]);

    // Of a crowd of faults as many are told as anybody reads, over either protocol
    let crowd = |count| {
        let members: Vec<_> = (0..count).map(|n| format!("\"{n:05}\":\"\"")).collect();
        format!("{{\"secrets\": {{{}}}}}", members.join(","))
    };
    for count in [500, 9999] {
        let (detail, details) = patch(&server, &agent, crowd(count)).await.refusal();
        let told = details["errors"].as_array().unwrap().len();
        assert_eq!((detail.as_str(), told), ("Invalid secret format", 1000));
        assert_eq!(details["omitted"], json!(2 * count + 1 - 1000));
    }
    for count in [150, 10_000] {
        let secrets = (0..count).map(|n| (format!("{n:05}"), String::new())).collect();
        let request = SetSecretsRequest { agent_id: agent.clone(), secrets, ..Default::default() };
        let refused = server.grpc().await.secrets.set_secrets(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{count}: {refused:?}");
        let told = refused.get_details_bad_request().unwrap().field_violations.len();
        let omitted = &refused.get_details_error_info().unwrap().metadata["omitted"];
        assert_eq!(told + omitted.parse::<usize>().unwrap(), 2 * count + 1);
    }
    // And of a larger one none, as it is not read: 10,000 members are the most, over either protocol
    assert_eq!(faults(&patch(&server, &agent, crowd(90_000)).await), [" too_many 10000"]);
    let mut grpc = server.grpc().await;
    let names = |count: usize| (0..count).map(|n| n.to_string());
    let secrets = names(10_001).map(|name| (name, String::new())).collect();
    let set = SetSecretsRequest { agent_id: agent.clone(), secrets, ..Default::default() };
    let only = names(10_001).collect();
    let resolve = ResolveSecretsRequest { agent_id: agent, only, ..Default::default() };
    let token = CreateTokenRequest { scopes: names(10_001).collect(), ..Default::default() };
    for refused in [
        grpc.secrets.set_secrets(set).await.unwrap_err(),
        grpc.runtime.resolve_secrets(resolve).await.unwrap_err(),
        grpc.tokens.create_token(token).await.unwrap_err(),
    ] {
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        let violations = refused.get_details_bad_request().unwrap().field_violations;
        let violations: Vec<_> =
            violations.iter().map(|it| (it.field.as_str(), it.reason.as_str())).collect();
        assert_eq!(violations, [("", "TOO_MANY")]);
    }
}

async fn an_agent_holds_a_quarter_mebibyte(database: Database) {
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    // Each `name=value\0` has three bytes beside the value's: 4 × 65,536 in all
    let (fits, over) = ("v".repeat(65_533), "v".repeat(65_534));
    let too_large = [" agent_too_large 262144"];
    let at_once = json!({"A": fits, "B": fits, "C": fits, "D": over});
    assert_eq!(faults(&set(&server, &agent, &at_once).await), too_large);
    server.set(&agent, &json!({"A": fits, "B": fits, "C": fits})).await;
    assert_eq!(faults(&set(&server, &agent, &json!({"D": over})).await), too_large);
    server.set(&agent, &json!({"D": fits})).await;
    for value in ["E", "EE"] {
        assert_eq!(faults(&set(&server, &agent, &json!({"E": value})).await), too_large);
    }
    // What replaces counts for what it replaces
    server.set(&agent, &json!({"D": "v".repeat(65_529), "E": "v"})).await;
    assert_eq!(server.keys(&agent).await, json!(["A", "B", "C", "D", "E"]));
}

#[tokio::test]
async fn an_operator_sets_the_limits() {
    let server = Server::with(Database::Sqlite)
        .arg("--allow-loader-names")
        .arg("--max-key-bytes=4")
        .arg("--max-value-bytes=5")
        .arg("--max-keys-per-agent=2")
        .arg("--max-request-bytes=100")
        .arg("--max-agent-bytes=16");
    let server = server.start();
    let agent = server.deploy("demo").await;
    server.set(&agent, &json!({"ABCD": "12345"})).await;
    assert_eq!(faults(&set(&server, &agent, &json!({"ABCDE": "x"})).await), ["ABCDE invalid_key 4"]);
    assert_eq!(faults(&set(&server, &agent, &json!({"A": "123456"})).await), ["A too_long 5"]);
    assert_eq!(faults(&set(&server, &agent, &json!({"A": "123"})).await), [" agent_too_large 16"]);
    server.set(&agent, &json!({"A": "12"})).await;
    assert_eq!(set(&server, &agent, &json!({"A": "x".repeat(100)})).await.status, 413);

    let server = Server::with(Database::Sqlite).arg("--allow-loader-names").start();
    let agent = server.deploy("demo").await;
    server.set(&agent, &json!({"NODE_OPTIONS": "x", "PYTHONPATH": "x"})).await;
    assert_eq!(faults(&set(&server, &agent, &json!({"LD_PRELOAD": "x"})).await), ["LD_PRELOAD reserved_key"]);
}

#[tokio::test]
async fn an_agent_and_a_page_are_checked() {
    let server = Server::start(Database::Sqlite);
    let rest = server.rest();
    let body = json!({
        "name": " spaced", "command": "c".repeat(4097), "extra": 1,
        "required_secrets": ["A", "A", "PATH", {"name": "B", "pattern": "("}, {"name": "C", "min_length": 65_537},
            {"name": "D", "what": 1, "optional": "yes"}, 7, {"optional": true}, {"pattern": "("}],
    });
    let refused = rest.post("/v1/agents").json(&body).send().await;
    assert_eq!(
        faults(&refused),
        [
            "A duplicate",
            "B invalid_pattern",
            "C out_of_range 65536",
            "PATH reserved_key",
            "command too_long",
            "extra unknown_field",
            "name invalid_name",
            "required_secrets wrong_type",
            "required_secrets.name missing_field",
            "required_secrets.name missing_field",
            "required_secrets.optional wrong_type",
            "required_secrets.what unknown_field",
        ]
    );
    for (body, expected) in [
        ("{}", "name missing_field"),
        (r#"{"name": 7}"#, "name wrong_type"),
        (r#"{"name": ""}"#, "name invalid_name"),
        (r#"{"name": "a", "required_secrets": [{}]}"#, "required_secrets.name missing_field"),
        ("[]", " wrong_type"),
    ] {
        let refused =
            rest.post("/v1/agents").header("content-type", "application/json").body(body).send().await;
        assert_eq!(faults(&refused), [expected], "{body}");
    }
    for (query, expected) in [
        ("limit=0", "limit out_of_range"),
        ("limit=-1", "limit out_of_range"),
        ("limit=x", "limit out_of_range"),
        ("page_token=x", "page_token invalid_page_token"),
        ("page_token=%FF", "page_token invalid_page_token"),
    ] {
        let refused = rest.get(&format!("/v1/agents?{query}")).send().await;
        assert_eq!(faults(&refused), [expected], "{query}");
    }
}

/// The faults of a refusal as `key code limit`, sorted.
fn faults(refused: &Answer) -> Vec<String> {
    assert_eq!(refused.status, 422, "{}", refused.text());
    let (detail, mut details) = refused.refusal();
    assert_eq!((detail.as_str(), details.as_object().unwrap().len()), ("Invalid secret format", 1));
    let told = |fault: &Value| {
        let limit = fault.get("limit").map(|limit| format!(" {limit}")).unwrap_or_default();
        format!("{} {}{limit}", fault["key"].as_str().unwrap(), fault["code"].as_str().unwrap())
    };
    let mut faults: Vec<_> = details["errors"].take().as_array().unwrap().iter().map(told).collect();
    faults.sort();
    faults
}

async fn set(server: &Server, agent: &str, secrets: &Value) -> Answer {
    patch(server, agent, json!({"secrets": secrets}).to_string()).await
}

async fn patch(server: &Server, agent: &str, body: impl Into<bytes::Bytes>) -> Answer {
    let call = server.rest().patch(&secrets_of(agent)).header("content-type", "application/json");
    call.body(body).send().await
}
