//! A database that moves to another server: the store follows, whatever way leads there, and what a server that has
//! become read only refuses is done on the other.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, join_all},
};
use sqlx::{Connection, PgConnection};
use superserve::{
    domain::{AgentScope, PageRequest, SecretName, TenantId, Timestamp},
    store::{Config, Error, Store, Tx},
};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::{
    harness::{
        Database, LIMIT, engine, eventually,
        postgres::{Cluster, Database as Postgres},
        relay::{Relay, relay},
        server::Server,
    },
    store::{agent_id, deploying, putting, question, tenant},
};

/// Two servers with the same role and, once it was migrated, the same schema. One of them takes writes.
struct Pair([Cluster; 2]);

#[tokio::test]
async fn several_hosts_are_followed() {
    let Some(pair) = Pair::start().await else { return };
    let store = pair.open_both().await;
    is_followed(&pair, &store, || {}).await;
}

#[tokio::test]
async fn one_address_is_followed() {
    let Some(pair) = Pair::start().await else { return };
    let behind = Arc::new(Mutex::new(pair.address(0)));
    let address = {
        let behind = Arc::clone(&behind);
        relay(move || behind.lock().ok().map(|address| *address))
    };
    let store = open(&Pair::url(&[address.port()])).await.unwrap();
    // What was led to the first stays there, as with a proxy that cuts nobody off
    is_followed(&pair, &store, || *behind.lock().unwrap() = pair.address(1)).await;
}

#[tokio::test]
async fn changes_of_many_agents_are_followed() {
    let Some(pair) = Pair::start().await else { return };
    let ids: Vec<_> = (0..20).map(|n| agent_id(&format!("n{n}"))).collect();
    // As if the second had followed the first
    pair.takes_writes(1, true).await;
    for server in &pair.0 {
        let store = open(&Pair::url(&[server.port()])).await.unwrap();
        for (n, id) in ids.iter().enumerate() {
            store.write(deploying(&tenant("t"), id, &format!("agent {n}"))).await.unwrap();
        }
    }
    pair.takes_writes(1, false).await;
    let store = pair.open_both().await;
    let set_all = async |name: &str| {
        let name = SecretName::parse(name).unwrap();
        let changes = ids.iter().map(|id| {
            let name = name.clone();
            store.change(question(&tenant("t"), id), move |found| {
                Ok::<_, Error>(putting(found.unwrap(), &name))
            })
        });
        join_all(changes).await.into_iter().for_each(Result::unwrap);
    };
    set_all("BEFORE").await;
    pair.takes_writes(0, false).await;
    let taking_over = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        pair.takes_writes(1, true).await;
    };
    tokio::join!(set_all("AFTER"), taking_over);
    for (n, key) in ["BEFORE", "AFTER"].into_iter().enumerate() {
        let query = "SELECT secrets.name, count(*), max(revision) FROM secrets JOIN agents ON agent_id = id GROUP BY 1";
        let mut connection = pair.connect(n).await;
        let found: Vec<(String, i64, i64)> = sqlx::query_as(query).fetch_all(&mut connection).await.unwrap();
        assert_eq!(found, [(key.to_owned(), 20, 1)], "each is set once, and nowhere else");
    }
}

#[tokio::test]
async fn an_address_without_a_server_is_waited_for() {
    let Some(pair) = Pair::start().await else { return };
    let behind = Arc::new(Mutex::new(Some(pair.address(0))));
    let address = {
        let behind = Arc::clone(&behind);
        relay(move || behind.lock().ok().and_then(|address| *address))
    };
    let store = open(&Pair::url(&[address.port()])).await.unwrap();
    write_all(&store, 0).await;
    // As a proxy does that knows of no primary: it hangs up, on those who were there and on those who come
    *behind.lock().unwrap() = None;
    let mut connection = pair.connect(0).await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'superserve'";
    sqlx::raw_sql(end).execute(&mut connection).await.unwrap();
    let back = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        *behind.lock().unwrap() = Some(pair.address(0));
    };
    let read = join_all((0..10).map(|_| store.known_keys()));
    let ((), (), read) = tokio::join!(write_all(&store, 1), back, read);
    for keys in read {
        assert!(keys.unwrap().is_empty());
    }
    assert_eq!(pair.tenants(0, 1).await, 20);
}

