//! What idle connections cost, and that nobody is kept out by them, not by who has all. `docs/performance.md` has the figures.

use std::{net::Ipv4Addr, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use h2::client;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::timeout,
};

use crate::harness::{Database, environment, server::Server};

/// How many are held, where the environment does not say otherwise: with a few more they are all that there may be.
const COUNT: usize = 9_990;

/// Files that both sides need for something else. Fewer connections are held where the system allows no more.
const OTHER_FILES: u64 = 500;

/// On their way at a time.
const AT_A_TIME: usize = 100;

/// What has to come comes within this.
const LIMIT: Duration = Duration::from_secs(20);

/// More than this is a buffer for each, in whatever way it was built.
const BYTES_AT_MOST: u64 = 64 * 1024;

#[tokio::test]
#[expect(clippy::print_stderr, reason = "the figure is for who measures")]
async fn idle_connections_are_held() {
    let wanted = environment("SUPERSERVE_TEST_CONNECTIONS").map_or(COUNT, |n| n.parse().expect("a number"));
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let allowed =
        maximum.map_or(usize::MAX, |most| usize::try_from(most - OTHER_FILES).unwrap_or(usize::MAX));
    let count = wanted.min(allowed);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("no more than the maximum");
    // All come from one address
    let server = Server::with(Database::Sqlite).arg("--max-connections-per-source=0").start();
    assert_eq!(server.rest().get("/v1/agents").send().await.status, 200);
    let before = server.resident_bytes();
    let mut clients = JoinSet::new();
    let mut opened: Vec<_> = stream::iter(0..count)
        .map(|_| async {
            let socket = TcpStream::connect(server.address()).await.expect("it accepts");
            client::handshake(socket).await.expect("it speaks HTTP/2")
        })
        .buffered(AT_A_TIME)
        .map(|(requests, connection): (client::SendRequest<Bytes>, _)| {
            // Answers the server's pings, so that it stays
            clients.spawn(async move { drop(connection.await) });
            requests
        })
        .collect()
        .await;
    // Each is seen to be served
    for requests in &mut opened {
        let mut ready = requests.clone().ready().await.expect("it is open");
        let request = http::Request::get("http://x/v1/agents").body(()).unwrap();
        let (answer, _body) = ready.send_request(request, true).expect("it is open");
        assert_eq!(answer.await.expect("an answer").status(), 401);
    }
    let each = server.resident_bytes().saturating_sub(before) / u64::try_from(count).unwrap();
    eprintln!("{count} idle connections: {each} bytes each");
    assert!(each < BYTES_AT_MOST, "{each} bytes a connection");
    assert_eq!(server.rest().get("/v1/agents").send().await.status, 200);
    assert_eq!(clients.len(), count, "all are held");
}

/// They have as many as there may be, each as many as an address may have.
#[tokio::test]
async fn two_addresses_with_all_connections_keep_nobody_out() {
    let server = Server::with(Database::Sqlite).arg("--max-connections=20").start();
    let (mut clients, mut requests) = (JoinSet::new(), Vec::new());
    for source in [2, 3].repeat(10) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 0, source), 0).into()).unwrap();
        let socket = socket.connect(server.address()).await.expect("it accepts");
        let (opened, connection) = client::handshake(socket).await.expect("it speaks HTTP/2");
        clients.spawn(connection);
        requests.push(opened);
    }
    let elsewhere = server.rest().at(Ipv4Addr::new(127, 0, 0, 4));

    assert_eq!(elsewhere.get("/v1/agents").send().await.status, 200);

    let went = timeout(LIMIT, clients.join_next()).await.expect("one of them has to go for it");
    assert!(went.unwrap().unwrap().is_ok(), "with a goodbye");
    let metrics = server.ops().get("/metrics").send().await.text();
    assert!(metrics.contains("superserve_refused_total{limit=\"crowded\"} 1\n"), "{metrics}");
    assert!(clients.try_join_next().is_none(), "no other");
    let log = server.log();
    let told = log.lines().find(|line| line.contains("has to give some back")).expect("whose it was");
    assert!(told.contains("127.0.0.2") || told.contains("127.0.0.3"), "{told}");
}
