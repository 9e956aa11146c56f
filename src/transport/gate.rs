//! What every call passes before its handler, whichever protocol it speaks.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, extract::Request, response::Response};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::{
    config::Config,
    guesses::Guesses,
    listener::{ClientCertificate, ConnectionInfo},
    load::{Awaited, Entry, Load, Place},
    protocol::{CallerNote, Protocol, RequestId},
    rates::Rates,
    source::Source,
};
use crate::{
    domain::{Origin, Principal},
    service::{Call, Error, Service},
    telemetry::{Limit, LimitMetrics},
};

/// Paths that need no token: they tell what this service can do, and whether it does.
const OPEN_PATHS: [&str; 4] = [
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
    "/openapi.json",
];

/// Those of them that are answered by streams, which go on for as long as the client likes.
const OPEN_STREAM_PATHS: [&str; 3] = [
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// How many streams that need no token there may be: nobody can be asked to stop them.
const OPEN_STREAMS: usize = 1024;

/// When to try again where there are too many of them.
const OPEN_STREAMS_RETRY: Duration = Duration::from_secs(10);

/// By which a caller who may call for several tenants says for which one.
pub(super) const TENANT: HeaderName = HeaderName::from_static("x-superserve-tenant");

/// What stands before every handler. Its limits are those of both protocols together.
pub(super) struct Gate {
    service: Service,
    timeout: Duration,
    concurrent: Semaphore,
    /// Of which there are so many.
    most: usize,
    load: Load,
    token_rates: Rates<String>,
    source_rates: Rates<Source>,
    guesses: Guesses,
    metrics: LimitMetrics,
    /// For streams that need no token.
    open_streams: Arc<Semaphore>,
}

// === impl Gate ===

impl Gate {
    /// Limits as they are configured.
    pub(super) fn new(service: Service, config: &Config, metrics: LimitMetrics) -> Self {
        let most = config.concurrent_requests.min(Semaphore::MAX_PERMITS);
        Self {
            service,
            timeout: config.timeout,
            concurrent: Semaphore::new(most),
            most,
            load: Load::new(&metrics),
            token_rates: Rates::new(config.rate_limit),
            source_rates: Rates::new(config.rate_limit_per_source),
            guesses: Guesses::new(config.failed_auth),
            metrics,
            open_streams: Arc::new(Semaphore::new(OPEN_STREAMS)),
        }
    }

    /// Looks for a place for a request, as soon as its head is there. [`Self::guard`] wants it among the extensions.
    pub(super) fn enter(&self, request: &Request) -> Entry {
        self.load.enter(request)
    }

    /// Hands a request on, or refuses it as its protocol does.
    pub(super) async fn guard<F>(
        &self,
        protocol: Protocol,
        request: Request,
        handle: impl FnOnce(Request) -> F,
    ) -> Response
    where
        F: Future<Output = Response>,
    {
        self.pass(request, handle).await.unwrap_or_else(|error| protocol.refuse(&error))
    }

    /// What every call passes before its handler, in this order: there is room for it, it ends in time, it is known
    /// who calls, and he does not call too often.
    async fn pass<F>(
        &self,
        mut request: Request,
        handle: impl FnOnce(Request) -> F,
    ) -> Result<Response, Error>
    where
        F: Future<Output = Response>,
    {
        let place = match request.extensions_mut().remove::<Entry>() {
            Some(Entry::Refused(limit)) => return Err(self.overloaded(limit)),
            Some(Entry::Place(place)) => Some(place),
            Some(Entry::Probe) | None => None,
        };
        let _held = self.room_for(&request)?;
        let open_stream = self.open_stream(request.uri().path())?;
        let limit = self.time_limit(request.headers());
        let answered = async {
            self.authenticate(&mut request).await?;
            self.limit_rate(&request)?;
            let request = self.at_place(request, place.as_ref())?;
            Ok(until_its_end(handle(request).await, open_stream))
        };
        tokio::time::timeout(limit, answered).await.unwrap_or(Err(Error::TimedOut))
    }

    /// Whether there is room for one more call, and whether there is for one from where it comes.
    fn room_for(&self, request: &Request) -> Result<SemaphorePermit<'_>, Error> {
        let connection = request.extensions().get::<ConnectionInfo>();
        if connection.is_some_and(|connection| connection.untaken.is_too_much()) {
            return Err(self.overloaded(Limit::Untaken));
        }
        let source = || connection.map(|connection| Source::of(connection.remote.ip()));
        self.counted(Limit::SourceRate, self.source_rates.check(source))?;
        self.concurrent.try_acquire().map_err(|_full| self.overloaded(Limit::Concurrency))
    }

    /// Notes at its place whose call it is, and has it not count while it waits for its body. Of the last quarter of all
    /// calls that may be under way, none is for a tenant that has its share of them.
    fn at_place(&self, request: Request, place: Option<&Arc<Place>>) -> Result<Request, Error> {
        let Some(place) = place else { return Ok(request) };
        if let Some(call) = request.extensions().get::<Call>() {
            let tenant = call.tenant().as_str();
            self.load.note(place, request.headers(), tenant);
            let is_scarce = self.concurrent.available_permits() < self.most / 4;
            if is_scarce && self.load.is_over_share(tenant, self.most) {
                return Err(self.overloaded(Limit::TenantShare));
            }
        }
        Ok(request.map(|body| Awaited::body(body, place)))
    }

    fn overloaded(&self, limit: Limit) -> Error {
        self.metrics.refused(limit);
        Error::Overloaded
    }

    /// Counts it if a limit has refused.
    fn counted<T>(&self, limit: Limit, outcome: Result<T, Error>) -> Result<T, Error> {
        outcome.inspect_err(|_refused| self.metrics.refused(limit))
    }

    /// As long as this server allows, or less if a gRPC caller asks.
    fn time_limit(&self, headers: &HeaderMap) -> Duration {
        let asked = headers.get("grpc-timeout").and_then(|value| grpc_timeout(value.to_str().ok()?));
        asked.map_or(self.timeout, |asked| asked.min(self.timeout))
    }

    /// A place for a stream that needs no token, if it is one.
    fn open_stream(&self, path: &str) -> Result<Option<OwnedSemaphorePermit>, Error> {
        let is_one = OPEN_STREAM_PATHS.contains(&path);
        let place = is_one.then(|| Arc::clone(&self.open_streams).try_acquire_owned()).transpose();
        let refused = |_full| Error::RateLimited { retry_after: OPEN_STREAMS_RETRY };
        self.counted(Limit::OpenStreams, place.map_err(refused))
    }

    /// Finds out who calls, before anything else is looked at.
    async fn authenticate(&self, request: &mut Request) -> Result<(), Error> {
        if needs_no_token(request.uri().path()) {
            return Ok(());
        }
        let connection = request.extensions().get::<ConnectionInfo>();
        let mut principal = self.caller(request.headers(), connection).await?;
        if let Some(named) = named_tenant(request.headers()) {
            // In a box: few calls name one
            principal = Box::pin(self.service.in_tenant(principal, named)).await?;
        }
        if let Some(note) = request.extensions().get::<CallerNote>() {
            note.set(&principal.token.id);
        }
        let origin = origin(request);
        request.extensions_mut().insert(Call { principal, origin });
        Ok(())
    }

    /// Finds out who calls, unless too many who come from there are nobody. Who shows nothing guesses nothing.
    async fn caller(
        &self,
        headers: &HeaderMap,
        connection: Option<&ConnectionInfo>,
    ) -> Result<Principal, Error> {
        let certificate = connection.and_then(|connection| connection.peer_certificates.first());
        let token = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let shown = token.or(certificate.map(AsRef::as_ref)).ok_or(Error::Unauthenticated)?;
        let source = connection.map(|connection| Source::of(connection.remote.ip()));
        let noted = source.map(|source| self.guesses.admit(source, shown)).transpose();
        let noted = self.counted(Limit::FailedAuth, noted)?;
        // Who shows a token is who the token says, whatever his certificate says, and nobody if it is not valid
        let caller = match token {
            Some(_) => match bearer(headers) {
                Some(token) => self.service.authenticate(token).await,
                None => Err(Error::Unauthenticated),
            },
            None => self.by_certificate(connection),
        };
        if let (Some(source), Some(noted)) = (source, noted) {
            self.guesses.note(source, shown, noted, &caller);
        }
        caller
    }

    /// Finds out who calls without a token.
    fn by_certificate(&self, connection: Option<&ConnectionInfo>) -> Result<Principal, Error> {
        let client = connection.and_then(|connection| connection.client.as_ref());
        let ClientCertificate { spiffe_id, validity } = &**client.ok_or(Error::Unauthenticated)?;
        let id = spiffe_id.as_ref().map_err(|reason| {
            tracing::debug!(%reason, "a client certificate makes nobody known");
            Error::Unauthenticated
        })?;
        self.service.authenticate_workload(id, validity.not_before, validity.not_after)
    }

    fn limit_rate(&self, request: &Request) -> Result<(), Error> {
        let call = request.extensions().get::<Call>();
        let token = || call.map(|call| call.principal.token.id.as_str().to_owned());
        self.counted(Limit::TokenRate, self.token_rates.check(token))
    }
}

