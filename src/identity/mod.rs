//! Who somebody is that has no token of ours: whom an issuer vouches for by a token that it has signed, as `OpenID` Connect
//! and Kubernetes' service accounts do, or an authority by a client certificate with a SPIFFE id; and what the operator's
//! rules let him do.
//!
//! The rules are one file ([`mod@file`]), read again while the server runs. Nothing of it is in the database, and
//! nothing is looked up there. A token or a certificate is held against the rules anew at each call: that takes a fraction
//! of a millisecond, so nothing of it is kept that could outlive it.
//!
//! | file | holds |
//! |---|---|
//! | `file`, `grant` | the rules: which issuers, and what a rule gives |
//! | `rule`, `spiffe` | for whom a rule is: by his claims, by his SPIFFE id |
//! | `jwks`, `keys`, `fetch` | the keys of an issuer: read, kept fresh, had over the network |
//! | `token`, `signature` | a token held against both |

mod error;
mod fetch;
mod file;
mod grant;
mod jwks;
mod keys;
mod rule;
mod signature;
mod spiffe;
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

use file::{IssuerRules, Parsed, Problem};
use grant::Granted;
use keys::Keys;
use spiffe::SpiffeRules;
use token::{Issuer, Opened};

use crate::domain::{Identity, IdentityName, SpiffeId, Timestamp, TokenGrant};

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
    asks_for_certificates: bool,
    rules: watch::Sender<Arc<Rules>>,
}

/// The rules that are in use.
#[derive(Debug, Default)]
struct Rules {
    /// The file as it was read.
    text: String,
    issuers: Vec<Issuer>,
    spiffe: Option<SpiffeRules>,
}

/// Tells when the rules have become others.
#[derive(Debug)]
pub struct Changes(watch::Receiver<Arc<Rules>>);

// === impl Identities ===

impl Identities {
    /// Reads the rules; without a file nobody is known. Keys in files have to be there, those on the network are had
    /// by [`keep_fresh`](Self::keep_fresh). Rules by certificates need a server that asks for them.
    ///
    /// # Errors
    /// [`RulesError`].
    pub fn load(path: Option<PathBuf>, asks_for_certificates: bool) -> Result<Self, RulesError> {
        signature::use_ring();
        let held = Held { path, asks_for_certificates, rules: watch::Sender::default() };
        let identities = Self(Arc::new(held));
        identities.reload()?;
        Ok(identities)
    }

    /// Whether there is a file of rules, which can become another.
    #[must_use]
    pub fn have_file(&self) -> bool {
        self.0.path.is_some()
    }

    /// How many issuers are believed, and how many rules there are for certificates.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let rules = self.0.rules.borrow();
        (rules.issuers.len(), rules.spiffe.as_ref().map_or(0, SpiffeRules::count))
    }

    /// Reads the rules again, and says whether they are others than before. The keys of an issuer that is had from where
    /// it was stay.
    ///
    /// # Errors
    /// [`RulesError`]; then the rules before stay in use.
    pub fn reload(&self) -> Result<bool, RulesError> {
        let Some(path) = &self.0.path else { return Ok(false) };
        let before = Arc::clone(&self.0.rules.borrow());
        let rules = read(path, &before.issuers)?;
        if rules.spiffe.is_some() && !self.0.asks_for_certificates {
            let problem = "spiffe: no client is asked for a certificate: give --tls-client-ca".to_owned();
            return Err(RulesError { path: path.clone(), line: None, problem });
        }
        let are_others = rules.text != before.text;
        if are_others {
            self.0.rules.send_replace(Arc::new(rules));
        }
        Ok(are_others)
    }

    /// Who it is that shows a token which an issuer has signed, and what he may.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn identify(&self, text: &str, now: Timestamp) -> Result<Identity, Refusal> {
        let rules = Arc::clone(&self.0.rules.borrow());
        if rules.issuers.is_empty() || !token::is_signed_token(text) {
            return Err(Refusal::Malformed("it is no token"));
        }
        let opened = Opened::read(text)?;
        let issuer = rules.issuers.iter().find(|issuer| issuer.rules.issuer == opened.issuer);
        issuer.ok_or(Refusal::Unknown("the issuer"))?.identify(&opened, now).await
    }

    /// Who it is whose certificate of this id was verified, from when and until when it is good.
    ///
    /// # Errors
    /// [`Refusal::Unknown`] if no rule is for him.
    pub fn identify_workload(
        &self,
        id: &SpiffeId,
        since: Timestamp,
        end: Timestamp,
    ) -> Result<Identity, Refusal> {
        let rules = self.0.rules.borrow();
        let granted = rules.spiffe.as_ref().and_then(|rules| rules.apply(id));
        let Granted { tenant, scopes, agents } = granted.ok_or(Refusal::Unknown("no rule is for it"))?;
        let (name, email) = (id.as_str().to_owned(), String::new());
        let grant = TokenGrant { name, scopes, agents, email, expires_at: Some(end) };
        Ok(Identity { name: IdentityName::of_workload(id), tenant, grant, since })
    }

    /// Tells from now on when the rules have become others.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes(self.0.rules.subscribe())
    }

    /// Has the keys of all issuers when that is due, for ever.
    pub async fn keep_fresh(&self) {
        let mut changes = self.0.rules.subscribe();
        loop {
            let rules = Arc::clone(&changes.borrow_and_update());
            let due = join_all(rules.issuers.iter().map(|issuer| issuer.keys.refresh())).await;
            let next = due.into_iter().min().unwrap_or_else(|| Instant::now() + LOOK_EVERY);
            tokio::select! {
                () = sleep_until(next) => {}
                // The sender is this one's own, and is there as long as it is
                _changed = changes.changed() => {}
            }
        }
    }
}

// === impl Changes ===

impl Changes {
    /// Waits until the rules have become others.
    pub async fn next(&mut self) {
        // Where nobody can read them any more nothing ends by that
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Reads the rules, with the keys of `before` for issuers that stay what they were.
fn read(path: &Path, before: &[Issuer]) -> Result<Rules, RulesError> {
    let failed = |line, problem| RulesError { path: path.to_owned(), line, problem };
    let bytes = fs::read(path).map_err(|error| failed(None, format!("cannot be read: {error}")))?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(failed(None, format!("is larger than {MAX_FILE_BYTES} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_where| failed(None, "is not UTF-8".to_owned()))?;
    let line = |at: usize| text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
    let parsed = file::parse(&text).map_err(|Problem { at, text }| failed(at.map(line), text))?;
    let Parsed { issuers, spiffe } = parsed;
    for IssuerRules { issuer, source, .. } in &issuers {
        source.check().map_err(|error| failed(None, format!("the issuer {issuer:?}: {error}")))?;
    }
    let issuers = issuers.into_iter().map(|rules| Issuer { keys: keys_of(&rules, before), rules });
    let issuers = issuers.collect();
    Ok(Rules { text, issuers, spiffe })
}

fn keys_of(rules: &IssuerRules, before: &[Issuer]) -> Arc<Keys> {
    let IssuerRules { issuer, source, freshness, .. } = rules;
    let same = before.iter().find(|it| it.keys.are_of(issuer, source, *freshness));
    same.map_or_else(
        || Arc::new(Keys::new(issuer.clone(), source.clone(), *freshness)),
        |it| Arc::clone(&it.keys),
    )
}
