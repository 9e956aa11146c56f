//! Answers that nobody takes: they stay in the server's memory, and there is an end of room for them.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::future::join_all;
use h2::{
    RecvStream,
    client::{self, SendRequest},
};
use prost::Message as _;
use serde_json::json;
use superserve::proto::v1::ResolveSecretsRequest;
use tokio::{net::TcpStream, task::JoinSet};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::harness::{Database, eventually, grpc_web::frame, server::Server, steps};

/// As many streams as one connection may have.
const A_CONNECTION: usize = 100;

/// What all clients may leave, and what the answers of one connection add to it, in bytes.
const ROOM: usize = 64 << 20;
const AN_ANSWER: usize = 4 * 60_000;

/// A connection that takes no answers: its window for them is closed.
async fn connect(server: &Server, clients: &mut JoinSet<()>) -> SendRequest<Bytes> {
    let socket = TcpStream::connect(server.address()).await.unwrap();
    let (requests, connection) =
        client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(socket).await.unwrap();
    clients.spawn(async move { drop(connection.await) });
    requests
}

/// Asks for all values of an agent; gives the gRPC status if it is refused, nothing of one if the server has hung up, else
/// an answer that is not taken.
async fn resolve(
    requests: &SendRequest<Bytes>,
    token: &str,
    agent: &str,
) -> Result<http::Response<RecvStream>, String> {
    let request = http::Request::post("http://x/superserve.secrets.v1.RuntimeService/ResolveSecrets")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {token}"));
    let message = ResolveSecretsRequest { agent_id: agent.to_owned(), ..Default::default() };
    let request = request.body(()).unwrap();
    let answer = async {
        let (answer, mut body) = requests.clone().ready().await?.send_request(request, false)?;
        body.send_data(frame(&message.encode_to_vec()).into(), true)?;
        answer.await
    };
    let answer: Result<_, h2::Error> = answer.await;
    let Ok(answer) = answer else { return Err(String::new()) };
    match answer.headers().get("grpc-status") {
        Some(status) => Err(status.to_str().unwrap().to_owned()),
        None => Ok(answer),
    }
}

#[tokio::test]
async fn untaken_answers_have_an_end_of_room() {
    let server = Server::start(Database::Sqlite);
    let agent = server.deploy("demo").await;
    let secrets: HashMap<_, _> = (0..4).map(|n| (format!("K{n}"), "x".repeat(60_000))).collect();
    server.set(&agent, &json!(secrets)).await;
    let token = server.token(&["secrets:resolve"], &[]).await;
    let before = server.resident_bytes();
    let mut clients = JoinSet::new();
    let (mut left, mut refused, mut connections) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROOM / AN_ANSWER / A_CONNECTION + 3 {
        let requests = connect(&server, &mut clients).await;
        let answers = (0..A_CONNECTION).map(|_| resolve(&requests, &token, &agent));
        for answer in join_all(answers).await {
            match answer {
                Ok(answer) => left.push(answer),
                Err(status) => refused.push(status),
            }
        }
        connections.push(requests);
    }
    assert!(left.len() * AN_ANSWER <= ROOM + 2 * A_CONNECTION * AN_ANSWER, "{} answers", left.len());
    // Who leaves that much is not waited for long either
    assert!(!refused.is_empty(), "there is no end");
    assert!(refused.iter().all(|status| ["14", ""].contains(&status.as_str())), "{refused:?}");
    let grown = server.resident_bytes().saturating_sub(before);
    // Buffers of answers are up to twice as large as the answers
    assert!(grown < 4 * ROOM as u64, "{grown} bytes");
    // Those who leave nothing are answered meanwhile
    assert_eq!(server.rest().get("/v1/agents").send().await.status, 200);
    let metrics = server.ops().get("/metrics").send().await.text();
    let count = r#"superserve_refused_total{limit="untaken"} "#;
    let counted: f64 = metrics.split(count).nth(1).unwrap().lines().next().unwrap().parse().unwrap();
    assert!(counted > 0.0, "{metrics}");

    // Those who leave most are hung up on, so there is room again although nobody takes anything
    let room = async || {
        let requests = connect(&server, &mut clients).await;
        let answers = join_all((0..A_CONNECTION / 2).map(|_| resolve(&requests, &token, &agent))).await;
        answers.iter().all(Result::is_ok).then_some(())
    };
    eventually("room", room).await;
    drop((left, connections));
}

/// As many at once as to leave several times what there is room for, a little on each of many connections, again and again.
#[tokio::test]
async fn what_one_caller_leaves_refuses_nobody_else() {
    let server = Server::with(Database::Sqlite).arg("--max-untaken-bytes=4194304").start();
    let agent = server.deploy("demo").await;
    let secrets: HashMap<_, _> = (0..4).map(|n| (format!("K{n}"), "x".repeat(60_000))).collect();
    server.set(&agent, &json!(secrets)).await;
    let (greedy, modest) =
        (server.token(&["secrets:resolve"], &[]).await, server.token(&["secrets:resolve"], &[]).await);
    let others = server.grpc().await.token(&modest);
    let (mut clients, mut refused) = (JoinSet::new(), 0);
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut connections = Vec::new();
        for _ in 0..10 {
            connections.push(connect(&server, &mut clients).await);
        }
        let many = connections.iter().flat_map(|requests| vec![requests; 10]);
        let answers = join_all(many.map(|requests| resolve(requests, &greedy, &agent))).await;
        refused += answers.iter().filter(|answer| answer.is_err()).count();
        for _ in 0..10 {
            let taken = steps::resolve(&others, &agent).await.expect("who takes his answers is answered");
            assert_eq!(taken.len(), 4);
        }
        held.push((connections, answers));
    }
    assert!(refused > 100, "{refused} of 500 are refused");
}

/// The document of the API needs no token, and is the same memory for all.
#[tokio::test]
async fn what_needs_no_token_is_left_by_nobody() {
    let server = Server::with(Database::Sqlite).arg("--max-untaken-bytes=1048576").start();
    let (mut clients, mut left) = (JoinSet::new(), Vec::new());
    for _ in 0..5 {
        let requests = connect(&server, &mut clients).await;
        for _ in 0..A_CONNECTION - 1 {
            let request = http::Request::get("http://x/openapi.json").body(()).unwrap();
            let (answer, _sent) =
                requests.clone().ready().await.unwrap().send_request(request, true).unwrap();
            let answer = answer.await.expect("an answer");
            assert_eq!(answer.status(), 200);
            left.push(answer);
        }
    }
    let mut health = HealthClient::new(server.grpc().await.channel());
    health.check(HealthCheckRequest::default()).await.expect("probes are answered");
    assert_eq!(server.rest().get("/v1/agents").send().await.status, 200);
}
