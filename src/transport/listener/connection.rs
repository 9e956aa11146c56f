//! One connection, from the accepted socket to its end.

use std::{future::poll_fn, io, net::SocketAddr, pin::Pin, sync::Arc, task::Poll, time::Duration};

use axum::{BoxError, body::Body};
use futures_util::TryFutureExt as _;
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{rt::TokioIo, server::conn::auto};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, UnixTime},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Answers,
    certificate::ClientCertificate,
    config::ListenerConfig,
    crowd::Notice,
    first_bytes::FirstBytes,
    gathered::Gathered,
    tls::Tls,
    untaken::{AllUntaken, Untaken},
};
use crate::{
    domain::Timestamp,
    telemetry::{Limit, LimitMetrics},
};

/// Who is at the other end. Every request has it among its extensions.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// The address the connection came from, which can be a proxy's. An IPv4 address is never written
    /// as an IPv6 one.
    pub remote: SocketAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The client's certificate, verified, followed by the intermediate ones it sent. Empty when
    /// client certificates are not asked for.
    pub peer_certificates: Arc<[CertificateDer<'static>]>,
    /// What the client's certificate says; `None` if it showed none.
    pub client: Option<Arc<ClientCertificate>>,
    /// What the client was answered and has not taken yet.
    pub untaken: Arc<Untaken>,
}

/// What all connections of a listener share.
pub(super) struct Connections<S> {
    pub(super) http: auto::Builder<TrackedExecutor>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) service: S,
    pub(super) untaken: Arc<AllUntaken>,
    pub(super) config: ListenerConfig,
    pub(super) metrics: LimitMetrics,
    pub(super) stop: CancellationToken,
}

/// Runs the tasks of HTTP/2 streams where shutdown waits for them.
#[derive(Clone, Debug)]
pub(super) struct TrackedExecutor(pub(super) TaskTracker);

/// Why a connection was asked to go.
enum Leaving {
    Stopped,
    TooOld,
    /// Others have fewer connections, and none is left.
    Crowded,
    /// The authority of the client's certificate is none any more.
    Distrusted,
    /// It leaves its answers where they are.
    Neglectful,
}

// === impl Connections ===

impl<A: Answers> Connections<A> {
    /// Serves one connection to its end. What goes wrong on it is the client's affair: it is logged
    /// for those who look closely, and nobody else.
    pub(super) async fn run(
        &self,
        socket: TcpStream,
        remote: SocketAddr,
        age: Option<Duration>,
        notice: &Notice,
    ) {
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        if let Err(error) = self.serve_socket(socket, remote, age, notice).await {
            if is_for_silence(&*error) {
                self.metrics.refused(Limit::Silence);
            }
            tracing::debug!(%remote, error = &*error, "connection ended early");
        }
    }

    async fn serve_socket(
        &self,
        socket: TcpStream,
        remote: SocketAddr,
        age: Option<Duration>,
        notice: &Notice,
    ) -> Result<(), BoxError> {
        socket.set_nodelay(true)?;
        let untaken = self.untaken.connection(remote.ip());
        let Some(tls) = &self.tls else {
            let peer_certificates = Arc::default();
            let info = ConnectionInfo { remote, tls: false, peer_certificates, client: None, untaken };
            return self.serve_http(socket, info, age, notice, std::future::pending()).await;
        };
        let current = tls.current();
        // A client in its handshake has not sent a request: it loses nothing when it has to go
        let handshake = self.handshake(Arc::clone(&current.server), socket);
        let handshake = notice.leave.run_until_cancelled(handshake);
        let Some(Some(handshake)) = self.stop.run_until_cancelled(handshake).await else {
            return Ok(());
        };
        let stream = handshake?;
        let chain: Arc<[_]> = stream.get_ref().1.peer_certificates().unwrap_or_default().into();
        let client = chain.first().and_then(ClientCertificate::of_der).map(Arc::new);
        // What it may by its certificate it may no longer than that is good
        let left = client.as_ref().map(|client| time_until(client.validity.not_after));
        let age = age.into_iter().chain(left).min();
        let distrusted = tls.until_distrusted(current.clients.as_ref(), &chain);
        let peer_certificates = Arc::clone(&chain);
        let info = ConnectionInfo { remote, tls: true, peer_certificates, client, untaken };
        self.serve_http(stream, info, age, notice, distrusted).await
    }