#[tokio::test]
async fn a_server_that_is_gone_is_left() {
    let Some(mut pair) = Pair::start().await else { return };
    let store = pair.open_both().await;
    for round in 0..2_usize {
        write_all(&store, round).await;
        pair.0[round].kill9();
        let reading = join_all((0..10).map(|_| store.known_keys()));
        let moving = async {
            // The one that is gone is looked for meanwhile
            let other = 1 - round;
            if round == 0 {
                pair.takes_writes(other, true).await;
            } else {
                pair.0[other].start_again();
                pair.takes_writes(other, true).await;
            }
        };
        let (read, ()) = tokio::join!(reading, moving);
        for keys in read {
            assert!(keys.unwrap().is_empty());
        }
        write_all(&store, 10 + round).await;
        assert_eq!(pair.tenants(1 - round, 10 + round).await, 20);
    }
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left() {
    let Some(pair) = Pair::start().await else { return };
    let (silent, id) = (Relay::start(pair.address(0)), agent_id("a"));
    // As if the second had followed the first
    pair.takes_writes(1, true).await;
    for server in &pair.0 {
        let store = open(&Pair::url(&[server.port()])).await.unwrap();
        store.write(deploying(&tenant("t"), &id, "a")).await.unwrap();
    }
    pair.takes_writes(1, false).await;
    let store = open(&Pair::url(&[silent.address().port(), pair.0[1].port()])).await.unwrap();
    let set = |name: &str| {
        let name = SecretName::parse(name).unwrap();
        store.change(question(&tenant("t"), &id), move |found| Ok::<_, Error>(putting(found.unwrap(), &name)))
    };
    write_all(&store, 0).await;
    set("BEFORE").await.unwrap();
    let mut lock = pair.connect(0).await;
    let tables = "BEGIN; LOCK TABLE tenants, agents, secrets IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(tables).execute(&mut lock).await.unwrap();
    let calls = Box::pin(async {
        let (t, page) = (tenant("t"), PageRequest::new(0, None));
        let reads = join_all((0..5).map(|_| store.secrets(&t, &id)));
        let listed = store.agents(&t, &AgentScope::All, None, &page);
        tokio::join!(write_all(&store, 1), set("AFTER"), reads, listed)
    });
    let falling = async {
        let mut looking = pair.connect(0).await;
        eventually("calls under way", async || {
            let query = "SELECT count(*) FROM pg_stat_activity \
                WHERE application_name = 'superserve' AND wait_event_type = 'Lock'";
            let waiting: i64 = sqlx::query_scalar(query).fetch_one(&mut looking).await.unwrap();
            // As many writes as may wait, a change, a look-up and a list
            (waiting >= 5).then_some(())
        })
        .await;
        silent.fall_silent();
        drop(lock);
        pair.takes_writes(1, true).await;
    };
    // Long before a statement has taken too long
    let (((), changed, reads, listed), ()) =
        timeout(LIMIT, async { tokio::join!(calls, falling) }).await.expect("nobody waits for the first");
    changed.unwrap();
    assert!(reads.into_iter().all(|read| read.unwrap().is_some()));
    assert_eq!(listed.unwrap().rows.len(), 1);
    timeout(LIMIT, write_all(&store, 2)).await.expect("there are connections");
    for round in [1, 2] {
        assert_eq!((pair.tenants(0, round).await, pair.tenants(1, round).await), (0, 20), "{round}");
    }
    let found = store.secrets(&tenant("t"), &id).await.unwrap().unwrap();
    assert_eq!((found.agent.revision.0, found.secrets.len()), (1, 1), "it was set once");
}

#[tokio::test]
async fn a_database_without_a_primary_is_not_opened() {
    let Some(pair) = Pair::start().await else { return };
    pair.takes_writes(0, false).await;
    let both = Pair::url(&[pair.0[0].port(), pair.0[1].port()]);
    let refused = open(&both).await.unwrap_err().to_string();
    assert!(refused.contains("takes no writes") && !refused.contains("hunter2"), "{refused}");
}

#[tokio::test]
async fn a_server_follows_its_database_with_its_listener() {
    let Some(pair) = Pair::start().await else { return };
    let both = Pair::url(&[pair.0[0].port(), pair.0[1].port()]);
    let server = Server::with(Database::Postgres(Postgres::at(both)));
    let server = server.with_notifications().start();
    let is_said = async |word: &str, times: usize| {
        eventually(word, async || (server.log().matches(word).count() >= times).then_some(())).await;
    };
    pair.takes_writes(1, true).await;
    pair.takes_writes(0, false).await;
    is_said("the database is there", 1).await;
    assert!(server.log().contains(&format!("127.0.0.1:{}", pair.0[1].port())), "{}", server.log());
    eventually("readiness", async || (server.ops().get("/readyz").send().await.status == 200).then_some(()))
        .await;
    // The listener has moved with it
    let mut connection = pair.connect(1).await;
    eventually("the listener", async || {
        let query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'";
        let listeners: i64 = sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap();
        (listeners == 1).then_some(())
    })
    .await;
}

/// Writes while the second server takes over, and finds it all there.
async fn is_followed(pair: &Pair, store: &Store, lead: impl FnOnce()) {
    write_all(store, 0).await;
    assert_eq!((pair.tenants(0, 0).await, pair.tenants(1, 0).await), (20, 0));
    pair.takes_writes(0, false).await;
    lead();
    let taking_over = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        pair.takes_writes(1, true).await;
    };
    // Connections to the first are alive and refuse; for a moment nobody takes writes
    tokio::join!(write_all(store, 1), taking_over);
    assert_eq!((pair.tenants(0, 1).await, pair.tenants(1, 1).await), (0, 20));
}

