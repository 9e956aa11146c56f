//! Changes of agents through the store: together, and yet each by itself. On both databases.

use futures_util::future::join_all;
use superserve::{
    domain::{AgentId, PageRequest, Revision, SecretName},
    store::{Decided, Error, Store},
};

use crate::{
    harness::{Database, on_each_database, postgres::Cluster},
    store::{Scene, agent_id, deploying, putting, question, tenant},
};

on_each_database!(
    writers_of_one_agent_follow_each_other,
    a_bad_change_leaves_its_neighbours_alone,
    a_change_sees_only_its_tenants_agent
);

/// How many agents there are in a scene.
const AGENTS: usize = 20;

async fn writers_of_one_agent_follow_each_other(database: Database) {
    let scene = Scene::open(database).await;
    let ids = agents(&scene).await;
    follow_each_other(std::slice::from_ref(&scene.store), &ids).await;
}

#[tokio::test]
async fn writers_on_two_servers_follow_each_other() {
    let Some(cluster) = Cluster::start() else { return };
    let scene = Scene::open(Database::Postgres(cluster.create_database().await)).await;
    let ids = agents(&scene).await;
    follow_each_other(&[scene.store.clone(), scene.again().await], &ids).await;
}

/// Sets keys of many agents by all stores at once, several of each agent: nothing is lost, and nobody decided on
/// what was not so any more.
async fn follow_each_other(stores: &[Store], ids: &[AgentId]) {
    let keys: Vec<_> = (0..6).map(|n| SecretName::parse(&format!("KEY_{n}")).unwrap()).collect();
    let changes = ids.iter().flat_map(|id| keys.iter().map(move |key| (id, key))).enumerate();
    let changes = changes.map(|(n, (id, key))| {
        let (store, key) = (&stores[n % stores.len()], key.clone());
        store.change(question(&tenant("t"), id), move |found| {
            let found = found.unwrap();
            let Decided { change, .. } = putting(found, &key);
            Ok::<_, Error>(Decided { answer: found.metadata.agent.revision, change })
        })
    });
    let outcomes: Vec<_> = join_all(changes).await.into_iter().map(Result::unwrap).collect();
    for (id, revisions) in ids.iter().zip(outcomes.chunks(keys.len())) {
        let mut revisions = revisions.to_vec();
        revisions.sort_unstable();
        assert_eq!(revisions, (0..6).map(Revision).collect::<Vec<_>>(), "each began where another ended");
        for store in stores {
            let found = store.secrets(&tenant("t"), id).await.unwrap().unwrap();
            assert_eq!((found.agent.revision, found.secrets.len()), (Revision(6), keys.len()));
        }
        let page = PageRequest::new(0, None);
        let events = stores[0].events(&tenant("t"), Some(id), None, &page).await.unwrap().rows;
        assert_eq!(events.len(), keys.len(), "each is on record, once");
    }
}

async fn a_bad_change_leaves_its_neighbours_alone(database: Database) {
    let scene = Scene::open(database).await;
    let ids = agents(&scene).await;
    // What the database itself refuses
    let poison = match &scene.database {
        Database::Sqlite => {
            "CREATE TRIGGER poison BEFORE INSERT ON secrets WHEN NEW.name = 'POISON'
             BEGIN SELECT RAISE(ABORT, 'poison'); END;"
        }
        Database::Postgres(_) => "ALTER TABLE secrets ADD CONSTRAINT poison CHECK (name <> 'POISON')",
    };
    scene.sql().await.run(poison).await;
    let outcomes = join_all(ids.iter().enumerate().map(|(n, id)| {
        let name = SecretName::parse(if n % 4 == 1 { "POISON" } else { "KEY" }).unwrap();
        scene.store.change(question(&tenant("t"), id), move |found| match n % 4 {
            2 => Err(Error::Inconsistent("a test")),
            3 => panic!("a test"),
            _ => Ok(putting(found.unwrap(), &name)),
        })
    }))
    .await;
    for (n, (id, outcome)) in ids.iter().zip(outcomes).enumerate() {
        let expected = match n % 4 {
            0 => matches!(outcome, Ok(())),
            1 => matches!(outcome, Err(Error::Refused(_))),
            2 => matches!(outcome, Err(Error::Inconsistent("a test"))),
            _ => matches!(outcome, Err(Error::Panicked)),
        };
        assert!(expected, "{n}: {outcome:?}");
        let found = scene.store.secrets(&tenant("t"), id).await.unwrap().unwrap();
        let written = n % 4 == 0;
        assert_eq!(
            (found.agent.revision, found.secrets.len()),
            (Revision(written.into()), written.into()),
            "{n}"
        );
    }
}

async fn a_change_sees_only_its_tenants_agent(database: Database) {
    let scene = Scene::open(database).await;
    let ids = agents(&scene).await;
    let found = scene.store.change(question(&tenant("other"), &ids[0]), |found| {
        Ok::<_, Error>(Decided { answer: found.is_some(), change: None })
    });
    assert!(!found.await.unwrap());
}

async fn agents(scene: &Scene) -> Vec<AgentId> {
    let ids: Vec<_> = (0..AGENTS).map(|n| agent_id(&format!("n{n}"))).collect();
    for (n, id) in ids.iter().enumerate() {
        scene.store.write(deploying(&tenant("t"), id, &format!("agent {n}"))).await.unwrap();
    }
    ids
}