/// Keeps a place until the answer has ended.
fn until_its_end(answer: Response, place: Option<OwnedSemaphorePermit>) -> Response {
    let Some(place) = place else { return answer };
    answer.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _kept = &place;
            frame
        }))
    })
}

fn needs_no_token(path: &str) -> bool {
    OPEN_PATHS.iter().any(|open| path == *open || (open.ends_with('/') && path.starts_with(open)))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The tenant that a call names, if it does; what cannot be one is named as none that exists.
fn named_tenant(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(TENANT).iter();
    match (values.next()?, values.next()) {
        (value, None) => Some(value.to_str().unwrap_or_default()),
        (_, Some(_)) => Some(""),
    }
}

fn origin(request: &Request) -> Origin {
    let connection = request.extensions().get::<ConnectionInfo>();
    let id = request.extensions().get::<RequestId>();
    Origin {
        request_id: id.map(|id| id.0.clone()).unwrap_or_default(),
        remote: connection.map(|connection| connection.remote.to_string()).unwrap_or_default(),
    }
}

/// Reads a `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2, "Requests").
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn timeouts_follow_the_grpc_grammar() {
        assert_eq!(grpc_timeout("500m"), Some(Duration::from_millis(500)));
        assert_eq!(grpc_timeout("99999999H"), Some(Duration::from_hours(99_999_999)));
        for text in ["", "m", "5", "123456789S", "-1S", "1x", "1.5S", "５S"] {
            assert_eq!(grpc_timeout(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_timeout_breaks_it(text in ".{0,12}") {
            let timeout = grpc_timeout(&text);
            prop_assert!(timeout.is_none_or(|timeout| timeout <= Duration::from_hours(99_999_999)));
        }
    }

    #[test]
    fn only_one_bearer_token_counts() {
        let headers = |values: &[&str]| {
            let mut map = HeaderMap::new();
            for value in values {
                map.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            map
        };
        assert_eq!(bearer(&headers(&["Bearer abc"])), Some("abc"));
        assert_eq!(bearer(&headers(&["bearer abc"])), Some("abc"));
        for values in [&[][..], &["abc"], &["Basic abc"], &["Bearer a", "Bearer b"]] {
            assert_eq!(bearer(&headers(values)), None, "{values:?}");
        }
    }
}
