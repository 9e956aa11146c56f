//! The first start: what it makes, what it says, and how it refuses.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::json;
use superserve::domain::TokenText;

use crate::harness::{
    Database, postgres,
    search::Search,
    server::{Server, Setup},
    wait_for,
};

const TOKEN: &str = "SUPERSERVE_BOOTSTRAP_TOKEN";

#[tokio::test]
async fn the_first_start_makes_what_it_needs_and_says_it_once() {
    let setup = Server::with(Database::Sqlite).without_env(TOKEN).env("SUPERSERVE_LOG_LEVEL", "trace");
    let mut server = setup.start();
    wait_for("the greeting", || server.log().contains("superserve secrets set").then_some(()));
    let token_file = server.data_dir().join("admin-token");
    let token = TokenText::parse(fs::read_to_string(&token_file).unwrap().trim_end()).unwrap();
    let log = server.log();
    assert_eq!(log.matches(token.expose()).count(), 1, "the token is shown once");
    for word in ["SUPERSERVE_API_URL", "superserve agents deploy", token_file.to_str().unwrap()] {
        assert!(log.contains(word), "{word}: {log}");
    }
    for name in ["keyring.json", "admin-token", "secrets.db", "secrets.db-wal", "secrets.db-shm"] {
        assert_eq!(mode(&server.data_dir().join(name)), 0o600, "{name}");
    }
    let rest = server.rest().token(token.expose());
    let who = rest.get("/v1/auth/validate").send().await;
    assert_eq!((who.status.as_u16(), &who.json()["valid"]), (200, &json!(true)));

    let keyring = fs::read(server.setup().keyring()).unwrap();
    assert!(server.stop().await.success());
    server.restart();
    assert!(server.stop().await.success());
    let later = &server.log()[log.len()..];
    assert!(!later.contains("first start") && !later.contains("admin-token"), "{later}");
    assert_eq!(fs::read(server.setup().keyring()).unwrap(), keyring);
    let found = Search::new([("the token", token.expose())]).find_in_files(server.data_dir());
    assert_eq!(found.len(), 2, "in its file and in the first greeting: {found:?}");
}

#[tokio::test]
async fn a_token_that_is_not_to_be_shown_is_kept_only() {
    let setup = Server::with(Database::Sqlite).without_env(TOKEN);
    let server = setup.env("SUPERSERVE_SHOW_ADMIN_TOKEN", "false").start();
    wait_for("the greeting", || server.log().contains("superserve secrets set").then_some(()));
    let file = server.data_dir().join("admin-token");
    let token = fs::read_to_string(&file).unwrap();
    assert!(server.log().contains(file.to_str().unwrap()) && !server.log().contains(token.trim_end()));
}

#[tokio::test]
async fn a_given_token_is_used_and_not_told() {
    let mut server = Server::start(Database::Sqlite);
    assert_eq!(server.rest().get("/v1/auth/validate").send().await.status, 200);
    assert!(server.stop().await.success());
    assert!(!server.data_dir().join("admin-token").exists());
    assert!(!server.log().contains("first start"), "{}", server.log());
    assert!(!server.log().contains(server.admin_token()));

    let file = server.data_dir().join("given");
    fs::write(&file, format!("{}\n", server.admin_token())).unwrap();
    let setup = Server::with(Database::Sqlite).without_env(TOKEN);
    let other = setup.env("SUPERSERVE_BOOTSTRAP_TOKEN_FILE", file.to_str().unwrap()).start();
    let rest = other.rest().token(server.admin_token());
    assert_eq!(rest.get("/v1/auth/validate").send().await.status, 200);
    assert!(!other.data_dir().join("admin-token").exists());
}

#[test]
fn a_token_that_is_none_is_refused_and_not_told() {
    let refused = Server::with(Database::Sqlite).env(TOKEN, "ss_mistyped").run_serve();
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains(TOKEN) && refused.stderr.contains("superserve tokens generate"));
    assert!(!refused.stderr.contains("ss_mistyped"), "{}", refused.stderr);
}

