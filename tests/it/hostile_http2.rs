//! HTTP/2 as no client should speak it. Each connection that does so ends or is held up; what it costs is bounded, and
//! others are answered meanwhile.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, future::join_all, stream};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};
use tonic_types::StatusExt as _;

use crate::harness::{
    Database, LIMIT, eventually,
    frames::{
        ACK, CONTINUATION, Connection, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, End, HEADERS, PING,
        PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, get, length, post,
    },
    grpc::Grpc,
    server::Server,
};

/// What a server may need more of memory for what is done here; one that keeps what it is sent needs more.
const GROWTH: u64 = 24 << 20;

/// More than any queue on the way holds.
const FLOOD: usize = 64 << 20;

/// HPACK's `:status: 200`.
const STATUS_200: u8 = 0x88;

/// Who takes nothing for so long has stopped.
const PATIENCE: Duration = Duration::from_secs(2);

/// What all here have to hold to.
struct Bounds {
    server: Server,
    before: u64,
}

// === impl Bounds ===

impl Bounds {
    async fn of(server: Server) -> Self {
        assert_eq!(server.rest().get("/v1/agents").send().await.status, 200);
        let before = server.resident_bytes();
        Self { server, before }
    }

    /// Others are answered, and the memory is what it was.
    async fn hold(&self, what: &str) {
        assert_eq!(self.server.rest().get("/v1/agents").send().await.status, 200, "{what}");
        let grown = self.server.resident_bytes().saturating_sub(self.before);
        assert!(grown < GROWTH, "{what}: {grown} bytes");
    }
}

#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let bounds = Bounds::of(Server::start(Database::Sqlite)).await;
    let cancel = 8_u32.to_be_bytes();
    let call = |stream: u32| {
        let headers = frame(HEADERS, END_STREAM | END_HEADERS, stream, &get("/v1/agents"));
        [headers, frame(RST_STREAM, 0, stream, &cancel)].concat()
    };
    let calls: Vec<u8> = (0..5000).flat_map(|n| call(2 * n + 1)).collect();
    let attack = async || {
        let mut connection = Connection::open(bounds.server.address(), &[]).await;
        // It may be cut off while it sends
        let _sent = connection.send(&calls).await;
        assert_eq!(connection.end().await, End::GoAway(ENHANCE_YOUR_CALM));
    };
    tokio::join!(join_all((0..8).map(|_| attack())), bounds.hold("during rapid resets"));
    bounds.hold("after rapid resets").await;
}

/// Slow enough that each call is begun before it is taken back: nothing of it may be left.
#[tokio::test]
async fn calls_that_are_taken_back_leave_nothing() {
    let server = Server::with(Database::Sqlite).arg("--max-concurrent-requests=1").start();
    let bounds = Bounds::of(server).await;
    let mut connection = Connection::open(bounds.server.address(), &[]).await;
    let list = "/superserve.secrets.v1.AgentsService/ListAgents";
    let call = post(list, "application/grpc", Some(bounds.server.admin_token()));
    for n in 0..1000 {
        let stream = 2 * n + 1;
        // It waits for its message, and has the only place
        connection.send(&frame(HEADERS, END_HEADERS, stream, &call)).await.unwrap();
        connection.settle().await.expect("it goes on");
        connection.send(&frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())).await.unwrap();
    }
    connection.settle().await.expect("it goes on");
    let allowed = async || {
        let list = bounds.server.rest().get("/v1/agents").send().await;
        (list.status == 200).then_some(())
    };
    eventually("the place", allowed).await;
    let headers = frame(HEADERS, END_STREAM | END_HEADERS, 2001, &get("/openapi.json"));
    connection.send(&headers).await.unwrap();
    let answer = connection.wait_for(HEADERS, 2001).await.expect("an answer");
    assert_eq!(answer.payload[0], STATUS_200);
    bounds.hold("after calls that were taken back").await;
}

#[tokio::test]
async fn headers_without_an_end_end_the_connection() {
    let bounds = Bounds::of(Server::start(Database::Sqlite)).await;
    let filled = [vec![0, 1, b'a', 127, 0xff, 0xff, 0x7f], vec![b'x'; 16_000]].concat();
    for (what, continuation) in
        [("empty", vec![]), ("of small headers", block(&[("a", "")])), ("of one", filled)]
    {
        let mut connection = Connection::open(bounds.server.address(), &[]).await;
        connection.send(&frame(HEADERS, END_STREAM, 1, &get("/"))).await.unwrap();
        let flood = frame(CONTINUATION, 0, 1, &continuation).repeat(100);
        let sent = connection.flood(&flood, FLOOD, LIMIT).await;
        assert!(sent < FLOOD, "{what}");
        assert_ne!(connection.end().await, End::Cut, "{what}: it is told why");
        bounds.hold(what).await;
    }
}

