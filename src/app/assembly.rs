//! What the operations work with, from the settings and what is there.

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{StartError, keyring_file, reload};
use crate::{
    config::{SettingError, Storage},
    crypto::Random,
    domain::Limits,
    identity::Identities,
    kms::{CallTimes, Measured},
    service::{Clock, Parts, RemoteKey, Service},
    store::Store,
    telemetry::{Metrics, Traces, TracesConfig},
};

/// The parts of a server of this name.
pub(super) async fn assembled(
    name: String,
    storage: &Storage,
    store: Store,
    identities: Identities,
    limits: Limits,
    random: Random,
    times: &CallTimes,
) -> Result<Parts, StartError> {
    let (clock, remote) = (Clock::system(), reload::remote_key(storage)?);
    let remote = remote.map(|RemoteKey { id, provider, wraps }| {
        let provider = Arc::new(Measured::new(provider, times.clone()));
        RemoteKey { id, provider, wraps }
    });
    let keyring = keyring_file::load_or_create(storage, remote.clone(), &store, &random, &clock).await?;
    let source = reload::source(storage, remote, &random);
    let data_keys_good_for = storage.keys.data_keys_good_for;
    Ok(Parts { store, name, identities, keyring, source, data_keys_good_for, random, clock, limits })
}

/// What is measured of all parts.
pub(super) fn metrics(service: &Service, times: &CallTimes, is_encrypted: bool) -> Metrics {
    Metrics::new(is_encrypted, |registry| {
        service.register(registry);
        times.register(registry);
    })
}

/// Traces as they are set, which are sent until `stop` is cancelled.
pub(super) fn traces(
    config: Option<&TracesConfig>,
    metrics: &Metrics,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Traces, StartError> {
    let Some(config) = config else { return Ok(Traces::default()) };
    let TracesConfig { endpoint, ratio, callers, .. } = config;
    tracing::info!(%endpoint, ratio, callers, "calls are traced");
    let started = Traces::start(config, metrics.traces(), tasks, stop.clone());
    Ok(started.map_err(|error| SettingError::new("--otlp-endpoint", error.to_string()))?)
}
