//! The OpenAPI document says what is served, and the protos say the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use prost_reflect::{DescriptorPool, Value as Field};
use serde_json::{Value, json};
use superserve::proto::FILE_DESCRIPTOR_SET;

use crate::harness::{Database, server::Server};

/// The errors that any call can come to, and those only a call with a body or a condition can.
const ERRORS: [&str; 8] = ["401", "403", "404", "422", "429", "500", "503", "504"];
const ERRORS_OF_WRITES: [&str; 2] = ["413", "415"];
const ERRORS_OF_CONDITIONS: [&str; 2] = ["400", "412"];

#[tokio::test]
async fn the_document_is_the_one_in_docs() {
    let server = Server::start(Database::Sqlite);
    let answer = server.rest().anonymous().get("/openapi.json").send().await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let text = format!("{}\n", answer.text().trim_end());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(golden.parent().unwrap()).unwrap();
        fs::write(&golden, &text).unwrap();
    }
    let kept = fs::read_to_string(&golden).unwrap_or_default();
    assert!(kept == text, "docs/openapi.json is not what is served: run this test with UPDATE_GOLDEN=1");
}

#[test]
fn every_documented_call_is_an_rpc_and_the_other_way_round() {
    let documented: BTreeMap<_, _> =
        operations().into_iter().map(|(call, operation)| (call, operation["operationId"].clone())).collect();
    let annotated: BTreeMap<_, _> =
        annotations().into_iter().map(|(call, rpc)| (call, Value::from(rpc))).collect();
    assert_eq!(documented, annotated);
    assert_eq!(documented.len(), 8);
}

#[test]
fn every_operation_says_what_it_answers() {
    for ((method, path), operation) in operations() {
        let responses = operation["responses"].as_object().unwrap();
        let mut expected: Vec<_> = ERRORS.to_vec();
        if method != "GET" && path != "/v1/agents/{agent_id}" {
            expected.extend(ERRORS_OF_WRITES);
        }
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        if parameters.into_iter().any(|parameter| parameter["name"] == "If-Match") {
            expected.extend(ERRORS_OF_CONDITIONS);
        }
        for status in &expected {
            let schema = &responses[*status]["content"]["application/json"]["schema"]["$ref"];
            assert_eq!(schema, "#/components/schemas/Error", "{method} {path} {status}");
        }
        let good: Vec<_> = responses.keys().filter(|status| !expected.contains(&status.as_str())).collect();
        assert!(
            !good.is_empty() && good.iter().all(|status| status.starts_with('2')),
            "{method} {path}: {good:?}"
        );
        let named: Vec<_> = operation["parameters"].as_array().into_iter().flatten().collect();
        for placeholder in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
            let found = named
                .iter()
                .any(|it| it["name"] == placeholder && it["in"] == "path" && it["required"] == true);
            assert!(found, "{method} {path}: {placeholder}");
        }
    }
}

#[test]
fn every_call_and_every_error_has_an_example() {
    let document: Value = serde_json::from_str(&superserve::transport::openapi()).unwrap();
    // Of a schema: its own, or that of the one it names
    let example_of = |schema: &Value| match schema["$ref"].as_str() {
        Some(name) => document.pointer(name.trim_start_matches('#')).unwrap()["example"].clone(),
        None => schema["example"].clone(),
    };
    let mut reasons = BTreeSet::new();
    for ((method, path), operation) in operations() {
        let body = &operation["requestBody"]["content"]["application/json"];
        assert!(body.is_null() || example_of(&body["schema"]).is_object(), "{method} {path}");
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let is_shown = parameter["in"] != "path" || parameter["example"].is_string();
            assert!(is_shown, "{method} {path}: {parameter}");
        }
        for (status, response) in operation["responses"].as_object().unwrap() {
            let content = &response["content"]["application/json"];
            if status.starts_with('2') {
                assert!(status == "204" || example_of(&content["schema"]).is_object(), "{method} {path}");
                continue;
            }
            let examples = content["examples"].as_object().unwrap();
            assert!(!examples.is_empty(), "{method} {path} {status}");
            for (reason, example) in examples {
                let value = &example["value"];
                assert_eq!(value["status"].to_string(), *status, "{reason}");
                let sentence = value["detail"].as_str().unwrap();
                assert!(response["description"].as_str().unwrap().contains(sentence), "{reason}: {sentence}");
                assert!(value["details"].is_object(), "{reason}");
                reasons.insert(reason.clone());
            }
        }
    }
    assert!(reasons.len() >= 14, "{reasons:?}");
}

