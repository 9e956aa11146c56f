//! `just bench-load`: the service's release binary on real sockets, beside yardsticks that run in turns with it.
//!
//! [`goals`] says what is compared with what; [`pairs`] takes turns and leaves out what others on the machine have
//! spoiled; [`sides`] are the service and the yardsticks; [`load`] is the client; [`report`] writes it down. To add a
//! point: a row in [`goals`]. To add a yardstick: a file in [`sides`] and a variant of [`goals::Yardstick`].

mod footprint;
mod goals;
mod grpc;
mod http1;
mod load;
mod machine;
mod measured;
mod options;
mod pairs;
mod plot;
mod process;
mod proto;
mod report;
mod sides;
mod workload;

use std::{env, ffi::OsString, process::Command};

use anyhow::{Result, ensure};
use clap::Parser as _;

use options::{Cli, Only, Options};
use pairs::Bench;

fn main() -> Result<()> {
    // `just bench-load -- --only set` hands over the dashes too
    let dashes = |(at, argument): &(usize, OsString)| *at == 1 && argument == "--";
    let arguments = env::args_os().enumerate().filter(|argument| !dashes(argument));
    let Cli { options, server } = Cli::parse_from(arguments.map(|(_, argument)| argument));
    match server {
        Some(server) => sides::bare::serve(server),
        None => measure(options),
    }
}

fn measure(options: Options) -> Result<()> {
    let footprint = options.wants(Only::Footprint) && options.yardstick.is_empty();
    let mut points = goals::points(&options);
    if options.openbao.is_none() {
        let all = points.len();
        points.retain(|point| point.yardstick.openbao().is_none());
        let left_out = all - points.len();
        if left_out > 0 {
            eprintln!("OPENBAO_BIN is not set: {left_out} points are left out");
        }
    }
    ensure!(footprint || !points.is_empty(), "no point of the table passes these filters");
    if options.pin {
        let own = std::process::id().to_string();
        process::run(Command::new("taskset").args(["--cpu-list", "--pid", "1", &own]))?;
    }
    let bench = Bench::new(options)?;
    let mut measured = Vec::new();
    for (at, point) in points.iter().enumerate() {
        let done = bench.measure(point)?;
        eprintln!("{}/{} {}", at + 1, points.len(), report::line(&done));
        measured.push(done);
    }
    let facts = if footprint { footprint::measure(&bench)? } else { Vec::new() };
    report::write(&bench, &measured, &facts)
}
