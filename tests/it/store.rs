//! Conformance of the store: the same suite on both databases, through the library.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, join_all},
};
use superserve::{
    domain::{
        Action, AgentId, AgentName, AgentScope, AuditEvent, EventId, KekId, Origin, PageRequest, Scope,
        SecretName, TenantId, Timestamp, TokenGrant, TokenId, TokenRecord,
    },
    store::{
        Change, Config, Decided, Deployment, Error, Found, Question, SealedSecret, SealedWrite, Store, Tx,
        WrappedKeyRow,
    },
};
use tempfile::TempDir;
use tokio_util::task::TaskTracker;

use crate::harness::{Database, engine, on_each_database, postgres::Cluster, sql::Sql};

on_each_database!(
    tenants_never_meet,
    a_failed_write_leaves_its_neighbours_alone,
    a_failed_commit_is_told_to_all_it_concerns,
    text_is_bytes
);

/// A store of its own.
pub(crate) struct Scene {
    pub(crate) store: Store,
    url: String,
    _directory: TempDir,
    pub(crate) database: Database,
}

async fn tenants_never_meet(database: Database) {
    let scene = Scene::open(database).await;
    let (store, mine, theirs) = (&scene.store, tenant("mine"), tenant("theirs"));
    for tenant in [&mine, &theirs] {
        let id = agent_id(tenant.as_str());
        store.write(deploying(tenant, &id, "same name")).await.unwrap();
        set(store, tenant, &id, "A").await.unwrap();
        store.write(adding_token(tenant)).await.unwrap();
    }
    let (own, foreign) = (agent_id(mine.as_str()), agent_id(theirs.as_str()));
    for (id, there) in [(&own, true), (&foreign, false)] {
        assert_eq!(store.agent(&mine, id).await.unwrap().is_some(), there);
        assert_eq!(store.revision(&mine, id).await.unwrap().is_some(), there);
        assert_eq!(store.secrets(&mine, id).await.unwrap().is_some(), there);
        assert_eq!(store.sealed_secrets(&mine, id).await.unwrap().is_some(), there);
        assert_eq!(locks(store, &mine, id).await, there);
        let scope = AgentScope::Only(vec![id.clone()]);
        let listed = store.agents(&mine, &scope, None, &PageRequest::new(0, None)).await.unwrap();
        assert_eq!(listed.rows.len(), usize::from(there));
    }
    let page = PageRequest::new(0, None);
    for name in [None, Some("same name")] {
        let agents = store.agents(&mine, &AgentScope::All, name, &page).await.unwrap().rows;
        assert_eq!(agents.iter().map(|agent| &agent.id).collect::<Vec<_>>(), [&own]);
        assert_eq!(agents[0].keys.len(), 1);
    }
    let tokens = store.tokens(&mine, &PageRequest::new(0, None)).await.unwrap().rows;
    assert_eq!(tokens.len(), 1);
    assert!(
        store.events(&mine, Some(&foreign), None, &PageRequest::new(0, None)).await.unwrap().rows.is_empty()
    );
    let foreign_token = store.tokens(&theirs, &PageRequest::new(0, None)).await.unwrap().rows.remove(0).token;
    let revoked = store
        .write(move |tx| {
            let (tenant, id) = (tenant("mine"), foreign_token.id.clone());
            async move { tx.revoke_token(&tenant, &id, Timestamp(9)).await }.boxed()
        })
        .await;
    assert!(revoked.unwrap().is_none());
    let untouched = store.tokens(&theirs, &PageRequest::new(0, None)).await.unwrap().rows.remove(0).token;
    assert_eq!(untouched.revoked_at, None);
}

