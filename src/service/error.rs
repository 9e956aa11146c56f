//! Why an operation was refused or failed.
//!
//! One enum. [`Error::kind`] says what the caller can do about it, and the transports make their codes of
//! it; [`Error::reason`] is a stable word, part of the contract. To add a refusal: a variant here, a kind
//! it belongs to, a reason, and a row of the test of both transports.

use std::time::Duration;

use super::WantedKey;
use crate::{
    crypto::{CryptoError, ProviderError},
    domain::{AgentId, Faults, KekId, Revision, Scope, SecretName},
    store::{self, Transient},
};

/// Why an operation was refused or failed. No text of it holds a value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No token, or none that is valid.
    #[error("not authenticated")]
    Unauthenticated,
    /// The token lacks a scope, or an agent.
    #[error("the token lacks the scope {required}")]
    PermissionDenied {
        /// The scope that the operation needs.
        required: Scope,
    },
    /// The tenant has no such agent, or the token may not see it.
    #[error("no such agent")]
    AgentNotFound,
    /// The agent has no such secret.
    #[error("no such secret")]
    SecretNotFound,
    /// The tenant has no such token.
    #[error("no such token")]
    TokenNotFound,
    /// There is no such tenant, or it is being deleted.
    #[error("there is no such tenant")]
    TenantNotFound,
    /// Another tenant has this name.
    #[error("there is a tenant of this name already")]
    TenantExists,
    /// The default tenant cannot go: every server has it.
    #[error("the default tenant cannot be deleted")]
    DefaultTenant,
    /// The input is wrong, in every way that is listed.
    #[error("the input has {} fault(s)", .0.len())]
    Invalid(Faults),
    /// The agent is not at the revision that the caller expected.
    #[error("the agent is at revision {}", .current.0)]
    RevisionMismatch {
        /// The revision it is at.
        current: Revision,
    },
    /// The agent may not start.
    #[error("{} required secret(s) are missing", .0.len())]
    RequiredSecretsMissing(Vec<SecretName>),
    /// The caller calls too often.
    #[error("too many requests")]
    RateLimited {
        /// When to try again.
        retry_after: Duration,
    },
    /// The keys by which the caller's token is checked are not to be had now.
    #[error("the keys of the issuer {issuer} are not to be had")]
    IssuerUnavailable {
        /// The issuer, as the rules name it.
        issuer: String,
    },
    /// More calls are under way than this server takes.
    #[error("too many calls are under way")]
    Overloaded,
    /// The server is about to stop.
    #[error("the server is stopping")]
    Closing,
    /// The call took longer than it may.
    #[error("the call took too long")]
    TimedOut,
    /// A stored value or key does not open: it was changed, moved or written under another key.
    #[error("the secret {key:?} of {agent} does not open")]
    DataLoss {
        /// The agent it belongs to.
        agent: AgentId,
        /// The secret; empty when it is the agent's data key.
        key: String,
    },
    /// The agent's data key is not at hand: its key-encryption key is somewhere else, or not known yet. No caller sees
    /// it: who meets it looks for the key first.
    #[error("the data key of {} is not at hand", .0.agent)]
    KeyWanted(Box<WantedKey>),
    /// The agent's data key is wrapped by a key that this server has not.
    #[error("this server does not have the key {kek}, which wraps the data key of {agent}")]
    KeyUnavailable {
        /// The agent.
        agent: AgentId,
        /// The key-encryption key.
        kek: KekId,
    },
    /// Data keys are to be wrapped by a key that this server has not.
    #[error("this server does not have the key {kek}, by which the servers of this database wrap data keys")]
    NothingToWrapBy {
        /// The key-encryption key.
        kek: KekId,
    },
    /// This server was cut off for so long that the others did not wait for it: what it has wrapped meanwhile may be of no
    /// use to them.
    #[error("this server was cut off from the database for a while")]
    PlaceLost,
    /// The key provider does not answer.
    #[error("{0}")]
    Kms(String),
    /// The database failed.
    #[error("{0}")]
    Store(#[from] store::Error),
    /// The cryptography failed.
    #[error("{0}")]
    Crypto(#[from] CryptoError),
    /// A bug.
    #[error("{0}")]
    Bug(&'static str),
}

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Bring a valid token.
    Unauthenticated,
    /// Ask for another token.
    PermissionDenied,
    /// Look whether the agent exists.
    AgentNotFound,
    /// Look which secrets are set.
    SecretNotFound,
    /// Look which tokens there are.
    TokenNotFound,
    /// Look which tenants there are.
    TenantNotFound,
    /// Correct the input.
    Invalid,
    /// Read again and decide anew.
    RevisionMismatch,
    /// Set the missing secrets.
    RequiredSecretsMissing,
    /// Call again later, and less often.
    RateLimited,
    /// Call again later.
    Unavailable,
    /// Call again later: this server does not have a key yet that it needs for this.
    KeyUnavailable,
    /// Call again with more time.
    TimedOut,
    /// Ask the operator: something stored is damaged.
    DataLoss,
    /// Ask the operator.
    Internal,
}

// === impl Error ===

impl Error {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unauthenticated => Kind::Unauthenticated,
            Self::PermissionDenied { .. } => Kind::PermissionDenied,
            Self::AgentNotFound => Kind::AgentNotFound,
            Self::SecretNotFound => Kind::SecretNotFound,
            Self::TokenNotFound => Kind::TokenNotFound,
            Self::TenantNotFound => Kind::TenantNotFound,
            Self::Invalid(_) | Self::TenantExists | Self::DefaultTenant => Kind::Invalid,
            Self::RevisionMismatch { .. } => Kind::RevisionMismatch,
            Self::RequiredSecretsMissing(_) => Kind::RequiredSecretsMissing,
            Self::RateLimited { .. } => Kind::RateLimited,
            Self::IssuerUnavailable { .. }
            | Self::Overloaded
            | Self::Closing
            | Self::PlaceLost
            | Self::Kms(_)
            | Self::Store(
                store::Error::Unavailable(_) | store::Error::Interrupted(_) | store::Error::Contended(_),
            ) => Kind::Unavailable,
            Self::KeyWanted(_) | Self::KeyUnavailable { .. } | Self::NothingToWrapBy { .. } => {
                Kind::KeyUnavailable
            }
            Self::TimedOut => Kind::TimedOut,
            Self::DataLoss { .. } => Kind::DataLoss,
            Self::Store(
                store::Error::Inconsistent(_)
                | store::Error::Refused(_)
                | store::Error::Setup(_)
                | store::Error::Panicked,
            )
            | Self::Crypto(_)
            | Self::Bug(_) => Kind::Internal,
        }
    }

    /// The stable word for programs.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.kind().reason()
    }

    /// A single fault of the input.
    #[must_use]
    pub fn invalid(fault: crate::domain::Fault) -> Self {
        Self::Invalid(vec![fault])
    }
}