    async fn handshake(
        &self,
        config: Arc<ServerConfig>,
        socket: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let accept = TlsAcceptor::from(config).accept(socket);
        timeout(self.config.tls_handshake_timeout, accept).await?
    }

    async fn serve_http<S>(
        &self,
        stream: S,
        info: ConnectionInfo,
        age: Option<Duration>,
        notice: &Notice,
        distrusted: impl Future<Output = ()>,
    ) -> Result<(), BoxError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = Gathered::new(FirstBytes::new(stream, self.config.first_bytes_timeout));
        let written = stream.handle();
        let service = service_fn(|mut request: Request<Incoming>| {
            request.extensions_mut().insert(info.clone());
            // At once, and not when its task comes to it: the time until then is a part of the call. What answers is
            // always ready
            let answer = self.service.clone().call(request.map(Body::new));
            let untaken = Arc::clone(&info.untaken);
            answer.map_ok(move |answer| untaken.count(answer))
        });
        let mut connection = std::pin::pin!(self.http.serve_connection(TokioIo::new(stream), service));
        let mut distrusted = std::pin::pin!(distrusted);
        let leaving = tokio::select! {
            // First, so that a request which is already here is taken.
            biased;
            ended = drive(connection.as_mut(), &written) => return ended,
            () = self.stop.cancelled() => Leaving::Stopped,
            () = distrusted.as_mut() => Leaving::Distrusted,
            () = info.untaken.neglected(self.config.answer_timeout) => {
                self.metrics.refused(Limit::Silence);
                Leaving::Neglectful
            }
            () = notice.leave.cancelled() => Leaving::Crowded,
            () = reached(age) => Leaving::TooOld,
        };
        connection.as_mut().graceful_shutdown();
        match leaving {
            // How long is up to whoever waits for the tasks.
            Leaving::Stopped => return drive(connection, &written).await,
            Leaving::TooOld => tokio::select! {
                ended = timeout(self.config.max_connection_age_grace, drive(connection.as_mut(), &written)) => return ended.unwrap_or(Ok(())),
                () = distrusted.as_mut() => return Ok(()),
                () = notice.leave.cancelled() => {}
            },
            Leaving::Crowded => {}
            // Somebody has taken the authority away for a reason, or was waited for: nothing is waited for now.
            Leaving::Distrusted | Leaving::Neglectful => return Ok(()),
        }
        // Others wait for its place
        tokio::select! {
            ended = timeout(self.config.crowded_grace, drive(connection, &written)) => ended.unwrap_or(Ok(())),
            () = distrusted => Ok(()),
            () = notice.end.cancelled() => Ok(()),
        }
    }
}

/// Takes a connection to its end. What it writes goes out at the end of each turn, also of the last: it may tell why it
/// ends.
async fn drive<C, S>(mut connection: Pin<&mut C>, written: &Gathered<S>) -> Result<(), BoxError>
where
    C: Future<Output = Result<(), BoxError>>,
    S: AsyncWrite + Unpin,
{
    poll_fn(|cx| {
        let ended = connection.as_mut().poll(cx);
        match written.drain(cx) {
            Poll::Ready(Err(error)) if ended.is_pending() => Poll::Ready(Err(error.into())),
            Poll::Ready(_) | Poll::Pending => ended,
        }
    })
    .await
}

/// Whether a connection has ended because nothing came for too long, or no sign of life.
fn is_for_silence(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| {
        let of_http = error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_timeout);
        let of_io = error.downcast_ref::<io::Error>().is_some_and(|it| it.kind() == io::ErrorKind::TimedOut);
        of_http || of_io || error.is::<tokio::time::error::Elapsed>()
    })
}

async fn reached(age: Option<Duration>) {
    match age {
        Some(age) => sleep(age).await,
        None => std::future::pending().await,
    }
}

/// By the clock by which certificates are judged; nothing if it has come.
fn time_until(end: Timestamp) -> Duration {
    let end = Duration::from_micros(u64::try_from(end.0).unwrap_or_default());
    end.saturating_sub(Duration::from_secs(UnixTime::now().as_secs()))
}

// === impl TrackedExecutor ===

impl<F> hyper::rt::Executor<F> for TrackedExecutor
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        drop(self.0.spawn(future));
    }
}
