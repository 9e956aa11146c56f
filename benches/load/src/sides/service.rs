//! The service: its release binary, as an operator starts it, on a copy of a store that was filled through its own
//! calls.

use std::{
    collections::HashMap,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tokio::task::JoinSet;

use super::postgres::Cluster;
use crate::{
    grpc::Grpc,
    load::{Target, Wire},
    options::Database,
    process::{Running, command, free_address, run, wait_for},
    proto::{path, v1},
    workload::{Agents, KEYS, Random, key_name},
};

/// Calls under way while a store is filled.
const FILL_CONNECTIONS: usize = 8;
const FILL_STREAMS: usize = 32;

/// The database that a template is copied to.
const COPY: &str = "load";

const SCOPES: [&str; 6] =
    ["agents:read", "agents:write", "secrets:list", "secrets:resolve", "secrets:write", "tokens:admin"];

/// A filled store, to be copied.
pub struct Template {
    database: Database,
    data_dir: PathBuf,
    /// On PostgreSQL.
    database_name: String,
    token: String,
    pub agents: Rc<Agents>,
}

/// A running service.
pub struct Service {
    running: Running,
    address: SocketAddr,
    cluster_leader: Option<u32>,
    started_in: Duration,
}

/// How one is to be started.
pub struct Setup<'a> {
    pub binary: &'a Path,
    pub data_dir: &'a Path,
    /// `None` for SQLite.
    pub database_url: Option<String>,
    pub token: &'a str,
    pub processor: Option<usize>,
    /// `None` for SQLite. PostgreSQL does a part of the work.
    pub cluster_leader: Option<u32>,
}

impl Setup<'_> {
    fn environment<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env_clear().env("PATH", "/usr/bin:/bin").current_dir(self.data_dir);
        command.env("SUPERSERVE_DATA_DIR", self.data_dir).env("SUPERSERVE_BOOTSTRAP_TOKEN", self.token);
        command.envs(self.database_url.iter().map(|url| ("SUPERSERVE_DATABASE_URL", url)))
    }

    /// Starts it and waits until it is ready.
    pub fn start(&self) -> Result<Service> {
        let (address, ops_address) = (free_address()?, free_address()?);
        let mut command = command(self.binary, self.processor);
        self.environment(&mut command)
            .args(["serve", "--log-format", "json", "--listen", &address.to_string()])
            .args(["--ops-listen", &ops_address.to_string()]);
        let log = self.data_dir.join("service.log");
        let started = Instant::now();
        let mut running = Running::start(&mut command, &log)?;
        let ready = wait_for("the service to be ready", || {
            if running.has_ended() { Some(false) } else { is_ready(ops_address).then_some(true) }
        })?;
        if !ready {
            bail!("the service has ended: {}", fs::read_to_string(log)?);
        }
        let started_in = started.elapsed();
        Ok(Service { running, address, cluster_leader: self.cluster_leader, started_in })
    }
}

impl Service {
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// From exec until it was ready.
    pub fn started_in(&self) -> Duration {
        self.started_in
    }

    pub fn stop(self) -> Result<()> {
        self.running.stop()
    }

    /// Where it is called.
    pub fn target(&self, wire: Wire, token: &str) -> Target {
        let servers = self.cluster_leader.into_iter().chain([self.pid()]).collect();
        Target { addresses: vec![self.address], wire, token: token.to_owned(), servers }
    }
}

impl Template {
    /// Fills a store of so many agents.
    pub fn make(
        binary: &Path,
        database: Database,
        cluster: Option<&Cluster>,
        agents: usize,
        directory: &Path,
    ) -> Result<Self> {
        let database_name = format!("template_{agents}");
        let data_dir = directory.join(format!("template-{}-{agents}", database.name()));
        fs::create_dir(&data_dir)?;
        let token = run(Command::new(binary).args(["tokens", "generate"]))?.trim().to_owned();
        let url = |cluster: &Cluster| cluster.url(&database_name);
        let setup = Setup {
            binary,
            data_dir: &data_dir,
            database_url: cluster.map(url),
            token: &token,
            processor: None,
            cluster_leader: None,
        };
        if let Some(cluster) = cluster {
            cluster.make_database(&database_name, None)?;
            for arguments in [&["keys", "generate"][..], &["migrate"]] {
                run(setup.environment(&mut Command::new(binary)).args(arguments))?;
            }
        }
        let service = setup.start()?;
        let (token, agents) = block_on(seed(service.target(Wire::Grpc, &token), agents))?;
        service.stop()?;
        Ok(Self { database, data_dir, database_name, token, agents: Rc::new(agents) })
    }

