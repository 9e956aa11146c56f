//! The signals that are meant for the command.

use std::{fs, future, task::Poll};

use rustix::{
    process::{Signal, getpgrp},
    termios::tcgetpgrp,
};
use tokio::signal::unix::{Signal as Arrivals, SignalKind, signal};

use crate::cli::failure::Failure;

/// All that are passed on.
const PASSED_ON: [Signal; 6] =
    [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2];

/// Listens for them.
pub(super) struct Signals(Vec<(Signal, Arrivals)>);

// === impl Signals ===

impl Signals {
    /// Begins to listen; not for what this process was started to ignore (as `nohup` does), so that the
    /// command ignores it too.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn listen() -> Result<Self, Failure> {
        let ignored = ignored();
        let heard = PASSED_ON.into_iter().filter(|signal| ignored & (1 << (signal.as_raw() - 1)) == 0);
        let listen = |which: Signal| Ok((which, signal(SignalKind::from_raw(which.as_raw()))?));
        let arrivals = heard.map(listen).collect::<std::io::Result<_>>();
        arrivals.map(Self).map_err(|error| Failure::local(format!("Cannot listen for signals: {error}.")))
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> Signal {
        future::poll_fn(|context| {
            let mut all = self.0.iter_mut();
            let arrived =
                all.find_map(|(which, arrivals)| arrivals.poll_recv(context).is_ready().then_some(*which));
            arrived.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// Whether the terminal has told the command itself: it tells Ctrl-C to all that runs in its foreground.
/// Passed on too, it would be Ctrl-C twice, which to many programs means more.
pub(super) fn is_from_terminal(signal: Signal) -> bool {
    let foreground = || tcgetpgrp(fs::File::open("/dev/tty").ok()?).ok();
    (signal == Signal::INT || signal == Signal::QUIT) && foreground() == Some(getpgrp())
}

/// The mask of ignored signals; none where the system does not say.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}
