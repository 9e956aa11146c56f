//! Load on a server while something goes wrong with it: what each call came to, and what was acknowledged.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use superserve::proto::v1::{ListSecretsRequest, SetSecretsRequest};
use tonic::{Code, Request};

use super::{
    environment, eventually,
    grpc::Grpc,
    server::Server,
    steps::{resolve, resolver},
};

/// Callers that each set a secret of their own, list and resolve, one call after the other.
#[derive(Debug)]
pub(crate) struct Load {
    agent: String,
    stopped: AtomicBool,
    calls: Mutex<Vec<Call>>,
    /// Of each caller: the last number that was sent, and the last that was acknowledged.
    told: Vec<Mutex<(u64, u64)>>,
}

/// A call that has ended.
#[derive(Clone, Copy, Debug)]
struct Call {
    began: Instant,
    took: Duration,
    code: Code,
}

/// What became of calls.
pub(crate) struct Report {
    answered: Vec<Duration>,
    refused: Vec<Duration>,
    codes: BTreeMap<String, usize>,
    /// The longest time in which no call was answered.
    longest_gap: Duration,
}

// === impl Load ===

impl Load {
    /// So many callers on an agent of their own.
    pub(crate) async fn new(server: &Server, callers: usize) -> Self {
        let agent = server.deploy("load").await;
        let told = std::iter::repeat_with(Mutex::default).take(callers).collect();
        Self { agent, stopped: AtomicBool::new(false), calls: Mutex::default(), told }
    }

    /// Calls until it is stopped. It may be run again, on a server that was started anew.
    async fn run(&self, grpc: &Grpc) {
        self.stopped.store(false, Ordering::Relaxed);
        join_all(self.told.iter().enumerate().map(|(caller, told)| self.call(grpc, caller, told))).await;
    }

    /// Calls while `event` happens, as a [`resolver`].
    pub(crate) async fn during<T>(&self, grpc: &Grpc, event: impl Future<Output = T>) -> T {
        let event = async {
            let outcome = event.await;
            self.stopped.store(true, Ordering::Relaxed);
            outcome
        };
        tokio::join!(self.run(grpc), event).1
    }

    /// Waits until so many more calls were answered.
    pub(crate) async fn answers(&self, more: usize) {
        let before = self.answered();
        eventually("calls to be answered", async || (self.answered() >= before + more).then_some(())).await;
    }

    async fn call(&self, grpc: &Grpc, caller: usize, told: &Mutex<(u64, u64)>) {
        let (mut secrets, agent_id) = (grpc.secrets.clone(), self.agent.clone());
        while !self.stopped.load(Ordering::Relaxed) {
            let number = {
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                told.0 += 1;
                told.0
            };
            let values = HashMap::from([(key(caller), number.to_string())]);
            let set = SetSecretsRequest { agent_id: agent_id.clone(), secrets: values, ..Default::default() };
            let mut set = Request::new(set);
            set.set_timeout(Duration::from_secs(20));
            if self.note(secrets.set_secrets(set)).await {
                told.lock().unwrap_or_else(PoisonError::into_inner).1 = number;
            }
            let list = ListSecretsRequest { agent_id: agent_id.clone() };
            self.note(secrets.list_secrets(list)).await;
            self.note(resolve(grpc, &agent_id)).await;
        }
    }

    async fn note<T>(&self, call: impl Future<Output = Result<T, tonic::Status>>) -> bool {
        let began = Instant::now();
        let code = call.await.map_or_else(|status| status.code(), |_answer| Code::Ok);
        let call = Call { began, took: began.elapsed(), code };
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        if code != Code::Ok {
            // Who was refused does not come back at once
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        code == Code::Ok
    }

    /// How many calls were answered so far.
    fn answered(&self) -> usize {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.iter().filter(|call| call.code == Code::Ok).count()
    }

    /// What became of the calls since the last report.
    pub(crate) fn report(&self) -> Report {
        let calls = std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner));
        Report::of(&calls)
    }

    /// Every acknowledged write is there, or one that was under way after it.
    pub(crate) async fn check(&self, server: &Server) {
        let values = resolve(&resolver(server).await, &self.agent).await.expect("it resolves");
        for (caller, told) in self.told.iter().enumerate() {
            let (sent, acknowledged) = *told.lock().unwrap_or_else(PoisonError::into_inner);
            let found = values.get(&key(caller)).map_or(0, |value| value.parse().expect("a number"));
            assert!(
                (acknowledged..=sent).contains(&found),
                "caller {caller}: {acknowledged} was acknowledged, {sent} sent, {found} found"
            );
        }
    }
}

fn key(caller: usize) -> String {
    format!("KEY_{caller}")
}

// === impl Report ===

impl Report {
    fn of(calls: &[Call]) -> Self {
        let mut codes = BTreeMap::new();
        for call in calls {
            *codes.entry(format!("{:?}", call.code)).or_default() += 1;
        }
        let times = |wanted: fn(&Call) -> bool| {
            let mut times: Vec<_> = calls.iter().filter(|call| wanted(call)).map(|call| call.took).collect();
            times.sort_unstable();
            times
        };
        let mut ends: Vec<_> =
            calls.iter().filter(|call| call.code == Code::Ok).map(|call| call.began + call.took).collect();
        ends.sort_unstable();
        let gaps = ends.windows(2).map(|pair| pair[1].duration_since(pair[0]));
        Self {
            answered: times(|call| call.code == Code::Ok),
            refused: times(|call| call.code != Code::Ok),
            codes,
            longest_gap: gaps.max().unwrap_or_default(),
        }
    }

    /// How many calls ended so.
    pub(crate) fn count(&self, code: Code) -> usize {
        self.codes.get(&format!("{code:?}")).copied().unwrap_or_default()
    }

    /// How many calls were refused.
    pub(crate) fn refused(&self) -> usize {
        self.refused.len()
    }

    /// The time that this share of the answered calls took at most.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        quantile(&self.answered, share)
    }

    /// The time of the slowest call, answered or refused.
    pub(crate) fn slowest(&self) -> Duration {
        [&self.answered, &self.refused]
            .into_iter()
            .filter_map(|times| times.last())
            .max()
            .copied()
            .unwrap_or_default()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a place among some thousands"
)]
fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let place = (sorted.len() as f64 * share) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |time: Duration| time.as_secs_f64() * 1000.0;
        let codes: Vec<_> = self.codes.iter().map(|(code, count)| format!("{count} {code}")).collect();
        write!(
            f,
            "{}; answered p50 {:.1} ms, p99 {:.1} ms; refused p99 {:.1} ms; slowest {:.1} ms; longest gap {:.1} ms",
            codes.join(", "),
            millis(self.quantile(0.5)),
            millis(self.quantile(0.99)),
            millis(quantile(&self.refused, 0.99)),
            millis(self.slowest()),
            millis(self.longest_gap),
        )
    }
}

/// How long a drill takes: short, unless the environment says otherwise.
pub(crate) fn drill_time(short: u64) -> Duration {
    let seconds = environment("SUPERSERVE_TEST_DRILL_SECONDS").map(|text| text.parse().expect("seconds"));
    Duration::from_secs(seconds.unwrap_or(short))
}

/// Tells the figures of a drill, for who measures.
#[expect(clippy::print_stderr, reason = "the figures are for who measures")]
pub(crate) fn say(drill: &str, figures: impl fmt::Display) {
    eprintln!("drill {drill}: {figures}");
}
