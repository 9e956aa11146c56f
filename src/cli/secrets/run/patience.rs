//! Goes on trying until a run can start: a container often starts before the service does, or while it restarts.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::cli::{
    failure::{Exit, Failure},
    input::interruptible,
    output::Output,
    refusal,
};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What is left of the time when it is over.
const REST: Duration = Duration::from_millis(50);

/// Does this, and again while there is no connection or the server says that it is not available, for so long and no
/// longer. The person is told of the first failure at once, and of the last one at the end.
///
/// # Errors
/// What does not pass by itself, the last failure when the time is over, and Ctrl-C.
pub(super) async fn patiently<T>(
    limit: Duration,
    output: &mut Output,
    mut work: impl AsyncFnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let end = Instant::now() + limit;
    let (mut pause, mut last) = (FIRST_PAUSE, None);
    loop {
        match timeout_at(end, work()).await {
            Ok(Err(failure)) if may_pass(&failure) => {
                if last.is_none() {
                    let told = failure.sentence();
                    output.talk(format!("{told} Trying again, for {} (--timeout).", text(limit)));
                }
                last = Some(failure);
            }
            Ok(outcome) => return outcome,
            Err(_elapsed) => break,
        }
        let left = end.saturating_duration_since(Instant::now());
        if left < REST {
            break;
        }
        // Never so long that it could not be tried once more
        interruptible(sleep(pause.min(left / 2))).await?;
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
    Err(match last {
        Some(failure) => failure.hint_first(&format!("It was tried for {} (--timeout).", text(limit))),
        None => silent(limit),
    })
}

fn may_pass(failure: &Failure) -> bool {
    matches!(failure.reason.as_str(), refusal::UNREACHABLE | refusal::UNAVAILABLE)
}

/// There is a connection, and no answer.
fn silent(limit: Duration) -> Failure {
    let sentence = format!("The server did not answer within {} (--timeout).", text(limit));
    Failure::new(Exit::Server, sentence).because(refusal::TIMED_OUT)
}

fn text(limit: Duration) -> String {
    format!("{} s", limit.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::Captured;

    const LIMIT: Duration = Duration::from_secs(1);

    fn failure(reason: &str, number: usize) -> Failure {
        Failure::new(Exit::Server, format!("Failure {number}.")).because(reason)
    }

    /// What it came to, how often it was tried, how long it took and what was said meanwhile.
    async fn try_until(
        mut attempt: impl AsyncFnMut(usize) -> Result<usize, Failure>,
    ) -> (Result<usize, String>, usize, Duration, String) {
        let (captured, start, mut attempts) = (Captured::default(), Instant::now(), 0);
        let mut output = captured.output();
        let outcome = patiently(LIMIT, &mut output, async || {
            attempts += 1;
            attempt(attempts).await
        });
        let outcome = outcome.await.map_err(|failure| failure.to_string());
        (outcome, attempts, start.elapsed(), captured.stderr())
    }

    #[tokio::test]
    async fn what_may_pass_is_tried_again_and_told_once() {
        for reason in [refusal::UNREACHABLE, refusal::UNAVAILABLE] {
            let work = async |number| if number == 1 { Err(failure(reason, number)) } else { Ok(number) };
            let (outcome, _, took, said) = try_until(work).await;
            assert_eq!(outcome, Ok(2));
            assert!(took >= FIRST_PAUSE, "{took:?}");
            assert_eq!(said, "Failure 1. Trying again, for 1 s (--timeout).\n");
        }
    }

    #[tokio::test]
    async fn the_last_failure_is_told_when_the_time_is_over() {
        let work = async |number| Err(failure(refusal::UNREACHABLE, number));
        let (outcome, attempts, took, said) = try_until(work).await;
        let text = outcome.unwrap_err();
        assert_eq!(text, format!("error: Failure {attempts}.\nIt was tried for 1 s (--timeout)."));
        assert!((2..=8).contains(&attempts), "there are pauses: {attempts} in {took:?}");
        assert!(took >= LIMIT.mul_f64(0.9), "to the end: {took:?}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }

    #[tokio::test]
    async fn what_hangs_is_left_when_the_time_is_over() {
        let hang = async |_| std::future::pending().await;
        let (outcome, attempts, took, said) = try_until(hang).await;
        assert_eq!(outcome.unwrap_err(), "error: The server did not answer within 1 s (--timeout).");
        assert_eq!((attempts, said.as_str()), (1, ""));
        assert!(took >= LIMIT, "{took:?}");
        // Why there was no connection says more than that the next one hung
        let work = async |number| match number {
            1 => Err(failure(refusal::UNREACHABLE, number)),
            _ => std::future::pending().await,
        };
        let (outcome, attempts, ..) = try_until(work).await;
        assert_eq!(outcome.unwrap_err(), "error: Failure 1.\nIt was tried for 1 s (--timeout).");
        assert_eq!(attempts, 2);
    }

    #[tokio::test]
    async fn what_does_not_pass_is_told_at_once() {
        for reason in ["", refusal::PERMISSION_DENIED, refusal::UNAUTHENTICATED, refusal::TIMED_OUT] {
            let (outcome, attempts, _, said) = try_until(async |number| Err(failure(reason, number))).await;
            assert_eq!(outcome.unwrap_err(), "error: Failure 1.");
            assert_eq!((attempts, said.as_str()), (1, ""));
        }
    }
}
