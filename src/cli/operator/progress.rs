//! How far something is that takes its time.

use std::time::{Duration, Instant};

use crate::cli::output::Output;

/// How often it is told on a terminal, where each line is written over the one before, and elsewhere.
const LIVE_EVERY: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Tells how far it is, from time to time.
pub(super) struct Progress<'o> {
    output: &'o mut Output,
    /// What is counted.
    unit: &'static str,
    begun: Instant,
    told: Option<Instant>,
}

// === impl Progress ===

impl<'o> Progress<'o> {
    /// Begins now.
    pub(super) fn new(output: &'o mut Output, unit: &'static str) -> Self {
        Self { output, unit, begun: Instant::now(), told: None }
    }

    /// So many of so many are done.
    pub(super) fn tell(&mut self, done: u64, total: u64) {
        let every = if self.output.is_live { LIVE_EVERY } else { LINE_EVERY };
        // What is done before a line is due is told with the outcome
        if self.told.unwrap_or(self.begun).elapsed() < every && done < total {
            return;
        }
        if done < total || self.output.is_live {
            self.told = Some(Instant::now());
            let line = line(done, total, self.unit, self.begun.elapsed());
            if self.output.is_live {
                self.output.live(&line);
            } else {
                self.output.talk(line);
            }
        }
    }

    /// Ends, and says how long it took.
    pub(super) fn end(self) -> Duration {
        if self.output.is_live && self.told.is_some() {
            self.output.talk("");
        }
        self.begun.elapsed()
    }
}

fn line(done: u64, total: u64, unit: &str, elapsed: Duration) -> String {
    let percent = (done * 100).checked_div(total).unwrap_or(100);
    format!("{done}/{total} {unit}, {percent} %, {} {unit}/s", rate(done, elapsed))
}

/// So many in this time, for each second of it.
pub(super) fn rate(count: u64, elapsed: Duration) -> u64 {
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    count.saturating_mul(1000).checked_div(millis).unwrap_or(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::Captured;

    #[test]
    fn a_line_says_how_much_is_done_and_how_fast() {
        assert_eq!(line(50, 200, "agents", Duration::from_millis(500)), "50/200 agents, 25 %, 100 agents/s");
        assert_eq!(line(0, 0, "pages", Duration::ZERO), "0/0 pages, 100 %, 0 pages/s");
    }

    #[test]
    fn only_a_terminal_gets_a_line_at_once() {
        let captured = Captured::default();
        let mut output = captured.output();
        let mut progress = Progress::new(&mut output, "agents");
        progress.tell(1, 2);
        progress.tell(2, 2);
        progress.end();
        assert_eq!(captured.stderr(), "", "it was done before a line was due");
        output.is_live = true;
        let mut progress = Progress::new(&mut output, "agents");
        progress.tell(1, 2);
        progress.tell(2, 2);
        progress.end();
        let shown = captured.stderr();
        assert!(
            shown.starts_with("\r\u{1b}[K2/2 agents, 100 %, ") && shown.ends_with("agents/s\n"),
            "{shown:?}"
        );
    }

    #[test]
    fn elsewhere_a_line_comes_every_few_seconds() {
        let captured = Captured::default();
        let mut output = captured.output();
        let mut progress = Progress::new(&mut output, "agents");
        progress.begun = Instant::now().checked_sub(2 * LINE_EVERY).unwrap();
        for done in 0..1000 {
            progress.tell(done, 1000);
        }
        assert_eq!(captured.stderr().lines().count(), 1, "{}", captured.stderr());
    }
}
