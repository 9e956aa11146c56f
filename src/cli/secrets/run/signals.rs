//! The signals that are meant for the command.

use std::{fs, io, thread};

use rustix::process::Signal;
use signal_hook::{
    iterator::{Handle, SignalsInfo, exfiltrator::WithOrigin},
    low_level::siginfo::{Cause, Origin},
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::cli::failure::Failure;

/// All that are passed on.
const PASSED_ON: [Signal; 6] =
    [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2];

/// A signal, and whether the command has not got it yet.
pub(super) struct Arrival {
    /// Which one.
    pub(super) signal: Signal,
    /// It is to be passed on.
    pub(super) is_for_us_alone: bool,
}

/// Listens for them, until it is dropped.
pub(super) struct Signals {
    arrivals: UnboundedReceiver<Arrival>,
    listening: Handle,
}

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
        Self::listen_for(heard)
            .map_err(|error| Failure::local(format!("Cannot listen for signals: {error}.")))
    }

    fn listen_for(signals: impl Iterator<Item = Signal>) -> io::Result<Self> {
        let mut origins = SignalsInfo::<WithOrigin>::new(signals.map(Signal::as_raw))?;
        let listening = origins.handle();
        let (sender, arrivals) = unbounded_channel();
        let listen = move || {
            let arrived = origins.forever().filter_map(|origin| Arrival::of(&origin));
            // It ends when nobody is told any more
            arrived.map(|arrival| sender.send(arrival)).find(Result::is_err);
        };
        thread::Builder::new().name("signals".to_owned()).spawn(listen)?;
        Ok(Self { arrivals, listening })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> Arrival {
        match self.arrivals.recv().await {
            Some(arrival) => arrival,
            // The thread that listens ends only after this
            None => std::future::pending().await,
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.listening.close();
    }
}

// === impl Arrival ===

impl Arrival {
    /// Ctrl-C and Ctrl-\ come from the kernel, which tells all that runs in the terminal's foreground, the
    /// command too. Passed on, they would be pressed twice, which to many programs means more. What
    /// another process sends (`kill`) is for this one alone.
    fn of(origin: &Origin) -> Option<Self> {
        let signal = PASSED_ON.into_iter().find(|signal| signal.as_raw() == origin.signal)?;
        let is_a_key = signal == Signal::INT || signal == Signal::QUIT;
        Some(Self { signal, is_for_us_alone: !(is_a_key && matches!(origin.cause, Cause::Kernel)) })
    }
}

/// The mask of ignored signals; none where the system does not say.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}