async fn a_failed_write_leaves_its_neighbours_alone(database: Database) {
    let scene = Scene::open(database).await;
    let store = &scene.store;
    let outcomes = join_all((0..60).map(|n| {
        let id = agent_id(&format!("n{n}"));
        store.write(move |tx| {
            let id = id.clone();
            async move {
                tx.deploy(&deployment(&tenant("t"), &id, &format!("agent {n}")), &wrapped_key()).await?;
                match n % 3 {
                    0 => Ok(()),
                    // It has written already, and then thinks better of it
                    1 => Err(Error::Inconsistent("a test")),
                    _ => panic!("a test"),
                }
            }
            .boxed()
        })
    }))
    .await;
    for (n, outcome) in outcomes.into_iter().enumerate() {
        let there = store.agent(&tenant("t"), &agent_id(&format!("n{n}"))).await.unwrap().is_some();
        assert_eq!(there, n % 3 == 0, "{n}: {outcome:?}");
        let expected = match n % 3 {
            0 => matches!(outcome, Ok(())),
            1 => matches!(outcome, Err(Error::Inconsistent("a test"))),
            _ => matches!(outcome, Err(Error::Panicked)),
        };
        assert!(expected, "{n}: {outcome:?}");
    }
    store.write(deploying(&tenant("t"), &agent_id("after"), "after")).await.unwrap();
}