#[tokio::test]
async fn headers_that_unfold_end_the_connection() {
    let bounds = Bounds::of(Server::start(Database::Sqlite)).await;
    // Entered into the table of both sides, and named by one byte from then on
    let entry = [vec![0x40, 1, b'a'], length(3900), vec![b'x'; 3900]].concat();
    let unfolding = [get("/"), entry, vec![0xbe; 12_000]].concat();
    let many = [get("/"), block(&[("a", "")]).repeat(3000)].concat();
    let huge_table = [vec![0x3f, 0xff, 0xff, 0xff, 0xff, 0x0f], get("/")].concat();
    for (what, headers) in [("unfolding", unfolding), ("many", many), ("a huge table", huge_table)] {
        let mut connection = Connection::open(bounds.server.address(), &[]).await;
        let _sent = connection.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &headers)).await;
        assert!(matches!(connection.end().await, End::GoAway(1..)), "{what}");
        bounds.hold(what).await;
    }
}

/// Each of these frames has to be answered, and the answers are not read.
#[tokio::test]
async fn a_flood_that_asks_for_answers_is_held_up() {
    let bounds = Bounds::of(Server::start(Database::Sqlite)).await;
    let reset = frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/v1/agents"));
    for (what, asked) in
        [("pings", frame(PING, 0, 0, b"no hurry")), ("settings", frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]))]
    {
        let mut connection = Connection::open(bounds.server.address(), &[]).await;
        connection.send(&reset).await.unwrap();
        let sent = connection.flood(&asked.repeat(1000), FLOOD, PATIENCE).await;
        assert!(sent < FLOOD, "{what}: all of it was read");
        bounds.hold(what).await;
    }
}

#[tokio::test]
async fn a_flood_that_asks_for_nothing_keeps_nobody_waiting() {
    let bounds = Bounds::of(Server::start(Database::Sqlite)).await;
    let floods = [
        ("priorities", frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 7])),
        ("windows", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("acknowledged pings", frame(PING, ACK, 0, b"no hurry")),
        ("unknown frames", frame(0x20, 0, 0, &[])),
        ("empty data", frame(DATA, 0, 1, &[])),
    ];
    for (what, asked) in floods {
        let mut connection = Connection::open(bounds.server.address(), &[]).await;
        let call = post("/v1/agents", "application/json", Some(bounds.server.admin_token()));
        connection.send(&frame(HEADERS, END_HEADERS, 1, &call)).await.unwrap();
        let flood = asked.repeat(1000);
        tokio::join!(connection.flood(&flood, 4 << 20, PATIENCE), bounds.hold(what));
        bounds.hold(what).await;
    }
}

#[tokio::test]
async fn bodies_without_a_token_are_not_kept() {
    let bounds = Bounds::of(Server::start(Database::Sqlite)).await;
    let call = post("/v1/agents", "application/json", None);
    let data = vec![b' '; 16 * 1024];
    // As much as a connection may send unasked is 2 MiB; of these connections together 128
    let (mut connections, mut taken) = (Vec::new(), 0);
    for _ in 0..64 {
        let mut connection = Connection::open(bounds.server.address(), &[]).await;
        for stream in (0..31).map(|n| 2 * n + 1) {
            let mut sent = frame(HEADERS, END_HEADERS, stream, &call);
            sent.extend(frame(DATA, 0, stream, &data).repeat(4));
            // Who sends on after his stream has ended may be cut off
            if connection.send(&sent).await.is_err() {
                break;
            }
            taken += sent.len();
        }
        let _still_there = connection.settle().await;
        connections.push(connection);
    }
    assert!(taken > 2 * usize::try_from(GROWTH).unwrap(), "only {taken} bytes were taken at all");
    bounds.hold("bodies without a token").await;
}

/// What is open to everybody tells what the service can do, and must not be what it can be filled with.
#[tokio::test]
async fn streams_without_a_token_are_few_and_their_messages_short() {
    let bounds = Bounds::of(Server::start(Database::Sqlite)).await;
    let server = &bounds.server;
    let connections = join_all((0..11).map(|_| Grpc::connect(server.address(), "none"))).await;
    let watch = |connection: &Grpc| {
        let mut health = HealthClient::new(connection.channel());
        async move { health.watch(HealthCheckRequest::default()).await.map(tonic::Response::into_inner) }
    };
    let all = connections.iter().flat_map(|connection| std::iter::repeat_n(connection, 100)).take(1024);
    let watches: Vec<_> = stream::iter(all).map(watch).buffered(100).try_collect().await.unwrap();
    let refused = watch(&connections[10]).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(refused.get_details_error_info().unwrap().reason, "RATE_LIMITED");
    assert!(refused.get_details_retry_info().unwrap().retry_delay.is_some());
    let mut health = HealthClient::new(connections[10].channel());
    health.check(HealthCheckRequest::default()).await.expect("probes are let in");
    bounds.hold("1024 watches of health").await;
    drop(watches);
    eventually("a place", async || watch(&connections[10]).await.ok()).await;

    let mut reflection = ServerReflectionClient::new(connections[0].channel());
    for (bytes, is_answered) in [(100, true), (100_000, false)] {
        let message_request = Some(MessageRequest::ListServices(String::new()));
        let question = ServerReflectionRequest { host: "x".repeat(bytes), message_request };
        let answers = reflection.server_reflection_info(stream::iter([question])).await;
        let answer = answers.unwrap().into_inner().message().await;
        assert_eq!(matches!(answer, Ok(Some(_))), is_answered, "{bytes}: {answer:?}");
    }
}
