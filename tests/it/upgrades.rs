//! Databases with data of every step of the schema, brought up to date by this program.
//!
//! `tests/data/schemas/<migration>/` has the database after that migration, with data, for SQLite and for PostgreSQL.
//! `UPDATE_GOLDEN=1 cargo test --locked --test it upgrades` makes those that are missing: by this program, so a new
//! migration gets its own the day it is added, before anything is released that comes after it. Those of the steps before
//! `m20261126_000006_reach` were not made by the programs of their time, none of which was released: a database of
//! that step, with data of its program, had the migrations taken back one by one ([`TAKEN_BACK`]). So they show that old
//! tables with data become new ones, and not that an old program wrote the same bytes.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use rusqlite::types::ValueRef;
use serde_json::{Value, json};
use superserve::domain::TokenText;

use crate::harness::{
    Database, environment, on_each_database, postgres,
    rest::Rest,
    server::{Server, Setup},
    sql::Sql,
    steps::{audit, resolve, resolver},
};

/// The migrations of before the first step that has data of its own program, the newest first, and what takes each back.
const TAKEN_BACK: [(&str, &[&str]); 5] = [
    ("m20261126_000006_reach", &["DROP TABLE schema_reach"]),
    ("m20261126_000005_tokens", &["DROP TABLE token_uses", "ALTER TABLE tokens DROP COLUMN replaced_by"]),
    (
        "m20261126_000004_tenants",
        &["ALTER TABLE tenants DROP COLUMN deleted_at", "DELETE FROM tenants WHERE id = 'ten_default'"],
    ),
    ("m20261126_000003_servers", &["DROP TABLE servers", "ALTER TABLE keys DROP COLUMN primary_since"]),
    (
        "m20261123_000002_previous",
        &[
            "DROP INDEX audit_events_named_run",
            "DROP INDEX secrets_previous_until",
            "ALTER TABLE secrets DROP COLUMN previous_version",
            "ALTER TABLE secrets DROP COLUMN previous_sealed",
            "ALTER TABLE secrets DROP COLUMN previous_fingerprint",
            "ALTER TABLE secrets DROP COLUMN previous_until",
        ],
    ),
];

on_each_database!(every_step_becomes_the_newest);

async fn every_step_becomes_the_newest(database: Database) {
    let engine = engine_of(&database);
    let steps = steps();
    make_missing(database, &steps).await;
    for step in &steps {
        let database = match engine {
            "sqlite" => Database::Sqlite,
            _ => Database::Postgres(postgres::Database::create().await.expect("there was one")),
        };
        let setup = Server::with(database);
        let dump = fs::read_to_string(directory().join(step).join(format!("{engine}.sql")));
        let dump =
            dump.unwrap_or_else(|error| panic!("{step} has no data of {engine} ({error}): see the top"));
        Sql::open(&url(&setup)).await.run(&dump).await;
        fs::copy(directory().join("keyring.json"), setup.keyring()).unwrap();
        let mut server = setup.start();
        check(&server, step).await;
        assert!(server.stop().await.success());
        let migrated = server.setup().run(&["migrate"]);
        assert!(migrated.stderr.contains("up to date"), "{step}: {}", migrated.stderr);
    }
}

/// Old tokens count, old values resolve, the trail is there, and all goes on from there.
async fn check(server: &Server, step: &str) {
    let rest = server.rest().token(token().expose());
    let agents = rest.get("/v1/agents").send().await;
    assert_eq!(agents.status, 200, "{step}: {}", agents.text());
    let agents = agents.json()["agents"].as_array().unwrap().clone();
    let ids: BTreeMap<_, _> =
        agents.iter().map(|agent| (agent["name"].as_str().unwrap(), agent["id"].as_str().unwrap())).collect();
    let grpc = resolver(server).await;
    for (name, values) in values().as_object().unwrap() {
        let found = resolve(&grpc, ids[name.as_str()]).await;
        let found = found.unwrap_or_else(|error| panic!("{step}: {error}"));
        assert_eq!(&json!(found), values, "{step}: {name}");
        let events = audit(&server.grpc().await, ids[name.as_str()]).await;
        assert!(events.iter().any(|event| event.action == "secrets.set"), "{step}: {events:?}");
    }
    server.set(ids["one"], &json!({"A": "changed", "NEW": "new"})).await;
    let found = resolve(&grpc, ids["one"]).await.unwrap();
    assert_eq!((&*found["A"], &*found["NEW"]), ("changed", "new"), "{step}");
}

/// What the agents' secrets are in all of the data.
fn values() -> Value {
    json!({
        "one": {"A": "second value of A", "PEM": "-----BEGIN-----\nline 'two'\n", "UNICODE": "grün ✓"},
        "two": {"B": "b".repeat(300)},
    })
}

/// The token by which the data was made.
fn token() -> TokenText {
    TokenText::from_random(&[7; 32])
}

/// All migrations, oldest first, as the program tells them.
fn steps() -> Vec<String> {
    let setup = Server::with(Database::Sqlite);
    let told = setup.run(&["migrate"]);
    assert_eq!(told.code, 0, "{}", told.stderr);
    let names = told.stderr.lines().filter_map(|line| line.strip_prefix("Applied ")?.strip_suffix('.'));
    names.map(str::to_owned).collect()
}

