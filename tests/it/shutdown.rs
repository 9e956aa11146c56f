//! Promise: SIGTERM drains. No request is cut, streams end, nobody new comes in, and it does not take for ever.

use std::{
    net::TcpListener,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::json;
use superserve::proto::v1::WatchSecretsRequest;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::Code;

use crate::harness::{
    Database, cli, eventually,
    fixtures::secrets_of,
    on_each_database,
    server::{Server, Setup},
    wait_for,
};

const IN_FLIGHT: usize = 50;

on_each_database!(every_request_in_flight_is_answered, a_drain_is_bounded);

async fn every_request_in_flight_is_answered(database: Database) {
    let mut server = with_room(Server::with(database)).start();
    let agent = server.deploy("demo").await;
    let mut watch = server.grpc().await.runtime;
    let request = WatchSecretsRequest { agent_id: agent.clone() };
    let mut revisions = watch.watch_secrets(request).await.unwrap().into_inner();
    assert_eq!(revisions.message().await.unwrap().unwrap().revision, 0);

    let lock = server.backdoor().await;
    lock.block_writers(&agent).await;
    let mut requests = join_all((0..IN_FLIGHT).map(|n| Upload::begin(&server, &agent, n))).await;
    server.signal_to_terminate();
    let draining = async || {
        let ready = server.ops().get("/readyz").send().await;
        (ready.status == 503 && ready.text().contains("draining")).then_some(())
    };
    eventually("readyz to say that it drains", draining).await;
    eventually("new connections to be refused", async || TcpStream::connect(server.address()).await.err())
        .await;
    let end = loop {
        match revisions.message().await {
            Ok(Some(_)) => {}
            Ok(None) => break Code::Ok,
            Err(status) => break status.code(),
        }
    };
    assert!(matches!(end, Code::Ok | Code::Unavailable), "{end:?}");

    for request in &mut requests {
        request.send_body().await;
    }
    lock.run("COMMIT").await;
    for answer in join_all(requests.into_iter().map(Upload::answer)).await {
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    assert_eq!(server.wait_until_it_ends().await.code(), Some(0));
    server.restart();
    let keys = server.rest().get(&secrets_of(&agent)).send().await.json()["keys"].as_array().unwrap().len();
    assert_eq!(keys, IN_FLIGHT);
}

async fn a_drain_is_bounded(database: Database) {
    let mut server = with_room(Server::with(database)).arg("--shutdown-timeout=1").start();
    let agent = server.deploy("demo").await;
    let lock = server.backdoor().await;
    lock.block_writers(&agent).await;
    let mut request = Upload::begin(&server, &agent, 0).await;
    request.send_body().await;
    let start = Instant::now();
    server.signal_to_terminate();
    let answer = tokio::join!(request.answer(), server.wait_until_it_ends()).0;
    let took = start.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(8)).contains(&took), "{took:?}");
    assert!(!answer.contains("200 OK"), "{answer}");
    lock.run("COMMIT").await;
    server.restart();
    assert_eq!(server.rest().get(&secrets_of(&agent)).send().await.json(), json!({"keys": []}));
}

/// A PATCH whose head the server has read, and whose body it waits for.
struct Upload {
    stream: TcpStream,
    body: String,
}

// === impl Upload ===

impl Upload {
    /// Sends the head. The server says that it goes on ("100 Continue") once the handler asks for the body.
    async fn begin(server: &Server, agent: &str, n: usize) -> Self {
        let body = json!({"secrets": {format!("KEY_{n}"): "value"}}).to_string();
        let (path, token, length) = (secrets_of(agent), server.admin_token(), body.len());
        let head = format!(
            "PATCH {path} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\nexpect: 100-continue\r\n\r\n"
        );
        let mut stream = TcpStream::connect(server.address()).await.expect("the server accepts");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut first = [0; 25];
        stream.read_exact(&mut first).await.expect("the server goes on");
        assert_eq!(first.as_slice(), b"HTTP/1.1 100 Continue\r\n\r\n");
        Self { stream, body }
    }

    async fn send_body(&mut self) {
        self.stream.write_all(self.body.as_bytes()).await.unwrap();
    }

    /// What comes back until the server closes.
    async fn answer(mut self) -> String {
        let mut answer = Vec::new();
        // A connection that is cut gives an error, and what came before it
        let _end = self.stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).expect("an answer of text")
    }
}

fn with_room(setup: Setup) -> Setup {
    setup.arg("--database-max-connections=60")
}

#[tokio::test]
async fn a_connection_of_age_is_asked_to_go() {
    let server = Server::with(Database::Sqlite).arg("--max-connection-age=0.2").start();
    let start = Instant::now();
    let answer =
        server.rest().raw(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n", Duration::from_secs(30)).await;
    assert!(answer.starts_with(b"HTTP/1.1 "), "{}", answer.escape_ascii());
    // An idle one is otherwise kept for more than a minute, and read for half a minute here
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn who_is_told_to_end_while_it_starts_ends_in_order() {
    // A database that takes connections and says nothing
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://u@{}/d", silent.local_addr().unwrap());
    let setup = Server::with(Database::Sqlite).database_url(&url);
    let mut command = setup.command(&["serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"]);
    let mut server = cli::Running(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let _held = silent.accept().unwrap();
    let told = Command::new("kill").args(["-TERM", &server.0.id().to_string()]).status();
    assert!(told.unwrap().success());
    let status = wait_for("it to end", || server.0.try_wait().unwrap());
    assert!(status.success(), "{status}");
}
