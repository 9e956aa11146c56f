//! How often a provider is tried for one call, and how long that may take in all.

use std::time::Duration;

use http::StatusCode;
use tokio::time::{sleep, timeout};

use super::http::Answer;
use crate::crypto::{ProviderError, Random};

/// The longest that a call takes, with all that it needs: to be let in, to be let in once more, to be tried again.
const IN_ALL: Duration = Duration::from_secs(10);

/// The longest waits before a call is tried again.
const WAITS: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(400), Duration::from_millis(800)];

/// Calls a provider, and again while it has too much to do, each time after a random wait, so that many who were refused
/// at once do not come back at once.
///
/// # Errors
/// Those of the attempts, and [`ProviderError::Unavailable`] when all takes too long.
pub(super) async fn patiently<F>(
    attempt: impl Fn() -> F,
    is_busy: impl Fn(&Answer) -> bool,
) -> Result<Answer, ProviderError>
where
    F: Future<Output = Result<Answer, ProviderError>>,
{
    let attempts = async {
        for wait in WAITS {
            let answer = attempt().await?;
            if !is_busy(&answer) {
                return Ok(answer);
            }
            sleep(some_of(wait)).await;
        }
        attempt().await
    };
    let too_long = || format!("the key provider took longer than {} seconds", IN_ALL.as_secs());
    timeout(IN_ALL, attempts).await.unwrap_or_else(|_elapsed| Err(ProviderError::Unavailable(too_long())))
}

/// Whether a provider says that it has too much to do, or cannot do it just now.
pub(super) fn is_busy(answer: &Answer) -> bool {
    answer.status == StatusCode::TOO_MANY_REQUESTS || answer.status.is_server_error()
}

/// At least half of it.
fn some_of(wait: Duration) -> Duration {
    let [random] = Random::new().fill().unwrap_or([u8::MAX]);
    wait.mul_f64(0.5 + f64::from(random) / 510.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_differ_within_bounds() {
        let wait = Duration::from_secs(2);
        let waits: Vec<_> = (0..100).map(|_| some_of(wait)).collect();
        assert!(waits.iter().all(|some| (wait / 2..=wait).contains(some)), "{waits:?}");
        assert!(waits.iter().any(|some| *some != waits[0]), "{waits:?}");
    }
}
