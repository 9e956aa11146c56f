//! What is recorded of a call.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{AgentId, EventId, Revision, SecretName, TenantId, Timestamp, Weigh};

/// What was done. The words are part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// An agent was created or updated.
    AgentDeploy,
    /// An agent was deleted.
    AgentDelete,
    /// Secrets were set.
    SecretsSet,
    /// Values were held against those that are set, and nothing was changed.
    SecretsValidate,
    /// A secret was deleted.
    SecretsDelete,
    /// Values were handed out.
    SecretsResolve,
    /// Values were asked for and not handed out.
    SecretsResolveRefused,
    /// A tenant was made.
    TenantCreate,
    /// A tenant was deleted.
    TenantDelete,
    /// A token was made.
    TokenCreate,
    /// A token was revoked.
    TokenRevoke,
    /// A token was replaced by another.
    TokenRotate,
}

/// Where a call came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The id of the request, as in the answer and in the log.
    pub request_id: String,
    /// The address of the caller.
    pub remote: String,
}

/// One record of the audit trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// Its id, which sorts by time.
    pub id: EventId,
    /// When it happened.
    pub at: Timestamp,
    /// The tenant.
    pub tenant: TenantId,
    /// The agent; `None` for tokens.
    pub agent: Option<AgentId>,
    /// What was done.
    pub action: Action,
    /// The id of the token that did it, or the name of an identity; `operator` for a command on the database itself.
    pub actor: String,
    /// Where it came from.
    pub origin: Origin,
    /// The secrets it touched.
    pub secrets: Vec<AuditedSecret>,
    /// The agent's revision after it.
    pub revision: Revision,
    /// The run a resolve named; empty if none.
    pub run_id: String,
    /// What else it was about: the id of a token or of a tenant, or the reason of a refusal.
    pub subject: String,
}

/// A secret that an event touched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditedSecret {
    /// Its name.
    pub key: String,
    /// Its version; 0 when it was deleted or is missing.
    #[serde(default)]
    pub version: i64,
    /// Its fingerprint; empty when it was deleted or is missing.
    #[serde(default)]
    pub fingerprint: String,
    /// It is a value before, given out beside the one that replaced it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_previous: bool,
    /// Until when a set has the value before given out beside it; `None` if it says nothing of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_until: Option<Timestamp>,
}

impl AuditedSecret {
    /// A name without a value.
    #[must_use]
    pub fn absent(name: &SecretName) -> Self {
        Self { key: name.to_string(), ..Self::default() }
    }

    /// The key that it is a value of, now or before.
    #[must_use]
    pub fn secret(&self) -> &str {
        if self.is_previous { SecretName::of_previous(&self.key) } else { &self.key }
    }
}

impl Weigh for AuditEvent {
    fn weight(&self) -> usize {
        let texts = [&self.actor, &self.origin.request_id, &self.origin.remote, &self.run_id, &self.subject];
        let texts: usize = texts.into_iter().map(String::len).sum();
        let secrets: usize = self.secrets.iter().map(|it| it.key.len() + it.fingerprint.len() + 32).sum();
        texts + secrets + 128
    }
}

impl Action {
    const ALL: [Self; 12] = [
        Self::AgentDeploy,
        Self::AgentDelete,
        Self::SecretsSet,
        Self::SecretsValidate,
        Self::SecretsDelete,
        Self::SecretsResolve,
        Self::SecretsResolveRefused,
        Self::TenantCreate,
        Self::TenantDelete,
        Self::TokenCreate,
        Self::TokenRevoke,
        Self::TokenRotate,
    ];

    /// The stable word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AgentDeploy => "agent.deploy",
            Self::AgentDelete => "agent.delete",
            Self::SecretsSet => "secrets.set",
            Self::SecretsValidate => "secrets.validate",
            Self::SecretsDelete => "secrets.delete",
            Self::SecretsResolve => "secrets.resolve",
            Self::SecretsResolveRefused => "secrets.resolve_refused",
            Self::TenantCreate => "tenant.create",
            Self::TenantDelete => "tenant.delete",
            Self::TokenCreate => "token.create",
            Self::TokenRevoke => "token.revoke",
            Self::TokenRotate => "token.rotate",
        }
    }
}

impl FromStr for Action {
    type Err = UnknownAction;

    fn from_str(text: &str) -> Result<Self, UnknownAction> {
        Self::ALL.into_iter().find(|action| action.as_str() == text).ok_or(UnknownAction)
    }
}

/// A word that is not an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown audit action")]
pub struct UnknownAction;
