//! One login for all who call at once.
//!
//! A token is had by a task of its own, so that who gives up waiting takes it from nobody else. What came of it, a failure
//! too, holds for all who waited: they do not try one after the other.

use std::{fmt, sync::Arc, time::Duration};

use http::HeaderValue;
use tokio::{sync::Mutex, time::Instant};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::crypto::ProviderError;

/// How long a failure holds.
const HOLDS: Duration = Duration::from_secs(2);

/// How long a token that is refused is no reason to log in, after one was: each login is a lease.
const PAUSE: Duration = Duration::from_secs(10);

/// The last login.
#[derive(Debug, Default)]
pub(super) struct Login {
    last: Arc<Mutex<Last>>,
    /// Nobody waits for them when the server stops: what they would learn is for its calls alone.
    tasks: TaskTracker,
}

/// A token, and until when it is good.
pub(super) struct Entry {
    pub(super) token: HeaderValue,
    pub(super) until: Option<Instant>,
}

#[derive(Debug, Default)]
struct Last {
    entry: Option<Entry>,
    /// When a login failed, and why.
    failed: Option<(Instant, ProviderError)>,
    /// When there was last a login because a token was refused.
    provoked: Option<Instant>,
}

// === impl Login ===

impl Login {
    /// A token to call with, which is not the one that was refused; `None` where it is too early to have another in its
    /// place.
    ///
    /// # Errors
    /// That of `log_in`, which may have been somebody else's.
    pub(super) async fn token<F>(
        &self,
        refused: Option<&HeaderValue>,
        log_in: impl FnOnce() -> F,
    ) -> Result<Option<HeaderValue>, ProviderError>
    where
        F: Future<Output = Result<Entry, ProviderError>> + Send + 'static,
    {
        let mut last = Arc::clone(&self.last).lock_owned().await;
        if let Some(known) = last.known(refused) {
            return known;
        }
        let (log_in, is_provoked) = (log_in(), refused.is_some());
        let task = async move {
            let entry = log_in.await;
            last.note(entry, is_provoked)
        };
        let broke_off = |_ended| Err(ProviderError::Unavailable("the login broke off".to_owned()));
        self.tasks.spawn(task.in_current_span()).await.unwrap_or_else(broke_off).map(Some)
    }
}

// === impl Last ===

impl Last {
    /// What needs no login; `None` if there has to be one.
    fn known(&self, refused: Option<&HeaderValue>) -> Option<Result<Option<HeaderValue>, ProviderError>> {
        let good = self.entry.as_ref().filter(|entry| entry.until.is_none_or(|until| Instant::now() < until));
        if let Some(Entry { token, .. }) = good {
            if refused != Some(token) {
                return Some(Ok(Some(token.clone())));
            }
            if self.provoked.is_some_and(|at| at.elapsed() < PAUSE) {
                return Some(Ok(None));
            }
        }
        let failed = self.failed.as_ref().filter(|(at, _)| at.elapsed() < HOLDS);
        failed.map(|(_, error)| Err(error.clone()))
    }

    fn note(
        &mut self,
        entry: Result<Entry, ProviderError>,
        is_provoked: bool,
    ) -> Result<HeaderValue, ProviderError> {
        let now = Instant::now();
        match entry {
            Ok(entry) => {
                if is_provoked {
                    self.provoked = Some(now);
                }
                self.failed = None;
                Ok(self.entry.insert(entry).token.clone())
            }
            Err(error) => {
                self.failed = Some((now, error.clone()));
                Err(error)
            }
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entry([redacted])")
    }
}
