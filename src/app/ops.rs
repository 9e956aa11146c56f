//! The operator's port: `/livez`, `/readyz`, `/metrics`, and `grpc.health.v1` for probes, which cannot speak TLS.

use axum::{
    Router,
    extract::{RawQuery, State},
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{StatusCode, header};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tonic_health::{
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use crate::{
    service::{Condition, Service},
    telemetry::{Limit, Metrics},
};

/// The media type of the `OpenMetrics` text format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The longest question for health, in bytes.
const MOST_BYTES: usize = 4096;

#[derive(Clone)]
struct Context {
    service: Service,
    metrics: Metrics,
    vital: Vital,
}

/// What a server lives by, beside its database.
#[derive(Clone, Debug)]
pub(super) struct Vital {
    /// The task that accepts connections.
    pub(super) accepting: AbortHandle,
    /// Cancelled when the server begins to drain, which ends that task too.
    pub(super) stopping: CancellationToken,
}

// === impl Vital ===

impl Vital {
    /// Whether connections are accepted, or are not on purpose.
    fn is_accepting(&self) -> bool {
        self.stopping.is_cancelled() || !self.accepting.is_finished()
    }
}

/// The routes.
pub(super) fn router(service: Service, health: HealthReporter, metrics: Metrics, vital: Vital) -> Router {
    let health = HealthServer::new(HealthService::from_health_reporter(health));
    let health = health.max_decoding_message_size(MOST_BYTES);
    Router::new()
        .route_service("/grpc.health.v1.Health/{method}", health)
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state(Context { service, metrics, vital })
}

/// Whether a new start would help. It says so by whether it answers at all, which takes a thread of those that calls run
/// on; by the task that accepts connections; and by the thread that writes to SQLite. No database is asked.
async fn livez(State(context): State<Context>, query: RawQuery) -> Response {
    let accepts = context.vital.is_accepting();
    told("livez", "not alive", &of_life(accepts, context.service.is_alive()), &query)
}

fn of_life(accepts: bool, writes: bool) -> [Condition; 3] {
    let gone = |is_there: bool, why: &str| (!is_there).then(|| why.to_owned());
    [
        Condition { name: "runtime", failure: None },
        Condition { name: "listener", failure: gone(accepts, "no connections are accepted any more") },
        Condition { name: "writer", failure: gone(writes, "nothing is written any more") },
    ]
}

/// Whether calls can be answered.
async fn readyz(State(context): State<Context>, query: RawQuery) -> Response {
    let is_draining = context.vital.stopping.is_cancelled();
    let draining = Condition { name: "draining", failure: is_draining.then(|| "draining".to_owned()) };
    if is_draining && !is_verbose(&query) {
        return told("readyz", "not ready", &[draining], &query);
    }
    let [database, schema, keys] = context.service.conditions().await;
    told("readyz", "not ready", &[draining, database, schema, keys], &query)
}

/// Whether all is asked for, and not only how it is altogether: `?verbose`, as Kubernetes' own probes have it.
fn is_verbose(RawQuery(query): &RawQuery) -> bool {
    query.iter().flat_map(|query| query.split('&')).any(|part| part.split('=').next() == Some("verbose"))
}

/// An answer for probes: `ok`, or what is the first to be wrong; or a line for each condition.
fn told(name: &str, refusal: &str, conditions: &[Condition], query: &RawQuery) -> Response {
    let failure = conditions.iter().find_map(|condition| condition.failure.as_deref());
    let status = failure.map_or(StatusCode::OK, |_why| StatusCode::SERVICE_UNAVAILABLE);
    if !is_verbose(query) {
        let text = failure.map_or_else(|| "ok\n".to_owned(), |why| format!("{refusal}: {why}\n"));
        return (status, text).into_response();
    }
    let lines = conditions.iter().map(|Condition { name, failure }| match failure {
        Some(why) => format!("[-]{name} failed: {why}\n"),
        None => format!("[+]{name} ok\n"),
    });
    let outcome = if failure.is_some() { "failed" } else { "passed" };
    (status, lines.chain([format!("{name} check {outcome}\n")]).collect::<String>()).into_response()
}

async fn metrics_text(State(context): State<Context>) -> Response {
    context.metrics.limits().set_refused(Limit::Watches, context.service.watches_refused());
    ([(header::CONTENT_TYPE, OPEN_METRICS)], context.metrics.render()).into_response()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn text(response: Response) -> (u16, String) {
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn who_accepts_and_who_writes_is_vital() {
        let plain = RawQuery(None);
        for (accepts, writes, status) in [(true, true, 200), (false, true, 503), (true, false, 503)] {
            let (found, said) = text(told("livez", "not alive", &of_life(accepts, writes), &plain)).await;
            assert_eq!(found, status, "{said}");
        }
        let tasks = tokio_util::task::TaskTracker::new();
        let stopping = CancellationToken::new();
        let ended = tasks.spawn(async {});
        let vital = Vital { accepting: ended.abort_handle(), stopping: stopping.clone() };
        ended.await.unwrap();
        assert!(!vital.is_accepting());
        stopping.cancel();
        assert!(vital.is_accepting(), "it has ended because it was to");
    }

    #[tokio::test]
    async fn each_condition_has_a_line_if_it_is_asked_for() {
        let fine = Condition { name: "one", failure: None };
        let broken = Condition { name: "two", failure: Some("it is gone".to_owned()) };
        let plain = RawQuery(None);
        let verbose = RawQuery(Some("x=1&verbose".to_owned()));
        let told = |conditions: &[Condition], query| text(told("readyz", "not ready", conditions, query));
        assert_eq!(told(std::slice::from_ref(&fine), &plain).await, (200, "ok\n".to_owned()));
        let both = [fine.clone(), broken];
        assert_eq!(told(&both, &plain).await, (503, "not ready: it is gone\n".to_owned()));
        let lines = "[+]one ok\n[-]two failed: it is gone\nreadyz check failed\n";
        assert_eq!(told(&both, &verbose).await, (503, lines.to_owned()));
        assert_eq!(told(&[fine], &verbose).await, (200, "[+]one ok\nreadyz check passed\n".to_owned()));
    }
}
