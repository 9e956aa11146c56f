//! The server's door: accepts connections and serves HTTP/1.1 and HTTP/2 on them, with or without TLS.
//!
//! A socket is bound before anything is served ([`bind`]), and [`serve`] hands every connection to the
//! same service, with a [`ConnectionInfo`] in each request. What a client can do to a connection has
//! a limit in [`ListenerConfig`]: a limit on requests belongs into a step before its handler instead.

mod certificate;
mod config;
mod connection;
mod crowd;
mod first_bytes;
mod gathered;
#[cfg(test)]
mod tests;
mod tls;
mod untaken;

use std::{
    convert::Infallible, hash::BuildHasher, hash::RandomState, io, net::SocketAddr, sync::Arc, time::Duration,
};

use axum::{body::Body, extract::Request, response::Response};
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    certificate::{ClientCertificate, NoSvid, Validity},
    config::ListenerConfig,
    connection::ConnectionInfo,
    tls::{Reloaded, Tls, TlsConfig, TlsError},
    untaken::{KeptAnyway, Untaken},
};
use self::{
    connection::{Connections, TrackedExecutor},
    crowd::Crowd,
    untaken::AllUntaken,
};
use crate::{telemetry::LimitMetrics, transport::seldom::Seldom};

/// How long to wait when the system has no more sockets or memory: trying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A socket that listens; clients that connect wait until it is served.
#[derive(Debug)]
pub struct BoundListener {
    listener: TcpListener,
    local_addr: SocketAddr,
}

/// Accepts sockets.
struct Acceptor {
    listener: TcpListener,
    failing: Seldom,
}

/// What answers requests.
pub trait Answers:
    tower::Service<Request<Body>, Response = Response, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Answers for S where
    S: tower::Service<Request<Body>, Response = Response, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// Listens on `addr`; port 0 takes a free one.
///
/// # Errors
///
/// If the address cannot be had; the error names it.
pub async fn bind(addr: SocketAddr) -> io::Result<BoundListener> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {addr}: {error}"));
    let listener = TcpListener::bind(addr).await.map_err(named)?;
    let local_addr = listener.local_addr().map_err(named)?;
    Ok(BoundListener { listener, local_addr })
}

/// Serves connections until `stop`, then closes the socket, so that new clients are refused, and
/// returns.
///
/// Connections run as tasks of `tracker`. After `stop` each answers the requests it has and ends; the
/// caller closes the tracker and waits for it, for as long as it will. A response that never ends by
/// itself, such as a subscription, must end on the same `stop`, or it is cut off when the waiting is over.
pub async fn serve<S>(
    bound: BoundListener,
    tls: Option<Arc<Tls>>,
    service: S,
    config: ListenerConfig,
    metrics: LimitMetrics,
    stop: CancellationToken,
    tracker: TaskTracker,
) where
    S: Answers,
{
    let mut acceptor = Acceptor::new(bound.listener);
    let crowd = Crowd::new(config.max_connections, config.max_connections_per_source, metrics.clone());
    let connections = Arc::new(Connections {
        http: config.http_builder(TrackedExecutor(tracker.clone())),
        tls,
        service,
        untaken: AllUntaken::new(config.max_untaken_bytes),
        config,
        metrics,
        stop: stop.clone(),
    });
    let spread = RandomState::new();
    while let Some((socket, remote)) = stop.run_until_cancelled(acceptor.next()).await {
        let Ok(place) = crowd.enter(remote.ip()) else { continue };
        let age = connections.config.connection_age(spread.hash_one(remote));
        let connections = Arc::clone(&connections);
        drop(tracker.spawn(async move {
            connections.run(socket, remote, age, place.notice()).await;
            drop(place);
        }));
    }
}

// === impl BoundListener ===

impl BoundListener {
    /// The address it listens on, with the real port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

// === impl Acceptor ===

impl Acceptor {
    fn new(listener: TcpListener) -> Self {
        Self { listener, failing: Seldom::default() }
    }

    /// The next connection.
    async fn next(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok(accepted) => return accepted,
                Err(error) if concerns_one_client(&error) => {
                    tracing::debug!(%error, "a client left before it was accepted");
                }
                Err(error) => {
                    if self.failing.allows() {
                        tracing::error!(%error, "cannot accept connections");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Whether the error of an accept is about the connection that was to be accepted, not about the
/// listener: the next one can be accepted at once.
fn concerns_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
    )
}