#[tokio::test]
async fn postgres_gets_no_key_by_itself() {
    let Some(database) = postgres::Database::create().await else { return };
    let setup = Server::with(Database::Postgres(database)).without_env(TOKEN);
    let refused = setup.run_serve();
    assert_ne!(refused.code, 0);
    let command = format!("superserve keys generate --keyring {}", setup.keyring().display());
    assert!(refused.stderr.contains(&command), "{}", refused.stderr);
    assert!(!setup.keyring().exists());

    let generated = setup.run(&command.split(' ').skip(1).collect::<Vec<_>>());
    assert_eq!(generated.code, 0, "{}", generated.stderr);
    assert_eq!(mode(&setup.keyring()), 0o600);
    let server = setup.start();
    assert!(!server.data_dir().join("admin-token").exists());
    assert!(server.log().contains("nobody can call"), "{}", server.log());
}

#[test]
fn the_keyring_is_made_shown_and_added_to() {
    let setup = Server::with(Database::Sqlite);
    let missing = setup.run(&["keys", "status"]);
    assert!(missing.code != 0 && missing.stderr.contains("--database-url"), "{}", missing.stderr);
    let made = setup.run(&["keys", "generate"]);
    let keyring = setup.keyring();
    assert!(made.stderr.contains(keyring.to_str().unwrap()) && made.stdout.is_empty(), "{made:?}");
    let no_database = setup.run(&["keys", "status"]);
    assert!(no_database.code != 0 && no_database.stderr.contains("--database-url"), "{}", no_database.stderr);
    assert!(!setup.data_dir().join("secrets.db").exists(), "a look makes nothing");

    let migrated = setup.run(&["migrate"]);
    assert!(migrated.stderr.contains("m20261123_000001_initial"), "{migrated:?}");
    let again = setup.run(&["migrate"]);
    assert!(again.code == 0 && again.stderr.contains("up to date"), "{again:?}");
    let keys = |count: usize| {
        let status = setup.run(&["keys", "status"]);
        let lines = status.stdout.lines().filter(|line| line.starts_with("kek_"));
        let found: Vec<_> = lines.filter_map(|line| line.split_whitespace().nth(1)).collect();
        assert_eq!((status.code, found.len()), (0, count), "{status:?}");
        found.join(" ")
    };
    assert_eq!(keys(1), "primary");
    assert_eq!(setup.run(&["keys", "generate"]).code, 0);
    assert_eq!(keys(2), "primary decrypt-only");
    assert_eq!(mode(&keyring), 0o600);
}

#[test]
fn a_wrong_setting_is_named_and_its_secret_is_not() {
    let with = || Server::with(Database::Sqlite);
    let secret = "hunter2hunter2";
    let file = |setup: &Setup, content: &str| {
        let path = setup.data_dir().join("settings.toml");
        fs::write(&path, content).unwrap();
        format!("--config={}", path.display())
    };
    let both = with().env("SUPERSERVE_DATABASE_URL", &format!("postgres://u:{secret}@h/d"));
    let unknown = with();
    let unknown_file = file(&unknown, &format!("listen-on-port = \"{secret}\"\n"));
    let broken = with();
    let broken_file = file(&broken, &format!("rate-limit = 1\ndatabase-url = postgres://u:{secret}@h/d\n"));
    let cases: [(Setup, &str); 11] = [
        (with().arg("--listen=0.0.0.0:0"), "--insecure"),
        (with().arg("--tls-cert=cert.pem"), "--tls-key"),
        (with().arg("--tls-key=key.pem"), "--tls-cert"),
        (with().env("SUPERSERVE_DATABASE_URL", &format!("postgres://u:{secret}@[")), "--database-url"),
        (with().env("SUPERSERVE_DATABASE_URL", &format!("mysql://u:{secret}@h/d")), "--database-url"),
        (
            with().env("SUPERSERVE_DATABASE_URL", &format!("postgres://u:{secret}@127.0.0.1:1/d")),
            "127.0.0.1:1",
        ),
        (both.env("SUPERSERVE_DATABASE_URL_FILE", "/nowhere"), "SUPERSERVE_DATABASE_URL_FILE"),
        (with().env("SUPERSERVE_DATABASE_URL_FILE", "/nowhere"), "/nowhere"),
        (unknown.arg(&unknown_file), "listen-on-port"),
        (broken.arg(&broken_file), "line 2"),
        (with().arg("--request-timeout=0"), "--request-timeout"),
    ];
    for (setup, word) in cases {
        let refused = setup.run_serve();
        assert_ne!(refused.code, 0, "{word}");
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert!(said.contains(word), "{word}: {said}");
        assert!(!said.contains(secret), "{word}: {said}");
        assert!(!setup.keyring().exists(), "{word}: nothing is made before all settings are right");
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode()
        & 0o777
}
