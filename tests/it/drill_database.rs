//! Drills: what becomes of calls while the server is killed, or its database is killed, away, or slow. Each tells its
//! figures; `docs/operations.md` has those of longer ones.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tonic::Code;

use crate::harness::{
    Database, environment, eventually,
    load::{Load, drill_time, say},
    on_each_database,
    postgres::Cluster,
    relay::Relay,
    server::Server,
    steps::resolver,
};

on_each_database!(a_server_is_killed_again_and_again);

/// Callers at a time.
const CALLERS: usize = 8;

/// A call waits for a connection for 10 seconds at most.
const IN_TIME: Duration = Duration::from_secs(15);

/// How often something is killed.
fn kills() -> usize {
    environment("SUPERSERVE_TEST_KILLS").map_or(3, |text| text.parse().expect("a number"))
}

async fn until_ready(server: &Server) -> Duration {
    let began = Instant::now();
    eventually("readiness", async || (server.ops().get("/readyz").send().await.status == 200).then_some(()))
        .await;
    began.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

async fn a_server_is_killed_again_and_again(database: Database) {
    let mut server = Server::start(database);
    let load = Load::new(&server, CALLERS).await;
    let mut starts = Vec::new();
    for _ in 0..kills() {
        let grpc = resolver(&server).await;
        let kill = async {
            load.answers(100).await;
            server.kill9();
        };
        load.during(&grpc, kill).await;
        let began = Instant::now();
        server.restart();
        until_ready(&server).await;
        starts.push(began.elapsed());
        load.check(&server).await;
    }
    let (database, report) = (server.database(), load.report());
    let kind = if matches!(database, Database::Sqlite) { "SQLite" } else { "PostgreSQL" };
    let (kills, start) = (starts.len(), median(starts));
    say(&format!("server killed {kills} times on {kind}"), format!("ready again after {start:?}; {report}"));
    assert!(report.count(Code::Ok) >= 100 * kills && report.count(Code::DataLoss) == 0, "{report}");
}

#[tokio::test]
async fn a_database_is_killed_again_and_again() {
    let Some(mut cluster) = Cluster::start() else { return };
    let server = Server::start(Database::Postgres(cluster.create_database().await));
    let load = Load::new(&server, CALLERS).await;
    let grpc = resolver(&server).await;
    let mut recoveries = Vec::new();
    let drill = async {
        for _ in 0..kills() {
            load.answers(100).await;
            cluster.kill9();
            cluster.start_again();
            recoveries.push(until_ready(&server).await);
        }
        load.answers(100).await;
    };
    load.during(&grpc, drill).await;
    load.check(&server).await;
    let (kills, recovery, report) = (recoveries.len(), median(recoveries), load.report());
    say(&format!("PostgreSQL killed {kills} times"), format!("ready {recovery:?} after it; {report}"));
    assert!(report.slowest() < IN_TIME && report.count(Code::DataLoss) == 0, "{report}");
}

#[tokio::test]
async fn a_database_is_away_for_a_while() {
    let Some(mut cluster) = Cluster::start() else { return };
    let server = Server::start(Database::Postgres(cluster.create_database().await));
    let load = Load::new(&server, CALLERS).await;
    let (grpc, away) = (resolver(&server).await, drill_time(3));
    let mut recovery = Duration::ZERO;
    let drill = async {
        load.answers(100).await;
        cluster.stop();
        tokio::time::sleep(away).await;
        cluster.start_again();
        recovery = until_ready(&server).await;
        load.answers(100).await;
    };
    load.during(&grpc, drill).await;
    load.check(&server).await;
    let report = load.report();
    say(&format!("PostgreSQL away for {away:?}"), format!("ready {recovery:?} after it; {report}"));
    assert!(report.slowest() < IN_TIME, "{report}");
    let known = [Code::Ok, Code::Unavailable].map(|code| report.count(code));
    assert_eq!(known.iter().sum::<usize>(), report.count(Code::Ok) + report.refused(), "{report}");
}

#[tokio::test]
async fn a_database_becomes_slow() {
    let Some(cluster) = Cluster::start() else { return };
    let relay = Relay::start(SocketAddr::from(([127, 0, 0, 1], cluster.port())));
    let database = cluster.create_database().await.by_way_of(relay.address());
    let server = Server::with(Database::Postgres(database));
    let server = server.arg("--request-timeout=2").start();
    let load = Load::new(&server, CALLERS).await;
    let grpc = resolver(&server).await;
    let each = drill_time(2);
    let slow_for = async |delay: Duration| {
        relay.delay(delay);
        load.during(&grpc, tokio::time::sleep(each)).await;
        let report = load.report();
        say(&format!("each answer of PostgreSQL held back for {delay:?}"), &report);
        report
    };
    for delay in [0, 20, 100].map(Duration::from_millis) {
        let report = slow_for(delay).await;
        assert!(report.refused() == 0 && report.quantile(0.5) >= delay, "{report}");
    }
    // Slower than a call may take
    let report = slow_for(Duration::from_secs(3)).await;
    assert!(report.slowest() < Duration::from_secs(6), "{report}");
    let told = [Code::Ok, Code::Unavailable, Code::DeadlineExceeded].map(|code| report.count(code));
    assert_eq!(told.iter().sum::<usize>(), report.count(Code::Ok) + report.refused(), "{report}");
    relay.delay(Duration::ZERO);
    until_ready(&server).await;
    load.during(&grpc, load.answers(100)).await;
    load.check(&server).await;
}
