//! When the server cannot: too much at once, too slow, no database, a bug. It says so, says no more, and
//! recovers by itself.

use std::time::{Duration, Instant};

use serde_json::json;
use superserve::proto::v1::{SetSecretsRequest, WhoAmIRequest};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{
    Database, LIMIT, eventually, fixtures::secrets_of, on_each_database, postgres::Cluster, server::Server,
};

on_each_database!(a_slow_call_times_out, a_failure_of_ours_tells_nothing);

async fn a_slow_call_times_out(database: Database) {
    let server = Server::with(database).arg("--request-timeout=1").start();
    let agent_id = server.deploy("demo").await;
    let mut grpc = server.grpc().await;
    let backdoor = server.backdoor().await;
    backdoor.block_writers(&agent_id).await;
    let began = Instant::now();
    let refused =
        server.rest().patch(&secrets_of(&agent_id)).json(&json!({"secrets": {"A": "x"}})).send().await;
    assert_eq!(refused.status, 504, "{}", refused.text());
    assert_eq!(refused.refusal(), ("Request timed out".to_owned(), json!({})));
    let secrets = [("A".to_owned(), "x".to_owned())].into();
    let set = SetSecretsRequest { agent_id: agent_id.clone(), secrets, ..Default::default() };
    let refused = grpc.secrets.set_secrets(set).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::DeadlineExceeded, "Request timed out"));
    assert_eq!(refused.get_details_error_info().unwrap().reason, "TIMED_OUT");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    // Reading goes on beside it
    assert_eq!(server.rest().get(&secrets_of(&agent_id)).send().await.status, 200);
    drop(backdoor);
    let set = async || {
        let set =
            server.rest().patch(&secrets_of(&agent_id)).json(&json!({"secrets": {"B": "x"}})).send().await;
        (set.status == 200).then_some(())
    };
    eventually("a write after the lock", set).await;
}

async fn a_failure_of_ours_tells_nothing(database: Database) {
    let server = Server::start(database);
    let agent_id = server.deploy("demo").await;
    let mut grpc = server.grpc().await;
    server.backdoor().await.run("DROP TABLE audit_events").await;
    let refused =
        server.rest().patch(&secrets_of(&agent_id)).json(&json!({"secrets": {"A": "x"}})).send().await;
    assert_eq!(refused.status, 500);
    assert_eq!(refused.text(), r#"{"status":500,"detail":"Internal error","details":{}}"#);
    let secrets = [("A".to_owned(), "x".to_owned())].into();
    let set = SetSecretsRequest { agent_id: agent_id.clone(), secrets, ..Default::default() };
    let refused = grpc.secrets.set_secrets(set).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Internal, "Internal error"));
    assert_eq!(refused.get_details_error_info().unwrap().reason, "INTERNAL");
    assert!(!format!("{refused:?}").contains("audit_events"));
    // The operator is told what the caller is not, and nothing happened unaudited
    assert!(server.log().contains("audit_events"));
    assert_eq!(server.keys(&agent_id).await, json!([]));
}

#[tokio::test]
async fn who_calls_too_often_is_told_when_to_come_back() {
    let server = Server::with(Database::Sqlite).arg("--rate-limit=1").start();
    let rest = server.rest();
    let refused = eventually("the limit", async || {
        let answer = rest.get("/v1/auth/validate").send().await;
        (answer.status != 200).then_some(answer)
    });
    let refused = refused.await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.refusal(), ("Too many requests".to_owned(), json!({})));
    assert_eq!(refused.header("retry-after"), "1");
    let mut grpc = server.grpc().await;
    let refused = eventually("the limit", async || grpc.tokens.who_am_i(WhoAmIRequest {}).await.err()).await;
    assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, "Too many requests"));
    assert_eq!(refused.get_details_error_info().unwrap().reason, "RATE_LIMITED");
    let delay = refused.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!(delay > Duration::ZERO && delay <= Duration::from_secs(1), "{delay:?}");
    // Who has no token is not counted, and who waits as long as told is let in
    assert_eq!(rest.anonymous().get("/v1/auth/validate").send().await.status, 401);
    let allowed = async || (rest.get("/v1/auth/validate").send().await.status == 200).then_some(());
    eventually("the next second", allowed).await;
}

