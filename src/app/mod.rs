//! Puts the parts together and takes them apart again: the composition root.

mod error;
mod first_run;
mod health;
mod keyring_file;
mod keys;
mod operate;
mod ops;
mod reload;
pub mod tenants;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic_health::{ServingStatus, server::HealthReporter};

pub use crate::{service::Rewrapping as AgentsRewrapped, telemetry::init as start_log};
pub use error::StartError;
pub use first_run::FirstToken;
pub use keyring_file::KeyringFileError;
pub use keys::{
    KeyGenerated, KeyRefusal, KeyRetired, KeyStatus, KeysRotated, generate_key, key_status, retire_key,
    rotate_keys,
};
pub use operate::migrate;

use reload::KeyringSource;

use crate::{
    config::Checked,
    crypto::Random,
    identity::Identities,
    service::{Clock, Parts, Service},
    store::Store,
    telemetry::Metrics,
    transport::{
        Front,
        listener::{self, Tls},
    },
};

/// How long what runs beside the calls may take to end.
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
    keyring: KeyringSource,
    identities: Identities,
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
    let (shutdown_timeout, identities) = (config.shutdown_timeout, Identities::load(config.identities)?);
    let (serving, background) = (TaskTracker::new(), TaskTracker::new());
    let (stop, stop_ops) = (CancellationToken::new(), CancellationToken::new());
    let tls = sockets.tls.map(Tls::load).transpose()?.map(Arc::new);
    let (public, ops) = (listener::bind(sockets.listen).await?, listener::bind(sockets.ops_listen).await?);
    let (address, ops_address) = (public.local_addr(), ops.local_addr());

    first_run::prepare_directory(&storage)?;
    let store = Store::open(&storage.store, &background).await?;
    operate::bring_up_to_date(&store, &storage.store, auto_migrate).await?;
    let (random, clock) = (Random::new(), Clock::system());
    let keyring = keyring_file::load_or_create(&storage, &store, &random, &clock).await?;
    let parts =
        Parts { store, identities: identities.clone(), keyring, random: random.clone(), clock, limits };
    let service = Service::new(parts, stop.clone());
    service.check_keys().await?;
    let first_token = first_run::ensure_admin(&service, &storage, bootstrap_token, &random).await?;

    let metrics = Metrics::new();
    let (health, _) = tonic_health::server::health_reporter();
    let front = Front::new(&service, health.clone(), &transport, metrics.clone());
    let ops_router = ops::router(service.clone(), health.clone(), metrics, stop.clone());
    health::set(&health, ServingStatus::Serving).await;
    serving.spawn(listener::serve(
        public,
        tls,
        front,
        sockets.listener.clone(),
        stop.clone(),
        serving.clone(),
    ));
    background.spawn(listener::serve(
        ops,
        None,
        ops_router,
        sockets.listener,
        stop_ops.clone(),
        background.clone(),
    ));
    background.spawn(health::watch(service.clone(), health.clone(), stop.clone()));
    let tasks = background.clone();
    let keyring = KeyringSource { path: storage.keyring, service: service.clone() };
    background.spawn(async move { service.keep_house(&tasks).await });
    tracing::info!(address = %address, "listening");
    tracing::info!(address = %ops_address, "ops listening");
    Ok(Running {
        address,
        ops_address,
        first_token,
        keyring,
        identities,
        health,
        stop,
        stop_ops,
        serving,
        background,
        shutdown_timeout,
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
        let drained = tokio::time::timeout(self.shutdown_timeout, self.serving.wait()).await.is_ok();
        self.stop_ops.cancel();
        self.background.close();
        let ended = tokio::time::timeout(BACKGROUND_END, self.background.wait()).await.is_ok();
        tracing::info!(drained, "stopped");
        drained && ended
    }
}
