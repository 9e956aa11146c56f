//! What the client's side asks of the variables and of the clock.

use std::{path::PathBuf, time::SystemTime};

pub(crate) use crate::config::Environment;

/// Variables that hold a token of this service.
pub(crate) const TOKEN_VARIABLES: [&str; 2] = ["SUPERSERVE_TOKEN", "SUPERSERVE_API_KEY"];

impl Environment {
    /// The time now.
    #[expect(clippy::disallowed_methods, reason = "the client's clock is read here and nowhere else")]
    pub(crate) fn now() -> SystemTime {
        SystemTime::now()
    }

    /// The home directory.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        self.get_os("HOME").map(PathBuf::from)
    }
}
