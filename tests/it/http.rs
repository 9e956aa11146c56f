//! What is no documented call at all, and what every answer carries.

use std::time::Duration;

use serde_json::{Value, json};
use superserve::proto::v1::WhoAmIRequest;

use crate::harness::{Database, eventually, fixtures::secrets_of, server::Server};

#[tokio::test]
async fn what_is_no_call_is_refused_in_the_same_shape() {
    let server = Server::start(Database::Sqlite);
    let agent = server.deploy("demo").await;
    let (rest, secrets) = (server.rest(), secrets_of(&agent));
    let plain = |detail: &str| (detail.to_owned(), json!({}));
    for path in
        ["/", "/v1", "/v1/agents/", "/v2/agents", "/v1/agents/a/b/c/d", "/%ff", "//v1/agents", "/metrics"]
    {
        let refused = rest.get(path).send().await;
        assert_eq!((refused.status.as_u16(), refused.refusal()), (404, plain("Not found")), "{path}");
    }
    let methods = [
        ("PUT", &*secrets),
        ("POST", &secrets),
        ("DELETE", "/v1/agents"),
        ("OPTIONS", "/v1/agents"),
        ("TRACE", &secrets),
    ];
    for (method, path) in methods {
        let refused = rest.call(method.parse().unwrap(), path).send().await;
        assert_eq!(
            (refused.status.as_u16(), refused.refusal()),
            (405, plain("Method not allowed")),
            "{method} {path}"
        );
        let allowed = refused.header("allow");
        assert!(allowed.contains("GET") && !allowed.contains(method), "{method} {path}: {allowed}");
    }
    for content_type in [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "application/grpc",
        "application/grpc-webx",
        "application/grpc-web+thrift",
        "application/grpc-web+json",
    ] {
        let body = json!({"secrets": {"A": "x"}}).to_string();
        for call in [rest.patch(&secrets), rest.post("/v1/agents")] {
            let refused = call.header("content-type", content_type).body(body.clone()).send().await;
            assert_eq!(
                (refused.status.as_u16(), refused.refusal()),
                (415, plain("Unsupported media type")),
                "{content_type}"
            );
        }
    }
    let web = rest.get("/v1/agents").header("content-type", "application/grpc-web").send().await;
    assert_eq!(web.status, 200, "gRPC-Web is always POST");
    let json = json!({"secrets": {"A": "x"}}).to_string();
    let accepted = rest.patch(&secrets).header("content-type", "Application/JSON; charset=utf-8").body(json);
    assert_eq!(accepted.send().await.status, 200);
    assert_eq!(rest.get(&format!("{secrets}?view=all")).send().await.status, 422);
}

#[tokio::test]
async fn a_request_may_have_a_mebibyte_and_no_more() {
    let server = Server::start(Database::Sqlite);
    let (rest, secrets) = (server.rest(), secrets_of(&server.deploy("demo").await));
    let mut body = json!({"secrets": {"A": "x"}}).to_string();
    body.push_str(&" ".repeat(1_048_576 - body.len()));
    let set = rest.patch(&secrets).header("content-type", "application/json").body(body.clone()).send().await;
    assert_eq!(set.status, 200);
    let head = format!(
        "PATCH {secrets} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n",
        server.admin_token()
    );
    let announced = format!("{head}content-length: 1048577\r\n\r\n");
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n100001\r\n{body} ");
    for request in [announced, chunked] {
        let answer = rest.raw(request.as_bytes(), Duration::from_secs(2)).await;
        assert!(answer.starts_with(b"HTTP/1.1 413 "), "{}", answer.escape_ascii());
        let body = answer.split(|byte| *byte == b'\n').next_back().unwrap();
        let body: Value = serde_json::from_slice(body).unwrap();
        assert_eq!(body, json!({"status": 413, "detail": "Request too large", "details": {}}));
    }
}

/// The two answers that have not the one shape, as the documentation says.
#[tokio::test]
async fn what_is_no_http_gets_a_bare_answer() {
    let server = Server::start(Database::Sqlite);
    let long = format!("GET / HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n", "x".repeat(17_000));
    for (request, status) in [("NO HTTP\r\n\r\n", 400), (long.as_str(), 431)] {
        let answer = server.rest().raw(request.as_bytes(), Duration::from_secs(2)).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.ends_with("\r\n\r\n"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn every_answer_has_a_request_id() {
    let server = Server::start(Database::Sqlite);
    let rest = server.rest();
    for given in ["abc-DEF_1.2:3/4+5=", &"i".repeat(128)] {
        let answer = rest.get("/v1/agents").header("x-request-id", given).send().await;
        assert_eq!(answer.header("x-request-id"), given);
    }
    for hostile in ["", "a b", "<script>", "a\"b", &"i".repeat(129), "é"] {
        let answer = rest.get("/nowhere").header("x-request-id", hostile).send().await;
        let id = answer.header("x-request-id");
        assert!(id.starts_with("req_") && id.len() == 26, "{hostile}: {id}");
    }
    let (first, second) = (rest.get("/v1/agents").send().await, rest.get("/v1/agents").send().await);
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
    let mut request = tonic::Request::new(WhoAmIRequest {});
    request.metadata_mut().insert("x-request-id", "mine".parse().unwrap());
    let answer = server.grpc().await.tokens.who_am_i(request).await.unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), "mine");
    eventually("its line", async || server.log().contains("\"request_id\":\"mine\"").then_some(())).await;
    assert!(!server.log().contains("<script>"));
}
