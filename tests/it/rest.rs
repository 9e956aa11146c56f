//! The documented REST calls, with their exact bodies.

use serde_json::{Value, json};

use crate::harness::{
    Database,
    fixtures::secrets_of,
    on_each_database,
    rest::{Answer, Rest},
    server::Server,
};

on_each_database!(
    secrets_are_set_listed_and_deleted,
    metadata_is_told_when_asked_for,
    conditions_are_honoured,
    a_repeat_changes_nothing,
    agents_are_deployed_listed_and_deleted,
    declared_secrets_are_checked_and_told,
    a_token_is_validated,
);

async fn secrets_are_set_listed_and_deleted(database: Database) {
    let server = Server::start(database);
    let secrets = secrets_of(&server.deploy("demo").await);
    let rest = server.rest();
    let empty = rest.get(&secrets).send().await;
    assert_eq!((empty.text().as_str(), empty.header("etag")), (r#"{"keys":[]}"#, "\"0\""));

    let set = patch(&rest, &secrets, &json!({"b": "1", "Z": "2", "A": "3", "_x": "4"})).await;
    assert_eq!((set.status.as_u16(), set.text().as_str()), (200, r#"{"keys":["A","Z","_x","b"]}"#));
    assert_eq!((set.header("etag"), set.header("content-type")), ("\"1\"", "application/json"));
    assert_ne!(set.header("x-request-id"), "");
    let more = patch(&rest, &secrets, &json!({"B": "5"})).await;
    assert_eq!((more.text().as_str(), more.header("etag")), (r#"{"keys":["A","B","Z","_x","b"]}"#, "\"2\""));
    let list = rest.get(&secrets).send().await;
    assert_eq!((list.text().as_str(), list.header("etag")), (r#"{"keys":["A","B","Z","_x","b"]}"#, "\"2\""));

    // The key is URL-encoded, as any part of a path may be
    let deleted = rest.delete(&format!("{secrets}/%5F%78")).send().await;
    assert_eq!((deleted.text().as_str(), deleted.header("etag")), (r#"{"keys":["A","B","Z","b"]}"#, "\"3\""));
    for (key, left) in [("A", r#"["B","Z","b"]"#), ("B", r#"["Z","b"]"#), ("Z", r#"["b"]"#), ("b", "[]")] {
        let deleted = rest.delete(&format!("{secrets}/{key}")).send().await;
        assert_eq!(deleted.text(), format!("{{\"keys\":{left}}}"));
    }

    let odd = json!({"A": " changeme ", "B": "\"quoted\"", "C": "fine", "D": "a\u{200b}b", "E": "“x”"});
    let warned = patch(&rest, &secrets, &odd).await;
    assert_eq!(
        warned.json(),
        json!({"keys": ["A", "B", "C", "D", "E"], "warnings": [
            {"key": "A", "code": "surrounding_whitespace"}, {"key": "A", "code": "placeholder"},
            {"key": "B", "code": "quoted"}, {"key": "D", "code": "zero_width"}, {"key": "E", "code": "smart_quotes"},
        ]})
    );
}

async fn metadata_is_told_when_asked_for(database: Database) {
    let server = Server::start(database);
    let (agent, other) = (server.deploy("demo").await, server.deploy("other").await);
    let (rest, secrets) = (server.rest(), secrets_of(&agent));
    patch(&rest, &secrets, &json!({"A": "one", "B": "two"})).await;
    let first = full(&rest, &secrets).await;
    let members: Vec<_> = first.as_object().unwrap().keys().cloned().collect();
    assert_eq!(members, ["keys", "revision", "secrets"]);
    let members: Vec<_> = first["secrets"][0].as_object().unwrap().keys().cloned().collect();
    assert_eq!(members, ["created_at", "fingerprint", "key", "updated_at", "updated_by", "version"]);
    let fingerprint = first["secrets"][0]["fingerprint"].as_str().unwrap();
    assert!(fingerprint.len() == 12 && fingerprint.bytes().all(|b| b.is_ascii_hexdigit()), "{fingerprint}");
    assert!(first["secrets"][0]["updated_by"].as_str().unwrap().starts_with("tok_"));
    assert!(first["secrets"][0]["created_at"].as_str().unwrap().ends_with('Z'));

    // An equal value makes neither a version nor a revision; another one makes one of its key only
    let same = patch(&rest, &secrets, &json!({"A": "one", "B": "two"})).await;
    assert_eq!(same.header("etag"), "\"1\"");
    assert_eq!(full(&rest, &secrets).await, first);
    patch(&rest, &secrets, &json!({"A": "one", "B": "three"})).await;
    let second = full(&rest, &secrets).await;
    assert_eq!(second["revision"], 2);
    assert_eq!(second["secrets"][0], first["secrets"][0]);
    let (before, after) = (&first["secrets"][1], &second["secrets"][1]);
    assert_eq!((&before["version"], &after["version"]), (&json!(1), &json!(2)));
    assert_ne!(before["fingerprint"], after["fingerprint"]);
    assert_eq!(before["created_at"], after["created_at"]);
    assert_ne!(before["updated_at"], after["updated_at"]);

    // Equal values of two agents do not look equal
    patch(&rest, &secrets_of(&other), &json!({"A": "one"})).await;
    assert_ne!(full(&rest, &secrets_of(&other)).await["secrets"][0]["fingerprint"], *fingerprint);
    // A version is never used twice, not even after a delete
    rest.delete(&format!("{secrets}/B")).send().await;
    patch(&rest, &secrets, &json!({"B": "two"})).await;
    assert_eq!(full(&rest, &secrets).await["secrets"][1]["version"], 4);
}

async fn conditions_are_honoured(database: Database) {
    let server = Server::start(database);
    let secrets = secrets_of(&server.deploy("demo").await);
    let rest = server.rest();
    let set = |tag: &str, key: &str| {
        rest.patch(&secrets).header("if-match", tag).json(&json!({"secrets": {key: "value"}}))
    };
    assert_eq!(set("\"0\"", "A").send().await.header("etag"), "\"1\"");
    assert_eq!(set("*", "B").send().await.header("etag"), "\"2\"");
    for tag in ["\"1\"", "\"3\"", "W/\"2\"", "\"\"", "\"x\""] {
        let refused = [
            set(tag, "C").send().await,
            rest.delete(&format!("{secrets}/A")).header("if-match", tag).send().await,
        ];
        for refused in refused {
            assert_eq!(refused.status, 412, "{tag}: {}", refused.text());
            assert_eq!(refused.refusal(), ("Revision mismatch".to_owned(), json!({"revision": 2})));
        }
    }
    // What is no entity tag is told apart from one that does not match: the quotes belong to it
    for none in ["2", "W/2", "\"2", "''", ""] {
        let refused = [
            set(none, "C").send().await,
            rest.delete(&format!("{secrets}/A")).header("if-match", none).send().await,
        ];
        for refused in refused {
            let sentence = "If-Match is *, or an entity tag in quotes, as ETag answers it: \"7\"";
            assert_eq!(refused.status, 400, "{none}: {}", refused.text());
            assert_eq!(refused.refusal(), (sentence.to_owned(), json!({})));
        }
    }
    // A list is refused, in one line or in several: none of it is overlooked
    let two_lines = set("\"2\"", "C").header("if-match", "\"9\"").header("idempotency-key", "");
    for (refused, faulty) in [
        (set("\"2\", \"9\"", "C"), &["if_match"][..]),
        (set("*, \"2\"", "C"), &["if_match"]),
        (two_lines, &["if_match", "idempotency_key"]),
        (set("*", "C").header("idempotency-key", "a").header("idempotency-key", "b"), &["idempotency_key"]),
    ] {
        let refused = refused.send().await;
        let faults: Vec<_> = faulty.iter().map(|key| json!({"key": key, "code": "invalid_header"})).collect();
        assert_eq!((refused.status.as_u16(), refused.refusal().1), (422, json!({"errors": faults})));
    }
    assert_eq!(rest.get(&secrets).send().await.json(), json!({"keys": ["A", "B"]}));
    let deleted = rest.delete(&format!("{secrets}/A")).header("if-match", "\"2\"").send().await;
    assert_eq!((deleted.text().as_str(), deleted.header("etag")), (r#"{"keys":["B"]}"#, "\"3\""));
}

async fn a_repeat_changes_nothing(database: Database) {
    let server = Server::start(database);
    let (agent, other) = (server.deploy("demo").await, server.deploy("other").await);
    let (rest, secrets) = (server.rest(), secrets_of(&agent));
    let attempt = |path: &str, body: &Value| {
        rest.patch(path).header("idempotency-key", "one").json(&json!({"secrets": body}))
    };
    let first = attempt(&secrets, &json!({"A": " spaced"})).send().await;
    assert_eq!(first.json()["warnings"][0]["code"], "surrounding_whitespace");
    patch(&rest, &secrets, &json!({"A": "newer", "B": "newer"})).await;
    let now = full(&rest, &secrets).await;
    let again = attempt(&secrets, &json!({"A": " spaced"})).send().await;
    assert_eq!((again.status, again.text(), again.header("etag")), (first.status, first.text(), "\"1\""));
    assert_eq!(full(&rest, &secrets).await, now);

    let another = attempt(&secrets, &json!({"A": "another"})).send().await;
    let fault = json!({"errors": [{"key": "idempotency_key", "code": "idempotency_key_reused"}]});
    assert_eq!(another.status, 422);
    assert_eq!(another.refusal(), ("Invalid secret format".to_owned(), fault.clone()));
    let another = rest.delete(&format!("{secrets}/A")).header("idempotency-key", "one").send().await;
    assert_eq!((another.status.as_u16(), another.refusal().1), (422, fault));
    // Another agent's attempts are others
    assert_eq!(attempt(&secrets_of(&other), &json!({"A": "another"})).send().await.status, 200);

    let delete = || rest.delete(&format!("{secrets}/A")).header("idempotency-key", "two").send();
    let (first, again) = (delete().await, delete().await);
    assert_eq!((first.status.as_u16(), first.text()), (200, again.text()));
    assert_eq!(again.header("etag"), "\"3\"");
    for bad in ["", &"k".repeat(256)] {
        let refused =
            rest.patch(&secrets).header("idempotency-key", bad).json(&json!({"secrets": {"A": "x"}}));
        let refused = refused.send().await;
        assert_eq!(refused.refusal().1["errors"][0]["code"], "invalid_header", "{bad:?}");
    }
}

async fn agents_are_deployed_listed_and_deleted(database: Database) {
    let server = Server::start(database);
    let rest = server.rest();
    let deploy = |body: &Value| rest.post("/v1/agents").json(body);
    let new = deploy(&json!({"name": "my-agent", "command": "run me", "required_secrets": ["B", "A"]}))
        .send()
        .await;
    assert_eq!(new.status, 201);
    let agent = new.json();
    let id = agent["id"].as_str().unwrap();
    assert!(id.len() == 26 && id.starts_with("agt_"), "{id}");
    assert_eq!(agent["created_at"], agent["updated_at"]);
    let expected = json!({
        "id": id, "name": "my-agent", "command": "run me", "environment_keys": [], "required_secrets": ["B", "A"],
        "missing_secrets": ["B", "A"], "deps_status": "none", "deps_error": null,
        "created_at": agent["created_at"], "updated_at": agent["updated_at"],
    });
    assert_eq!(agent, expected);
    assert_eq!(rest.get(&format!("/v1/agents/{id}")).send().await.json(), expected);

    server.set(id, &json!({"A": "a-value"})).await;
    let again = deploy(&json!({"name": "my-agent", "required_secrets": ["A"]})).send().await;
    assert_eq!(again.status, 200);
    let again = again.json();
    assert_eq!((&again["id"], &again["created_at"]), (&agent["id"], &agent["created_at"]));
    assert_eq!((&again["command"], &again["missing_secrets"]), (&Value::Null, &json!([])));
    assert_eq!(again["environment_keys"], json!(["A"]));
    assert_ne!(again["updated_at"], agent["updated_at"]);

    for name in ["c", "a", "b"] {
        server.deploy(name).await;
    }
    let list = async |query: &str| rest.get(&format!("/v1/agents{query}")).send().await.json();
    let names = |page: &Value| -> Vec<String> {
        page["agents"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
    };
    let all = list("").await;
    assert_eq!((names(&all).join(" ").as_str(), &all["next_page_token"]), ("a b c my-agent", &json!("")));
    assert_eq!(list("?limit=100&page_token=&name=").await, all);
    assert_eq!(list("?name=my-agent").await, json!({"agents": [again], "next_page_token": ""}));
    assert_eq!(list("?name=nobody").await, json!({"agents": [], "next_page_token": ""}));
    let first = list("?limit=3").await;
    let rest_of_it =
        list(&format!("?limit=3&page_token={}", first["next_page_token"].as_str().unwrap())).await;
    assert_eq!(
        (names(&first).join(" ").as_str(), names(&rest_of_it).as_slice()),
        ("a b c", &["my-agent".to_owned()][..])
    );
    assert_eq!(rest_of_it["next_page_token"], "");

    let gone = rest.delete(&format!("/v1/agents/{id}")).send().await;
    assert_eq!((gone.status.as_u16(), gone.text().as_str()), (204, ""));
    for path in [format!("/v1/agents/{id}"), secrets_of(id)] {
        assert_eq!(rest.get(&path).send().await.status, 404);
    }
    assert_eq!(rest.delete(&format!("/v1/agents/{id}")).send().await.status, 404);
    // The name is free again, and what comes under it is another agent
    assert_ne!(server.deploy("my-agent").await, id);
}

async fn declared_secrets_are_checked_and_told(database: Database) {
    let server = Server::start(database);
    let rest = server.rest();
    let required = json!([
        "PLAIN",
        {"name": "KEY", "description": "From the console.", "pattern": "^sk-", "min_length": 8},
        {"name": "MAYBE", "optional": true},
        {"name": "SHORT_FORM"},
    ]);
    let agent = rest
        .post("/v1/agents")
        .json(&json!({"name": "typed", "required_secrets": required}))
        .send()
        .await
        .json();
    // What has no rule is told as its name alone
    let told = json!([required[0], required[1], required[2], "SHORT_FORM"]);
    assert_eq!(agent["required_secrets"], told);
    assert_eq!(agent["missing_secrets"], json!(["PLAIN", "KEY", "SHORT_FORM"]));
    let id = agent["id"].as_str().unwrap();
    let refused = patch(&rest, &secrets_of(id), &json!({"KEY": "pk-1", "PLAIN": "anything"})).await;
    assert_eq!(refused.status, 422);
    assert_eq!(
        refused.refusal().1,
        json!({"errors": [{"key": "KEY", "code": "too_short", "limit": 8}, {"key": "KEY", "code": "pattern_mismatch"}]})
    );
    assert_eq!(
        server.set(id, &json!({"KEY": "sk-12345", "OTHER": "x"})).await,
        json!({"keys": ["KEY", "OTHER"]})
    );
    let agent = rest.get(&format!("/v1/agents/{id}")).send().await.json();
    assert_eq!(agent["missing_secrets"], json!(["PLAIN", "SHORT_FORM"]));
}

async fn a_token_is_validated(database: Database) {
    let server = Server::start(database);
    let request = superserve::proto::v1::CreateTokenRequest {
        name: "ci".to_owned(),
        email: "ci@example.com".to_owned(),
        ..Default::default()
    };
    let made = server.grpc().await.tokens.create_token(request).await.unwrap().into_inner();
    let valid = server.rest().token(&made.text).get("/v1/auth/validate").send().await;
    let user = json!({"id": made.token.unwrap().id, "email": "ci@example.com"});
    assert_eq!((valid.status.as_u16(), valid.json()), (200, json!({"valid": true, "user": user})));
    assert_eq!(server.rest().anonymous().get("/v1/auth/validate").send().await.status, 401);
}

async fn patch(rest: &Rest, secrets: &str, values: &Value) -> Answer {
    rest.patch(secrets).json(&json!({"secrets": values})).send().await
}

async fn full(rest: &Rest, secrets: &str) -> Value {
    rest.get(&format!("{secrets}?view=full")).send().await.json()
}
