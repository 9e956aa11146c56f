//! Backup and restore: the drill under load on both databases, with the right keyring and with a wrong one, and what is
//! refused.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::harness::{
    Database,
    cli::Cli,
    eventually, postgres,
    search::Search,
    server::{Server, Setup},
    sql::Sql,
    steps::{resolve, resolver},
    writers::Writers,
};

/// A server whose writers go on while a backup is made, until it is killed; what was acknowledged before; and the agent.
struct Drill {
    server: Server,
    agent: String,
    writers: Writers,
    before: Vec<u64>,
}

// === impl Drill ===

impl Drill {
    /// Runs it, with `back_up` as what makes the backup meanwhile.
    async fn run(database: Database, back_up: impl AsyncFnOnce(&Server)) -> Self {
        let mut server = Server::start(database);
        let agent = server.deploy("demo").await;
        let (writers, rest) = (Writers::new(16), server.rest());
        let mut before = Vec::new();
        let drill = async {
            let written = async |count| {
                let at_least = writers.acknowledged() + count;
                eventually("writes", async || (writers.acknowledged() >= at_least).then_some(())).await;
            };
            written(100).await;
            before = writers.so_far();
            back_up(&server).await;
            written(50).await;
            server.kill9();
        };
        tokio::join!(writers.run(&rest, &agent), drill);
        Self { server, agent, writers, before }
    }

    /// Starts a server on what was restored, and looks whether it has what it must.
    async fn check(&self, restored: Setup) {
        let server = restored.start();
        let ready = server.ops().get("/readyz").send().await;
        assert_eq!(ready.status, 200, "{}", ready.text());
        let values = resolve(&resolver(&server).await, &self.agent).await.unwrap();
        self.writers.check_from(&self.before, &values);
        let set = server.set(&self.agent, &json!({"LATER": "value"})).await;
        assert!(set["keys"].as_array().unwrap().contains(&json!("LATER")), "{set}");
    }

    /// Id and fingerprint of the key that the backup needs.
    fn key(&self) -> [String; 2] {
        let status = self.server.setup().run(&["keys", "status", "--json"]).done();
        let status: Value = serde_json::from_str(&status).unwrap();
        ["id", "fingerprint"].map(|member| status["keys"][0][member].as_str().unwrap().to_owned())
    }
}

/// Its words are in what a command says that fails by an error of its own.
fn refuses(setup: &Setup, arguments: &[&str], words: &[&str]) {
    let refused = setup.run(arguments);
    let said = refused.failed(1);
    for word in words {
        assert!(said.contains(word), "{arguments:?} does not say {word}: {said}");
    }
}

fn database_of(setup: &Setup) -> PathBuf {
    setup.data_dir().join("secrets.db")
}

/// The names in a directory that begin so.
fn names(directory: &Path, beginning: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.starts_with(beginning)).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_backup_under_load_is_restored_with_the_right_keyring() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secrets-backup.db");
    let path = file.to_str().unwrap();
    let drill = Drill::run(Database::Sqlite, async |server| {
        let made = server.setup().begin(&["backup", path]).await.unwrap();
        assert_eq!(made.code, 0, "{}", made.stderr);
        for word in [path, "1 agent(s)", "The keyring is not in it", "kek_"] {
            assert!(made.stderr.contains(word), "{word}: {}", made.stderr);
        }
    })
    .await;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(names(directory.path(), ""), ["secrets-backup.db"], "one file, and no other");
    let keyring = fs::read_to_string(drill.server.setup().keyring()).unwrap();
    let keyring: Value = serde_json::from_str(&keyring).unwrap();
    let key = keyring["keys"][0]["key"].as_str().unwrap();
    let found = Search::new([("the key", key)]).find_in_files(directory.path());
    assert!(found.is_empty(), "{found:?}");

    let [id, fingerprint] = drill.key();
    let fresh = Server::with(Database::Sqlite);
    // Without a keyring, and with another one: refused, and nothing is there that a server could start with
    refuses(&fresh, &["restore", path], &[&id, &fingerprint, "--keyring"]);
    assert_eq!(fresh.run(&["keys", "generate"]).code, 0);
    refuses(&fresh, &["restore", path], &[&id, &fingerprint, "--keyring"]);
    assert_eq!(names(fresh.data_dir(), "secrets.db"), Vec::<String>::new());
    // Nor does a server start where somebody has put it into its place by hand
    fs::copy(&file, database_of(&fresh)).unwrap();
    let refused = fresh.run_serve().failed(1);
    assert!(refused.contains(&id) && refused.contains(&fingerprint), "{refused}");
    for name in names(fresh.data_dir(), "secrets.db") {
        fs::remove_file(fresh.data_dir().join(name)).unwrap();
    }

    fs::copy(drill.server.setup().keyring(), fresh.keyring()).unwrap();
    let restored = fresh.run(&["restore", path, "--json"]);
    let told: Value = serde_json::from_str(&restored.done()).unwrap();
    assert_eq!((&told["agents"], &told["kept"]), (&json!(1), &Value::Null), "{told}");
    assert_eq!(told["keys"], json!([{"id": id, "fingerprint": fingerprint, "agents": 1}]));
    assert_eq!(fs::metadata(database_of(&fresh)).unwrap().permissions().mode() & 0o777, 0o600);
    drill.check(fresh).await;
}

