//! Stays while the command runs, and starts it again with new values.
//!
//! The command is a child in the same process group and terminal, so a shell stops and continues both
//! (Ctrl-Z, `fg`). A group of its own would need a shell's job control here. Signals that it has not got
//! itself are passed on to it; it ends this process when it ends by itself.

use std::{ffi::OsString, io, os::unix::process::ExitStatusExt as _, process::ExitStatus, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep_until},
};

use crate::cli::{
    context::Context,
    failure::{Exit, Failure},
};

use super::{
    cannot_start,
    changes::Changes,
    inherit::Inheritance,
    resolve::Values,
    signals::{Arrival, Signals},
};

/// How a command is kept running.
pub(super) struct Supervisor<'a> {
    /// The command and its arguments.
    pub(super) command: &'a [OsString],
    /// What of our environment it gets.
    pub(super) inheritance: &'a Inheritance,
    /// How long it has to end, before it is killed, when it is started again.
    pub(super) grace: Duration,
}

/// What became of a command.
enum Course {
    /// It ended by itself.
    Ended(ExitStatus),
    /// There are other values for it.
    Outdated(Values),
}

// === impl Supervisor ===

impl Supervisor<'_> {
    /// Runs the command until it ends by itself.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) async fn run(
        &self,
        mut values: Values,
        mut changes: Changes<'_>,
        mut signals: Signals,
        context: &mut Context,
    ) -> Result<Exit, Failure> {
        loop {
            let mut child = self.start(&values, context)?;
            let course = follow(&mut child, &values, &mut changes, &mut signals, context).await;
            match course.map_err(|error| lost(&error))? {
                Course::Ended(status) => return Ok(exit_of(status)),
                Course::Outdated(new) => values = new,
            }
            context.output.talk("Secrets have changed: the command is started again.");
            let stopped = self.stop(&mut child, &mut signals).await;
            if let Some(status) = stopped.map_err(|error| lost(&error))? {
                return Ok(exit_of(status));
            }
        }
    }

    fn start(&self, values: &Values, context: &mut Context) -> Result<Child, Failure> {
        let inherited = self.inheritance.choose(&context.environment, values, &mut context.output);
        let command = super::command(self.command, &inherited, values);
        let child = Command::from(command).kill_on_drop(true).spawn();
        child.map_err(|error| cannot_start(self.command, &error))
    }

    /// Ends the command to start it again. `Some` when it was told to end meanwhile: then it stays ended.
    async fn stop(&self, child: &mut Child, signals: &mut Signals) -> io::Result<Option<ExitStatus>> {
        send(child, Signal::TERM);
        let end = Instant::now() + self.grace;
        let mut is_to_end = false;
        let mut is_killed = false;
        loop {
            tokio::select! {
                status = child.wait() => return Ok(Some(status?).filter(|_| is_to_end)),
                arrival = signals.next() => {
                    is_to_end |= arrival.signal != Signal::USR1 && arrival.signal != Signal::USR2;
                    pass_on(child, &arrival);
                }
                () = sleep_until(end), if !is_killed => {
                    is_killed = true;
                    send(child, Signal::KILL);
                }
            }
        }
    }
}

/// Waits until the command ends or there are other values for it.
async fn follow(
    child: &mut Child,
    values: &Values,
    changes: &mut Changes<'_>,
    signals: &mut Signals,
    context: &mut Context,
) -> io::Result<Course> {
    loop {
        tokio::select! {
            biased;
            status = child.wait() => return Ok(Course::Ended(status?)),
            arrival = signals.next() => pass_on(child, &arrival),
            new = changes.next(values, &mut context.output) => return Ok(Course::Outdated(new)),
        }
    }
}

fn pass_on(child: &Child, arrival: &Arrival) {
    if arrival.is_for_us_alone {
        send(child, arrival.signal);
    }
}

fn send(child: &Child, signal: Signal) {
    // Without an id it has been waited for, and the id may be another's
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    // It fails when the child has ended, which is noticed next
    let _sent = id.map(|id| kill_process(id, signal));
}

/// The command's exit code, or 128 + n after signal n, as shells say it.
fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Command(u8::try_from(code).unwrap_or(u8::MAX)),
        (None, signal) => Exit::of_signal(signal.unwrap_or_default()),
    }
}

fn lost(error: &io::Error) -> Failure {
    Failure::new(Exit::NotRun, format!("Cannot wait for the command: {error}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_as_shells_tell_it() {
        assert_eq!(exit_of(ExitStatus::from_raw(0)), Exit::Command(0));
        assert_eq!(exit_of(ExitStatus::from_raw(42 << 8)).code(), 42);
        assert_eq!(exit_of(ExitStatus::from_raw(15)).code(), 143);
        assert_eq!(exit_of(ExitStatus::from_raw(9)).code(), 137);
    }
}
