//! The last step before a watched command: a process that is to become it.
//!
//! Some things a process can only do for itself: ask to be killed when its parent ends, and take the
//! terminal before it reads from it. So `--watch` starts this program once more, by this hidden command,
//! which does both and becomes the command. It has the command's environment already.

use std::{ffi::OsString, os::unix::process::CommandExt as _, process::Command};

use clap::Args;
use rustix::process::{Pid, Signal, getpgid, getpgrp, getppid, set_parent_process_death_signal};

use crate::cli::failure::{Exit, Failure};

use super::{cannot_start, terminal::Terminal};

/// The name of the hidden command.
pub(crate) const LAUNCH: &str = "launch-watched";

/// This program, also where its file was replaced meanwhile.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// The arguments of the hidden command.
#[derive(Args, Debug)]
pub(crate) struct Launch {
    /// The process that watches
    #[arg(value_parser = parse_id)]
    parent: Pid,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

fn parse_id(text: &str) -> Result<Pid, &'static str> {
    text.parse().ok().and_then(Pid::from_raw).ok_or("a process id")
}

/// A command line that launches `command`, as a child of the process `parent` in a group of its own.
pub(super) fn launcher(command: &[OsString], parent: Pid) -> Command {
    let mut launcher = Command::new(THIS_PROGRAM);
    launcher.args(["secrets", LAUNCH, &parent.to_string(), "--"]).args(command).process_group(0);
    launcher
}

// === impl Launch ===

impl Launch {
    /// Becomes the command.
    ///
    /// # Errors
    /// When it cannot be started, or its parent has ended.
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let Self { parent, command } = self;
        let alone = |why: &str| Failure::new(Exit::NotRun, format!("Cannot start under --watch: {why}."));
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| alone(&error.to_string()))?;
        if getppid() != Some(parent) {
            return Err(alone("the process that watches has ended"));
        }
        if let (Some(terminal), Ok(watching)) = (Terminal::find(), getpgid(Some(parent))) {
            terminal.pass(watching, getpgrp());
        }
        Err(cannot_start(&command, &super::command(&command).exec()))
    }
}