async fn a_failed_commit_is_told_to_all_it_concerns(database: Database) {
    let scene = Scene::open(database).await;
    // A rule that is looked at only when the transaction commits
    let poison = match &scene.database {
        Database::Sqlite => {
            "CREATE TABLE parent (id INTEGER PRIMARY KEY);
             CREATE TABLE child (id INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
             CREATE TRIGGER poison AFTER INSERT ON agents WHEN NEW.name LIKE 'poison%'
             BEGIN INSERT INTO child VALUES (7); END;"
        }
        Database::Postgres(_) => {
            "CREATE TABLE parent (id int PRIMARY KEY);
             CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
             CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN INSERT INTO child VALUES (7); RETURN NEW; END';
             CREATE TRIGGER poison AFTER INSERT ON agents FOR EACH ROW WHEN (NEW.name LIKE 'poison%')
             EXECUTE FUNCTION poison();"
        }
    };
    scene.sql().await.run(poison).await;
    let (store, mut failed) = (&scene.store, 0);
    let mut was_refused_with_others = false;
    for round in 0..5 {
        let writes = (0..40).map(|n| {
            let name = if n == 20 { format!("poison {round}") } else { format!("{round} {n}") };
            let id = agent_id(&format!("r{round}n{n}"));
            let write = deploying(&tenant("t"), &id, &name);
            store.write(move |tx| {
                let written = write(tx);
                async move {
                    written.await?;
                    if n == 10 { Err(Error::Inconsistent("a refusal")) } else { Ok(()) }
                }
                .boxed()
            })
        });
        let outcomes = join_all(writes).await;
        assert!(outcomes[20].is_err(), "{round}");
        // What was refused in a transaction that never was rests on nothing. SQLite's thread takes what has come when it
        // is free, which may be some of these
        let is_refused = matches!(outcomes[10], Err(Error::Inconsistent("a refusal")));
        let is_alone = outcomes[11..20].iter().any(Result::is_ok);
        assert!(is_refused || !is_alone, "{round}: {:?}", outcomes[10]);
        was_refused_with_others |= !is_refused;
        for (n, outcome) in outcomes.into_iter().enumerate() {
            let there =
                store.agent(&tenant("t"), &agent_id(&format!("r{round}n{n}"))).await.unwrap().is_some();
            assert_eq!(there, outcome.is_ok(), "{round} {n}: {outcome:?}");
            failed += usize::from(outcome.is_err());
        }
        store.write(deploying(&tenant("t"), &agent_id(&format!("after{round}")), "after")).await.unwrap();
    }
    if let Database::Postgres(_) = scene.database {
        assert_eq!(failed, 10, "transactions of others do not fail");
    } else {
        assert!(was_refused_with_others, "no two went together");
    }
}

#[tokio::test]
async fn what_nobody_awaits_is_not_written() {
    // PostgreSQL may have it done before anybody can give it up
    let scene = Scene::open(Database::Sqlite).await;
    let store = &scene.store;
    let lock = scene.sql().await;
    lock.run("BEGIN IMMEDIATE").await;
    for n in 0..3 {
        let id = agent_id(&format!("n{n}"));
        // On its way, and given up
        let write = store.write(deploying(&tenant("t"), &id, &format!("agent {n}")));
        assert!(write.now_or_never().is_none());
    }
    drop(lock);
    store.write(deploying(&tenant("t"), &agent_id("last"), "last")).await.unwrap();
    let agents =
        store.agents(&tenant("t"), &AgentScope::All, None, &PageRequest::new(0, None)).await.unwrap();
    assert_eq!(agents.rows.iter().map(|agent| agent.name.as_str()).collect::<Vec<_>>(), ["last"]);
}

#[tokio::test]
async fn dead_connections_are_not_seen() {
    let Some(mut cluster) = Cluster::start() else { return };
    let scene = Scene::open(Database::Postgres(cluster.create_database().await)).await;
    let (store, tenant, id) = (&scene.store, tenant("t"), agent_id("a"));
    store.write(deploying(&tenant, &id, "a")).await.unwrap();
    for round in 0..4 {
        let read = async || assert!(store.agent(&tenant, &id).await.unwrap().is_some(), "{round}");
        let write = async || store.write(deploying(&tenant, &id, "a")).await.unwrap();
        // Every connection of the pool lies idle when the database goes
        join_all((0..8).map(|_| read())).await;
        if round % 2 == 0 {
            cluster.stop();
        } else {
            cluster.kill9();
        }
        cluster.start_again();
        // Whoever comes first, and who comes with him, finds dead ones
        if round < 2 {
            join_all((0..20).map(|_| read())).await;
        } else {
            join_all((0..20).map(|_| write())).await;
        }
        store.ping().await.unwrap();
    }
}

async fn text_is_bytes(database: Database) {
    let scene = Scene::open(database).await;
    let (store, tenant) = (&scene.store, tenant("t"));
    let mut names = ["b", "B", "a", "Z", "_", "-", "a b", "ab", "é", "z", "Agent", "agent", "ａ", "0"];
    for (n, name) in names.iter().enumerate() {
        let id = agent_id(&format!("n{n}"));
        store.write(deploying(&tenant, &id, name)).await.unwrap();
    }
    names.sort_unstable(); // Rust compares bytes
    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let page = store.agents(&tenant, &AgentScope::All, None, &PageRequest::new(3, after)).await.unwrap();
        listed.extend(page.rows.into_iter().map(|agent| agent.name.as_str().to_owned()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(listed, names);

    let id = agent_id("n0");
    let keys = ["b", "B", "_a", "A_", "AA", "a", "Z", "_"];
    for key in keys {
        set(store, &tenant, &id, key).await.unwrap();
    }
    let sorted: Vec<_> = keys.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    let listed = store.secrets(&tenant, &id).await.unwrap().unwrap();
    assert_eq!(listed.secrets.iter().map(|secret| secret.name.as_str()).collect::<Vec<_>>(), sorted);
    let sealed = store.sealed_secrets(&tenant, &id).await.unwrap().unwrap();
    assert_eq!(sealed.secrets.iter().map(|secret| secret.name.as_str()).collect::<Vec<_>>(), sorted);
}

// === impl Scene ===

impl Scene {
    pub(crate) async fn open(database: Database) -> Self {
        let directory = TempDir::new().unwrap();
        let url = match &database {
            Database::Sqlite => format!("sqlite://{}", directory.path().join("secrets.db").display()),
            Database::Postgres(database) => database.url().to_owned(),
        };
        let config = config(&url);
        let store = Store::open(&config, &TaskTracker::new()).await.unwrap();
        assert!(!store.migrate(&config).await.unwrap().is_empty());
        assert!(store.migrate(&config).await.unwrap().is_empty());
        Self { store, url, _directory: directory, database }
    }

    /// The same database, as another server has it.
    pub(crate) async fn again(&self) -> Store {
        Store::open(&config(&self.url), &TaskTracker::new()).await.unwrap()
    }

    pub(crate) async fn sql(&self) -> Sql {
        Sql::open(&self.url).await
    }
}

pub(crate) fn config(url: &str) -> Config {
    Config {
        url: url.parse().unwrap(),
        max_connections: 8,
        acquire_timeout: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(30),
        notifications: !engine::is_distributed(),
        batching: !engine::is_distributed(),
    }
}

async fn locks(store: &Store, tenant: &TenantId, id: &AgentId) -> bool {
    let (tenant, id) = (tenant.clone(), id.clone());
    let found = store.write(move |tx| {
        let (tenant, id) = (tenant.clone(), id.clone());
        async move { tx.lock_agent(&tenant, &id).await }.boxed()
    });
    found.await.unwrap().is_some()
}

/// A write that deploys an agent.
pub(crate) fn deploying(
    tenant: &TenantId,
    id: &AgentId,
    name: &str,
) -> impl for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<(), Error>> + Send + Sync + 'static + use<> {
    let deployment = deployment(tenant, id, name);
    move |tx| {
        let deployment = deployment.clone();
        async move { tx.deploy(&deployment, &wrapped_key()).await.map(drop) }.boxed()
    }
}

/// Sets one secret, whatever it was before.
async fn set(store: &Store, tenant: &TenantId, id: &AgentId, name: &str) -> Result<(), Error> {
    let question = question(tenant, id);
    let name = SecretName::parse(name).unwrap();
    store.change(question, move |found| Ok(putting(found.unwrap(), &name))).await
}

/// What has to be known to change an agent.
pub(crate) fn question(tenant: &TenantId, id: &AgentId) -> Question {
    Question { tenant: tenant.clone(), agent: id.clone(), recall: None, with_values: false }
}

/// The decision to set one secret.
pub(crate) fn putting(found: &Found, name: &SecretName) -> Decided<()> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let revision = found.metadata.agent.revision.next();
    let secret = SealedSecret {
        name: name.clone(),
        version: revision,
        fingerprint: vec![1],
        sealed: vec![2],
        previous: None,
    };
    let event = AuditEvent {
        id: EventId::at(1, NUMBER.fetch_add(1, Ordering::Relaxed)),
        at: Timestamp(1),
        tenant: found.metadata.agent.tenant.clone(),
        agent: Some(found.metadata.agent.id.clone()),
        action: Action::SecretsSet,
        actor: "tok_1".to_owned(),
        origin: Origin::default(),
        secrets: Vec::new(),
        revision,
        run_id: String::new(),
        subject: String::new(),
    };
    let put = SealedWrite { secret, at: Timestamp(1), by: "tok_1".to_owned() };
    let change = Change {
        moves_on: true,
        puts: vec![put],
        deletes: Vec::new(),
        overlaps: Vec::new(),
        event,
        remember: None,
    };
    Decided { answer: (), change: Some(change) }
}

/// A write that adds a token.
fn adding_token(
    tenant: &TenantId,
) -> impl for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<(), Error>> + Send + Sync + 'static + use<> {
    let grant = TokenGrant {
        name: "t".to_owned(),
        scopes: vec![Scope::SecretsList],
        agents: AgentScope::All,
        email: String::new(),
        expires_at: None,
    };
    let id = TokenId::parse(&format!("tok_{}", &tenant.as_str()[4..])).unwrap();
    let record =
        TokenRecord { id, tenant: tenant.clone(), grant, created_at: Timestamp(1), revoked_at: None };
    move |tx| {
        let record = record.clone();
        async move { tx.add_token(&record, record.id.as_str().as_bytes()).await.map(drop) }.boxed()
    }
}

fn deployment(tenant: &TenantId, id: &AgentId, name: &str) -> Deployment {
    Deployment {
        id: id.clone(),
        tenant: tenant.clone(),
        name: AgentName::from_stored(name.to_owned()),
        command: None,
        required_secrets: Vec::new(),
        at: Timestamp(1),
    }
}

fn wrapped_key() -> WrappedKeyRow {
    WrappedKeyRow { kek: KekId::from_stored("kek_1".to_owned()), bytes: vec![0] }
}

pub(crate) fn tenant(name: &str) -> TenantId {
    TenantId::parse(&format!("ten_{name}")).unwrap()
}

/// The id of the only agent of a tenant, or any other.
pub(crate) fn agent_id(name: &str) -> AgentId {
    AgentId::parse(&format!("agt_{}", name.trim_start_matches("ten_"))).unwrap()
}
