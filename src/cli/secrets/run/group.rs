//! A command and what it starts: one group of processes, which is told signals as one.
//!
//! It is a job as shells have them: on a terminal it has the foreground while it runs, so that Ctrl-C is
//! for it alone, and when Ctrl-Z stops it this process stops too, which the shell that started it sees.
//! What leaves the group (`setsid`, as daemons do) is out of reach.

use std::{
    io,
    os::unix::process::ExitStatusExt as _,
    process::{Command, ExitStatus},
};

use rustix::{
    io::Errno,
    process::{
        Pid, Signal, WaitOptions, getpgrp, getpid, kill_current_process_group, kill_process_group,
        set_child_subreaper, test_kill_process_group, wait,
    },
};

use super::terminal::Terminal;

/// A group that was started; killed when it is dropped before its command has ended.
pub(super) struct Group {
    /// The command's process, whose id is the group's too.
    leader: Pid,
    terminal: Option<Terminal>,
    is_stopped: bool,
    /// Somebody else than the terminal told it to end.
    is_told: bool,
    /// How the command ended.
    status: Option<ExitStatus>,
}

// === impl Group ===

impl Group {
    /// Starts a command that puts itself into a group of its own.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn start(mut command: Command) -> io::Result<Self> {
        // What loses its parent becomes a child of this process, which so learns of its end
        set_child_subreaper(Some(getpid()))?;
        let id = i32::try_from(command.spawn()?.id()).ok().and_then(Pid::from_raw);
        let leader = id.ok_or(io::ErrorKind::InvalidData)?;
        let terminal = Terminal::find();
        Ok(Self { leader, terminal, is_stopped: false, is_told: false, status: None })
    }

    /// Looks what became of it: to be called after each signal that a child sent. Tells how the command
    /// ended, if it has.
    ///
    /// # Errors
    /// When the system does not say.
    pub(super) fn look(&mut self) -> io::Result<Option<ExitStatus>> {
        loop {
            let (id, status) = match wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                Ok(Some(news)) => news,
                Ok(None) => return Ok(self.status),
                Err(Errno::CHILD) if self.status.is_some() => return Ok(self.status),
                Err(error) => return Err(error.into()),
            };
            // The others are what the command left behind
            if id == self.leader {
                match status.stopping_signal() {
                    Some(signal) => self.stopped(signal)?,
                    None => self.ended(ExitStatus::from_raw(status.as_raw())),
                }
            }
        }
    }

    /// Whether nothing of it is left.
    pub(super) fn is_gone(&self) -> bool {
        self.status.is_some() && test_kill_process_group(self.leader).is_err()
    }

    /// Does with a signal what is right for the group.
    pub(super) fn tell(&mut self, signal: Signal) {
        if signal == Signal::CONT {
            self.go_on();
        } else if signal != Signal::CHILD {
            self.is_told = true;
            // It fails when all have ended, which is noticed next
            let _sent = kill_process_group(self.leader, signal);
        }
    }

    /// Stops with it, if it was the terminal that stopped it.
    fn stopped(&mut self, signal: i32) -> io::Result<()> {
        self.is_stopped = true;
        let keys = [Signal::TSTP, Signal::TTIN, Signal::TTOU];
        if let Some(terminal) = &self.terminal
            && keys.iter().any(|key| key.as_raw() == signal)
        {
            terminal.pass(self.leader, getpgrp());
            // Ends when somebody lets this process go on
            kill_current_process_group(Signal::TSTP)?;
            if terminal.is_ours() {
                self.go_on();
            }
        }
        Ok(())
    }

    /// Lets it go on, in the foreground if this process is there.
    fn go_on(&mut self) {
        if let Some(terminal) = &self.terminal {
            terminal.pass(getpgrp(), self.leader);
        }
        if std::mem::take(&mut self.is_stopped) {
            let _sent = kill_process_group(self.leader, Signal::CONT);
        }
    }

    /// Takes the terminal back. Ctrl-C that ended the command was meant for all that would have got it from
    /// the terminal: the script around this process, the other end of a pipe.
    fn ended(&mut self, status: ExitStatus) {
        self.status = Some(status);
        let Some(terminal) = &self.terminal else { return };
        let key = [Signal::INT, Signal::QUIT].into_iter().find(|key| status.signal() == Some(key.as_raw()));
        if let Some(key) = key
            && !self.is_told
            && terminal.is_of(self.leader)
        {
            let _sent = kill_current_process_group(key);
        }
        terminal.pass(self.leader, getpgrp());
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.status.is_none() {
            let _sent = kill_process_group(self.leader, Signal::KILL);
        }
    }
}
