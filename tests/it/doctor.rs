//! `superserve doctor`: what it says of what is well and of what is not, and that it changes nothing.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    thread,
};

use serde_json::{Value, json};

use crate::harness::{
    Database,
    cli::Cli,
    on_each_database,
    pki::{Authority, in_seconds},
    postgres,
    server::{Server, Setup},
    sql::Sql,
};

on_each_database!(a_server_that_is_well, the_wrong_keyring_is_named);

/// What it found, by check, of a server on free ports.
fn examine(setup: &Setup) -> Value {
    examine_at(setup, "127.0.0.1:0", "127.0.0.1:0")
}

/// What it found of a server at these addresses. Its exit code is that of the worst.
fn examine_at(setup: &Setup, listen: &str, ops: &str) -> Value {
    let mut command = setup.command(&["doctor", "--json", "--listen", listen, "--ops-listen", ops]);
    command.args(setup.arguments());
    let output = Cli::finish(command, b"");
    let report: Value = serde_json::from_str(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", output.stdout, output.stderr));
    assert_eq!(output.code, i32::from(report["verdict"] == "problem"), "{report}");
    report
}

/// The verdict and the sentence of a check.
fn of<'r>(report: &'r Value, check: &str) -> (&'r str, &'r str) {
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().find(|found| found["check"] == check);
    let found = found.unwrap_or_else(|| panic!("no {check} in {report:#}"));
    (found["verdict"].as_str().unwrap(), found["sentence"].as_str().unwrap())
}

/// A check has this verdict, and its sentence these words.
fn expect(report: &Value, check: &str, verdict: &str, words: &[&str]) {
    let (found, sentence) = of(report, check);
    assert_eq!(found, verdict, "{check}: {sentence}");
    for word in words {
        assert!(sentence.contains(word), "{check} does not say {word}: {sentence}");
    }
}

/// The files of the data directory, with what is in them.
fn files(setup: &Setup) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(setup.data_dir()).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

async fn a_server_that_is_well(database: Database) {
    let is_postgres = matches!(database, Database::Postgres(_));
    let mut server = Server::start(database);
    let agent = server.deploy("demo").await;
    server.set(&agent, &json!({"A": "sentinel-value"})).await;
    // While it runs, and after it has ended
    for is_running in [true, false] {
        if !is_running {
            assert!(server.stop().await.success());
        }
        let before = files(server.setup());
        let (listen, ops) = (server.address().to_string(), server.ops_address().to_string());
        let setup = server.setup();
        let report = examine_at(setup, &listen, &ops);
        assert_ne!(report["verdict"], "problem", "{report:#}");
        expect(&report, "keys", "ok", &["1 agent(s)"]);
        expect(&report, "schema", "ok", &["up to date"]);
        for check in
            ["settings", "database", "keyring", "clock", "certificate", "identities", "listen", "ops-listen"]
        {
            expect(&report, check, "ok", &[]);
        }
        if is_postgres {
            assert!(of(&report, "database").1.contains("PostgreSQL"), "{report:#}");
            let Database::Postgres(database) = setup.database() else { panic!("it is one") };
            let url = url::Url::parse(database.url()).unwrap();
            assert!(!report.to_string().contains(url.password().unwrap_or("no password")), "{report:#}");
        }
        if is_running {
            expect(&report, "server", "ok", &["ready"]);
        } else {
            assert_eq!(files(setup), before, "a look changes nothing");
        }
        assert!(!report.to_string().contains("sentinel-value"));
        // The same for people, a line each
        let lines = setup.run(&["doctor", "--listen", &listen, "--ops-listen", &ops]);
        assert_eq!(lines.code, 0, "{lines:?}");
        assert_eq!(lines.stdout.lines().count(), report["checks"].as_array().unwrap().len(), "{lines:?}");
        assert!(lines.stdout.contains("ok       keys: they fit the database"), "{}", lines.stdout);
    }
}

async fn the_wrong_keyring_is_named(database: Database) {
    let mut server = Server::start(database);
    server.deploy("demo").await;
    assert!(server.stop().await.success());
    let setup = server.setup();
    let status: Value = serde_json::from_str(&setup.run(&["keys", "status", "--json"]).done()).unwrap();
    let key = ["id", "fingerprint"].map(|member| status["keys"][0][member].as_str().unwrap().to_owned());
    let kept = setup.data_dir().join("kept.json");
    fs::rename(setup.keyring(), &kept).unwrap();
    let report = examine(setup);
    expect(&report, "keyring", "problem", &["there is no keyring"]);
    expect(&report, "keys", "problem", &[&key[0], &key[1], "1 agent(s)"]);
    assert!(!setup.keyring().exists(), "a look makes no key");
    assert_eq!(setup.run(&["keys", "generate"]).code, 0);
    expect(&examine(setup), "keys", "problem", &[&key[0], &key[1]]);
    fs::write(setup.keyring(), "{\"version\": 1, \"keys\": [").unwrap();
    expect(&examine(setup), "keyring", "problem", &["--keyring"]);
    fs::rename(&kept, setup.keyring()).unwrap();
    fs::set_permissions(setup.keyring(), fs::Permissions::from_mode(0o644)).unwrap();
    let report = examine(setup);
    expect(&report, "keyring", "warning", &["chmod 600"]);
    assert_eq!(report["verdict"], "warning");
}

