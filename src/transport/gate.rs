//! What every call passes before its handler, whichever protocol it speaks.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, extract::Request, response::Response};
use http::{HeaderMap, HeaderValue, Version, header};
use http_body_util::{BodyExt as _, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::{
    config::Config,
    guesses::Guesses,
    head::{bearer, grpc_timeout, named_tenant},
    listener::{ClientCertificate, ConnectionInfo},
    load::{Awaited, Entry, Load, Place},
    protocol::{CallerNote, Protocol, RequestId},
    rates::Rates,
    source::Source,
};
use crate::{
    domain::{Origin, Principal},
    service::{Call, Error, Nobody, Service},
    telemetry::{Limit, LimitMetrics},
    trace,
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

/// When to try again where there are too many of them.
const OPEN_STREAMS_RETRY: Duration = Duration::from_secs(10);

/// How much, and for how long, is taken in of a request that is refused.
const UNREAD_BYTES: usize = 64 * 1024;
const UNREAD_TIME: Duration = Duration::from_secs(1);

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
    /// For streams that need no token: nobody can be asked to stop them.
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
            token_rates: Rates::new("--rate-limit", config.rate_limit),
            source_rates: Rates::new("--rate-limit-per-source", config.rate_limit_per_source),
            guesses: Guesses::new(config.failed_auth, config.timeout),
            metrics,
            open_streams: Arc::new(Semaphore::new(config.open_streams.min(Semaphore::MAX_PERMITS))),
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
            trace::step("authenticate", self.authenticate(&mut request)).await?;
            if let Err(refused) = self.limit_rate(&request) {
                take_the_rest(request).await;
                return Err(refused);
            }
            let request = self.at_place(request, place.as_ref())?;
            Ok(until_its_end(handle(request).await, open_stream))
        };
        tokio::time::timeout(limit, answered).await.unwrap_or(Err(Error::TimedOut))
    }

    /// Whether there is room for one more call, and whether there is for one from where it comes.
    fn room_for(&self, request: &Request) -> Result<SemaphorePermit<'_>, Error> {
        let connection = request.extensions().get::<ConnectionInfo>();
        let source = || connection.map(|connection| Source::of(connection.remote.ip()));
        self.counted(Limit::SourceRate, self.source_rates.check(source))?;
        self.concurrent.try_acquire().map_err(|_full| self.overloaded(Limit::Concurrency))
    }

    /// Whether there is room for one more answer to who calls, who may not take it.
    fn room_for_answer(&self, request: &Request) -> Result<(), Error> {
        let connection = request.extensions().get::<ConnectionInfo>();
        let caller = request.extensions().get::<CallerNote>().map(CallerNote::get).unwrap_or_default();
        let is_too_much = connection.is_some_and(|it| it.untaken.is_too_much_of(caller));
        if is_too_much { Err(self.overloaded(Limit::Untaken)) } else { Ok(()) }
    }

    /// Notes at its place whose call it is, and has it not count while it waits for its body. Of the last quarter of all
    /// calls that may be under way, none is for a tenant that has its share of them.
    fn at_place(&self, request: Request, place: Option<&Arc<Place>>) -> Result<Request, Error> {
        let Some(place) = place else { return Ok(request) };
        self.room_for_answer(&request)?;
        if let Some(call) = request.extensions().get::<Call>() {
            let tenant = call.tenant().as_str();
            self.load.note(place, request.headers(), tenant);
            let is_scarce = self.concurrent.available_permits() < self.most / 4;
            if is_scarce && self.load.is_over_share(request.headers(), tenant, self.most) {
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
        let shown = token.or(certificate.map(AsRef::as_ref));
        let shown = shown.ok_or_else(|| self.service.refused(Nobody::ShowsNothing))?;
        let source = connection.map(|connection| Source::of(connection.remote.ip()));
        let attempt = source.map(|source| self.guesses.admit(source, shown)).transpose();
        let attempt = self.counted(Limit::FailedAuth, attempt)?;
        // Who shows a token is who the token says, whatever his certificate says, and nobody if it is not valid
        let caller = match token {
            Some(_) => match bearer(headers) {
                Some(token) => self.service.authenticate(token).await,
                None => Err(self.service.refused(Nobody::Malformed)),
            },
            None => self.by_certificate(connection).await,
        };
        if let Some(attempt) = attempt {
            attempt.settle(&caller);
        }
        caller
    }

    /// Finds out who calls without a token.
    async fn by_certificate(&self, connection: Option<&ConnectionInfo>) -> Result<Principal, Error> {
        let client = connection.and_then(|connection| connection.client.as_ref());
        let ClientCertificate { spiffe_id, validity } = &**client.ok_or(Error::Unauthenticated)?;
        let id = spiffe_id.as_ref().map_err(|reason| {
            tracing::debug!(%reason, "a client certificate makes nobody known");
            self.service.refused(Nobody::Invalid)
        })?;
        self.service.authenticate_workload(id, validity.not_before, validity.not_after).await
    }

    fn limit_rate(&self, request: &Request) -> Result<(), Error> {
        let call = request.extensions().get::<Call>();
        let token = || call.map(|call| call.principal.token.id.as_str().to_owned());
        self.counted(Limit::TokenRate, self.token_rates.check(token))
    }
}

/// Takes in what a known caller still sends, before he is refused: over HTTP/1 the connection would end with the answer,
/// and who is writing then finds it broken, and never reads when to come back.
async fn take_the_rest(request: Request) {
    if request.version() >= Version::HTTP_2 {
        return;
    }
    let mut rest = Limited::new(request.into_body(), UNREAD_BYTES);
    let taken = async { while let Some(Ok(_frame)) = rest.frame().await {} };
    // Who sends more, or more slowly, meets the end of his connection
    let _in_time = tokio::time::timeout(UNREAD_TIME, taken).await;
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

fn origin(request: &Request) -> Origin {
    let connection = request.extensions().get::<ConnectionInfo>();
    let id = request.extensions().get::<RequestId>();
    Origin {
        request_id: id.map(|id| id.0.clone()).unwrap_or_default(),
        remote: connection.map(|connection| connection.remote.to_string()).unwrap_or_default(),
    }
}
