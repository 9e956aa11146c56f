//! OpenBao as goals are set against it: not in its development mode, without TLS, one unseal key, a token with one
//! policy, the cache on, and a file of audit records, which it does not fsync; a fresh store each time, because one that was written to for a while is slower.

use std::{
    cell::Cell,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use serde_json::{Value, json};

use super::postgres::Cluster;
use crate::{
    http1::{once, request},
    load::{self, Request, Shape, Source, Target, Wire},
    process::{Running, command, free_address, wait_for},
    workload::{Agents, KEYS, Random, SET_KEYS, Workload, key_name},
};

const DATABASE: &str = "openbao";
const FILL_CONNECTIONS: usize = 16;
const POLICY: &str = r#"path "kv/*" { capabilities = ["create", "read", "update", "delete", "list"] }"#;

/// How one is to be started.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    pub binary: &'a Path,
    pub directory: &'a Path,
    /// `None` for its integrated storage (raft).
    pub cluster: Option<&'a Cluster>,
    /// Of its KV engine.
    pub version: u8,
    pub processor: Option<usize>,
}

/// A running one.
pub struct OpenBao {
    running: Running,
    address: SocketAddr,
    config: PathBuf,
    unseal_key: String,
    token: String,
    version: u8,
    cluster_leader: Option<u32>,
}

/// Its calls.
pub struct Calls {
    pub workload: Option<Workload>,
    pub version: u8,
    pub headers: String,
    pub agents: Rc<Agents>,
    pub random: Random,
    /// How many secrets were deleted, or filled.
    pub done: Cell<usize>,
}

impl Setup<'_> {
    /// Starts one on a fresh store, unseals it and mounts a KV engine.
    pub async fn start(&self) -> Result<OpenBao> {
        let data = self.directory.join("openbao");
        if data.exists() {
            fs::remove_dir_all(&data)?;
        }
        fs::create_dir(&data)?;
        let config = data.join("openbao.hcl");
        let address = free_address()?;
        fs::write(&config, self.config(&data, address)?)?;
        let running = start_process(self.binary, &config, self.processor, address)?;
        let answer =
            put(address, "/v1/sys/init", "", &json!({"secret_shares": 1, "secret_threshold": 1})).await?;
        let unseal_key = text(&answer["keys"][0])?;
        let root = format!("x-vault-token: {}\r\n", text(&answer["root_token"])?);
        let mut openbao = OpenBao {
            running,
            address,
            config,
            unseal_key,
            token: String::new(),
            version: self.version,
            cluster_leader: self.cluster.map(Cluster::leader),
        };
        openbao.unseal().await?;
        let version = self.version.to_string();
        let engine = json!({"type": "kv", "options": {"version": version}});
        put(address, "/v1/sys/mounts/kv", &root, &engine).await?;
        put(address, "/v1/sys/policies/acl/load", &root, &json!({"policy": POLICY})).await?;
        let token = json!({"policies": ["load"], "no_default_policy": true, "ttl": "24h"});
        openbao.token =
            text(&put(address, "/v1/auth/token/create", &root, &token).await?["auth"]["client_token"])?;
        openbao.wait_for_engine().await?;
        Ok(openbao)
    }

    fn config(&self, data: &Path, address: SocketAddr) -> Result<String> {
        let storage = if let Some(cluster) = self.cluster {
            cluster.make_database(DATABASE, None)?;
            let url = cluster.url(DATABASE);
            format!(
                "storage \"postgresql\" {{\n  connection_url = \"{url}\"\n  max_idle_connections = \"128\"\n  \
                 ha_enabled = \"false\"\n}}\n"
            )
        } else {
            let path = data.join("raft");
            fs::create_dir(&path)?;
            format!("storage \"raft\" {{\n  path = \"{}\"\n  node_id = \"one\"\n}}\n", path.display())
        };
        let audit = format!(
            "audit \"file\" \"file\" {{\n  options {{\n    file_path = \"{}\"\n  }}\n}}\n",
            data.join("audit.log").display()
        );
        let cluster_address = free_address()?;
        Ok(format!(
            "{storage}{audit}listener \"tcp\" {{\n  address = \"{address}\"\n  cluster_address = \"{cluster_address}\"\n  \
             tls_disable = true\n}}\n\
             api_addr = \"http://{address}\"\ncluster_addr = \"https://{cluster_address}\"\n\
             log_level = \"warn\"\nui = false\n"
        ))
    }
}

impl OpenBao {
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    pub fn target(&self) -> Target {
        let servers = self.cluster_leader.into_iter().chain([self.pid()]).collect();
        Target { addresses: vec![self.address], wire: Wire::Http1, token: self.token.clone(), servers }
    }

    pub fn calls(&self, workload: Option<Workload>, agents: &Rc<Agents>) -> Rc<dyn Source> {
        Rc::new(Calls {
            workload,
            version: self.version,
            headers: format!("x-vault-token: {}\r\n", self.token),
            agents: Rc::clone(agents),
            random: Random::new(),
            done: Cell::new(0),
        })
    }