#[test]
fn nothing_is_made_before_the_first_start() {
    let setup = Server::with(Database::Sqlite);
    let report = examine(&setup);
    assert_ne!(report["verdict"], "problem", "{report:#}");
    for check in ["database", "keyring"] {
        expect(&report, check, "ok", &["the first start makes it"]);
    }
    assert_eq!(files(&setup), Vec::new());
}

#[tokio::test]
async fn what_is_wrong_is_told_with_what_to_do() {
    let mut server = Server::start(Database::Sqlite);
    server.deploy("demo").await;
    assert!(server.stop().await.success());
    let setup = server.setup();
    let sql = Sql::connect(&server).await;
    sql.run("UPDATE agents SET updated_at = updated_at + 3600000000").await;
    expect(&examine(setup), "clock", "warning", &["set the clock"]);
    sql.run("DELETE FROM seaql_migrations WHERE version LIKE '%_reach'").await;
    expect(&examine(setup), "schema", "ok", &["1 migration(s) are missing", "next start"]);
    let strict = setup.clone().env("SUPERSERVE_AUTO_MIGRATE", "false");
    expect(&examine(&strict), "schema", "problem", &["superserve migrate"]);
    drop(sql);

    let database = setup.data_dir().join("secrets.db");
    fs::set_permissions(&database, fs::Permissions::from_mode(0o644)).unwrap();
    expect(&examine(setup), "database", "warning", &["chmod 600"]);
    let mut bytes = fs::read(&database).unwrap();
    let half = bytes.len() / 2 / 4096 * 4096;
    bytes.truncate(half);
    fs::write(&database, &bytes).unwrap();
    expect(&examine(setup), "database", "problem", &["superserve restore"]);

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let busy = examine_at(&Server::with(Database::Sqlite), &address, "127.0.0.1:0");
    expect(&busy, "listen", "problem", &[&address, "--listen"]);
    let nonsense = Server::with(Database::Sqlite).env("SUPERSERVE_TLS_KEY", "key.pem");
    expect(&examine(&nonsense), "settings", "problem", &["--tls-cert"]);
    let rules = Server::with(Database::Sqlite);
    fs::write(rules.data_dir().join("identities.toml"), "[[nonsense]]").unwrap();
    let rules = rules.env("SUPERSERVE_IDENTITIES", "identities.toml");
    expect(&examine(&rules), "identities", "problem", &["--identities"]);
    let provider = Server::with(Database::Sqlite)
        .env("SUPERSERVE_KEY_PROVIDER", "transit")
        .env("SUPERSERVE_TRANSIT_ADDRESS", "http://127.0.0.1:1")
        .env("SUPERSERVE_TRANSIT_TOKEN_PATH", "token");
    fs::write(provider.data_dir().join("token"), "sentinel-token").unwrap();
    let report = examine(&provider);
    expect(&report, "key-provider", "problem", &["--key-provider"]);
    assert!(!report.to_string().contains("sentinel-token"), "{report:#}");
}

#[test]
fn another_server_is_not_taken_for_ours() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    // To the end of the test, and to whatever is asked
    drop(thread::spawn(move || {
        for mut client in other.incoming().flatten() {
            let _asked = client.read(&mut [0; 1024]);
            let _told =
                client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nready");
        }
    }));

    let report = examine_at(&Server::with(Database::Sqlite), "127.0.0.1:0", &address);

    expect(&report, "ops-listen", "problem", &[&address, "--ops-listen"]);
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.iter().all(|check| check["check"] != "server"), "{report}");
}

#[test]
fn certificates_are_told_by_their_time() {
    let pki = Authority::new();
    let setup = pki.setup(&[]);
    expect(&examine(&setup), "certificate", "ok", &["its key fits"]);
    for (from, until, verdict, word) in [
        (-7200, -3600, "problem", "it ended"),
        (3600, 7200, "problem", "it begins"),
        (-3600, 3600, "warning", "renew"),
    ] {
        let issued = pki.issue_with(|params| in_seconds(from).until(in_seconds(until), params));
        pki.exchange(&issued, &pki.pem());
        expect(&examine(&setup), "certificate", verdict, &[word]);
    }
    let (one, other) = (pki.issue(), pki.issue());
    pki.exchange_texts(&one.certificate.pem(), &other.key.serialize_pem(), &pki.pem());
    expect(&examine(&setup), "certificate", "problem", &["--tls-key"]);
}

#[tokio::test]
async fn rights_that_a_role_lacks_are_named() {
    let Some(database) = postgres::Database::create().await else { return };
    let (url, mut server) = (database.url().to_owned(), Server::start(Database::Postgres(database)));
    assert!(server.stop().await.success());
    let sql = server.backdoor().await;
    let role = format!("reader_{}", url.rsplit('_').next().unwrap_or_default());
    sql.run(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'sentinel-password'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    ))
    .await;
    let mut other = url::Url::parse(&url).unwrap();
    other.set_username(&role).unwrap();
    other.set_password(Some("sentinel-password")).unwrap();
    let report = examine(&server.setup().clone().database_url(other.as_str()));
    expect(&report, "database", "problem", &[&role, "GRANT SELECT, INSERT", "secrets"]);
    assert!(!report.to_string().contains("sentinel-password"), "{report:#}");
    other.set_password(Some("another")).unwrap();
    let report = examine(&server.setup().clone().database_url(other.as_str()));
    expect(&report, "database", "problem", &["--database-url"]);
    sql.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}