impl From<ProviderError> for Error {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::Crypto(error) => Self::Crypto(error),
            ProviderError::Unavailable(why) => Self::Kms(why),
            ProviderError::UnknownKey(_) | ProviderError::DoesNotOpen => Self::Kms(error.to_string()),
        }
    }
}

impl Transient for Error {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }

    fn is_interrupted(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_interrupted())
    }
}

// === impl Kind ===

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 15] = [
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::AgentNotFound,
        Self::SecretNotFound,
        Self::TokenNotFound,
        Self::TenantNotFound,
        Self::Invalid,
        Self::RevisionMismatch,
        Self::RequiredSecretsMissing,
        Self::RateLimited,
        Self::Unavailable,
        Self::KeyUnavailable,
        Self::TimedOut,
        Self::DataLoss,
        Self::Internal,
    ];

    /// The stable word for programs.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::AgentNotFound => "AGENT_NOT_FOUND",
            Self::SecretNotFound => "SECRET_NOT_FOUND",
            Self::TokenNotFound => "TOKEN_NOT_FOUND",
            Self::TenantNotFound => "TENANT_NOT_FOUND",
            Self::Invalid => "INVALID_FORMAT",
            Self::RevisionMismatch => "REVISION_MISMATCH",
            Self::RequiredSecretsMissing => "REQUIRED_SECRETS_MISSING",
            Self::RateLimited => "RATE_LIMITED",
            Self::Unavailable => "UNAVAILABLE",
            Self::KeyUnavailable => "KEY_UNAVAILABLE",
            Self::TimedOut => "TIMED_OUT",
            Self::DataLoss => "DATA_LOSS",
            Self::Internal => "INTERNAL",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_distinct() {
        let mut reasons: Vec<_> = Kind::ALL.iter().map(|kind| kind.reason()).collect();
        reasons.sort_unstable();
        reasons.dedup();
        assert_eq!(reasons.len(), Kind::ALL.len());
    }

    #[test]
    fn only_contention_is_run_again() {
        assert!(!Error::Unauthenticated.is_transient());
        assert!(!Error::Store(store::Error::Inconsistent("x")).is_transient());
    }
}
