//! Who has the terminal: its keys (Ctrl-C, Ctrl-Z) are for one group of processes, and only that may read.

use std::fs::File;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use rustix::{
    process::{Pid, getpgrp},
    termios::{tcgetpgrp, tcsetpgrp},
};

/// The terminal that this process was started on.
#[derive(Debug)]
pub(super) struct Terminal(File);

// === impl Terminal ===

impl Terminal {
    /// Finds it; `None` where there is none.
    pub(super) fn find() -> Option<Self> {
        File::options().read(true).write(true).open("/dev/tty").ok().map(Self)
    }

    /// Whether this group has it.
    pub(super) fn is_of(&self, group: Pid) -> bool {
        tcgetpgrp(&self.0).is_ok_and(|has_it| has_it == group)
    }

    /// Whether this process's own group has it.
    pub(super) fn is_ours(&self) -> bool {
        self.is_of(getpgrp())
    }

    /// Passes it on, if `from` has it.
    pub(super) fn pass(&self, from: Pid, to: Pid) {
        if self.is_of(from) {
            // Whoever passes it on without having it would be stopped
            let before = SigSet::from(Signal::SIGTTOU).thread_swap_mask(SigmaskHow::SIG_BLOCK);
            // It fails when the group has ended, which is noticed next
            let _passed = tcsetpgrp(&self.0, to);
            let _restored = before.map(|mask| mask.thread_set_mask());
        }
    }
}