#[tokio::test]
async fn an_example_has_the_members_of_the_answer() {
    let server = Server::start(Database::Sqlite);
    let document: Value = serde_json::from_str(&superserve::transport::openapi()).unwrap();
    let deploy = &document["paths"]["/v1/agents"]["post"]["requestBody"]["content"]["application/json"];
    let made = server.rest().post("/v1/agents").json(&deploy["schema"]["example"]).send().await;
    assert_eq!(made.status, 201, "{}", made.text());
    let agent = made.json()["id"].as_str().unwrap().to_owned();
    server.set(&agent, &json!({"ANTHROPIC_API_KEY": "x"})).await;
    let secrets = format!("/v1/agents/{agent}/secrets?view=full");
    for (schema, path) in [
        ("Agent", format!("/v1/agents/{agent}")),
        ("AgentPage", "/v1/agents".to_owned()),
        ("SecretList", secrets),
        ("Validation", "/v1/auth/validate".to_owned()),
    ] {
        let answer = server.rest().get(&path).send().await.json();
        let example = &document["components"]["schemas"][schema]["example"];
        assert_eq!(members(example), members(&answer), "{schema}");
    }
}

/// The names of all members, with those within.
fn members(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Object(object) => {
            let own = object.keys().cloned();
            let within = object
                .iter()
                .flat_map(|(name, value)| members(value).into_iter().map(move |it| format!("{name}.{it}")));
            own.chain(within).collect()
        }
        Value::Array(items) => items.iter().flat_map(members).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => BTreeSet::new(),
    }
}

#[tokio::test]
async fn every_documented_call_is_served() {
    let server = Server::start(Database::Sqlite);
    let agent = server.deploy("demo").await;
    for ((method, path), _) in operations() {
        let path = path.replace("{agent_id}", &agent).replace("{key}", "A");
        let answer = server.rest().call(method.parse().unwrap(), &path).send().await;
        let is_there = answer.status != 405 && !answer.text().contains("\"Not found\"");
        assert!(is_there, "{method} {path}: {} {}", answer.status, answer.text());
    }
}

#[tokio::test]
async fn the_example_of_a_denial_is_what_is_answered() {
    let server = Server::start(Database::Sqlite);
    let agent = server.deploy("demo").await;
    let token = server.token(&["audit:read"], &[]).await;
    let nothing_more = server.rest().token(&token);
    for ((method, path), operation) in operations() {
        let example = operation["responses"]["403"]["content"]["application/json"]["examples"]
            ["PERMISSION_DENIED"]["value"]
            .clone();
        let path = path.replace("{agent_id}", &agent).replace("{key}", "A");
        let mut call = nothing_more.call(method.parse().unwrap(), &path);
        let body = &operation["requestBody"]["content"]["application/json"]["schema"]["example"];
        if !body.is_null() {
            call = call.json(body);
        }
        if path == "/v1/auth/validate" {
            // Who one is needs no scope, and who one is for another tenant does
            call = call.header("x-superserve-tenant", "ten_other");
        }
        let answer = call.send().await;
        assert_eq!(answer.status, 403, "{method} {path}: {}", answer.text());
        assert_eq!(answer.json(), example, "{method} {path}");
    }
}

/// The operations of the document, by method and path.
fn operations() -> Vec<((String, String), Value)> {
    let document: Value = serde_json::from_str(&superserve::transport::openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter();
        methods.map(|(method, operation)| ((method.to_uppercase(), path.clone()), operation.clone()))
    });
    operations.collect()
}

/// The RPCs with a `google.api.http` option, by the method and path it names.
fn annotations() -> Vec<((String, String), String)> {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let http = pool.get_extension_by_name("google.api.http").unwrap();
    let mut found = Vec::new();
    for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let options = method.options();
        if !options.has_extension(&http) {
            continue;
        }
        let rule = options.get_extension(&http).into_owned();
        let rule = rule.as_message().unwrap();
        for verb in ["get", "put", "post", "delete", "patch"] {
            if let Some(Field::String(path)) = rule.get_field_by_name(verb).as_deref()
                && !path.is_empty()
            {
                found.push(((verb.to_uppercase(), path.clone()), method.name().to_owned()));
            }
        }
    }
    found
}
