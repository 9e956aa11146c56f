//! What is asked for: a set of 3 values, a list of 10 names, a resolve of 10 values, a delete, each of an agent drawn
//! at random. Every value that is written is a new one: databases leave out writes of what is there.

use std::{cell::Cell, collections::HashMap, fmt, fmt::Write as _, rc::Rc};

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;
use prost::Message as _;
use serde_json::{Value, json};

use crate::{
    grpc::framed,
    http1::request,
    load::{Request, Source, Wire},
    proto::{path, v1},
};

/// Keys of an agent.
pub const KEYS: usize = 10;

/// Keys of a set.
pub const SET_KEYS: usize = 3;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Workload {
    Set,
    List,
    Resolve,
    Delete,
}

/// Numbers that need not be secret.
pub struct Random(Cell<u64>);

/// Who has the secrets.
pub struct Agents {
    pub ids: Vec<String>,
}

/// Calls of the service itself.
pub struct Calls {
    pub workload: Workload,
    pub wire: Wire,
    pub agents: Rc<Agents>,
    /// For REST.
    pub headers: String,
    pub random: Random,
    /// How many deletes there were.
    pub deleted: Cell<usize>,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Set => "set",
            Self::List => "list",
            Self::Resolve => "resolve",
            Self::Delete => "delete",
        })
    }
}

impl Random {
    /// Other numbers each time, so that no two runs write the same.
    pub fn new() -> Self {
        use std::hash::{BuildHasher as _, RandomState};
        Self(Cell::new(RandomState::new().hash_one(0)))
    }

    /// Splitmix64.
    pub fn next(&self) -> u64 {
        self.0.set(self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let mixed = (self.0.get() ^ (self.0.get() >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap_or_default()
    }

    /// 64 characters that were never there before.
    pub fn value(&self) -> String {
        let mut value = String::with_capacity(64);
        for _ in 0..4 {
            // A String takes all that is written
            let _written = write!(value, "{:016x}", self.next());
        }
        value
    }

    /// As many new values for keys in a row, sorted: two writers that meet lock rows in one order.
    pub fn secrets(&self, keys: usize) -> HashMap<String, String> {
        let first = self.below(KEYS - keys + 1);
        (first..first + keys).map(|key| (key_name(key), self.value())).collect()
    }
}

impl Agents {
    pub fn any(&self, random: &Random) -> &str {
        self.ids.get(random.below(self.ids.len())).map_or("", String::as_str)
    }

    /// The `n`th of all secrets, in an order that seldom comes to the same agent; `None` after the last.
    pub fn nth_secret(&self, n: usize) -> Option<(&str, usize)> {
        const STRIDE: usize = 7919; // a prime: all are met once
        let all = self.ids.len() * KEYS;
        let at = (n < all).then(|| n.wrapping_mul(STRIDE) % all)?;
        Some((self.ids.get(at / KEYS)?, at % KEYS))
    }
}

/// The name of a key.
pub fn key_name(key: usize) -> String {
    format!("KEY_{key}")
}

impl Calls {
    fn grpc(&self) -> Option<Request> {
        let agent_id = || self.agents.any(&self.random).to_owned();
        let (path, bytes) = match self.workload {
            Workload::Set => {
                let secrets = self.random.secrets(SET_KEYS);
                let message = v1::SetSecretsRequest { agent_id: agent_id(), secrets, ..Default::default() };
                (path::SET, framed(&message))
            }
            Workload::List => (path::LIST, framed(&v1::ListSecretsRequest { agent_id: agent_id() })),
            Workload::Resolve => {
                let message = v1::ResolveSecretsRequest { agent_id: agent_id(), ..Default::default() };
                (path::RESOLVE, framed(&message))
            }
            Workload::Delete => {
                let (agent, key) = self.next_to_delete()?;
                let agent_id = agent.to_owned();
                let message = v1::DeleteSecretRequest { agent_id, key: key_name(key), ..Default::default() };
                (path::DELETE, framed(&message))
            }
        };
        Some(Request { path, bytes })
    }

    fn rest(&self) -> Option<Request> {
        let path = |agent: &str| format!("/v1/agents/{agent}/secrets");
        let agent = self.agents.any(&self.random);
        let bytes = match self.workload {
            Workload::Set => {
                let body = json!({"secrets": self.random.secrets(SET_KEYS)}).to_string();
                request("PATCH", &path(agent), &self.headers, &body)
            }
            Workload::List => request("GET", &path(agent), &self.headers, ""),
            Workload::Resolve => return None, // no REST call gives values
            Workload::Delete => {
                let (agent, key) = self.next_to_delete()?;
                request("DELETE", &format!("{}/{}", path(agent), key_name(key)), &self.headers, "")
            }
        };
        Some(Request { path: "", bytes: bytes.into() })
    }

    fn next_to_delete(&self) -> Option<(&str, usize)> {
        let next = self.deleted.get();
        self.deleted.set(next + 1);
        self.agents.nth_secret(next)
    }
}

impl Source for Calls {
    fn next(&self) -> Option<Request> {
        match self.wire {
            Wire::Grpc => self.grpc(),
            Wire::Http1 => self.rest(),
        }
    }

    fn check(&self, answer: &[u8]) -> Result<()> {
        let entries = match (self.wire, self.workload) {
            (Wire::Grpc, workload) => {
                let message = answer.get(5..).unwrap_or_default();
                match workload {
                    Workload::Set => v1::SetSecretsResponse::decode(message)?.keys.len(),
                    Workload::List => v1::ListSecretsResponse::decode(message)?.keys.len(),
                    Workload::Resolve => v1::ResolveSecretsResponse::decode(message)?.env.len(),
                    Workload::Delete => v1::DeleteSecretResponse::decode(message)?.keys.len(),
                }
            }
            (Wire::Http1, Workload::Resolve) => bail!("REST has no resolve"),
            (Wire::Http1, _) => {
                let body: Value = serde_json::from_slice(answer)?;
                body["keys"].as_array().map_or(0, Vec::len)
            }
        };
        let expected = if self.workload == Workload::Delete { entries < KEYS } else { entries == KEYS };
        ensure!(expected, "an answer to {} has {entries} keys", self.workload);
        Ok(())
    }
}
