//! Refuses calls at once while more come than are answered, so that those that are let in are answered soon.
//!
//! A call is under way from the moment at which its head is read to the head of its answer, so what waits for a processor
//! counts as well as what waits for the database; while it waits for its own client (a slow body), it does not count.
//! As long as there are few, or many for a moment only, all are let in. Where there are many for longer, there are more
//! than are answered: from then on only so many may be under way as answering needs (`climb` finds out how many), and only
//! so many of those that come are let in that processors have something to spare (`spare`), until nothing has to be refused
//! any more. Reads and writes have places of their own: a slow disk keeps no reader out. Between
//! tenants the places are shared (`shares`).

mod body;
mod climb;
mod place;
mod shares;
mod spare;

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Method, Request, header};

pub(super) use self::{body::Awaited, place::Place};
use self::{
    place::Places,
    shares::{Known, NOBODY_KNOWN},
};
use super::head::TENANT;
use crate::telemetry::{Limit, LimitMetrics};

/// Probes are not refused: a server that is taken away from its callers makes the others' load greater.
const PROBES: &str = "/grpc.health.v1.Health/";

/// What the names of RPCs that write nothing begin with.
const READS: [&str; 5] = ["Get", "List", "Check", "Watch", "WhoAmI"];

/// The calls under way.
pub(super) struct Load {
    reads: Arc<Places>,
    writes: Arc<Places>,
    known: Known,
}

/// Whether a call was let in, and its place.
#[derive(Clone)]
pub(super) enum Entry {
    /// It needs no place.
    Probe,
    /// It has one.
    Place(Arc<Place>),
    /// There is none.
    Refused(Limit),
}

// === impl Load ===

impl Load {
    /// Nothing, yet.
    pub(super) fn new(metrics: &LimitMetrics) -> Self {
        let places = |kind| Places::new(metrics.calls(kind));
        Self { reads: places("read"), writes: places("write"), known: Known::new() }
    }

    /// Looks for a place.
    pub(super) fn enter(&self, request: &Request<Body>) -> Entry {
        let path = request.uri().path();
        if path.starts_with(PROBES) {
            return Entry::Probe;
        }
        let places = if writes_nothing(request.method(), path) { &self.reads } else { &self.writes };
        let tenant = || self.known.tenant_of(&shown(request.headers()));
        places.enter(tenant).map_or_else(Entry::Refused, |place| Entry::Place(Arc::new(place)))
    }

    /// Notes whose call it is, now that it is known. Who comes by a certificate is known by nothing that was seen before, and
    /// stays with the others who are not: else each of his calls would be one of somebody who has none.
    pub(super) fn note(&self, place: &Place, headers: &HeaderMap, tenant: &str) {
        let tenant = self.number_of(headers, tenant);
        if place.belongs_to(tenant) && tenant != NOBODY_KNOWN {
            self.known.remember(&shown(headers), tenant);
        }
    }

    /// Whether a tenant has more calls that are not answered, also such as wait for their bodies, than its share of so
    /// many: as many as there were for each if there were one more who has some.
    pub(super) fn is_over_share(&self, headers: &HeaderMap, tenant: &str, most: usize) -> bool {
        let tenant = self.number_of(headers, tenant);
        let [(reads, by_reads), (writes, by_writes)] =
            [&self.reads, &self.writes].map(|it| it.held_by(tenant));
        reads.saturating_add(writes) > (most / (by_reads.max(by_writes) + 1)).max(1)
    }

    fn number_of(&self, headers: &HeaderMap, tenant: &str) -> u64 {
        let is_told = headers.contains_key(header::AUTHORIZATION);
        if is_told { self.known.number_of(tenant) } else { NOBODY_KNOWN }
    }
}

/// By what a caller is known again: the token, and the tenant that is named. A certificate is not looked at.
fn shown(headers: &HeaderMap) -> [&[u8]; 2] {
    [header::AUTHORIZATION, TENANT]
        .map(|name| headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default())
}

fn writes_nothing(method: &Method, path: &str) -> bool {
    let rpc = path.rsplit('/').next().unwrap_or_default();
    match *method {
        Method::POST => READS.iter().any(|name| rpc.starts_with(name)),
        Method::PATCH | Method::DELETE => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_told_from_writes() {
        for (method, path, reads) in [
            (Method::GET, "/v1/agents", true),
            (Method::POST, "/v1/agents", false),
            (Method::PATCH, "/v1/agents/agt_List/secrets", false),
            (Method::DELETE, "/v1/agents/a/secrets/List", false),
            (Method::POST, "/superserve.secrets.v1.SecretsService/ListSecrets", true),
            (Method::POST, "/superserve.secrets.v1.RuntimeService/WatchSecrets", true),
            (Method::POST, "/superserve.secrets.v1.RuntimeService/CheckRequiredSecrets", true),
            (Method::POST, "/superserve.secrets.v1.TokensService/WhoAmI", true),
            (Method::POST, "/superserve.secrets.v1.SecretsService/SetSecrets", false),
            // Its record is written before a value leaves
            (Method::POST, "/superserve.secrets.v1.RuntimeService/ResolveSecrets", false),
        ] {
            assert_eq!(writes_nothing(&method, path), reads, "{method} {path}");
        }
    }

    #[test]
    fn a_tenants_share_of_all_calls_is_of_both_kinds() {
        let load = Load::new(&LimitMetrics::default());
        let enter = |method: &Method, tenant| {
            let request = Request::builder().method(method).uri("/v1/agents");
            let request = request.header("authorization", "Bearer one").body(Body::empty()).unwrap();
            let Entry::Place(place) = load.enter(&request) else { panic!("there is room") };
            load.note(&place, request.headers(), tenant);
            place
        };
        let shown = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static("Bearer one"))]);
        let over = |tenant, most| load.is_over_share(&shown, tenant, most);
        let held: Vec<_> =
            (0..2).flat_map(|_| [Method::GET, Method::POST].map(|it| enter(&it, "one"))).collect();
        assert!(over("one", 6) && !over("one", 8));
        let _other = enter(&Method::GET, "other");
        assert!(over("one", 8) && !over("other", 8));
        for place in &held {
            place.leave();
        }
        assert!(!over("one", 1));
    }

    #[test]
    fn who_comes_by_a_certificate_is_one_of_those_nobody_knows() {
        let load = Load::new(&LimitMetrics::default());
        let request = Request::get("/v1/agents").body(Body::empty()).unwrap();
        let Entry::Place(place) = load.enter(&request) else { panic!("there is room") };
        load.note(&place, request.headers(), "one");
        assert_eq!(
            (load.reads.held_by(NOBODY_KNOWN), load.reads.held_by(load.known.number_of("one")).0),
            ((1, 1), 0)
        );
    }

    #[test]
    fn a_probe_needs_no_place() {
        let load = Load::new(&LimitMetrics::default());
        let request = Request::post("/grpc.health.v1.Health/Check").body(Body::empty()).unwrap();
        assert!(matches!(load.enter(&request), Entry::Probe));
    }
}