    /// Writes all secrets of all agents.
    pub fn fill(&self, agents: &Rc<Agents>) -> Result<()> {
        // As long as it takes: the calls end by themselves
        let forever = Duration::from_hours(24);
        let (warm_up, rate) = (Duration::ZERO, None);
        let shape = Shape { connections: FILL_CONNECTIONS, streams: 1, warm_up, duration: forever, rate };
        load::run(&self.target(), &shape, self.calls(None, agents), Path::new("/"))?;
        Ok(())
    }

    /// Ends it, starts it again and gives the seconds from exec until it is unsealed and active.
    pub async fn restart(self, binary: &Path) -> Result<(Self, f64)> {
        let Self { running, config, .. } = self;
        running.stop()?;
        let started = Instant::now();
        let running = start_process(binary, &config, None, self.address)?;
        let openbao = Self { running, config, ..self };
        openbao.unseal().await?;
        Ok((openbao, started.elapsed().as_secs_f64()))
    }

    async fn unseal(&self) -> Result<()> {
        put(self.address, "/v1/sys/unseal", "", &json!({"key": self.unseal_key})).await?;
        let health = request("GET", "/v1/sys/health", "", "");
        let end = Instant::now() + Duration::from_mins(1);
        while once(self.address, &health).await.is_err() {
            ensure!(Instant::now() < end, "OpenBao does not become active");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// A KV engine of version 2 refuses calls for a moment after it was mounted.
    async fn wait_for_engine(&self) -> Result<()> {
        let agents = Rc::new(Agents { ids: vec!["first".to_owned()] });
        let end = Instant::now() + Duration::from_mins(1);
        loop {
            let call = self.calls(Some(Workload::Set), &agents).next().context("there is always a set")?;
            match once(self.address, &call.bytes).await {
                Ok(_answer) => return Ok(()),
                Err(error) => ensure!(Instant::now() < end, "OpenBao's KV engine: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Calls {
    /// The path of one secret, or of all of an agent's.
    fn path(&self, of_version_2: &str, agent: &str, key: Option<usize>) -> String {
        let secret = key.map(|key| format!("/{}", key_name(key))).unwrap_or_default();
        match self.version {
            1 => format!("/v1/kv/agents/{agent}{secret}"),
            _ => format!("/v1/kv/{of_version_2}/agents/{agent}{secret}"),
        }
    }

    fn write(&self, path: &str) -> Vec<u8> {
        let secrets = self.random.secrets(SET_KEYS);
        let body = if self.version == 1 { json!(secrets) } else { json!({"data": secrets}) };
        request("POST", path, &self.headers, &body.to_string())
    }

    fn next_secret(&self) -> Option<(&str, usize)> {
        let next = self.done.get();
        self.done.set(next + 1);
        self.agents.nth_secret(next)
    }
}

impl Source for Calls {
    fn next(&self) -> Option<Request> {
        let any = || (self.agents.any(&self.random), Some(self.random.below(KEYS)));
        let bytes = match self.workload {
            None => {
                let (agent, key) = self.next_secret()?;
                self.write(&self.path("data", agent, Some(key)))
            }
            Some(Workload::Set) => {
                let (agent, key) = any();
                self.write(&self.path("data", agent, key))
            }
            Some(Workload::List) => {
                let path = self.path("metadata", any().0, None);
                request("GET", &format!("{path}?list=true"), &self.headers, "")
            }
            Some(Workload::Resolve) => {
                let (agent, key) = any();
                request("GET", &self.path("data", agent, key), &self.headers, "")
            }
            Some(Workload::Delete) => {
                let (agent, key) = self.next_secret()?;
                request("DELETE", &self.path("metadata", agent, Some(key)), &self.headers, "")
            }
        };
        Some(Request { path: "", bytes: Bytes::from(bytes) })
    }

    fn check(&self, answer: &[u8]) -> Result<()> {
        let entries = |data: &Value| match self.workload {
            Some(Workload::List) => data["keys"].as_array().map_or(0, Vec::len),
            _ if self.version == 1 => data.as_object().map_or(0, serde_json::Map::len),
            _ => data["data"].as_object().map_or(0, serde_json::Map::len),
        };
        let expected = match self.workload {
            Some(Workload::List) => KEYS,
            Some(Workload::Resolve) => SET_KEYS,
            _ => return Ok(()), // these answer nothing of the kind
        };
        let body: Value = serde_json::from_slice(answer)?;
        ensure!(entries(&body["data"]) == expected, "OpenBao answers {body}");
        Ok(())
    }
}

fn start_process(
    binary: &Path,
    config: &Path,
    processor: Option<usize>,
    address: SocketAddr,
) -> Result<Running> {
    let log = config.with_file_name("openbao.log");
    let mut command = command(binary, processor);
    command.arg("server").arg("-config").arg(config);
    let mut running = Running::start(&mut command, &log)?;
    let listens = wait_for("OpenBao to listen", || {
        if running.has_ended() {
            Some(false)
        } else {
            std::net::TcpStream::connect(address).is_ok().then_some(true)
        }
    })?;
    ensure!(listens, "OpenBao has ended: {}", fs::read_to_string(log)?);
    Ok(running)
}

async fn put(address: SocketAddr, path: &str, headers: &str, body: &Value) -> Result<Value> {
    once(address, &request("PUT", path, headers, &body.to_string())).await.context(path.to_owned())
}

fn text(value: &Value) -> Result<String> {
    Ok(value.as_str().context("OpenBao answers without what was asked for")?.to_owned())
}
