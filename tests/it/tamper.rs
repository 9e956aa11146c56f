//! Promise: the wrong key, a flipped bit, a moved row are refused and named, and the value is not.

use std::{fs, path::Path};

use sea_orm::Value;
use serde_json::json;
use tonic::Code;

use crate::harness::{
    Database,
    cli::Output,
    fixtures::secrets_of,
    grpc::Grpc,
    on_each_database,
    search::sentinel,
    server::Server,
    sql::Sql,
    steps::{resolve, resolver},
};

on_each_database!(changed_rows_do_not_open, a_foreign_keyring_is_refused, a_lost_keyring_is_not_replaced);

/// An agent's secret in the database.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    agent: String,
    name: &'static str,
    version: i64,
    sealed: Vec<u8>,
}

/// Two agents with secrets, a way past the server, and one that resolves.
struct Scene {
    server: Server,
    sql: Sql,
    grpc: Grpc,
    first: String,
    second: String,
    values: [String; 3],
}

async fn changed_rows_do_not_open(database: Database) {
    let scene = Scene::set(database).await;
    let (a, b) = (scene.row(&scene.first, "A").await, scene.row(&scene.first, "B").await);
    let other = scene.row(&scene.second, "A").await;
    let flip = |row: &Row, bit: usize| {
        let mut sealed = row.sealed.clone();
        sealed[bit / 8] ^= 1 << (bit % 8);
        Row { sealed, ..row.clone() }
    };
    // In its format byte, its nonce, its ciphertext and its tag
    for bit in [0, 8 + 5, 8 * 20, a.sealed.len() * 8 - 1] {
        scene.refuses("a flipped bit", &[flip(&a, bit)], &[&a]).await;
    }
    let cut = Row { sealed: a.sealed[..a.sealed.len() - 1].to_vec(), ..a.clone() };
    scene.refuses("a shorter value", &[cut], &[&a]).await;
    let swapped =
        [Row { sealed: b.sealed.clone(), ..a.clone() }, Row { sealed: a.sealed.clone(), ..b.clone() }];
    scene.refuses("two values swapped", &swapped, &[&a, &b]).await;
    let foreign = Row { agent: a.agent.clone(), ..other };
    scene.refuses("another agent's row", &[foreign], &[&a]).await;
    scene.refuses("another version", &[Row { version: a.version + 7, ..a.clone() }], &[&a]).await;

    // An earlier value cannot pass for a later one
    let later = json!({"secrets": {"A": &scene.values[2]}});
    let set = scene.server.rest().patch(&secrets_of(&scene.first)).json(&later).send().await;
    assert_eq!(set.status, 200);
    let now = scene.row(&scene.first, "A").await;
    assert_ne!(now.version, a.version);
    let replayed = Row { sealed: a.sealed.clone(), ..now.clone() };
    scene.refuses("an earlier value", &[replayed], &[&now]).await;

    scene.refuses_a_changed_data_key().await;
    let metrics = scene.server.ops().get("/metrics").send().await.text();
    for of in ["value", "data_key"] {
        let none = format!("superserve_unreadable_total{{of=\"{of}\"}} 0\n");
        assert!(!metrics.contains(&none), "{metrics}");
    }
    let log = scene.server.log();
    assert!(scene.values.iter().all(|value| !log.contains(value)), "a value is in the log");
}

async fn a_foreign_keyring_is_refused(database: Database) {
    let mut scene = Scene::set(database).await;
    assert!(scene.server.stop().await.success());
    let keyring = scene.server.setup().keyring();
    let right = fs::read(&keyring).unwrap();
    let status = scene.server.setup().run(&["keys", "status"]);
    assert_eq!(status.code, 0, "{}", status.stderr);
    let (id, fingerprint) = key_of(&status);

    fs::remove_file(&keyring).unwrap();
    assert_eq!(scene.server.setup().run(&["keys", "generate"]).code, 0);
    let refused = scene.server.setup().run_serve();
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains(&id) && refused.stderr.contains(&fingerprint), "{}", refused.stderr);

    // Another key under the right id
    let other: serde_json::Value = serde_json::from_slice(&fs::read(&keyring).unwrap()).unwrap();
    let mut renamed = other.clone();
    renamed["keys"][0]["id"] = json!(id);
    fs::write(&keyring, renamed.to_string()).unwrap();
    let refused = scene.server.setup().run_serve();
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains(&id) && refused.stderr.contains(&fingerprint), "{}", refused.stderr);
    let found = refused.stderr.split("has the fingerprint ").nth(1).and_then(|rest| rest.split(',').next());
    assert_eq!(found.map(str::len), Some(fingerprint.len()), "{}", refused.stderr);
    assert_ne!(found, Some(fingerprint.as_str()));

    for bytes in [&b""[..], b"{", &right[..right.len() / 2]] {
        fs::write(&keyring, bytes).unwrap();
        let refused = scene.server.setup().run_serve();
        assert!(refused.code != 0 && refused.stderr.contains("keyring"), "{}", refused.stderr);
        assert_eq!(fs::read(&keyring).unwrap(), bytes);
    }
    fs::write(&keyring, right).unwrap();
    scene.server.restart();
    scene.refuses_nothing().await;
}

