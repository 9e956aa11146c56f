//! Puts the parts together and takes them apart again: the composition root.

mod first_run;
mod keyring_file;
mod ops;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic_health::{ServingStatus, server::HealthReporter};

pub use first_run::{FirstToken, make_private_directory, prepare_directory, require_database};
pub use keyring_file::{
    KeyringFileError, create as create_keyring, load as load_keyring, replace as replace_keyring,
};

use crate::{
    config::Checked,
    crypto::Random,
    service::{Clock, Error, KeyProblem, Parts, Service},
    store::{self, Store},
    telemetry::Metrics,
    transport::{
        self, Finished, Observer,
        listener::{self, Tls, TlsError},
    },
};

/// How often the database is asked whether it still answers.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why the server did not start, in one sentence that names what to change.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error("{0}")]
    Store(#[from] store::Error),
    /// The schema is old and may not be changed here.
    #[error(
        "the database lacks {0} migration(s): run `superserve migrate` first, or serve with --auto-migrate true"
    )]
    Pending(usize),
    /// The keyring file.
    #[error("{0}")]
    Keyring(#[from] KeyringFileError),
    /// The keyring and the database do not fit together.
    #[error("{0}")]
    Keys(#[from] KeyProblem),
    /// The certificate.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// A socket or a file.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The first token.
    #[error("{0}")]
    Service(#[from] Error),
}

/// A server that runs.
#[derive(Debug)]
pub struct Running {
    /// Where gRPC, gRPC-Web and REST are.
    pub address: SocketAddr,
    /// Where probes and metrics are.
    pub ops_address: SocketAddr,
    /// The admin token, if this start has made one.
    pub first_token: Option<FirstToken>,
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
    let Checked { storage, sockets, transport, limits, auto_migrate, bootstrap_token, shutdown_timeout } =
        config;
    let (serving, background) = (TaskTracker::new(), TaskTracker::new());
    let (stop, stop_ops) = (CancellationToken::new(), CancellationToken::new());
    let tls = sockets.tls.map(Tls::load).transpose()?.map(Arc::new);
    let (public, ops) = (listener::bind(sockets.listen).await?, listener::bind(sockets.ops_listen).await?);
    let (address, ops_address) = (public.local_addr(), ops.local_addr());

    first_run::prepare_directory(&storage)?;
    let store = Store::open(&storage.store, &background).await?;
    bring_up_to_date(&store, &storage.store, auto_migrate).await?;
    let (random, clock) = (Random::new(), Clock::system());
    let keyring = keyring_file::load_or_create(&storage, &store, &random, &clock).await?;
    let service =
        Service::new(Parts { store, keyring, random: random.clone(), clock, limits, closing: stop.clone() });
    service.check_keys().await?;
    let first_token = first_run::ensure_admin(&service, &storage, bootstrap_token, &random).await?;

    let metrics = Metrics::new();
    let (health, _) = tonic_health::server::health_reporter();
    let router = transport::router(&service, health.clone(), &transport, observer(&metrics));
    let ops_router = ops::router(service.clone(), metrics, stop.clone());
    set_health(&health, ServingStatus::Serving).await;
    serving.spawn(listener::serve(
        public,
        tls,
        router,
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
    background.spawn(watch_health(service, health.clone(), stop.clone()));
    tracing::info!(address = %address, "listening");
    tracing::info!(address = %ops_address, "ops listening");
    Ok(Running {
        address,
        ops_address,
        first_token,
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
        set_health(&self.health, ServingStatus::NotServing).await;
        self.stop.cancel();
        self.serving.close();
        let drained = tokio::time::timeout(self.shutdown_timeout, self.serving.wait()).await.is_ok();
        self.stop_ops.cancel();
        self.background.close();
        let ended = tokio::time::timeout(LOOK_EVERY * 2, self.background.wait()).await.is_ok();
        tracing::info!(drained, "stopped");
        drained && ended
    }
}

async fn bring_up_to_date(
    store: &Store,
    config: &store::Config,
    auto_migrate: bool,
) -> Result<(), StartError> {
    if auto_migrate {
        for name in store.migrate(config).await? {
            tracing::info!(name, "migration applied");
        }
        return Ok(());
    }
    match store.pending_migrations().await?.len() {
        0 => Ok(()),
        pending => Err(StartError::Pending(pending)),
    }
}

fn observer(metrics: &Metrics) -> Observer {
    let metrics = metrics.clone();
    Observer::new(move |finished| {
        let Finished { protocol, route, code, duration } = finished;
        metrics.count(protocol, route, code, *duration);
    })
}

async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for name in transport::SERVICE_NAMES.into_iter().chain([""]) {
        health.set_service_status(name, status).await;
    }
}

/// Keeps the health service true to the database, until `stop`.
async fn watch_health(service: Service, health: HealthReporter, stop: CancellationToken) {
    let mut was_ready = true;
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        let Some(answer) = stop.run_until_cancelled(service.ready()).await else { break };
        let ready = answer.is_ok();
        if ready != was_ready {
            tracing::warn!(ready, "the database {}", if ready { "answers again" } else { "does not answer" });
            set_health(&health, if ready { ServingStatus::Serving } else { ServingStatus::NotServing }).await;
            was_ready = ready;
        }
    }
}