#[tokio::test]
async fn a_dump_of_postgres_under_load_is_restored_with_the_right_keyring() {
    let Some(database) = postgres::Database::create().await else { return };
    let Some(other) = postgres::Database::create().await else { return };
    let (Some(mut dump), Some(mut restore)) = (postgres::program("pg_dump"), postgres::program("pg_restore"))
    else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secrets.dump");
    let (from, to) = (database.url().to_owned(), other.url().to_owned());
    let drill = Drill::run(Database::Postgres(database), async |_server| {
        dump.args(["--format=custom", "--no-owner"]).arg("--file").arg(&file).arg("--dbname").arg(&from);
        finish(dump).await;
    })
    .await;
    restore.args(["--no-owner", "--single-transaction"]).arg("--dbname").arg(&to).arg(&file);
    finish(restore).await;

    let [id, fingerprint] = drill.key();
    let fresh = Server::with(Database::Postgres(other));
    assert_eq!(fresh.run(&["keys", "generate"]).code, 0);
    let refused = fresh.run_serve().failed(1);
    assert!(refused.contains(&id) && refused.contains(&fingerprint), "{refused}");
    fs::copy(drill.server.setup().keyring(), fresh.keyring()).unwrap();
    drill.check(fresh).await;
}

/// Runs a program to its end, while clients in this process go on.
async fn finish(mut command: Command) {
    let output = tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output()).await;
    let output = output.unwrap().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_backup_goes_through_pipes() {
    let mut server = Server::start(Database::Sqlite);
    let agent = server.deploy("demo").await;
    server.set(&agent, &json!({"A": "a"})).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("backup.db");
    let mut backup = server.setup().command(&["backup", "-"]);
    let output = backup.stdout(fs::File::create(&file).unwrap()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(names(server.data_dir(), "secrets.db."), ["secrets.db.migrate-lock"], "nothing is left");
    server.kill9();

    let fresh = Server::with(Database::Sqlite);
    fs::copy(server.setup().keyring(), fresh.keyring()).unwrap();
    Cli::finish(fresh.command(&["restore", "-"]), &fs::read(&file).unwrap()).done();
    let restored = fresh.start();
    assert_eq!(resolve(&resolver(&restored).await, &agent).await.unwrap()["A"], "a");
}

#[tokio::test]
async fn what_is_there_is_not_lost_by_a_backup_or_a_restore() {
    let mut server = Server::start(Database::Sqlite);
    let agent = server.deploy("demo").await;
    server.set(&agent, &json!({"A": "before"})).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("backup.db");
    let (setup, path) = (server.setup().clone(), file.to_str().unwrap().to_owned());
    fs::write(&file, "something else").unwrap();
    refuses(&setup, &["backup", &path], &[&path, "--overwrite"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "something else");
    let itself = database_of(&setup);
    refuses(&setup, &["backup", itself.to_str().unwrap(), "--overwrite"], &["is the database itself"]);
    setup.run(&["backup", &path, "--overwrite"]).done();
    server.set(&agent, &json!({"A": "after"})).await;

    refuses(&setup, &["restore", &path], &["--replace"]);
    refuses(&setup, &["restore", &path, "--replace"], &["is in use", "stop the server"]);
    assert_eq!(resolve(&resolver(&server).await, &agent).await.unwrap()["A"], "after");
    // Also after a crash, which leaves the log with what was written last
    server.kill9();
    let restored = setup.run(&["restore", &path, "--replace"]);
    assert_eq!(restored.code, 0, "{}", restored.stderr);
    server.restart();
    assert_eq!(resolve(&resolver(&server).await, &agent).await.unwrap()["A"], "before");
    assert!(server.stop().await.success());
    let kept = names(setup.data_dir(), "secrets.db.replaced-");
    let [kept] = &kept[..] else { panic!("{kept:?}") };
    assert!(restored.stderr.contains(kept.as_str()), "{}", restored.stderr);
    // What was there before is whole, with what was only in its log
    let kept = setup.data_dir().join(kept);
    setup.run(&["restore", kept.to_str().unwrap(), "--replace"]).done();
    server.restart();
    assert_eq!(resolve(&resolver(&server).await, &agent).await.unwrap()["A"], "after");
}

#[tokio::test]
async fn what_cannot_be_used_is_not_restored() {
    let mut server = Server::start(Database::Sqlite);
    let agent = server.deploy("demo").await;
    for n in 0..20 {
        server.set(&agent, &json!({format!("KEY_{n}"): "x".repeat(4000)})).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let good = directory.path().join("good.db");
    server.setup().run(&["backup", good.to_str().unwrap()]).done();
    server.kill9();
    let fresh = Server::with(Database::Sqlite);
    fs::copy(server.setup().keyring(), fresh.keyring()).unwrap();
    let refused = |name: &str, words: &[&str]| {
        let path = directory.path().join(name);
        refuses(&fresh, &["restore", path.to_str().unwrap()], words);
        assert_eq!(names(fresh.data_dir(), "secrets.db"), Vec::<String>::new(), "{name}");
    };
    refused("nowhere.db", &["nowhere.db"]);
    fs::write(directory.path().join("text.db"), "no database").unwrap();
    refused("text.db", &["text.db"]);
    Sql::open(&format!("sqlite://{}", directory.path().join("foreign.db").display()))
        .await
        .run("CREATE TABLE agents (id TEXT)")
        .await;
    refused("foreign.db", &["is no database of this service"]);

    // The first page of a table is lost, or half of the file
    let mut bytes = fs::read(&good).unwrap();
    let table = rusqlite::Connection::open(&good).unwrap();
    let root = "SELECT rootpage FROM sqlite_master WHERE name = 'agents'";
    let page: u32 = table.query_row(root, [], |row| row.get(0)).unwrap();
    let page = page as usize;
    bytes[(page - 1) * 4096..page * 4096].fill(0);
    fs::write(directory.path().join("torn.db"), &bytes).unwrap();
    refused("torn.db", &["database"]);
    let mut cut = fs::read(&good).unwrap();
    cut.truncate(cut.len() / 2);
    fs::write(directory.path().join("cut.db"), &cut).unwrap();
    refused("cut.db", &["database"]);

    let newer = directory.path().join("newer.db");
    fs::copy(&good, &newer).unwrap();
    let later = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m29991231_000999_later', 1); \
                 UPDATE schema_reach SET oldest = 999";
    Sql::open(&format!("sqlite://{}", newer.display())).await.run(later).await;
    refused("newer.db", &["m29991231_000999_later", "later version"]);

    fs::write(fresh.data_dir().join("secrets.db-wal"), "of another one").unwrap();
    refuses(&fresh, &["restore", good.to_str().unwrap()], &["secrets.db-wal"]);
    fs::remove_file(fresh.data_dir().join("secrets.db-wal")).unwrap();
    fresh.run(&["restore", good.to_str().unwrap()]).done();
    // A database that cannot even be opened gives way to nobody
    fs::write(database_of(&fresh), "no database").unwrap();
    refuses(&fresh, &["restore", good.to_str().unwrap(), "--replace"], &["move it away"]);
}

#[tokio::test]
async fn postgres_has_programs_for_it() {
    let Some(database) = postgres::Database::create().await else { return };
    let url = url::Url::parse(database.url()).unwrap();
    let (password, name) = (url.password().unwrap_or("none").to_owned(), url.path().to_owned());
    let setup = Server::with(Database::Postgres(database));
    refuses(
        &setup,
        &["backup", "b.dump"],
        &["pg_dump --format=custom --no-owner --file=b.dump --dbname='", &name],
    );
    refuses(
        &setup,
        &["restore", "b.dump"],
        &["pg_restore --no-owner --single-transaction --dbname='", "b.dump"],
    );
    for command in ["backup", "restore"] {
        assert!(!setup.run(&[command, "b.dump"]).stderr.contains(&password));
    }
}
