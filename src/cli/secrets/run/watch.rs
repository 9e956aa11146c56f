//! Stays while the command runs, and starts it again with new values.
//!
//! The command and what it starts are one group of processes ([`Group`]): all of it ends before the command
//! is started again, and all of it gets the signals that this process gets. It ends this process when it
//! ends by itself. When this process is killed, the kernel kills the command, though not what that started.
//!
//! This process keeps no values, only what tells whether others came ([`Fingerprints`]).

use std::{ffi::OsString, io, os::unix::process::ExitStatusExt as _, process::ExitStatus, time::Duration};

use rustix::process::{Signal, getpid};
use tokio::time::{Instant, sleep_until};

use crate::cli::{
    context::Context,
    failure::{Exit, Failure},
};

use super::{
    changes::Changes,
    fingerprint::{Fingerprint, Fingerprints},
    group::Group,
    inherit::Inheritance,
    launch::launcher,
    resolve::Values,
    signals::Signals,
    with_environment,
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
        let fingerprints = Fingerprints::new()?;
        loop {
            let known = fingerprints.of(&values);
            let mut group = self.start(values, context)?;
            let course =
                follow(&mut group, (&fingerprints, known), &mut changes, &mut signals, context).await;
            match course.map_err(|error| lost(&error))? {
                Course::Ended(status) => return Ok(exit_of(status)),
                Course::Outdated(new) => values = new,
            }
            context.output.talk("Secrets have changed: the command is started again.");
            let stopped = self.stop(&mut group, &mut signals).await;
            if let Some(status) = stopped.map_err(|error| lost(&error))? {
                return Ok(exit_of(status));
            }
        }
    }

    /// Starts the command, and forgets the values.
    fn start(&self, values: Values, context: &mut Context) -> Result<Group, Failure> {
        let inherited = self.inheritance.choose(&context.environment, &values, &mut context.output);
        let launcher = with_environment(launcher(self.command, getpid()), &inherited, &values);
        drop(values);
        Group::start(launcher).map_err(|error| super::cannot_start(self.command, &error))
    }

    /// Ends the command, with what it started, to start it again. `Some` when it was told to end meanwhile:
    /// then it stays ended.
    async fn stop(&self, group: &mut Group, signals: &mut Signals) -> io::Result<Option<ExitStatus>> {
        group.tell(Signal::TERM);
        let end = Instant::now() + self.grace;
        let mut is_to_end = false;
        let mut is_killed = false;
        loop {
            match group.look()? {
                // What was killed may wait for a parent to take note of it
                Some(status) if is_killed || group.is_gone() => return Ok(Some(status).filter(|_| is_to_end)),
                Some(_) | None => {}
            }
            tokio::select! {
                signal = signals.next() => {
                    is_to_end |= ends(signal);
                    group.tell(signal);
                }
                () = sleep_until(end), if !is_killed => {
                    is_killed = true;
                    group.tell(Signal::KILL);
                }
            }
        }
    }
}

/// Waits until the command ends or there are other values for it than the known ones.
async fn follow(
    group: &mut Group,
    (fingerprints, known): (&Fingerprints, Fingerprint),
    changes: &mut Changes<'_>,
    signals: &mut Signals,
    context: &mut Context,
) -> io::Result<Course> {
    loop {
        if let Some(status) = group.look()? {
            return Ok(Course::Ended(status));
        }
        let is_other = |values: &Values| fingerprints.of(values) != known;
        tokio::select! {
            biased;
            signal = signals.next() => group.tell(signal),
            new = changes.next(is_other, &mut context.output) => return Ok(Course::Outdated(new)),
        }
    }
}

/// Whether a signal tells this process to end.
fn ends(signal: Signal) -> bool {
    [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT].contains(&signal)
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
