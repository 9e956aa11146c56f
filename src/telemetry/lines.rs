//! The lines of the log on their way to standard error.
//!
//! One thread writes them, in the order in which they were told. A line for each request would otherwise be a system
//! call for each request, and the end of the service where nobody takes what it writes.

use std::{
    io, mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

/// The name of an event whose line may wait a moment for others, and is lost if the process is killed meanwhile.
/// Whoever tells any other goes on when it is written.
pub const MAY_WAIT: &str = "may wait";

/// How long a line waits for others.
const COMPANY: Duration = Duration::from_millis(10);

/// How long somebody waits until his line is written. After that nobody does, until one is.
const PATIENCE: Duration = Duration::from_millis(500);

/// The most bytes that wait. More are lost, and counted.
const MOST: usize = 16 * 1024 * 1024;

/// What an idle log keeps of its memory.
const KEPT: usize = 64 * 1024;

/// Lines that wait to be written. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write.
    told: Condvar,
    /// Something was written.
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Somebody waits for it.
    is_urgent: bool,
    /// Nobody takes what is written.
    is_stuck: bool,
    /// So many lines were told so far and found room, and so many of them are done with.
    told: u64,
    done: u64,
    /// So many lines found no room, or could not be written, since that was last said.
    lost: u64,
    /// So many in all before that.
    lost_before: u64,
}

/// Takes one line.
#[derive(Debug)]
pub(super) struct Line<'lines> {
    lines: &'lines Lines,
    may_wait: bool,
}

// === impl Lines ===

impl Lines {
    /// Has a thread write lines to `out`, from now on.
    pub(super) fn write_to(&self, out: impl io::Write + Send + 'static) -> io::Result<()> {
        let lines = self.clone();
        let write = move || lines.write_all_to(out);
        thread::Builder::new().name("log".to_owned()).spawn(write).map(drop)
    }

    /// Waits until all that was told is written, unless nobody takes it.
    pub(super) fn flush(&self) {
        let mut state = self.state();
        state.is_urgent = true;
        self.0.told.notify_one();
        self.wait(state);
    }

    /// How many lines were lost so far.
    pub(super) fn lost(&self) -> u64 {
        let state = self.state();
        state.lost + state.lost_before
    }

    fn tell(&self, line: &[u8], may_wait: bool) {
        let mut state = self.state();
        if state.waiting.len() + line.len() > MOST {
            state.lost += 1;
            return;
        }
        if state.waiting.is_empty() || !may_wait {
            self.0.told.notify_one();
        }
        state.waiting.extend_from_slice(line);
        state.told += 1;
        if !may_wait {
            state.is_urgent = true;
            self.wait(state);
        }
    }

    fn wait(&self, state: MutexGuard<'_, State>) {
        let end = state.told;
        let is_needed = |state: &mut State| state.done < end && !state.is_stuck;
        let waited = self.0.written.wait_timeout_while(state, PATIENCE, is_needed);
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_stuck |= waited.timed_out();
    }

    fn write_all_to(&self, mut out: impl io::Write) {
        let mut batch = Vec::new();
        loop {
            let done = self.take(&mut batch);
            let outcome = out.write_all(&batch);
            let mut state = self.state();
            let lost = if outcome.is_ok() {
                state.lost_before += state.lost;
                mem::take(&mut state.lost)
            } else {
                // There is nobody to say it to as yet
                state.lost += done - state.done;
                0
            };
            state.done = done;
            state.is_stuck = false;
            drop(state);
            self.0.written.notify_all();
            batch.clear();
            batch.shrink_to(KEPT);
            if lost > 0 {
                tracing::warn!(name: MAY_WAIT, lines = lost, "standard error did not take all lines of the log");
            }
        }
    }

    /// Waits for lines, and for others to join them, and takes all that were told so far.
    fn take(&self, batch: &mut Vec<u8>) -> u64 {
        let told = self.0.told.wait_while(self.state(), |state| state.waiting.is_empty());
        let told = told.unwrap_or_else(PoisonError::into_inner);
        let joined = self.0.told.wait_timeout_while(told, COMPANY, |state| !state.is_urgent);
        let (mut state, _) = joined.unwrap_or_else(PoisonError::into_inner);
        state.is_urgent = false;
        mem::swap(&mut state.waiting, batch);
        state.told
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'lines> MakeWriter<'lines> for Lines {
    type Writer = Line<'lines>;

    fn make_writer(&'lines self) -> Line<'lines> {
        Line { lines: self, may_wait: false }
    }

    fn make_writer_for(&'lines self, told: &Metadata<'_>) -> Line<'lines> {
        Line { lines: self, may_wait: told.name() == MAY_WAIT }
    }
}

// === impl Line ===

impl io::Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lines.tell(line, self.may_wait);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Hands out what is written, and takes more when that was received.
    struct Out(mpsc::SyncSender<String>);

    impl io::Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            self.0.send(text).map(|()| bytes.len()).map_err(|_gone| io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(room: usize) -> (Lines, mpsc::Receiver<String>) {
        let (out, written) = mpsc::sync_channel(room);
        let lines = Lines::default();
        lines.write_to(Out(out)).unwrap();
        (lines, written)
    }

    fn lost(lines: &Lines) -> u64 {
        lines.state().lost
    }

    #[test]
    fn lines_are_written_together_in_their_order_before_one_that_may_not_wait() {
        let (lines, written) = lines(100);
        for line in ["a\n", "b\n", "c\n"] {
            lines.tell(line.as_bytes(), true);
        }
        lines.tell(b"now\n", false);
        let all: Vec<_> = written.try_iter().collect();
        assert_eq!(all.concat(), "a\nb\nc\nnow\n");
        assert!(all.len() < 4, "{all:?}");
        lines.tell(b"d\n", true);
        lines.flush();
        assert_eq!(written.try_recv().unwrap(), "d\n");
        lines.tell(b"e\n", true);
        assert_eq!(written.recv().unwrap(), "e\n", "it waits for no more than a moment");
    }

    #[test]
    fn what_threads_tell_at_once_stays_whole_and_in_each_ones_order() {
        let (lines, written) = lines(10_000);
        thread::scope(|scope| {
            for thread in 0..4 {
                let lines = &lines;
                scope.spawn(move || {
                    for line in 0..1000 {
                        lines.tell(format!("{thread} {line}\n").as_bytes(), line % 100 != 0);
                    }
                });
            }
        });
        lines.flush();
        let all: String = written.try_iter().collect();
        for thread in 0..4 {
            let its = all.lines().filter_map(|line| line.strip_prefix(&format!("{thread} ")));
            assert!(its.eq((0..1000).map(|line| line.to_string())), "thread {thread}");
        }
    }

    #[test]
    fn where_nobody_takes_them_lines_are_lost_and_counted_and_nobody_waits_twice() {
        let (lines, written) = lines(0);
        lines.tell(b"first\n", false);
        let started = std::time::Instant::now();
        lines.tell(&vec![b'x'; MOST], true);
        lines.tell(b"no room\n", true);
        lines.tell(b"no room\n", false);
        lines.flush();
        assert!(lost(&lines) == 2 && started.elapsed() < PATIENCE, "{:?}", started.elapsed());
        assert_eq!(written.recv().unwrap(), "first\n");
        assert_eq!(written.recv().unwrap().len(), MOST);
        lines.tell(b"again\n", true);
        assert_eq!(written.recv().unwrap(), "again\n");
        // It has been said by now
        assert_eq!(lost(&lines), 0);
        drop(written);
        lines.tell(b"closed\n", false);
        assert_eq!(lost(&lines), 1, "the reader has gone");
    }
}
