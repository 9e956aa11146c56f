//! gRPC calls that come when they come, whatever becomes of those before (an open loop), or as many at a time (a closed
//! one). A call is timed from when it should have begun, so one that waits for its turn at the client waits in the figures
//! too.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::client::{self, SendRequest};
use prost::Message;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{LIMIT, grpc_web::frame};

/// The timer of the runtime is so coarse; what it is late is not the server's doing.
const TIMER: Duration = Duration::from_millis(2);

/// Connections that calls take turns on.
#[derive(Clone)]
pub(crate) struct Connections {
    all: Vec<SendRequest<Bytes>>,
    token: String,
}

/// What is called: the path, and the message.
#[derive(Clone, Debug)]
pub(crate) struct What {
    pub(crate) path: &'static str,
    pub(crate) message: Bytes,
}

/// What became of the calls.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Of those that were answered with what they asked for, in microseconds, sorted.
    pub(crate) answered: Vec<u64>,
    /// Of those that were refused as there were too many.
    pub(crate) refused: Vec<u64>,
    /// What else was said.
    pub(crate) failed: Vec<String>,
    pub(crate) lasted: Duration,
}

// === impl What ===

impl What {
    pub(crate) fn new(path: &'static str, message: &impl Message) -> Self {
        Self { path, message: frame(&message.encode_to_vec()).into() }
    }
}

// === impl Connections ===

impl Connections {
    /// Opens so many. `tasks` carries them.
    pub(crate) async fn open(server: SocketAddr, count: usize, token: &str, tasks: &mut JoinSet<()>) -> Self {
        let mut all = Vec::new();
        for _ in 0..count {
            let socket = TcpStream::connect(server).await.expect("the server accepts");
            socket.set_nodelay(true).expect("a socket");
            let (requests, connection) = client::handshake(socket).await.expect("it speaks HTTP/2");
            tasks.spawn(async move { drop(connection.await) });
            all.push(requests);
        }
        Self { all, token: token.to_owned() }
    }

    /// Calls so often a second for so long, and waits for the answers. What comes in the first quarter, or second, is not
    /// counted: until then it may be found out that there is too much.
    pub(crate) async fn at_rate(&self, rate: f64, lasts: Duration, what: impl Fn(usize) -> What) -> Outcome {
        let outcome = Arc::new(Mutex::new(Outcome::default()));
        let (began, mut calls, mut sent) = (Instant::now(), JoinSet::new(), 0);
        let due =
            |n: usize| began + Duration::from_secs_f64(f64::from(u32::try_from(n).expect("few")) / rate);
        let uncounted = (lasts / 4).min(Duration::from_secs(1));
        let counted = began + uncounted;
        while began.elapsed() < lasts {
            let now = Instant::now();
            while due(sent) <= now {
                let started = due(sent).max(now.checked_sub(TIMER).unwrap_or(now));
                let call = self.call(sent, what(sent));
                let outcome = Arc::clone(&outcome);
                calls.spawn(async move {
                    let answer = call.await;
                    if started >= counted {
                        outcome.lock().expect("no panic").add(started.elapsed(), answer);
                    }
                });
                sent += 1;
            }
            while calls.try_join_next().is_some() {}
            sleep(Duration::from_millis(1)).await;
        }
        while timeout(LIMIT, calls.join_next()).await.expect("every call is answered").is_some() {}
        drop(calls);
        let outcome = Arc::into_inner(outcome).expect("no call is left").into_inner().expect("no panic");
        outcome.after(lasts.saturating_sub(uncounted))
    }

    /// Has so many calls under way for so long.
    pub(crate) async fn at_a_time(
        &self,
        count: usize,
        lasts: Duration,
        what: impl Fn(usize) -> What + Clone + Send + 'static,
    ) -> Outcome {
        let mut lanes = JoinSet::new();
        let end = Instant::now() + lasts;
        for lane in 0..count {
            let (connections, what) = (self.clone(), what.clone());
            lanes.spawn(async move {
                let mut outcome = Outcome::default();
                for n in (lane..).step_by(count) {
                    let started = Instant::now();
                    if started >= end {
                        break;
                    }
                    let answer = connections.call(n, what(n)).await;
                    outcome.add(started.elapsed(), answer);
                }
                outcome
            });
        }
        let mut all = Outcome::default();
        while let Some(lane) = lanes.join_next().await {
            let Outcome { answered, refused, failed, lasted: _ } = lane.expect("no panic");
            all.answered.extend(answered);
            all.refused.extend(refused);
            all.failed.extend(failed);
        }
        all.after(lasts)
    }

    /// The gRPC status of a call, or the error of its connection. `n` says whose turn it is.
    pub(crate) fn call(
        &self,
        n: usize,
        What { path, message }: What,
    ) -> impl Future<Output = String> + Send + use<> {
        let requests = self.all[n % self.all.len()].clone();
        let request = http::Request::post(format!("http://x{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {}", self.token))
            .body(())
            .expect("a request");
        async move {
            let answer = async {
                let (answer, mut body) = requests.ready().await?.send_request(request, false)?;
                body.send_data(message, true)?;
                let answer = answer.await?;
                if let Some(status) = answer.headers().get("grpc-status") {
                    return Ok(status.clone());
                }
                let mut body = answer.into_body();
                while let Some(data) = body.data().await {
                    let length = data?.len();
                    body.flow_control().release_capacity(length)?;
                }
                let trailers = body.trailers().await?;
                Ok(trailers.and_then(|trailers| trailers.get("grpc-status").cloned()).expect("a status"))
            };
            let answer: Result<_, h2::Error> = answer.await;
            answer.map_or_else(
                |error| error.to_string(),
                |status| status.to_str().expect("a number").to_owned(),
            )
        }
    }
}

// === impl Outcome ===

impl Outcome {
    fn add(&mut self, took: Duration, status: String) {
        let took = u64::try_from(took.as_micros()).expect("not so long");
        match status.as_str() {
            "0" => self.answered.push(took),
            "14" => self.refused.push(took),
            _ => self.failed.push(status),
        }
    }

    fn after(mut self, lasted: Duration) -> Self {
        self.answered.sort_unstable();
        self.refused.sort_unstable();
        Self { lasted, ..self }
    }

    /// Answers a second.
    pub(crate) fn rate(&self) -> f64 {
        f64::from(u32::try_from(self.answered.len()).expect("few")) / self.lasted.as_secs_f64()
    }

    /// The share that was refused.
    pub(crate) fn share_refused(&self) -> f64 {
        let count = |calls: &[u64]| f64::from(u32::try_from(calls.len()).expect("few"));
        count(&self.refused) / (count(&self.refused) + count(&self.answered)).max(1.0)
    }

    /// A quantile of those that were answered.
    pub(crate) fn quantile(&self, percent: usize) -> Duration {
        Self::of(&self.answered, percent)
    }

    /// A quantile of those that were refused.
    pub(crate) fn refusal(&self, percent: usize) -> Duration {
        Self::of(&self.refused, percent)
    }

    fn of(sorted: &[u64], percent: usize) -> Duration {
        let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        Duration::from_micros(sorted.get(at).copied().unwrap_or_default())
    }
}