#[test]
fn no_data_is_of_a_step_that_is_none() {
    let entries = fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    let mut folders: Vec<_> = folders.map(|folder| folder.file_name().into_string().unwrap()).collect();
    folders.sort();
    assert_eq!(folders, steps());
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/schemas")
}

fn engine_of(database: &Database) -> &'static str {
    match database {
        Database::Sqlite => "sqlite",
        Database::Postgres(_) => "postgres",
    }
}

fn url(setup: &Setup) -> String {
    match setup.database() {
        Database::Sqlite => format!("sqlite://{}", setup.data_dir().join("secrets.db").display()),
        Database::Postgres(database) => database.url().to_owned(),
    }
}

/// Makes the data of steps that have none yet, if that is asked for.
async fn make_missing(database: Database, steps: &[String]) {
    let engine = engine_of(&database);
    let file = |step: &str| directory().join(step).join(format!("{engine}.sql"));
    if environment("UPDATE_GOLDEN").is_none() || steps.iter().all(|step| file(step).exists()) {
        return;
    }
    let server = with_data(database).await;
    let sql = server.backdoor().await;
    // Where it was made is of no interest
    sql.run("DELETE FROM servers").await;
    for step in steps.iter().rev() {
        if !file(step).exists() {
            fs::create_dir_all(directory().join(step)).unwrap();
            fs::write(file(step), dump(&server)).unwrap();
        }
        let Some((_, statements)) = TAKEN_BACK.iter().find(|(name, _)| name == step) else { break };
        for statement in *statements {
            sql.run(statement).await;
        }
        sql.run(&format!("DELETE FROM seaql_migrations WHERE version = '{step}'")).await;
    }
}

/// A server that was stopped, after it had made the data.
async fn with_data(database: Database) -> Server {
    let setup = Server::with(database).env("SUPERSERVE_BOOTSTRAP_TOKEN", token().expose());
    let keyring = directory().join("keyring.json");
    if keyring.exists() {
        fs::copy(&keyring, setup.keyring()).unwrap();
        assert_eq!(setup.run(&["migrate"]).code, 0);
    }
    let mut server = setup.start();
    if !keyring.exists() {
        fs::create_dir_all(directory()).unwrap();
        fs::copy(server.setup().keyring(), &keyring).unwrap();
    }
    let rest = Rest::new(server.address()).token(token().expose());
    for (name, secrets) in values().as_object().unwrap() {
        let agent = rest.post("/v1/agents").json(&json!({"name": name})).send().await.json();
        let path = format!("/v1/agents/{}/secrets", agent["id"].as_str().unwrap());
        if name == "one" {
            let first = rest.patch(&path).json(&json!({"secrets": {"A": "first value of A"}})).send().await;
            assert_eq!(first.status, 200, "{}", first.text());
        }
        let set = rest.patch(&path).json(&json!({"secrets": secrets})).send().await;
        assert_eq!(set.status, 200, "{}", set.text());
    }
    assert!(server.stop().await.success());
    server
}

fn dump(server: &Server) -> String {
    match server.database() {
        Database::Sqlite => dump_sqlite(&server.data_dir().join("secrets.db")),
        Database::Postgres(database) => dump_postgres(database.url()),
    }
}

/// Tables, rows and indexes as statements.
fn dump_sqlite(path: &Path) -> String {
    let file = rusqlite::Connection::open(path).unwrap();
    let mut objects = file
        .prepare("SELECT name, type, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type DESC, name")
        .unwrap();
    let objects = objects.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    let mut text = String::new();
    for object in objects {
        let (name, kind, sql): (String, String, String) = object.unwrap();
        writeln!(text, "{sql};").unwrap();
        if kind == "table" {
            let mut rows = file.prepare(&format!("SELECT * FROM {name}")).unwrap();
            let columns = rows.column_count();
            let mut rows = rows.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                let values: Vec<_> = (0..columns).map(|n| literal(row.get_ref(n).unwrap())).collect();
                writeln!(text, "INSERT INTO {name} VALUES ({});", values.join(", ")).unwrap();
            }
        }
    }
    text
}

fn literal(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) => {
            format!("'{}'", String::from_utf8(text.to_vec()).unwrap().replace('\'', "''"))
        }
        ValueRef::Blob(bytes) => {
            let digits = bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
            format!("x'{digits}'")
        }
    }
}

/// What `pg_dump` says, without what differs by its version.
fn dump_postgres(url: &str) -> String {
    let mut program = postgres::program("pg_dump").expect("pg_dump is installed");
    program.args(["--inserts", "--no-owner", "--no-privileges", "--dbname", url]);
    let output = program.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let is_left_out = |line: &str| {
        line.is_empty()
            || ["--", "SET ", "\\", "SELECT pg_catalog.set_config"]
                .iter()
                .any(|begin| line.starts_with(begin))
    };
    text.lines().filter(|line| !is_left_out(line)).flat_map(|line| [line, "\n"]).collect()
}
