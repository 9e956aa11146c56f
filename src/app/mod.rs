//! Puts the parts together and takes them apart again: the composition root.

mod assembly;
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
pub mod tenants;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic_health::{ServingStatus, server::HealthReporter};

pub use crate::{service::Rewrapping as AgentsRewrapped, telemetry::init as start_log};
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
    service::Service,
    store::Store,
    telemetry::{LimitMetrics, Metrics},
    transport::{
        Front,
        listener::{self, ListenerConfig, Tls},
    },
};

/// How long what runs beside the calls may take to end, all in all.
const BACKGROUND_END: Duration = Duration::from_secs(4);

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
    let Checked { storage, sockets, transport, limits, auto_migrate, bootstrap_token, .. } = config;
    let asks_for_certificates = sockets.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    let identities = Identities::load(config.identities, asks_for_certificates)?;
    let (serving, background) = (TaskTracker::new(), TaskTracker::new());
    let (stop, stop_ops) = (CancellationToken::new(), CancellationToken::new());
    let tls = sockets.tls.map(Tls::load).transpose()?.map(Arc::new);
    let (public, ops) = (listener::bind(sockets.listen).await?, listener::bind(sockets.ops_listen).await?);
    let (address, ops_address) = (public.local_addr(), ops.local_addr());

    first_run::prepare_directory(&storage)?;
    let store = Store::open(&storage.store, &background).await?;
    operate::bring_up_to_date(&store, &storage.store, auto_migrate).await?;
    let name = reload::server_name(&storage, sockets.listen);
    let random = Random::new();
    let parts = assembled(name, &storage, store, identities.clone(), limits, random.clone()).await?;
    let clock = parts.clock.clone();
    let service = Service::new(parts, stop.clone());
    service.join().await?;
    let first_token = first_run::ensure_admin(&service, &storage, bootstrap_token, &random).await?;
    let metrics = Metrics::new(tls.is_some());
    let files = Followed { tls: tls.clone(), identities, clock }.follow(&metrics, &background, &stop);
    let (health, _) = tonic_health::server::health_reporter();
    let (limits, of_ops) = (metrics.limits().clone(), LimitMetrics::default());
    let front = Front::new(&service, health.clone(), &transport, metrics.clone());
    let ops_router = ops::router(service.clone(), health.clone(), metrics, stop.clone());
    health::set(&health, ServingStatus::Serving).await;
    let door = sockets.listener;
    serving.spawn(listener::serve(public, tls, front, door.clone(), limits, stop.clone(), serving.clone()));
    let door = ListenerConfig { max_connections_per_source: None, ..door };
    let tracker = background.clone();
    background.spawn(listener::serve(ops, None, ops_router, door, of_ops, stop_ops.clone(), tracker));
    background.spawn(health::watch(service.clone(), health.clone(), stop.clone()));
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

// === impl Running ===

impl Running {
    /// Stops: not ready at once, no new connections, calls under way are answered, then the rest ends.
    /// Says whether all calls were answered in time.
    pub async fn stop(self) -> bool {
        tracing::info!("draining");
        health::set(&self.health, ServingStatus::NotServing).await;
        self.stop.cancel();
        self.serving.close();
        let drained = timeout(self.shutdown_timeout, self.serving.wait()).await.is_ok();
        self.stop_ops.cancel();
        self.background.close();
        let (service, background, end) = (self.service, self.background, Instant::now() + BACKGROUND_END);
        // With the service goes the last who could write
        let left = timeout_at(end, async move { service.leave().await }).await.is_ok();
        let ended = timeout_at(end, background.wait()).await.is_ok();
        tracing::info!(drained, left, "stopped");
        drained && ended
    }
}
