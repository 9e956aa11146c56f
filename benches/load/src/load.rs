//! Drives a server: some connections, each with one or more calls under way, as fast as answers come (closed loop)
//! or on a schedule (open loop).
//!
//! On a schedule a call that begins late, because the one before it took too long, is timed from when it should have
//! begun: a stall of the server counts against all calls that it delayed.

use std::{
    net::SocketAddr,
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::{
    grpc::Grpc,
    http1::Http1,
    machine::{self, Snapshot, Usage},
};

/// What speaks to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Grpc,
    Http1,
}

/// One call, ready to be sent.
pub struct Request {
    /// Of gRPC.
    pub path: &'static str,
    /// The framed message, or all of an HTTP/1.1 request.
    pub bytes: Bytes,
}

/// Gives call after call; `None` when there is nothing left to do.
pub trait Source {
    fn next(&self) -> Option<Request>;
    /// Whether an answer has in it what it should.
    fn check(&self, answer: &[u8]) -> Result<()>;
}

/// Where to.
#[derive(Clone, Debug)]
pub struct Target {
    /// Connections take turns between these.
    pub addresses: Vec<SocketAddr>,
    pub wire: Wire,
    pub token: String,
    /// The roots of the processes that serve.
    pub servers: Vec<u32>,
}

/// How.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub connections: usize,
    /// Calls under way on each; gRPC only.
    pub streams: usize,
    pub warm_up: Duration,
    pub duration: Duration,
    /// Calls a second, of an open loop.
    pub rate: Option<f64>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub calls: u64,
    pub seconds: f64,
    /// In microseconds.
    pub latency: Option<Histogram<u64>>,
    pub usage: Usage,
}

/// When a run measures.
#[derive(Clone, Copy)]
struct Window {
    from: Instant,
    to: Instant,
}

enum Client {
    Grpc(Grpc),
    Http1(Http1),
}

impl Shape {
    fn lanes(&self) -> usize {
        self.connections * self.streams
    }
}

impl Outcome {
    /// Calls a second.
    pub fn rate(&self) -> f64 {
        self.calls as f64 / self.seconds
    }

    /// A quantile of the latency, in milliseconds.
    pub fn latency_ms(&self, quantile: f64) -> Option<f64> {
        Some(self.latency.as_ref()?.value_at_quantile(quantile) as f64 / 1e3)
    }

    /// Processor time of the server a call, in microseconds.
    pub fn server_us(&self) -> f64 {
        self.usage.server * 1e6 / (self.usage.seconds * self.rate())
    }

    /// Flushes of the device a call.
    pub fn flushes(&self) -> Option<f64> {
        Some(self.usage.flushes? as f64 / (self.usage.seconds * self.rate()))
    }
}

impl Client {
    async fn call(&mut self, request: Request) -> Result<Bytes> {
        match self {
            Self::Grpc(grpc) => grpc.call(request.path, request.bytes).await,
            Self::Http1(http) => Ok(Bytes::copy_from_slice(http.call(&request.bytes).await?)),
        }
    }
}

/// Runs a load, on one thread: a client with more would take the server's cores.
pub fn run(target: &Target, shape: &Shape, source: Rc<dyn Source>, directory: &Path) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, drive(target, shape, source, directory))
}

async fn drive(target: &Target, shape: &Shape, source: Rc<dyn Source>, directory: &Path) -> Result<Outcome> {
    ensure!(shape.streams == 1 || target.wire == Wire::Grpc, "HTTP/1.1 has one call at a time");
    let mut clients = Vec::new();
    for address in target.addresses.iter().cycle().take(shape.connections) {
        clients.extend(connect(target, *address, shape.streams).await?);
    }
    let from = Instant::now() + shape.warm_up;
    let window = Window { from, to: from + shape.duration };
    let mut lanes = JoinSet::new();
    for (number, client) in clients.into_iter().enumerate() {
        let schedule = shape.rate.map(|rate| Schedule::new(rate, shape.lanes(), number));
        lanes.spawn_local(lane(client, Rc::clone(&source), window, schedule));
    }

    tokio::time::sleep_until(window.from.into()).await;
    let before = machine::snapshot(&target.servers, directory)?;
    let mut after = None;
    let mut latency = new_histogram()?;
    let mut last = window.from;
    while let Some(lane) = lanes.join_next().await {
        if after.is_none() {
            after = Some(machine::snapshot(&target.servers, directory)?);
        }
        let (measured, ended) = lane??;
        latency.add(measured)?;
        last = last.max(ended);
    }
    finish(&before, &after.context("no lane")?, latency, window, last)
}

fn finish(
    before: &Snapshot,
    after: &Snapshot,
    latency: Histogram<u64>,
    window: Window,
    last: Instant,
) -> Result<Outcome> {
    let calls = latency.len();
    ensure!(calls > 0, "nothing was measured: too few things to do, or too short a time");
    let end = window.to.min(last); // earlier where all was done
    let seconds = end.duration_since(window.from).as_secs_f64();
    Ok(Outcome { calls, seconds, latency: Some(latency), usage: before.until(after) })
}

async fn connect(target: &Target, address: SocketAddr, streams: usize) -> Result<Vec<Client>> {
    Ok(match target.wire {
        Wire::Http1 => vec![Client::Http1(Http1::connect(address).await?)],
        Wire::Grpc => {
            let grpc = Grpc::connect(address, &target.token).await?;
            (0..streams).map(|_| Client::Grpc(grpc.clone())).collect()
        }
    })
}

/// When the calls of one lane are due.
struct Schedule {
    next: Instant,
    every: Duration,
}

impl Schedule {
    fn new(rate: f64, lanes: usize, lane: usize) -> Self {
        let next = Instant::now() + Duration::from_secs_f64(lane as f64 / rate);
        Self { next, every: Duration::from_secs_f64(lanes as f64 / rate) }
    }

    /// Waits until the next call is due and says from when to time it.
    async fn due(&mut self) -> Instant {
        let due = self.next;
        self.next += self.every;
        if due <= Instant::now() {
            return due;
        }
        // The timer is coarse (1 ms), and its lateness is ours, not the server's
        tokio::time::sleep_until(due.into()).await;
        Instant::now()
    }
}

/// Calls until the window ends or nothing is left, and gives the latencies within it.
async fn lane(
    mut client: Client,
    source: Rc<dyn Source>,
    window: Window,
    mut schedule: Option<Schedule>,
) -> Result<(Histogram<u64>, Instant)> {
    let mut latency = new_histogram()?;
    let mut checked = false;
    loop {
        let started = match &mut schedule {
            Some(schedule) => schedule.due().await,
            None => Instant::now(),
        };
        if started >= window.to {
            return Ok((latency, Instant::now()));
        }
        let Some(request) = source.next() else { return Ok((latency, Instant::now())) };
        let answer = client.call(request).await?;
        let ended = Instant::now();
        if !checked {
            source.check(&answer)?;
            checked = true;
        }
        if (window.from..window.to).contains(&ended) {
            latency.record(u64::try_from((ended - started).as_micros())?)?;
        }
    }
}

fn new_histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 120_000_000, 3)?)
}
