//! How many connections an address may have, how often it may call, and what those may hold who show no token.

use std::net::Ipv4Addr;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::harness::{Database, LIMIT, eventually, server::Server};

/// Another address of this machine.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// What a new connection from here gets for an answer: nothing, if it is closed.
async fn connect(server: &Server) -> (TcpStream, Vec<u8>) {
    let mut socket = TcpStream::connect(server.address()).await.unwrap();
    // The server may have hung up by now
    let _sent = socket.write_all(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut answer = vec![0; 12];
    let read = timeout(LIMIT, socket.read_exact(&mut answer)).await.expect("an answer or an end");
    if read.is_err() {
        answer.clear();
    }
    (socket, answer)
}

#[tokio::test]
async fn an_address_has_so_many_connections() {
    let server = Server::with(Database::Sqlite).env("SUPERSERVE_MAX_CONNECTIONS_PER_SOURCE", "3").start();
    let mut held = Vec::new();
    for _ in 0..3 {
        let (socket, answer) = connect(&server).await;
        assert_eq!(answer, b"HTTP/1.1 200");
        held.push(socket);
    }
    assert_eq!(connect(&server).await.1, b"", "it is closed");
    let elsewhere = server.rest().at(ELSEWHERE).get("/v1/agents").send().await;
    assert_eq!(elsewhere.status, 200, "others are not kept out");
    let metrics = server.ops().get("/metrics").send().await.text();
    assert!(metrics.contains("superserve_refused_total{limit=\"source_connections\"} 1\n"), "{metrics}");
    assert!(metrics.contains("superserve_connections 3\n") || metrics.contains("superserve_connections 4\n"));
    let log = server.log();
    assert_eq!(log.matches("a limit of connections is reached").count(), 1, "{log}");
    assert!(log.contains("source_connections") && log.contains("127.0.0.1"), "{log}");
    held.pop();
    let again = async || (connect(&server).await.1 == b"HTTP/1.1 200").then_some(());
    eventually("a place for a connection", again).await;
}

#[tokio::test]
async fn an_address_calls_so_often() {
    let server = Server::with(Database::Sqlite).env("SUPERSERVE_RATE_LIMIT_PER_SOURCE", "1").start();
    let (rest, elsewhere) = (server.rest(), server.rest().at(ELSEWHERE));
    let refused = eventually("the limit", async || {
        let answer = rest.get("/v1/agents").send().await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    assert_eq!(
        (refused.status.as_u16(), refused.refusal()),
        (429, ("Too many requests".to_owned(), json!({})))
    );
    assert_eq!(refused.header("retry-after"), "1");
    // With a token or without: it is the address that counts, and another one calls on
    let anonymous = async || (rest.anonymous().get("/v1/agents").send().await.status == 429).then_some(());
    eventually("the limit without a token", anonymous).await;
    assert_eq!(elsewhere.get("/v1/agents").send().await.status, 200);
    let metrics = server.ops().get("/metrics").send().await.text();
    assert!(!metrics.contains("superserve_refused_total{limit=\"source_rate\"} 0\n"), "{metrics}");
    let log = server.log();
    let told = log.lines().find(|line| line.contains("calls more often than he may")).expect("who calls");
    assert!(told.contains("127.0.0.1") && told.contains("--rate-limit-per-source"), "{told}");
    let allowed = async || (rest.get("/v1/agents").send().await.status == 200).then_some(());
    eventually("the next second", allowed).await;
}

#[tokio::test]
async fn streams_without_a_token_are_as_many_as_is_said() {
    let server = Server::with(Database::Sqlite).env("SUPERSERVE_MAX_OPEN_STREAMS", "1").start();
    let mut health = HealthClient::new(server.grpc().await.channel());
    let first = health.watch(HealthCheckRequest::default()).await.expect("there is a place");
    let refused = health.watch(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let metrics = server.ops().get("/metrics").send().await.text();
    assert!(metrics.contains("superserve_refused_total{limit=\"open_streams\"} 1\n"), "{metrics}");
    drop(first);
}

#[tokio::test]
async fn settings_that_would_keep_everybody_out_are_refused() {
    let setup = Server::with(Database::Sqlite);
    for (setting, value) in [
        ("SUPERSERVE_MAX_CONNECTIONS", "0"),
        ("SUPERSERVE_MAX_STREAMS_PER_CONNECTION", "0"),
        ("SUPERSERVE_MAX_HEADER_BYTES", "100"),
        ("SUPERSERVE_KEEPALIVE_INTERVAL", "0"),
        ("SUPERSERVE_ANSWER_TIMEOUT", "-1"),
    ] {
        let said = setup.clone().env(setting, value).run(&["serve"]).failed(1);
        let flag = setting.replace("SUPERSERVE_", "--").replace('_', "-").to_lowercase();
        assert!(said.contains(&flag), "{said}");
    }
}
