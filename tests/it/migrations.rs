//! The schema: brought up to date by one process at a time, and left alone by an older one.

use std::thread;

use crate::harness::{Database, on_each_database, server::Server, sql::Sql};

on_each_database!(
    migrations_take_turns,
    a_later_schema_is_left_alone,
    a_schema_that_is_too_new_is_refused,
    a_missing_schema_is_named
);

async fn migrations_take_turns(database: Database) {
    let setup = Server::with(database);
    let outputs: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> = (0..6).map(|_| scope.spawn(|| setup.run(&["migrate"]))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for output in &outputs {
        assert_eq!(output.code, 0, "{}", output.stderr);
    }
    let told = |word: &str| {
        let talk = outputs.iter().map(|output| format!("{}{}", output.stdout, output.stderr).to_lowercase());
        talk.filter(|talk| talk.contains(word)).count()
    };
    assert_eq!((told("applied m"), told("up to date")), (1, 5), "{outputs:?}");
    let again = setup.run(&["migrate"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
}

async fn a_later_schema_is_left_alone(database: Database) {
    let mut server = Server::start(database);
    assert!(server.stop().await.success());
    let later = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m29991231_000001_later', 1)";
    Sql::connect(&server).await.run(later).await;
    server.restart();
    assert_eq!(server.rest().get("/v1/agents").send().await.status, 200);
    assert_eq!(server.setup().run(&["migrate"]).code, 0);
    let count = "SELECT COUNT(*) AS n FROM seaql_migrations WHERE version LIKE 'm2999%'";
    let count: i64 = Sql::connect(&server).await.row(count, []).await.try_get("", "n").unwrap();
    assert_eq!(count, 1);
}

async fn a_missing_schema_is_named(database: Database) {
    let setup = Server::with(database).arg("--auto-migrate").arg("false");
    assert_eq!(setup.run(&["keys", "generate"]).code, 0);
    let refused = setup.run_serve();
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("superserve migrate"), "{}", refused.stderr);
    assert_eq!(setup.run(&["migrate"]).code, 0);
    let server = setup.start();
    assert_eq!(server.rest().get("/v1/agents").send().await.status, 200);
}

async fn a_schema_that_is_too_new_is_refused(database: Database) {
    const LATER: &str = "m29991231_000999_later";
    let mut server = Server::start(database);
    assert!(server.stop().await.success());
    let sql = Sql::connect(&server).await;
    let later = format!("INSERT INTO seaql_migrations (version, applied_at) VALUES ('{LATER}', 1)");
    sql.run(&later).await;
    sql.run("UPDATE schema_reach SET oldest = 999").await;
    let setup = server.setup();
    let refused = setup.run_serve().failed(1);
    assert!(refused.contains(LATER) && refused.contains("later version"), "{refused}");
    assert!(refused.contains(env!("CARGO_PKG_VERSION")) && refused.contains("restore a backup"), "{refused}");
    for command in [&["migrate"][..], &["keys", "status"], &["tenants", "list"], &["doctor"]] {
        let refused = setup.run(command);
        assert_eq!(refused.code, 1, "{command:?}: {}", refused.stderr);
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert!(said.contains(LATER), "{command:?}: {said}");
    }
    // One that this version understands is served beside the new one, while that is rolled out
    sql.run("UPDATE schema_reach SET oldest = 6").await;
    server.restart();
    assert_eq!(server.rest().get("/v1/agents").send().await.status, 200);
    assert!(server.log().contains(LATER), "{}", server.log());
}
