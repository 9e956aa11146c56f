//! Pages of other origins may call where an operator says so, over REST and gRPC-Web, and nowhere else.

use http::Method;

use crate::harness::{Database, rest::Answer, server::Server};

const ORIGIN: &str = "https://console.example.com";
const RPC: &str = "/superserve.secrets.v1.TokensService/WhoAmI";

#[tokio::test]
async fn no_page_may_call_unless_it_was_allowed() {
    let server = Server::start(Database::Sqlite);
    let rest = server.rest();
    for call in [
        rest.get("/v1/agents"),
        rest.anonymous().get("/v1/agents"),
        rest.call(Method::OPTIONS, "/v1/agents").header("access-control-request-method", "GET"),
        rest.post(RPC).header("content-type", "application/grpc-web+proto").body([0; 5].to_vec()),
    ] {
        let answer = call.header("origin", ORIGIN).send().await;
        let names: Vec<_> =
            answer.headers.keys().filter(|name| name.as_str().starts_with("access-control")).collect();
        assert!(names.is_empty(), "{names:?}");
    }
}

#[tokio::test]
async fn pages_of_an_allowed_origin_may_call() {
    let origins = format!("--cors-origins=https://other.example.com,{ORIGIN}");
    let server = Server::with(Database::Sqlite).arg(&origins).start();
    let rest = server.rest();
    let preflight = async |path: &str, method: &str, origin: &str| {
        let call = rest.anonymous().call(Method::OPTIONS, path).header("origin", origin);
        let call = call.header("access-control-request-method", method);
        call.header("access-control-request-headers", "authorization,content-type,x-grpc-web").send().await
    };
    for (path, method) in [("/v1/agents", "POST"), ("/v1/agents/agt_x/secrets", "PATCH"), (RPC, "POST")] {
        let allowed = preflight(path, method, ORIGIN).await;
        assert_eq!((allowed.status.as_u16(), allowed.header("access-control-allow-origin")), (200, ORIGIN));
        assert!(lists(&allowed, "access-control-allow-methods").contains(&method.to_lowercase()));
        let headers = lists(&allowed, "access-control-allow-headers");
        for header in
            ["authorization", "content-type", "if-match", "idempotency-key", "x-grpc-web", "grpc-timeout"]
        {
            assert!(headers.iter().any(|name| name == header), "{header} in {headers:?}");
        }
        let refused = preflight(path, method, "https://evil.example.com").await;
        assert_eq!(refused.header("access-control-allow-origin"), "");
    }
    let answers = [
        rest.get("/v1/agents").header("origin", ORIGIN).send().await,
        rest.anonymous().get("/nowhere").header("origin", ORIGIN).send().await,
        rest.post(RPC)
            .header("content-type", "application/grpc-web+proto")
            .body([0; 5].to_vec())
            .header("origin", ORIGIN)
            .send()
            .await,
    ];
    for answer in answers {
        assert_eq!(answer.header("access-control-allow-origin"), ORIGIN);
        assert_eq!(answer.header("access-control-allow-credentials"), "");
        let exposed = lists(&answer, "access-control-expose-headers");
        for header in
            ["etag", "grpc-message", "grpc-status", "grpc-status-details-bin", "retry-after", "x-request-id"]
        {
            assert!(exposed.iter().any(|name| name == header), "{header} in {exposed:?}");
        }
    }
    let foreign = rest.get("/v1/agents").header("origin", "https://evil.example.com").send().await;
    assert_eq!(foreign.header("access-control-allow-origin"), "");
}

fn lists(answer: &Answer, header: &str) -> Vec<String> {
    answer.header(header).split(',').map(|name| name.trim().to_lowercase()).collect()
}
