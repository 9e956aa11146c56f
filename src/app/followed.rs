//! Following the files of certificates and identities while the server runs: who renews them (cert-manager) tells nobody.

use std::{
    error::Error,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    domain::Timestamp,
    identity::Identities,
    service::Clock,
    telemetry::Metrics,
    transport::listener::{Reloaded, Tls, Validity},
};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A certificate that has less than this share of its time left should have been renewed long ago: cert-manager does so
/// when a third is left.
const LATE_SHARE: i64 = 10;

/// What comes from files that others exchange.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) identities: Identities,
    pub(super) clock: Clock,
}

/// Looks at the files, when it is time and when somebody asks for it.
#[derive(Debug)]
pub(super) struct Follower(Mutex<Following>);

/// The files, and what was told of them.
#[derive(Debug)]
struct Following {
    files: Followed,
    metrics: Metrics,
    certificates: Told,
    identities: Told,
    /// Which certificate is in use, and how old it was.
    in_use: Option<(Validity, Age)>,
}

/// What the log has said of files.
#[derive(Debug)]
struct Told {
    /// What they are called.
    files: &'static str,
    /// Why they could not be used when they were last looked at.
    refusal: Option<String>,
}

/// How much of its time a certificate has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    Good,
    Late,
    Over,
}

// === impl Followed ===

impl Followed {
    /// Tells what is in use, and looks at the files from time to time, until `stop`.
    pub(super) fn follow(
        self,
        metrics: &Metrics,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Arc<Follower> {
        let follows = self.tls.is_some() || self.identities.have_file();
        let mut following = Following::new(self, metrics.clone());
        following.tell_validity();
        following.tell_identities();
        let follower = Arc::new(Follower(Mutex::new(following)));
        if follows {
            let (follower, stop) = (Arc::clone(&follower), stop.clone());
            tasks.spawn(async move {
                while stop.run_until_cancelled(sleep(LOOK_EVERY)).await.is_some() {
                    follower.look(false).await;
                }
            });
        }
        follower
    }
}

// === impl Follower ===

impl Follower {
    /// Looks at the files, and has used from now on what they hold. Where that cannot be, what is in use stays, and the
    /// log says why: once, or at each time that somebody has `asked`.
    pub(super) async fn look(self: &Arc<Self>, asked: bool) {
        let this = Arc::clone(self);
        // A disk may take its time, and the threads of the calls have none
        let looked = tokio::task::spawn_blocking(move || {
            this.0.lock().unwrap_or_else(PoisonError::into_inner).look(asked);
        });
        // If it panicked, the panic hook has told of it
        drop(looked.await);
    }
}

// === impl Following ===

impl Following {
    fn new(files: Followed, metrics: Metrics) -> Self {
        let told = |files| Told { files, refusal: None };
        let (certificates, identities) = (told("certificates"), told("identities"));
        Self { files, metrics, certificates, identities, in_use: None }
    }

    fn look(&mut self, asked: bool) {
        if let Some(tls) = &self.files.tls {
            self.certificates.tell(tls.reload().map(|reloaded| reloaded == Reloaded::Taken), asked);
        }
        if self.files.identities.have_file() {
            let reread = self.files.identities.reload();
            let are_others = matches!(reread, Ok(true));
            self.identities.tell(reread, asked);
            if are_others {
                self.tell_identities();
            }
        }
        let refused = self.certificates.refusal.is_some() || self.identities.refusal.is_some();
        self.metrics.set_files_refused(refused);
        self.tell_validity();
    }

    fn tell_identities(&self) {
        let (issuers, certificate_rules) = self.files.identities.count();
        if self.files.identities.have_file() {
            tracing::info!(issuers, certificate_rules, "identities in use");
        }
    }

    fn tell_validity(&mut self) {
        let Some(tls) = &self.files.tls else { return };
        let validity = tls.validity();
        let age = Age::of(validity, self.files.clock.now());
        if self.in_use.replace((validity, age)) == Some((validity, age)) {
            return;
        }
        self.metrics.set_certificate(seconds(validity.not_before), seconds(validity.not_after));
        let [not_before, not_after] = validity.as_text();
        match age {
            Age::Good => tracing::info!(not_before, not_after, "certificate in use"),
            Age::Late => tracing::warn!(not_before, not_after, "the certificate in use ends soon: renew it"),
            Age::Over => {
                tracing::error!(not_before, not_after, "the certificate in use has ended: clients refuse it");
            }
        }
    }
}

// === impl Told ===

impl Told {
    fn tell(&mut self, read: Result<bool, impl Error + 'static>, asked: bool) {
        let files = self.files;
        match read {
            Ok(is_new) => {
                let was_refused = self.refusal.take().is_some();
                if is_new {
                    tracing::info!(files, "files read again: what they hold is used from now on");
                } else if was_refused || asked {
                    tracing::info!(files, "files read again: they hold what is in use");
                }
            }
            Err(error) => {
                let why = with_causes(&error);
                if asked || self.refusal.as_ref() != Some(&why) {
                    tracing::error!(files, error = why, "files cannot be used: what was in use stays in use");
                }
                self.refusal = Some(why);
            }
        }
    }
}

// === impl Age ===

impl Age {
    fn of(Validity { not_before, not_after }: Validity, now: Timestamp) -> Self {
        let (all, left) = (not_after.0.saturating_sub(not_before.0), not_after.0.saturating_sub(now.0));
        if left < 0 {
            Self::Over
        } else if left < all / LATE_SHARE {
            Self::Late
        } else {
            Self::Good
        }
    }
}

fn seconds(at: Timestamp) -> i64 {
    at.0.div_euclid(1_000_000)
}

/// An error in one line.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use tracing_subscriber::{fmt::MakeWriter, layer::SubscriberExt as _};

    use super::*;

    /// Keeps what the log says.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn what_goes_on_is_told_once_unless_somebody_asks() {
        let lines = Lines::default();
        let layer =
            tracing_subscriber::fmt::layer().with_writer(lines.clone()).with_ansi(false).without_time();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let mut told = Told { files: "files", refusal: None };
            let fine = |is_new| Ok::<bool, io::Error>(is_new);
            let broken = |why: &str| Err::<bool, _>(io::Error::other(why.to_owned()));
            told.tell(fine(false), false);
            told.tell(broken("one"), false);
            told.tell(broken("one"), false);
            told.tell(broken("two"), false);
            told.tell(broken("two"), true);
            told.tell(fine(false), false);
            told.tell(fine(false), false);
            told.tell(broken("two"), false);
            told.tell(fine(true), false);
            told.tell(fine(false), true);
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let said: Vec<_> = text.lines().map(|line| line.split_once("files ").unwrap().1.trim_end()).collect();
        let refused =
            |why| format!("cannot be used: what was in use stays in use files=\"files\" error=\"{why}\"");
        let back = "read again: they hold what is in use files=\"files\"";
        let taken = "read again: what they hold is used from now on files=\"files\"";
        let expected =
            [&*refused("one"), &refused("two"), &refused("two"), back, &refused("two"), taken, back];
        assert_eq!(said, expected);
    }

    #[test]
    fn a_certificate_is_late_in_the_last_tenth_of_its_time() {
        let validity = Validity { not_before: Timestamp(1000), not_after: Timestamp(2000) };
        for (now, age) in [
            (0, Age::Good),
            (1900, Age::Good),
            (1901, Age::Late),
            (2000, Age::Late),
            (2001, Age::Over),
            (i64::MAX, Age::Over),
        ] {
            assert_eq!(Age::of(validity, Timestamp(now)), age, "{now}");
        }
    }
}
