//! The keys of an issuer: had from a file or over the network, kept, and had again.
//!
//! They are had again from time to time, and when a token names a key that is not known, as an issuer signs with a new
//! key at times. That is how strangers can make this service ask the issuer, so it does so only so often, and not
//! many of them are waited with. It is asked by a task of its own, so that who gives up waiting takes the answer from
//! nobody else. While the issuer does not answer, the keys that it gave last are believed, for so long as the rules
//! allow; whether it has another key by then nobody knows.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jsonwebtoken::Algorithm;
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard, Semaphore},
    time::Instant,
};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::{
    Refusal,
    fetch::{FetchError, MAX_BYTES, Place},
    jwks::{self, Key, KeysError},
};

/// How long a token's unknown key is no reason to ask the issuer, after it was one.
const PAUSE: Duration = Duration::from_secs(10);

/// How soon an issuer is asked again that has not answered.
const RETRY: Duration = Duration::from_secs(5);

/// How many callers may wait for an issuer to be asked.
const WAITING: usize = 64;

/// Where keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A file on this machine.
    File(PathBuf),
    /// The network.
    Network(Place),
}

/// How long keys are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Freshness {
    /// After so long they are had again.
    pub(super) refresh: Duration,
    /// After so long without a new answer they are believed no more.
    pub(super) keep: Duration,
}

/// Why keys are not to be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    /// The file cannot be read, or is too large.
    #[error("{path} cannot be read, or is larger than {MAX_BYTES} bytes", path = .0.display())]
    File(PathBuf),
    /// The network.
    #[error("{url}: {error}")]
    Network {
        /// Where they should be.
        url: String,
        /// What went wrong.
        error: FetchError,
    },
    /// What is there is no set of keys.
    #[error("{place}: {error}")]
    Unusable {
        /// Where it is.
        place: String,
        /// What is wrong with it.
        error: KeysError,
    },
}

/// The keys of one issuer.
#[derive(Debug)]
pub(super) struct Keys {
    issuer: String,
    source: Source,
    freshness: Freshness,
    held: Mutex<Held>,
    /// Held by the task that asks the issuer.
    asking: Arc<AsyncMutex<()>>,
    /// Nobody waits for them when the server stops: what they would learn is for its calls alone.
    tasks: TaskTracker,
    /// Places for those who wait for it.
    waiting: Semaphore,
}

#[derive(Clone, Debug, Default)]
struct Held {
    keys: Arc<Vec<Key>>,
    /// When they were given.
    since: Option<Instant>,
    /// When they were asked for last, with or without an answer.
    tried: Option<Instant>,
    /// When the issuer was last asked because of an unknown key: when that had ended.
    provoked: Option<Instant>,
}

// === impl Held ===

impl Held {
    /// Whether the issuer answered when it was asked last.
    fn was_answered(&self) -> bool {
        self.since == self.tried
    }
}

// === impl Source ===

impl Source {
    /// The keys that are there.
    ///
    /// # Errors
    /// [`SourceError`].
    async fn read(&self) -> Result<Vec<Key>, SourceError> {
        let (place, bytes) = match self {
            Self::File(path) => return read_file(path),
            Self::Network(place) => (place.url.to_string(), place.get().await),
        };
        match bytes {
            Ok(bytes) => jwks::parse(&bytes).map_err(|error| SourceError::Unusable { place, error }),
            Err(error) => Err(SourceError::Network { url: place, error }),
        }
    }

    /// The keys that are there, if it is a file.
    ///
    /// # Errors
    /// [`SourceError`].
    pub(super) fn check(&self) -> Result<(), SourceError> {
        match self {
            Self::File(path) => read_file(path).map(drop),
            Self::Network(_) => Ok(()),
        }
    }
}

fn read_file(path: &Path) -> Result<Vec<Key>, SourceError> {
    let bytes = std::fs::read(path).ok().filter(|bytes| bytes.len() <= MAX_BYTES);
    let bytes = bytes.ok_or_else(|| SourceError::File(path.to_owned()))?;
    let place = path.display().to_string();
    jwks::parse(&bytes).map_err(|error| SourceError::Unusable { place, error })
}

// === impl Keys ===

impl Keys {
    /// None yet.
    pub(super) fn new(issuer: String, source: Source, freshness: Freshness) -> Self {
        Self {
            issuer,
            source,
            freshness,
            held: Mutex::default(),
            asking: Arc::default(),
            tasks: TaskTracker::new(),
            waiting: Semaphore::new(WAITING),
        }
    }