    /// The token that may do all that is measured.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Starts the service on a copy.
    pub fn start(
        &self,
        binary: &Path,
        cluster: Option<&Cluster>,
        directory: &Path,
        processor: Option<usize>,
    ) -> Result<Service> {
        if let (Database::Postgres, Some(cluster)) = (self.database, cluster) {
            cluster.make_database(COPY, Some(&self.database_name))?;
        }
        self.start_in(&directory.join("service"), binary, cluster, processor)
    }

    /// Starts another one on the same copy, which PostgreSQL allows.
    pub fn start_replica(&self, binary: &Path, cluster: &Cluster, directory: &Path) -> Result<Service> {
        self.start_in(&directory.join("replica"), binary, Some(cluster), None)
    }

    fn start_in(
        &self,
        data_dir: &Path,
        binary: &Path,
        cluster: Option<&Cluster>,
        processor: Option<usize>,
    ) -> Result<Service> {
        if data_dir.exists() {
            fs::remove_dir_all(data_dir)?;
        }
        run(Command::new("cp").arg("--archive").args([&self.data_dir, data_dir]))?;
        run(&mut Command::new("sync"))?; // what was copied is not to be written while we measure
        let cluster = cluster.filter(|_| self.database == Database::Postgres);
        let setup = Setup {
            binary,
            data_dir,
            database_url: cluster.map(|cluster| cluster.url(COPY)),
            token: &self.token,
            processor,
            cluster_leader: cluster.map(Cluster::leader),
        };
        setup.start()
    }
}

/// Sets all keys of all agents, as before the first run.
pub fn fill(target: &Target, agents: &Agents) -> Result<()> {
    block_on(each(target.clone(), agents.ids.len(), {
        let ids: Arc<[String]> = agents.ids.clone().into();
        move |mut grpc, n| {
            let id = ids.get(n).cloned().unwrap_or_default();
            async move { set_all(&mut grpc, id.clone()).await.map(|()| id) }
        }
    }))?;
    Ok(())
}

/// Makes a token that may do all, agents that require ten secrets, and the secrets.
async fn seed(mut target: Target, agents: usize) -> Result<(String, Agents)> {
    let mut grpc = connect(&target).await?;
    let scopes = SCOPES.map(str::to_owned).to_vec();
    let request = v1::CreateTokenRequest { name: "load".to_owned(), scopes, ..Default::default() };
    target.token = grpc.unary::<v1::CreateTokenResponse>(path::CREATE_TOKEN, &request).await?.text;
    let token = target.token.clone();
    let ids = each(target, agents, |mut grpc, n| async move {
        let required = |key| v1::RequiredSecret { name: key_name(key), ..Default::default() };
        let request = v1::DeployAgentRequest {
            name: format!("agent-{n:07}"),
            command: None,
            required_secrets: (0..KEYS).map(required).collect(),
        };
        let agent = grpc.unary::<v1::DeployAgentResponse>(path::DEPLOY, &request).await?.agent;
        let id = agent.context("an agent")?.id;
        set_all(&mut grpc, id.clone()).await?;
        Ok(id)
    })
    .await?;
    Ok((token, Agents { ids }))
}

async fn connect(target: &Target) -> Result<Grpc> {
    Grpc::connect(*target.addresses.first().context("a server")?, &target.token).await
}

async fn set_all(grpc: &mut Grpc, agent_id: String) -> Result<()> {
    let secrets = Random::new().secrets(KEYS);
    let request = v1::SetSecretsRequest { agent_id, secrets, ..Default::default() };
    grpc.unary::<v1::SetSecretsResponse>(path::SET, &request).await.map(|_answer| ())
}

/// Does something for each number up to `count`, many at a time, and gives what came of it in any order.
async fn each<F, D>(target: Target, count: usize, work: F) -> Result<Vec<String>>
where
    F: Fn(Grpc, usize) -> D + Clone + Send + 'static,
    D: Future<Output = Result<String>> + Send,
{
    let next = Arc::new(AtomicUsize::new(0));
    let mut lanes = JoinSet::new();
    for _ in 0..FILL_CONNECTIONS {
        let grpc = connect(&target).await?;
        for _ in 0..FILL_STREAMS {
            let (grpc, next, work) = (grpc.clone(), Arc::clone(&next), work.clone());
            lanes.spawn(async move {
                let mut done = Vec::new();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return anyhow::Ok(done);
                    }
                    done.push(work(grpc.clone(), n).await?);
                }
            });
        }
    }
    let mut all = Vec::with_capacity(count);
    while let Some(lane) = lanes.join_next().await {
        all.extend(lane??);
    }
    Ok(all)
}

fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// Whether the operator's port says that it is ready.
pub fn is_ready(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.write_all(b"GET /readyz HTTP/1.1\r\nhost: load\r\nconnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        socket.read_exact(&mut status)?;
        Ok(status.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

/// Filled stores by database and number of agents: each is filled once.
pub type Templates = HashMap<(Database, usize), Rc<Template>>;
