//! Who somebody is that has no token of ours: whom an issuer vouches for by a token that it has signed, as `OpenID` Connect
//! and Kubernetes' service accounts do, and what the operator's rules let him do.
//!
//! The rules are one file ([`file`]), read again when the operator asks for it. Nothing of it is in the database, and
//! nothing is looked up there. A token is checked anew at each call: that takes a fraction of a millisecond, so
//! nothing of it is kept that could outlive it.
//!
//! | file | holds |
//! |---|---|
//! | `file`, `rule` | the rules: which issuers, and whose claims let him do what |
//! | `jwks`, `keys`, `fetch` | the keys of an issuer: read, kept fresh, had over the network |
//! | `token`, `signature` | a token held against both |
//!
//! Another way of vouching (a client's certificate) is another kind of entry in [`file`] that makes an
//! [`Identity`], too.

mod error;
mod fetch;
mod file;
mod jwks;
mod keys;
mod rule;
mod signature;
mod token;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

pub use error::{Refusal, RulesError};

use file::{IssuerRules, Problem};
use keys::Keys;
use token::{Issuer, Opened};

use crate::domain::{Identity, Timestamp};

/// The largest file of rules, in bytes.
const MAX_FILE_BYTES: usize = 1024 * 1024;

/// The longest time between two looks at whether keys are old.
const LOOK_EVERY: Duration = Duration::from_hours(1);

/// All who are known by rules. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Identities(Arc<Held>);

#[derive(Debug)]
struct Held {
    path: Option<PathBuf>,
    issuers: watch::Sender<Arc<Vec<Issuer>>>,
}

/// Tells when the rules are read again.
#[derive(Debug)]
pub struct Changes(watch::Receiver<Arc<Vec<Issuer>>>);

// === impl Identities ===

impl Identities {
    /// Reads the rules; without a file nobody is known. Keys in files have to be there, those on the network are had
    /// by [`keep_fresh`](Self::keep_fresh).
    ///
    /// # Errors
    /// [`RulesError`].
    pub fn load(path: Option<PathBuf>) -> Result<Self, RulesError> {
        signature::use_ring();
        let issuers = path.as_deref().map_or(Ok(Vec::new()), |path| read(path, &[]))?;
        Ok(Self(Arc::new(Held { path, issuers: watch::Sender::new(Arc::new(issuers)) })))
    }

    /// Reads the rules again, and says how many issuers there are; `None` if there is no file of them. The keys of an
    /// issuer that is had from where it was stay.
    ///
    /// # Errors
    /// [`RulesError`]; then the rules before stay in use.
    pub fn reload(&self) -> Result<Option<usize>, RulesError> {
        let Some(path) = &self.0.path else { return Ok(None) };
        let before = Arc::clone(&self.0.issuers.borrow());
        let issuers = read(path, &before)?;
        let count = issuers.len();
        self.0.issuers.send_replace(Arc::new(issuers));
        Ok(Some(count))
    }

    /// Who it is that shows a token which an issuer has signed, and what he may.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn identify(&self, text: &str, now: Timestamp) -> Result<Identity, Refusal> {
        let issuers = Arc::clone(&self.0.issuers.borrow());
        if issuers.is_empty() || !token::is_signed_token(text) {
            return Err(Refusal::Malformed("it is no token"));
        }
        let opened = Opened::read(text)?;
        let issuer = issuers.iter().find(|issuer| issuer.rules.issuer == opened.issuer);
        issuer.ok_or(Refusal::Unknown("the issuer"))?.identify(&opened, now).await
    }

    /// Tells from now on when the rules are read again.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes(self.0.issuers.subscribe())
    }

    /// Has the keys of all issuers when that is due, for ever.
    pub async fn keep_fresh(&self) {
        let mut rules = self.0.issuers.subscribe();
        loop {
            let issuers = Arc::clone(&rules.borrow_and_update());
            let due = join_all(issuers.iter().map(|issuer| issuer.keys.refresh())).await;
            let next = due.into_iter().min().unwrap_or_else(|| Instant::now() + LOOK_EVERY);
            tokio::select! {
                () = sleep_until(next) => {}
                // The sender is this one's own, and is there as long as it is
                _changed = rules.changed() => {}
            }
        }
    }
}

// === impl Changes ===

impl Changes {
    /// Waits until the rules are read again.
    pub async fn next(&mut self) {
        // Where nobody can read them any more nothing ends by that
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Reads the rules, with the keys of `before` for issuers that stay what they were.
fn read(path: &Path, before: &[Issuer]) -> Result<Vec<Issuer>, RulesError> {
    let failed = |line, problem| RulesError { path: path.to_owned(), line, problem };
    let bytes = fs::read(path).map_err(|error| failed(None, format!("cannot be read: {error}")))?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(failed(None, format!("is larger than {MAX_FILE_BYTES} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_where| failed(None, "is not UTF-8".to_owned()))?;
    let line = |at: usize| text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
    let rules = file::parse(&text).map_err(|Problem { at, text }| failed(at.map(line), text))?;
    let issuers = rules.into_iter().map(|rules| Issuer { keys: keys_of(&rules, before), rules });
    let issuers: Vec<_> = issuers.collect();
    for IssuerRules { issuer, source, .. } in issuers.iter().map(|issuer| &issuer.rules) {
        source.check().map_err(|error| failed(None, format!("the issuer {issuer:?}: {error}")))?;
    }
    Ok(issuers)
}

fn keys_of(rules: &IssuerRules, before: &[Issuer]) -> Arc<Keys> {
    let IssuerRules { issuer, source, freshness, .. } = rules;
    let same = before.iter().find(|it| it.keys.are_of(issuer, source, *freshness));
    same.map_or_else(
        || Arc::new(Keys::new(issuer.clone(), source.clone(), *freshness)),
        |it| Arc::clone(&it.keys),
    )
}
