//! What idle watchers cost: memory, and nothing else. `docs/performance.md` has the figures.

use futures_util::{StreamExt as _, TryStreamExt as _, future::join_all, stream};
use serde_json::json;
use superserve::proto::v1::{WatchSecretsRequest, WatchSecretsResponse};
use tonic::Streaming;

use crate::harness::{Database, environment, grpc::Grpc, server::Server};

/// As many streams as one connection may have.
const A_CONNECTION: usize = 100;

/// Calls on their way at a time.
const AT_A_TIME: usize = 200;

/// More than this is a leak or a buffer a watcher, in whatever way it was built.
const BYTES_AT_MOST: u64 = 64 * 1024;

/// How many are held, where the environment does not say otherwise.
const COUNT: usize = 500;

#[tokio::test]
async fn idle_watchers_are_held() {
    let count =
        environment("SUPERSERVE_TEST_WATCHERS").map_or(COUNT, |count| count.parse().expect("a number"));
    hold(count).await;
}

/// Opens watches, each of an agent of its own, which is the dearest way; says what they cost; and tells each of a
/// change, so that it is seen to live.
#[expect(clippy::print_stderr, reason = "the figure is for who measures")]
async fn hold(count: usize) {
    let server = Server::start(Database::Sqlite);
    let agents: Vec<String> = stream::iter(0..count)
        .map(|n| {
            let server = &server;
            async move { server.deploy(&format!("agent-{n:05}")).await }
        })
        .buffered(AT_A_TIME)
        .collect()
        .await;
    let before = server.resident_bytes();
    let connections = join_all(
        (0..count.div_ceil(A_CONNECTION)).map(|_| Grpc::connect(server.address(), server.admin_token())),
    );
    let connections = connections.await;
    let mut watches: Vec<Streaming<WatchSecretsResponse>> = stream::iter(agents.iter().enumerate())
        .map(|(n, agent)| {
            let mut client = connections[n / A_CONNECTION].runtime.clone();
            let request = WatchSecretsRequest { agent_id: agent.clone() };
            async move { client.watch_secrets(request).await.map(tonic::Response::into_inner) }
        })
        .buffered(AT_A_TIME)
        .try_collect()
        .await
        .expect("all are let in");
    for watch in &mut watches {
        assert_eq!(watch.message().await.unwrap().unwrap().revision, 0);
    }
    let each = server.resident_bytes().saturating_sub(before) / u64::try_from(count).unwrap();
    eprintln!("{count} idle watchers on {} connections: {each} bytes each", connections.len());
    assert!(each < BYTES_AT_MOST, "{each} bytes a watcher");

    stream::iter(&agents)
        .for_each_concurrent(AT_A_TIME, async |agent| drop(server.set(agent, &json!({"A": "a"})).await))
        .await;
    for watch in &mut watches {
        assert_eq!(watch.message().await.unwrap().unwrap().revision, 1);
    }
}
