//! Doing again what may be done again.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The longest pause before the second run; it doubles each time, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(4);

/// Short, so that who has waited long is not always behind those who have just come.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// How long one is run again that met others: longer than a call may take, whose end ends this too.
pub(super) const CONTENDED: Duration = Duration::from_mins(1);

/// Does it until its outcome is one to keep. `limit` says for how long from the beginning, if at all, an error is
/// none to keep. What is under way is not cut short.
pub(super) async fn patiently<T, E, F>(
    limit: impl Fn(&E) -> Option<Duration>,
    act: impl Fn() -> F,
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let begin = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match act().await {
            Err(error) if limit(&error).is_some_and(|limit| begin.elapsed() < limit) => {}
            outcome => return outcome,
        }
        tokio::time::sleep(jittered(pause)).await;
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

/// Some part of the pause, so that transactions that met do not meet again. Nothing secret depends on it.
#[expect(clippy::disallowed_methods, reason = "the clock's lowest digits serve as dice")]
fn jittered(pause: Duration) -> Duration {
    let dice = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.subsec_nanos() % 1000);
    pause.mul_f64(f64::from(dice) / 1000.0)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    async fn run(
        limit: Duration,
        outcomes: &[Result<u32, &'static str>],
    ) -> (Result<u32, &'static str>, usize) {
        let runs = Cell::new(0);
        let act = async || {
            let run = runs.replace(runs.get() + 1);
            outcomes.get(run).copied().unwrap_or(Err("again"))
        };
        let limit = |error: &&str| (*error == "again").then_some(limit);
        let outcome = patiently(limit, act).await;
        (outcome, runs.get())
    }

    #[tokio::test]
    async fn only_what_may_be_done_again_is() {
        let limit = Duration::from_secs(10);
        assert_eq!(run(limit, &[Ok(1)]).await, (Ok(1), 1));
        assert_eq!(run(limit, &[Err("again"), Err("again"), Ok(1)]).await, (Ok(1), 3));
        assert_eq!(run(limit, &[Err("again"), Err("never"), Ok(1)]).await, (Err("never"), 2));
    }

    #[tokio::test]
    async fn patience_ends() {
        assert_eq!(run(Duration::ZERO, &[]).await, (Err("again"), 1));
        let (outcome, runs) = run(Duration::from_millis(50), &[]).await;
        assert_eq!(outcome, Err("again"));
        assert!(runs > 1, "{runs}");
    }
}