    /// Whether it is the same issuer with the same source.
    pub(super) fn are_of(&self, issuer: &str, source: &Source, freshness: Freshness) -> bool {
        self.issuer == issuer && self.source == *source && self.freshness == freshness
    }

    /// Those of the keys that a token means by this id and algorithm.
    ///
    /// # Errors
    /// [`Refusal::Unknown`] if the issuer says that there is none; [`Refusal::Unavailable`] while its keys are not to be
    /// had, or there is none among the last ones and it does not say whether it has others.
    pub(super) async fn meant_by(
        self: &Arc<Self>,
        id: &str,
        algorithm: Algorithm,
    ) -> Result<Arc<Vec<Key>>, Refusal> {
        let is_there = |keys: &Arc<Vec<Key>>| keys.iter().any(|key| key.is_meant_by(id, algorithm));
        let believed = self.believed();
        if let Some(keys) = believed.as_ref().filter(|keys| is_there(keys)) {
            return Ok(Arc::clone(keys));
        }
        let unavailable = || Refusal::Unavailable { issuer: self.issuer.clone() };
        let _place = self.waiting.try_acquire().map_err(|_full| unavailable())?;
        self.ask_for_unknown().await;
        let keys = self.believed().ok_or_else(unavailable)?;
        if is_there(&keys) {
            Ok(keys)
        } else if self.lock().was_answered() {
            Err(Refusal::Unknown("the key"))
        } else {
            Err(unavailable())
        }
    }

    /// Has the keys again if a token with an unknown key is reason enough, or waits for somebody who has.
    async fn ask_for_unknown(self: &Arc<Self>) {
        let before = self.lock().tried;
        let asking = Arc::clone(&self.asking).lock_owned().await;
        let was_asked = self.lock().tried != before;
        let is_allowed = self.lock().provoked.is_none_or(|at| at.elapsed() >= PAUSE);
        if !was_asked && is_allowed {
            // The first time it is asked anyway
            self.ask(asking, before.is_some()).await;
        }
    }

    /// Has the keys again if they are old enough, and says when that is the case next.
    pub(super) async fn refresh(self: &Arc<Self>) -> Instant {
        let asking = Arc::clone(&self.asking).lock_owned().await;
        if self.due() <= Instant::now() {
            self.ask(asking, false).await;
        }
        self.due()
    }

    /// Has the keys now, and goes on with that also where nobody waits any more.
    async fn ask(self: &Arc<Self>, asking: OwnedMutexGuard<()>, is_provoked: bool) {
        let keys = Arc::clone(self);
        let task = async move {
            let answer = keys.source.read().await;
            keys.note(answer, is_provoked);
            drop(asking);
        };
        // It ends early only where the server does
        let _ended = self.tasks.spawn(task.in_current_span()).await;
    }

    /// Takes up what an issuer has answered. If its keys are not to be had, the ones before stay, and the log says so once.
    fn note(&self, answer: Result<Vec<Key>, SourceError>, is_provoked: bool) {
        let mut held = self.lock();
        let now = Some(Instant::now());
        let was_answered = held.was_answered();
        held.tried = now;
        if is_provoked {
            held.provoked = now;
        }
        match answer {
            Ok(keys) => {
                if !was_answered {
                    tracing::info!(issuer = self.issuer, "the keys of an issuer are to be had again");
                }
                held.keys = Arc::new(keys);
                held.since = now;
            }
            Err(error) if was_answered => {
                tracing::warn!(issuer = self.issuer, %error, "the keys of an issuer are not to be had");
            }
            Err(error) => tracing::debug!(issuer = self.issuer, %error, "still no keys of an issuer"),
        }
    }

    /// The keys, unless they are too old.
    fn believed(&self) -> Option<Arc<Vec<Key>>> {
        let held = self.lock();
        held.since.filter(|since| since.elapsed() < self.freshness.keep)?;
        Some(Arc::clone(&held.keys))
    }

    fn due(&self) -> Instant {
        let held = self.lock();
        let Some(tried) = held.tried else { return Instant::now() };
        let pause =
            if held.was_answered() { self.freshness.refresh } else { RETRY.min(self.freshness.refresh) };
        tried + pause
    }

    /// A panic while it was held has left nothing half done.
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
