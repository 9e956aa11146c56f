//! pgbench with the statement that a workload comes down to: what PostgreSQL itself does on this machine.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Side, postgres::Cluster};
use crate::{
    load::{Outcome, Shape},
    machine, process,
    workload::Workload,
};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/pgbench");
const DATABASE: &str = "pgbench";

/// A table of its own and the script that works on it.
pub struct Pgbench<'d> {
    cluster: &'d Cluster,
    script: &'static str,
    agents: usize,
    directory: &'d Path,
}

impl<'d> Pgbench<'d> {
    /// Fills a fresh table.
    pub fn start(
        cluster: &'d Cluster,
        workload: Workload,
        agents: usize,
        directory: &'d Path,
    ) -> Result<Self> {
        let script = match workload {
            Workload::Set => "upsert3.sql",
            Workload::List => "keys10.sql",
            Workload::Resolve => "select10.sql",
            Workload::Delete => bail!("there is no pgbench script for delete"),
        };
        cluster.make_database(DATABASE, None)?;
        cluster.sql_file(DATABASE, &format!("{SCRIPTS}/schema.sql"), &[("agents", agents)])?;
        Ok(Self { cluster, script, agents, directory })
    }

    fn pgbench(&self, connections: usize, duration: Duration) -> Result<String> {
        let seconds = duration.as_secs_f64().ceil().max(1.0); // it takes whole ones
        let mut command = Command::new(self.cluster.program("pgbench"));
        command
            .args(["--no-vacuum", "--protocol=prepared", "--jobs=1"])
            .arg(format!("--client={connections}"))
            .arg(format!("--time={seconds}"))
            .arg(format!("--define=agents={}", self.agents))
            .arg(format!("--file={SCRIPTS}/{}", self.script))
            .arg(self.cluster.url(DATABASE));
        process::run(&mut command)
    }
}

impl Side for Pgbench<'_> {
    fn run(&mut self, shape: &Shape) -> Result<Outcome> {
        ensure!(shape.rate.is_none(), "pgbench is only run in a closed loop here");
        if !shape.warm_up.is_zero() {
            self.pgbench(shape.connections, shape.warm_up)?;
        }
        let servers = [self.cluster.leader()];
        let before = machine::snapshot(&servers, self.directory)?;
        let said = self.pgbench(shape.connections, shape.duration)?;
        let after = machine::snapshot(&servers, self.directory)?;
        ensure!(!said.contains("processed: 0\n"), "pgbench did nothing: the run is too short here");
        ensure!(said.contains("number of failed transactions: 0 "), "{said}");
        let calls = number_after(&said, "number of transactions actually processed: ")?;
        let rate = number_after(&said, "tps = ")?;
        let usage = before.until(&after);
        Ok(Outcome { calls: calls as u64, seconds: calls / rate, latency: None, usage })
    }
}

fn number_after(text: &str, words: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(words));
    let number = line.and_then(|line| line.split([' ', '/']).next()).with_context(|| text.to_owned())?;
    Ok(number.parse()?)
}
