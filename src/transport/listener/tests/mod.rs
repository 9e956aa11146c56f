//! The listener on real sockets: a server on a free port, clients of the same libraries as the real
//! ones, and raw sockets where a client behaves as none should.

mod crowded;
mod http;
mod limits;
mod shutdown;
mod tls;

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{Extension, Router, body::Body, http::StatusCode, routing::get};
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use prometheus_client::{encoding::text::encode, registry::Registry};

use crate::telemetry::LimitMetrics;

use super::{ConnectionInfo, ListenerConfig, Tls, connection::TrackedExecutor};

/// A limit that the listener waits for in these tests.
const SHORT: Duration = Duration::from_millis(100);

/// What `/large` answers with, in bytes.
const LARGE: usize = 32 << 20;

/// Waits for something that must come, on a busy machine too.
async fn within<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(20), future).await.expect("it comes in time")
}

/// A configuration that waits for nothing within the time of a test, so that what a test sees can only
/// come from the limit it sets.
fn patient() -> ListenerConfig {
    let long = Duration::from_hours(1);
    ListenerConfig {
        first_bytes_timeout: long,
        tls_handshake_timeout: long,
        header_read_timeout: long,
        keepalive_interval: long,
        keepalive_timeout: long,
        max_connection_age_grace: long,
        crowded_grace: long,
        ..Default::default()
    }
}

/// Lets a test know when `/slow` was entered, and holds its answer back.
#[derive(Debug)]
struct Gate {
    entered: Semaphore,
    released: Semaphore,
}

struct TestServer {
    addr: SocketAddr,
    gate: Arc<Gate>,
    stop: CancellationToken,
    connections: TaskTracker,
    metrics: LimitMetrics,
    serving: JoinHandle<()>,
    /// Of the clients, apart from the server's.
    clients: TaskTracker,
}

/// A client's connection; the handle says how it ended.
struct Client<S> {
    requests: S,
    ended: JoinHandle<hyper::Result<()>>,
}

// === impl Gate ===

impl Gate {
    fn closed() -> Arc<Self> {
        Arc::new(Self { entered: Semaphore::new(0), released: Semaphore::new(0) })
    }

    async fn pass(&self) {
        self.entered.add_permits(1);
        self.released.acquire().await.unwrap().forget();
    }

    async fn entered(&self) {
        within(self.entered.acquire()).await.unwrap().forget();
    }

    fn release(&self) {
        self.released.add_permits(1);
    }
}

// === impl TestServer ===

impl TestServer {
    async fn start(config: ListenerConfig, tls: Option<Arc<Tls>>) -> Self {
        let bound = super::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
        let addr = bound.local_addr();
        let (gate, stop, connections) = (Gate::closed(), CancellationToken::new(), TaskTracker::new());
        let (clients, metrics) = (TaskTracker::new(), LimitMetrics::default());
        let serving = clients.spawn(super::serve(
            bound,
            tls,
            routes(Arc::clone(&gate)),
            config,
            metrics.clone(),
            stop.clone(),
            connections.clone(),
        ));
        Self { addr, gate, stop, connections, metrics, serving, clients }
    }

    /// Waits until a connection is counted as one that was closed for its silence.
    async fn counts_silence(&self) {
        let mut registry = Registry::default();
        self.metrics.register(&mut registry);
        let is_counted = || {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            text.contains("refused_total{limit=\"silence\"} 1\n")
        };
        within(async {
            while !is_counted() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    async fn socket(&self) -> TcpStream {
        within(TcpStream::connect(self.addr)).await.unwrap()
    }

    /// From another address of this machine, 127.0.0.`number`.
    async fn socket_from(&self, number: u8) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 0, number), 0).into()).unwrap();
        within(socket.connect(self.addr)).await.unwrap()
    }

    /// A raw connection that has sent `bytes`.
    async fn socket_with(&self, bytes: &[u8]) -> TcpStream {
        let mut socket = self.socket().await;
        within(socket.write_all(bytes)).await.unwrap();
        socket
    }

    async fn http1<S>(&self, stream: S) -> Client<http1::SendRequest<Empty<Bytes>>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (requests, connection) = within(http1::handshake(TokioIo::new(stream))).await.unwrap();
        Client { requests, ended: self.clients.spawn(connection) }
    }

    async fn http2<S>(&self, stream: S) -> Client<http2::SendRequest<Empty<Bytes>>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let executor = TrackedExecutor(self.clients.clone());
        let mut builder = http2::Builder::new(executor);
        builder.timer(TokioTimer::new());
        let (requests, connection) = within(builder.handshake(TokioIo::new(stream))).await.unwrap();
        Client { requests, ended: self.clients.spawn(connection) }
    }

    /// Stops accepting; the listening socket is gone on return.
    async fn stop(&mut self) {
        self.stop.cancel();
        within(&mut self.serving).await.unwrap();
    }

    /// Waits for the connections, as the caller of [`super::serve`] does.
    async fn drained(&self) {
        self.connections.close();
        within(self.connections.wait()).await;
    }
}

fn routes(gate: Arc<Gate>) -> Router {
    Router::new()
        .route(
            "/whoami",
            get(async |Extension(info): Extension<ConnectionInfo>| {
                format!("{} {} {}", info.remote, info.tls, info.peer_certificates.len())
            }),
        )
        .route(
            "/peer",
            get(async |Extension(info): Extension<ConnectionInfo>| {
                Body::from(info.peer_certificates.first().unwrap().to_vec())
            }),
        )
        .route("/large", get(async || Body::from(vec![b'x'; LARGE])))
        .route(
            "/slow",
            get(move || {
                let gate = Arc::clone(&gate);
                async move {
                    gate.pass().await;
                    Ok::<_, Infallible>("done")
                }
            }),
        )
}

// === clients ===

fn get_request(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://localhost{path}")).header("host", "localhost").body(Empty::new()).unwrap()
}

async fn answer(response: impl Future<Output = hyper::Result<Response<Incoming>>>) -> (StatusCode, Vec<u8>) {
    let response = within(response).await.unwrap();
    let status = response.status();
    (status, within(response.into_body().collect()).await.unwrap().to_bytes().to_vec())
}

fn ok(body: impl AsRef<[u8]>) -> (StatusCode, Vec<u8>) {
    (StatusCode::OK, body.as_ref().to_vec())
}

/// Reads until the server closes; a reset is one way to.
async fn read_to_close(socket: &mut TcpStream) -> String {
    let mut received = Vec::new();
    if let Err(error) = within(socket.read_to_end(&mut received)).await {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    String::from_utf8_lossy(&received).into_owned()
}
