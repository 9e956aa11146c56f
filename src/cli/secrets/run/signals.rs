//! The signals that this process gets while it watches a command, or before it becomes one.

use std::{future::poll_fn, task::Poll};

use futures_util::FutureExt as _;
use rustix::process::{Signal, getpid};
use tokio::signal::unix::{self, SignalKind};

use crate::cli::{
    failure::{Exit, Failure},
    ignored::is_ignored,
};

/// All that are meant for the command.
const PASSED_ON: [Signal; 6] =
    [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2];

/// Those that say something about it: a child has ended or was stopped, and a shell lets all go on.
const ABOUT_IT: [Signal; 2] = [Signal::CHILD, Signal::CONT];

/// Listens for them.
pub(super) struct Signals(Vec<(Signal, unix::Signal)>);

// === impl Signals ===

impl Signals {
    /// Begins to listen; not for what this process was started to ignore (as `nohup` does), so that the
    /// command ignores it too.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn listen() -> Result<Self, Failure> {
        Self::to(PASSED_ON.into_iter().filter(|signal| !is_ignored(*signal)).chain(ABOUT_IT))
    }

    /// Begins to listen where this is process 1, of a container: that is ended by no signal which it does not listen for. Every
    /// other process is, and at any moment, so there it listens for none.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn as_process_1() -> Result<Self, Failure> {
        let is_process_1 = getpid().is_init();
        Self::to(PASSED_ON.into_iter().filter(|signal| is_process_1 && !is_ignored(*signal)))
    }

    fn to(heard: impl Iterator<Item = Signal>) -> Result<Self, Failure> {
        let listening =
            heard.map(|signal| Ok((signal, unix::signal(SignalKind::from_raw(signal.as_raw()))?)));
        let listening: Result<_, std::io::Error> = listening.collect();
        listening.map(Self).map_err(|error| Failure::local(format!("Cannot listen for signals: {error}.")))
    }

    /// Waits for the next one. May be dropped at any time and called again: none is missed.
    pub(super) async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            let mut arrived =
                self.0.iter_mut().filter_map(|(signal, arrivals)| match arrivals.poll_recv(context) {
                    Poll::Ready(_) => Some(*signal),
                    Poll::Pending => None,
                });
            arrived.next().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Does this, unless a signal comes first that ends a process which does not handle it: `Err` is its exit code.
    ///
    /// # Errors
    /// The work's own.
    pub(super) async fn or_end<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<Result<T, Exit>, Failure> {
        tokio::select! {
            biased;
            exit = self.next_end() => Ok(Err(exit)),
            done = work => done.map(Ok),
        }
    }

    /// Whether one has come that ends a process which does not handle it: its exit code.
    pub(super) fn has_ended(&mut self) -> Option<Exit> {
        self.next_end().now_or_never()
    }

    /// Waits for the next one that ends a process which does not handle it, for the exit code of that.
    async fn next_end(&mut self) -> Exit {
        loop {
            let signal = self.next().await;
            if PASSED_ON.contains(&signal) {
                return Exit::of_signal(signal.as_raw());
            }
        }
    }
}
