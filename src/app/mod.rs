//! Puts the parts together and takes them apart again: the composition root.

mod assembly;
mod backup;
mod doctor;
mod error;
mod first_run;
mod followed;
mod health;
mod keyring_file;
mod keys;
mod operate;
mod ops;
mod reload;
mod rotation;
mod stop;
pub mod tenants;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic_health::{ServingStatus, server::HealthReporter};

pub use crate::{
    service::Rewrapping as AgentsRewrapped,
    telemetry::{init as start_log, set_level as set_log_level},
};
pub use backup::{BackedUp, BackupError, Held, Origin, Restored, Target, backup, restore};
pub use doctor::{Finding, Verdict, examine};
pub use error::StartError;
pub use first_run::FirstToken;
pub use keyring_file::KeyringFileError;
pub use keys::{KeyGenerated, KeyRefusal, KeyStatus, KeysStatus, ServerStatus, generate_key, key_status};
pub use operate::migrate;
pub use rotation::{
    KeyRetired, KeysRotated, Retirement, Rotation, agents_of_key, remove_key, retire_key, rotate_keys,
};

use assembly::assembled;
use followed::{Followed, Follower};

use crate::{
    config::Checked,
    crypto::Random,
    identity::Identities,
    kms::CallTimes,
    service::Service,
    store::Store,
    telemetry::LimitMetrics,
    transport::{
        Front,
        listener::{self, ListenerConfig, Tls},
    },
};

/// A server that runs.
#[derive(Debug)]
pub struct Running {
    /// Where gRPC, gRPC-Web and REST are.
    pub address: SocketAddr,
    /// Where probes and metrics are.
    pub ops_address: SocketAddr,
    /// The admin token, if this start has made one.
    pub first_token: Option<FirstToken>,
    service: Service,
    files: Arc<Follower>,
    health: HealthReporter,
    stop: CancellationToken,
    stop_ops: CancellationToken,
    serving: TaskTracker,
    background: TaskTracker,
    shutdown_timeout: Duration,
}

/// Starts a server. When it returns, the sockets accept.
///
/// # Errors
/// [`StartError`]; nothing is left running then.
pub async fn start(config: Checked) -> Result<Running, StartError> {
    let Checked { storage, sockets, transport, limits, traces, auto_migrate, bootstrap_token, .. } = config;
    let asks_for_certificates = sockets.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    let identities = Identities::load(config.identities, asks_for_certificates)?;
    let (serving, background) = (TaskTracker::new(), TaskTracker::new());
    let (stop, stop_ops) = (CancellationToken::new(), CancellationToken::new());
    let tls = sockets.tls.map(Tls::load).transpose()?.map(Arc::new);
    let socket = |setting| move |error| StartError::Socket { setting, error };
    let public = listener::bind(sockets.listen).await.map_err(socket("--listen"))?;
    let ops = listener::bind(sockets.ops_listen).await.map_err(socket("--ops-listen"))?;
    let (address, ops_address) = (public.local_addr(), ops.local_addr());

    first_run::prepare_directory(&storage)?;
    let store = Store::open(&storage.store, &background).await?;
    operate::bring_up_to_date(&store, &storage.store, auto_migrate).await?;
    let name = reload::server_name(&storage, sockets.listen);
    let random = Random::new();
    let times = CallTimes::default();
    let parts = assembled(name, &storage, store, identities.clone(), limits, random.clone(), &times).await?;
    let clock = parts.clock.clone();
    let service = Service::new(parts, stop.clone());
    service.join().await?;
    let first_token = first_run::ensure_admin(&service, &storage, bootstrap_token, &random).await?;
    let metrics = assembly::metrics(&service, &times, tls.is_some());
    let files = Followed { tls: tls.clone(), identities, clock }.follow(&metrics, &background, &stop);
    let (health, _) = tonic_health::server::health_reporter();
    let traces = assembly::traces(traces.as_ref(), &metrics, &background, &stop_ops)?;
    let (limits, of_ops) = (metrics.limits().clone(), LimitMetrics::default());
    let front = Front::new(&service, health.clone(), &transport, metrics.clone(), traces);
    health::set(&health, ServingStatus::Serving).await;
    let door = sockets.listener;
    let tracker = serving.clone();
    let accepting =
        serving.spawn(listener::serve(public, tls, front, door.clone(), limits, stop.clone(), tracker));
    let vital = ops::Vital { accepting: accepting.abort_handle(), stopping: stop.clone() };
    let ops_router = ops::router(service.clone(), health.clone(), metrics.clone(), vital);
    let door = ListenerConfig { max_connections_per_source: None, ..door };
    let tracker = background.clone();
    background.spawn(listener::serve(ops, None, ops_router, door, of_ops, stop_ops.clone(), tracker));
    background.spawn(health::watch(service.clone(), health.clone(), metrics.clone(), stop.clone()));
    let (house, tasks) = (service.clone(), background.clone());
    background.spawn(async move { Box::pin(house.keep_house(&tasks)).await });
    tracing::info!(address = %address, "listening");
    tracing::info!(address = %ops_address, "ops listening");
    Ok(Running {
        address,
        ops_address,
        first_token,
        service,
        files,
        health,
        stop,
        stop_ops,
        serving,
        background,
        shutdown_timeout: config.shutdown_timeout,
    })
}
