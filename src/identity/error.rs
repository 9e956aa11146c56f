//! Why somebody is not known, and why the rules cannot be used.

use std::path::PathBuf;

/// Why somebody is not believed. It is told to nobody but the log, and nothing of a token is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no token that could be looked at.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// The rules do not know this.
    #[error("not known: {0}")]
    Unknown(&'static str),
    /// The token does not hold.
    #[error("{0}")]
    Invalid(&'static str),
    /// The keys of its issuer are not to be had now.
    #[error("the keys of the issuer {issuer} are not to be had")]
    Unavailable {
        /// The issuer, as the rules name it.
        issuer: String,
    },
}

/// What is wrong with the file of rules, and where.
#[derive(Debug, thiserror::Error)]
#[error("{path}{}: {problem}", line.map(|line| format!(", line {line}")).unwrap_or_default(), path = path.display())]
pub struct RulesError {
    pub(super) path: PathBuf,
    pub(super) line: Option<usize>,
    pub(super) problem: String,
}
