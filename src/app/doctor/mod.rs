//! `superserve doctor`: whether a server could run with these settings, and what to do where it could not. It only looks:
//! no key is made, no migration applied, no file written.

mod database;
mod files;
mod keys;
mod network;

use crate::config::{Checked, SettingError};

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Fine,
    /// A server runs, but somebody should look at it.
    Warning,
    /// A server does not start, or fails later.
    Problem,
}

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What there is, and what to do about it. It holds no secret.
    pub sentence: String,
}

/// What was found so far.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

// === impl Verdict ===

impl Verdict {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

// === impl Findings ===

impl Findings {
    fn add(&mut self, check: &'static str, verdict: Verdict, sentence: impl Into<String>) {
        self.0.push(Finding { check, verdict, sentence: sentence.into() });
    }

    fn fine(&mut self, check: &'static str, sentence: impl Into<String>) {
        self.add(check, Verdict::Fine, sentence);
    }

    fn warn(&mut self, check: &'static str, sentence: impl Into<String>) {
        self.add(check, Verdict::Warning, sentence);
    }

    fn problem(&mut self, check: &'static str, sentence: impl Into<String>) {
        self.add(check, Verdict::Problem, sentence);
    }
}

/// Looks at everything that a server needs. It takes some seconds, and longer where something does not answer.
pub async fn examine(config: Result<Checked, SettingError>) -> Vec<Finding> {
    let mut findings = Findings::default();
    match config {
        Ok(config) => {
            findings.fine("settings", "they can be used together");
            files::look_at(&config, &mut findings);
            let known = database::look_at(&config, &mut findings).await;
            keys::look_at(&config.storage, known.as_ref(), &mut findings).await;
            network::look_at(&config, &mut findings).await;
        }
        Err(error) => findings.problem("settings", error.to_string()),
    }
    findings.0
}
