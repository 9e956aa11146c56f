//! The throw-away PostgreSQL of the harness: that it answers, keeps what it acknowledged, and leaves nothing.

use std::{
    io::{BufRead, BufReader, Read},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
};

use sqlx::{Connection, PgConnection};

use crate::harness::{
    postgres::{Cluster, Database},
    wait_for,
};

/// Set in the process that holds a cluster until it is killed.
const HOLDER: &str = "TEST_HOLDS_A_CLUSTER";

#[tokio::test]
async fn answers() {
    let (Some(first), Some(second)) = (Database::create().await, Database::create().await) else { return };
    assert_ne!(first.url(), second.url());
    for database in [first, second] {
        let mut connection = PgConnection::connect(database.url()).await.unwrap();
        let one: i32 = sqlx::query_scalar("SELECT 1").fetch_one(&mut connection).await.unwrap();
        assert_eq!(one, 1);
    }
}

#[tokio::test]
async fn keeps_what_it_acknowledged_when_it_is_killed() {
    let Some(mut cluster) = Cluster::start() else { return };
    let database = cluster.create_database().await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    sqlx::raw_sql("CREATE TABLE t (n int); INSERT INTO t VALUES (7)").execute(&mut connection).await.unwrap();
    cluster.kill9();
    sqlx::query("SELECT 1").execute(&mut connection).await.unwrap_err();
    cluster.start_again();
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    assert_eq!(sqlx::query_scalar::<_, i32>("SELECT n FROM t").fetch_one(&mut connection).await.unwrap(), 7);

    cluster.stop();
    TcpStream::connect(("127.0.0.1", cluster.port())).unwrap_err();
    cluster.start_again();
    let directory = cluster.directory().to_owned();
    assert!(directory.exists());
    drop(cluster);
    assert!(!directory.exists());
}

#[test]
fn goes_with_a_process_that_is_killed() {
    if std::env::var_os(HOLDER).is_some() {
        return hold_a_cluster();
    }
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "postgres::goes_with_a_process_that_is_killed", "--nocapture"])
        .env(HOLDER, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines().map(Result::unwrap);
    let cluster = lines.find_map(|line| Some(line.split_once("cluster: ")?.1.to_owned()));
    let Some(cluster) = cluster else {
        assert!(holder.wait().unwrap().success());
        return; // no PostgreSQL here
    };
    let (port, directory) = cluster.split_once(' ').unwrap();
    let port: u16 = port.parse().unwrap();
    TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert!(Path::new(directory).exists());

    holder.kill().unwrap();
    holder.wait().unwrap();
    wait_for("the directory to go", || (!Path::new(directory).exists()).then_some(()));
    TcpStream::connect(("127.0.0.1", port)).unwrap_err();
}

/// What the test above runs, as another process, to be killed.
#[expect(clippy::print_stdout, reason = "the test that kills us reads it")]
fn hold_a_cluster() {
    let Some(cluster) = Cluster::start() else { return };
    println!("\ncluster: {} {}", cluster.port(), cluster.directory().display());
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}