/// As many writes at once as fill the pool more than twice. None fails.
async fn write_all(store: &Store, round: usize) {
    let writes = (0..20).map(|n| store.write(noting(format!("ten_r{round}n{n}"))));
    for outcome in join_all(writes).await {
        outcome.unwrap();
    }
}

/// A write that needs nothing to be there.
fn noting(
    name: String,
) -> impl for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<(), Error>> + Send + Sync + 'static {
    move |tx| {
        let name = name.clone();
        async move { tx.ensure_tenant(&TenantId::parse(&name).unwrap(), &name, Timestamp(1)).await }.boxed()
    }
}

async fn open(url: &str) -> Result<Store, Error> {
    let config = Config {
        url: url.parse()?,
        max_connections: 8,
        // That they follow is tried here, not how soon on a busy machine
        acquire_timeout: Duration::from_secs(20),
        statement_timeout: Duration::from_mins(1),
        notifications: true,
        batching: !engine::is_distributed(),
    };
    let store = Store::open(&config, &TaskTracker::new()).await?;
    store.migrate(&config).await?;
    Ok(store)
}

// === impl Pair ===

impl Pair {
    /// Both with the schema; the first takes writes.
    async fn start() -> Option<Self> {
        let pair = Self([Cluster::start()?, Cluster::start()?]);
        for (n, cluster) in pair.0.iter().enumerate() {
            let mut connection = PgConnection::connect(&cluster.url("postgres")).await.unwrap();
            for statement in
                ["CREATE ROLE secrets SUPERUSER LOGIN PASSWORD 'hunter2'", "CREATE DATABASE secrets"]
            {
                sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
            }
            drop(open(&Self::url(&[cluster.port()])).await.unwrap());
            pair.takes_writes(n, n == 0).await;
        }
        Some(pair)
    }

    fn url(ports: &[u16]) -> String {
        let hosts: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        format!("postgres://secrets:hunter2@{}/secrets", hosts.join(","))
    }

    fn address(&self, n: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.0[n].port()))
    }

    async fn open_both(&self) -> Store {
        open(&Self::url(&[self.0[0].port(), self.0[1].port()])).await.unwrap()
    }

    async fn connect(&self, n: usize) -> PgConnection {
        PgConnection::connect(&Self::url(&[self.0[n].port()])).await.unwrap()
    }

    /// Makes a server read only, or no longer, for all that are connected; seen when this returns.
    async fn takes_writes(&self, n: usize, whether: bool) {
        let value = if whether { "off" } else { "on" };
        let mut connection = self.connect(n).await;
        let set = format!("ALTER SYSTEM SET default_transaction_read_only = {value}");
        // A read-only transaction may not; what is set for this one alone is let go with it
        sqlx::raw_sql("SET default_transaction_read_only = off").execute(&mut connection).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(set)).execute(&mut connection).await.unwrap();
        sqlx::raw_sql("SELECT pg_reload_conf()").execute(&mut connection).await.unwrap();
        eventually("the setting", async || {
            let mut fresh = self.connect(n).await;
            let query = "SELECT current_setting('default_transaction_read_only')";
            let found: String = sqlx::query_scalar(query).fetch_one(&mut fresh).await.unwrap();
            (found == value).then_some(())
        })
        .await;
    }

    async fn tenants(&self, n: usize, round: usize) -> i64 {
        let mut connection = self.connect(n).await;
        let query = "SELECT count(*) FROM tenants WHERE id LIKE $1";
        let like = format!("ten_r{round}n%");
        sqlx::query_scalar(query).bind(like).fetch_one(&mut connection).await.unwrap()
    }
}
