//! The file of what clients may by their certificates.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::service::{SpiffeRules, SpiffeRulesError};

/// The largest file, in bytes.
const MAX_BYTES: usize = 1024 * 1024;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("--identities {path}: {problem}", path = path.display())]
pub struct IdentitiesError {
    path: PathBuf,
    problem: Problem,
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("is larger than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("is not UTF-8")]
    NotText(#[from] std::string::FromUtf8Error),
    #[error("{0}")]
    Rules(#[from] SpiffeRulesError),
}

/// Where the rules are, and what they were when they were last read.
#[derive(Debug)]
pub(super) struct Identities {
    path: PathBuf,
    rules: SpiffeRules,
}

// === impl Identities ===

impl Identities {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// [`IdentitiesError`].
    pub(super) fn read(path: Option<PathBuf>) -> Result<Option<Self>, IdentitiesError> {
        let Some(path) = path else { return Ok(None) };
        match read(&path) {
            Ok(rules) => Ok(Some(Self { path, rules })),
            Err(problem) => Err(IdentitiesError { path, problem }),
        }
    }

    /// The rules.
    pub(super) fn rules(&self) -> &SpiffeRules {
        &self.rules
    }

    /// Reads the file again, and says whether the rules are others than before.
    ///
    /// # Errors
    /// [`IdentitiesError`]; then the rules are those of before.
    pub(super) fn reread(&mut self) -> Result<bool, IdentitiesError> {
        let rules =
            read(&self.path).map_err(|problem| IdentitiesError { path: self.path.clone(), problem })?;
        let are_others = rules != self.rules;
        self.rules = rules;
        Ok(are_others)
    }
}

fn read(path: &Path) -> Result<SpiffeRules, Problem> {
    let bytes = fs::read(path)?;
    if bytes.len() > MAX_BYTES {
        return Err(Problem::TooLarge);
    }
    Ok(SpiffeRules::parse(&String::from_utf8(bytes)?)?)
}
