//! What the service takes before it does anything and while it does: memory, time to start, size.

use std::{fs, path::Path, process::Command, thread, time::Duration};

use anyhow::Result;

use crate::{
    goals::Yardstick,
    load::Wire,
    machine,
    options::Database,
    pairs::{Bench, block_on},
    process::run,
    sides::{Side as _, openbao::OpenBao},
    workload::Workload,
};

/// Starts whose median is told.
const STARTS: usize = 20;

/// After this long without calls a server is taken to be idle.
const IDLE: Duration = Duration::from_secs(3);

/// Connections of the load.
const CONNECTIONS: usize = 64;

/// One figure beside OpenBao's.
pub struct Fact {
    pub what: String,
    pub unit: &'static str,
    pub ours: f64,
    /// On PostgreSQL.
    pub theirs: Option<f64>,
    /// At most this.
    pub goal: Option<f64>,
    /// At most this share of theirs.
    pub share: Option<f64>,
}

/// What OpenBao takes.
struct Theirs {
    idle: f64,
    loaded: f64,
    start: f64,
    binary: f64,
}

/// Takes all of them.
pub fn measure(bench: &Bench) -> Result<Vec<Fact>> {
    let databases = [Database::Sqlite, Database::Postgres];
    let wanted = &bench.options.database;
    let databases = databases.into_iter().filter(|it| wanted.is_empty() || wanted.contains(it));
    let theirs = bench.options.openbao.is_some().then(|| of_openbao(bench)).transpose()?;
    let of_theirs = |figure: fn(&Theirs) -> f64| theirs.as_ref().map(figure);
    let mut facts = Vec::new();
    for database in databases {
        let (idle, loaded, start) = of_service(bench, database)?;
        let name = database.name();
        let mut add = |what: &str, unit, ours, theirs, goal, share| {
            let what = format!("{what}, {name}");
            facts.push(Fact { what, unit, ours, theirs, goal: Some(goal), share: Some(share) });
        };
        add("idle memory", "MB", idle, of_theirs(|it| it.idle), 15.0, 0.2);
        add("most memory under load, 64 connections", "MB", loaded, of_theirs(|it| it.loaded), 32.0, 0.25);
        add("exec to ready, median of 20", "ms", start, of_theirs(|it| it.start), 25.0, 0.2);
    }
    let ours = stripped_mb(&bench.binary()?, bench.directory.path())?;
    let (what, unit, theirs) = ("stripped binary".to_owned(), "MB", of_theirs(|it| it.binary));
    facts.push(Fact { what, unit, ours, theirs, goal: None, share: Some(1.0 / 8.0) });
    Ok(facts)
}

/// Idle memory, most memory under load, and the milliseconds from exec until it is ready.
fn of_service(bench: &Bench, database: Database) -> Result<(f64, f64, f64)> {
    let template = bench.template(database, bench.options.agents)?;
    let cluster = bench.cluster_of(database)?;
    let binary = bench.binary()?;
    let start = || template.start(&binary, cluster, bench.directory.path(), None);
    let service = start()?;
    thread::sleep(IDLE);
    let idle = machine::resident_mb(service.pid())?;
    for workload in [Workload::List, Workload::Resolve, Workload::Set] {
        bench.served(&service, &template, workload, Wire::Grpc).run(&bench.shape_of(CONNECTIONS))?;
    }
    let loaded = machine::peak_resident_mb(service.pid())?;
    service.stop()?;
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let service = start()?;
        starts.push(service.started_in().as_secs_f64() * 1e3);
        service.stop()?;
    }
    Ok((idle, loaded, median(starts)))
}

fn of_openbao(bench: &Bench) -> Result<Theirs> {
    let binary = bench.options.openbao.clone().unwrap_or_default();
    let openbao = bench.start_openbao(Yardstick::PgV2)?;
    let agents = bench.openbao_agents();
    openbao.fill(&agents)?;
    let mut starts = Vec::new();
    let mut openbao = openbao;
    for _ in 0..STARTS {
        let started: (OpenBao, f64) = block_on(openbao.restart(&binary))?;
        openbao = started.0;
        starts.push(started.1 * 1e3);
    }
    thread::sleep(IDLE);
    let idle = machine::resident_mb(openbao.pid())?;
    for workload in [Workload::List, Workload::Resolve, Workload::Set] {
        let shape = bench.shape_of(CONNECTIONS);
        crate::load::run(
            &openbao.target(),
            &shape,
            openbao.calls(Some(workload), &agents),
            bench.directory.path(),
        )?;
    }
    let loaded = machine::peak_resident_mb(openbao.pid())?;
    let binary = stripped_mb(&binary, bench.directory.path())?;
    Ok(Theirs { idle, loaded, start: median(starts), binary })
}

/// The size of a copy without symbols.
fn stripped_mb(binary: &Path, directory: &Path) -> Result<f64> {
    let copy = directory.join("stripped");
    run(Command::new("strip").arg("-o").args([&copy, &binary.to_owned()]))?;
    let bytes = fs::metadata(&copy)?.len();
    fs::remove_file(copy)?;
    Ok(bytes as f64 / 1e6)
}

pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => figures.get(middle).copied().unwrap_or_default(),
        _ => figures.get(middle - 1..=middle).unwrap_or_default().iter().sum::<f64>() / 2.0,
    }
}