#[tokio::test]
async fn who_calls_too_often_may_write_to_the_end_and_call_again() {
    let server = Server::with(Database::Sqlite).arg("--rate-limit=1").start();
    let head = format!(
        "POST /v1/agents HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         expect: 100-continue\r\ncontent-length: 2\r\n\r\n",
        server.admin_token(),
    );
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let mut call = async || {
        stream.write_all(head.as_bytes()).await.unwrap();
        read_until(&mut stream, b"100 Continue\r\n\r\n").await;
        stream.write_all(b"{}").await.unwrap();
        let answer = read_until(&mut stream, b"}}").await;
        String::from_utf8(answer).unwrap()
    };
    let limited = async || Some(call().await).filter(|answer| answer.starts_with("HTTP/1.1 429 "));
    eventually("the limit", limited).await;
    assert!(call().await.starts_with("HTTP/1.1 4"), "the connection serves on");
}

#[tokio::test]
async fn too_much_at_once_is_shed() {
    let server = Server::with(Database::Sqlite).arg("--max-concurrent-requests=1").start();
    let agent = server.deploy("demo").await;
    let mut grpc = server.grpc().await;
    let body = json!({"secrets": {"A": "x"}}).to_string();
    let head = format!(
        "PATCH {} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         expect: 100-continue\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        secrets_of(&agent),
        server.admin_token(),
        body.len()
    );
    let mut slow = TcpStream::connect(server.address()).await.unwrap();
    slow.write_all(head.as_bytes()).await.unwrap();
    // It is let in, and waits for its body: that takes the only place
    assert!(read_until(&mut slow, b"100 Continue\r\n\r\n").await.starts_with(b"HTTP/1.1 100 "));
    let refused = server.rest().get("/v1/agents").send().await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.refusal(), ("Service unavailable".to_owned(), json!({})));
    assert_eq!(refused.header("retry-after"), "1");
    let refused = grpc.tokens.who_am_i(WhoAmIRequest {}).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "Service unavailable"));
    assert!(refused.get_details_retry_info().unwrap().retry_delay.is_some());

    slow.write_all(body.as_bytes()).await.unwrap();
    assert!(read_until(&mut slow, b"{\"keys\":[\"A\"]}").await.starts_with(b"HTTP/1.1 200 "));
    let allowed = async || (server.rest().get("/v1/agents").send().await.status == 200).then_some(());
    eventually("a place", allowed).await;
}

#[tokio::test]
async fn a_database_that_goes_and_comes_is_waited_for() {
    let Some(mut cluster) = Cluster::start() else { return };
    let server = Server::start(Database::Postgres(cluster.create_database().await));
    let agent_id = server.deploy("demo").await;
    server.set(&agent_id, &json!({"A": "x"})).await;
    let mut grpc = server.grpc().await;
    cluster.stop();
    let began = Instant::now();
    let refused = server.rest().get(&secrets_of(&agent_id)).send().await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.refusal(), ("Service unavailable".to_owned(), json!({})));
    assert_eq!(refused.header("retry-after"), "1");
    let refused = grpc.tokens.who_am_i(WhoAmIRequest {}).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "Service unavailable"));
    assert_eq!(refused.get_details_error_info().unwrap().reason, "UNAVAILABLE");
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
    assert_eq!(server.ops().get("/readyz").send().await.status, 503);
    assert_eq!(server.ops().get("/livez").send().await.status, 200);

    cluster.start_again();
    let back = async || {
        let list = server.rest().get(&secrets_of(&agent_id)).send().await;
        (list.status == 200).then_some(list)
    };
    assert_eq!(eventually("the database", back).await.json(), json!({"keys": ["A"]}));
    let ready = async || (server.ops().get("/readyz").send().await.status == 200).then_some(());
    eventually("readiness", ready).await;
}

async fn read_until(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    use tokio::io::AsyncReadExt;
    let mut bytes = Vec::new();
    while !bytes.ends_with(end) {
        let read = tokio::time::timeout(LIMIT, stream.read_buf(&mut bytes)).await.expect("in time").unwrap();
        assert_ne!(read, 0, "{}", bytes.escape_ascii());
    }
    bytes
}