async fn a_lost_keyring_is_not_replaced(database: Database) {
    let mut scene = Scene::set(database).await;
    assert!(scene.server.stop().await.success());
    let (keyring, kept) = (scene.server.setup().keyring(), scene.server.data_dir().join("kept"));
    let (old, _) = key_of(&scene.server.setup().run(&["keys", "status"]));
    for step in [&["keys", "generate"][..], &["keys", "rotate"], &["keys", "retire", &old]] {
        assert_eq!(scene.server.setup().run(step).code, 0, "{step:?}");
    }
    let (id, fingerprint) = key_of(&scene.server.setup().run(&["keys", "status"]));
    fs::rename(&keyring, &kept).unwrap();
    let refused = scene.server.setup().run_serve();
    assert_ne!(refused.code, 0);
    let needed = format!("{id} of the fingerprint {fingerprint} (for 2 agent(s))");
    assert!(refused.stderr.contains(&needed), "{}", refused.stderr);
    assert!(!refused.stderr.contains(&old), "nothing needs it: {}", refused.stderr);
    assert!(refused.stderr.contains(keyring.to_str().unwrap()), "{}", refused.stderr);
    assert!(!Path::exists(&keyring));
    fs::rename(&kept, &keyring).unwrap();
    scene.server.restart();
    scene.refuses_nothing().await;
}

// === impl Scene ===

impl Scene {
    async fn set(database: Database) -> Self {
        let server = Server::start(database);
        let (first, second) = (server.deploy("first").await, server.deploy("second").await);
        let values = [sentinel(), sentinel(), sentinel()];
        for agent in [&first, &second] {
            let secrets = json!({"secrets": {"A": values[0], "B": values[1]}});
            let set = server.rest().patch(&secrets_of(agent)).json(&secrets).send().await;
            assert_eq!(set.status, 200, "{}", set.text());
        }
        let (sql, grpc) = (Sql::connect(&server).await, resolver(&server).await);
        Self { server, sql, grpc, first, second, values }
    }

    async fn row(&self, agent: &str, name: &'static str) -> Row {
        let query = "SELECT version, sealed FROM secrets WHERE agent_id = $1 AND name = $2";
        let row = self.sql.row(query, [agent.into(), name.into()]).await;
        let (version, sealed) = (row.try_get("", "version").unwrap(), row.try_get("", "sealed").unwrap());
        Row { agent: agent.to_owned(), name, version, sealed }
    }

    async fn write(&self, row: &Row) {
        let update = "UPDATE secrets SET version = $1, sealed = $2 WHERE agent_id = $3 AND name = $4";
        let values: [Value; 4] =
            [row.version.into(), row.sealed.clone().into(), row.agent.as_str().into(), row.name.into()];
        assert_eq!(self.sql.change(update, values).await, 1);
        // So that it counts at once: PostgreSQL answers for secrets by the row of their agent
        let touch = "UPDATE agents SET updated_at = updated_at WHERE id = $1";
        assert_eq!(self.sql.change(touch, [row.agent.as_str().into()]).await, 1);
    }

    /// Writes `changed` past the server, looks whether that is seen, and puts `right` back.
    async fn refuses(&self, what: &str, changed: &[Row], right: &[&Row]) {
        self.refuses_nothing().await;
        for row in changed {
            self.write(row).await;
        }
        let log = self.refuses_first(what).await;
        assert!(
            changed.iter().any(|row| log.contains(&format!("\\\"{}\\\"", row.name))),
            "{what}: no key in {log}"
        );
        for row in right {
            self.write(row).await;
        }
        self.refuses_nothing().await;
    }

    async fn refuses_a_changed_data_key(&self) {
        let query = "SELECT wrapped_key FROM agents WHERE id = $1";
        let key_of = async |agent: &str| -> Vec<u8> {
            self.sql.row(query, [agent.into()]).await.try_get("", "wrapped_key").unwrap()
        };
        let (right, other) = (key_of(&self.first).await, key_of(&self.second).await);
        let mut flipped = right.clone();
        flipped[right.len() / 2] ^= 0x10;
        for (what, key) in [("a flipped bit of a data key", flipped), ("another agent's data key", other)] {
            self.put_key(&key).await;
            self.refuses_first(what).await;
            // Nor is anything written under a key that does not open
            let set =
                self.server.rest().patch(&secrets_of(&self.first)).json(&json!({"secrets": {"C": "c"}}));
            let set = set.send().await;
            assert_eq!((set.status.as_u16(), set.json()["detail"].as_str()), (500, Some("Internal error")));
            self.put_key(&right).await;
            self.refuses_nothing().await;
        }
    }

    async fn put_key(&self, key: &[u8]) {
        let update = "UPDATE agents SET wrapped_key = $1 WHERE id = $2";
        assert_eq!(self.sql.change(update, [key.to_vec().into(), self.first.as_str().into()]).await, 1);
    }

    /// The first agent does not resolve, and what the log says of it names the agent.
    async fn refuses_first(&self, what: &str) -> String {
        let before = self.server.log().len();
        let refused = resolve(&self.grpc, &self.first).await.expect_err(what);
        assert_eq!((refused.code(), refused.message()), (Code::DataLoss, "Internal error"), "{what}");
        let log = self.server.log()[before..].to_owned();
        assert!(log.contains(&self.first), "{what}: no agent in {log}");
        resolve(&self.grpc, &self.second).await.expect("the other agent is not touched");
        log
    }

    async fn refuses_nothing(&self) {
        let grpc = resolver(&self.server).await;
        for agent in [&self.first, &self.second] {
            assert_eq!(resolve(&grpc, agent).await.unwrap()["B"], self.values[1]);
        }
    }
}

/// Id and fingerprint of the first key that `keys status` lists.
fn key_of(status: &Output) -> (String, String) {
    let line = status.stdout.lines().find(|line| line.starts_with("kek_")).expect("a key");
    let words: Vec<&str> = line.split_whitespace().collect();
    (words[0].to_owned(), words[2].to_owned())
}
