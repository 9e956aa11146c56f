//! Who calls, and what they may.

use std::{fmt, str::FromStr, sync::Arc};

use super::{AgentId, Fault, FaultCode, Faults, TenantId, Timestamp, TokenId, Weigh};

/// Longest name of a token, in characters.
const MAX_NAME_CHARS: usize = 128;
/// Longest address of a token's owner, in bytes: RFC 5321's limit for a path.
const MAX_EMAIL_BYTES: usize = 254;
/// The most agents a token can be limited to.
const MAX_AGENTS: usize = 100;

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Read agents.
    AgentsRead,
    /// Deploy and delete agents.
    AgentsWrite,
    /// Read the audit trail.
    AuditRead,
    /// See the names of secrets.
    SecretsList,
    /// Get the values of secrets. No token has it unless it was asked for by name.
    SecretsResolve,
    /// Set and delete secrets.
    SecretsWrite,
    /// Call for other tenants too. Only an operator's command grants it, or who has it himself.
    TenantsAll,
    /// Create, list, rotate and revoke tokens, granting any scope of the tenant.
    TokensAdmin,
}

/// The agents a token may touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentScope {
    /// All of the tenant's.
    All,
    /// Only these.
    Only(Vec<AgentId>),
}

/// What is granted with a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenGrant {
    /// What it is for.
    pub name: String,
    /// What it may do, sorted.
    pub scopes: Vec<Scope>,
    /// On which agents.
    pub agents: AgentScope,
    /// The address of its owner; may be empty.
    pub email: String,
    /// When it ends; `None` means never.
    pub expires_at: Option<Timestamp>,
}

/// A token as it is kept: all but its text. For somebody who has none, what stands for his identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// Its id, or the name of an identity.
    pub id: TokenId,
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// What it grants.
    pub grant: TokenGrant,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked; `None` means it was not.
    pub revoked_at: Option<Timestamp>,
}

/// A token as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedToken {
    /// The token.
    pub token: TokenRecord,
    /// When it was last used, to within a minute; `None` if it never was, or before that was kept.
    pub last_used_at: Option<Timestamp>,
}

/// Who calls: made from a token that was found to be valid or from an [`Identity`](super::Identity), and from nothing
/// else.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The token, or what stands for an identity.
    pub token: Arc<TokenRecord>,
}

// === impl Scope ===

impl Scope {
    /// All scopes, sorted.
    pub const ALL: [Self; 8] = [
        Self::AgentsRead,
        Self::AgentsWrite,
        Self::AuditRead,
        Self::SecretsList,
        Self::SecretsResolve,
        Self::SecretsWrite,
        Self::TenantsAll,
        Self::TokensAdmin,
    ];

    /// What a token gets when it asks for nothing: what a person needs, which is never a value.
    pub const DEFAULT: [Self; 4] =
        [Self::AgentsRead, Self::AgentsWrite, Self::SecretsList, Self::SecretsWrite];

    /// What the first token of a tenant gets: all but the values, and nothing of other tenants.
    pub const ADMIN: [Self; 6] = [
        Self::AgentsRead,
        Self::AgentsWrite,
        Self::AuditRead,
        Self::SecretsList,
        Self::SecretsWrite,
        Self::TokensAdmin,
    ];

    /// The stable word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AgentsRead => "agents:read",
            Self::AgentsWrite => "agents:write",
            Self::AuditRead => "audit:read",
            Self::SecretsList => "secrets:list",
            Self::SecretsResolve => "secrets:resolve",
            Self::SecretsWrite => "secrets:write",
            Self::TenantsAll => "tenants:all",
            Self::TokensAdmin => "tokens:admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = FaultCode;

    fn from_str(text: &str) -> Result<Self, FaultCode> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(FaultCode::UnknownScope)
    }
}

// === impl AgentScope ===

impl AgentScope {
    /// Whether an agent is among them.
    #[must_use]
    pub fn allows(&self, agent: &AgentId) -> bool {
        match self {
            Self::All => true,
            Self::Only(agents) => agents.contains(agent),
        }
    }

    /// Whether all of `other` is among them.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Only(_), Self::All) => false,
            (Self::Only(_), Self::Only(agents)) => agents.iter().all(|agent| self.allows(agent)),
        }
    }
}

// === impl TokenGrant ===

impl TokenGrant {
    /// Checks what is asked for and fills in the default scopes.
    ///
    /// # Errors
    /// One fault for each thing that is wrong.
    pub fn new(
        name: String,
        scopes: &[String],
        agent_ids: &[String],
        email: String,
        expires_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Self, Faults> {
        let mut faults = Faults::new();
        if name.trim().is_empty() || name.contains(char::is_control) {
            faults.push(Fault::new("name", FaultCode::InvalidName));
        } else if name.chars().count() > MAX_NAME_CHARS {
            faults.push(Fault::over("name", FaultCode::TooLong, MAX_NAME_CHARS));
        }
        if email.len() > MAX_EMAIL_BYTES || email.contains(char::is_control) {
            faults.push(Fault::over("email", FaultCode::TooLong, MAX_EMAIL_BYTES));
        }
        if expires_at.is_some_and(|end| end <= now) {
            faults.push(Fault::new("expires_at", FaultCode::NotInFuture));
        }
        let scopes = parse_each(scopes, &mut faults, str::parse);
        let agents =
            parse_each(agent_ids, &mut faults, |text| AgentId::parse(text).ok_or(FaultCode::InvalidName));
        if agents.len() > MAX_AGENTS {
            faults.push(Fault::over("agent_ids", FaultCode::TooMany, MAX_AGENTS));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let scopes = if scopes.is_empty() { Scope::DEFAULT.to_vec() } else { scopes };
        let agents = if agents.is_empty() { AgentScope::All } else { AgentScope::Only(agents) };
        Ok(Self { name, scopes, agents, email, expires_at })
    }
}

fn parse_each<T: Ord>(
    texts: &[String],
    faults: &mut Faults,
    parse: impl Fn(&str) -> Result<T, FaultCode>,
) -> Vec<T> {
    let mut parsed = Vec::with_capacity(texts.len());
    for text in texts {
        match parse(text) {
            Ok(value) => parsed.push(value),
            Err(code) => faults.push(Fault::new(text, code)),
        }
    }
    parsed.sort();
    parsed.dedup();
    parsed
}

// === impl TokenRecord ===

impl Weigh for TokenRecord {
    fn weight(&self) -> usize {
        let agents: usize = match &self.grant.agents {
            AgentScope::All => 0,
            AgentScope::Only(ids) => ids.iter().map(|id| id.as_str().len() + 8).sum(),
        };
        self.grant.name.len() + self.grant.email.len() + agents + 32 * self.grant.scopes.len() + 128
    }
}

impl Weigh for ListedToken {
    fn weight(&self) -> usize {
        self.token.weight()
    }
}

impl TokenRecord {
    /// Whether it is a token in the database, and not what stands for an identity.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        TokenId::parse(self.id.as_str()).is_some()
    }

    /// Whether the token may be used at this time.
    #[must_use]
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.grant.expires_at.is_none_or(|end| now < end)
    }
}

// === impl Principal ===

impl Principal {
    /// The tenant of the caller.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.token.tenant
    }

    /// Whether the caller has a scope.
    #[must_use]
    pub fn has(&self, scope: Scope) -> bool {
        self.token.grant.scopes.contains(&scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn grant(scopes: &[&str], agents: &[&str]) -> Result<TokenGrant, Faults> {
        TokenGrant::new("t".to_owned(), &texts(scopes), &texts(agents), String::new(), None, Timestamp(0))
    }

    #[test]
    fn no_token_reads_values_unless_it_asks() {
        assert!(!grant(&[], &[]).unwrap().scopes.contains(&Scope::SecretsResolve));
        assert!(!Scope::ADMIN.contains(&Scope::SecretsResolve));
        assert!(!Scope::ADMIN.contains(&Scope::TenantsAll));
        assert_eq!(grant(&["secrets:resolve"], &[]).unwrap().scopes, [Scope::SecretsResolve]);
    }

    #[test]
    fn every_fault_of_a_grant_is_said() {
        let name = "a\nb".to_owned();
        let faults = TokenGrant::new(
            name,
            &texts(&["all", "secrets:list"]),
            &texts(&["my-agent"]),
            String::new(),
            Some(Timestamp(5)),
            Timestamp(5),
        )
        .unwrap_err();
        let found: Vec<_> = faults.iter().map(|fault| (fault.key.as_str(), fault.code.as_str())).collect();
        assert_eq!(
            found,
            [
                ("name", "invalid_name"),
                ("expires_at", "not_in_future"),
                ("all", "unknown_scope"),
                ("my-agent", "invalid_name")
            ]
        );
    }

    #[test]
    fn a_limited_token_covers_only_its_agents() {
        let agent = |text: &str| AgentId::parse(text).unwrap();
        let limited = AgentScope::Only(vec![agent("agt_a"), agent("agt_b")]);
        assert!(limited.covers(&AgentScope::Only(vec![agent("agt_b")])));
        assert!(!limited.covers(&AgentScope::Only(vec![agent("agt_c")])));
        assert!(!limited.covers(&AgentScope::All));
        assert!(AgentScope::All.covers(&limited));
    }

    #[test]
    fn a_token_ends_when_it_expires_or_is_revoked() {
        let mut record = TokenRecord {
            id: TokenId::from_random(1),
            tenant: TenantId::default_tenant(),
            grant: TokenGrant { expires_at: Some(Timestamp(10)), ..grant(&[], &[]).unwrap() },
            created_at: Timestamp(0),
            revoked_at: None,
        };
        assert!(record.is_valid_at(Timestamp(9)));
        assert!(!record.is_valid_at(Timestamp(10)));
        record.revoked_at = Some(Timestamp(1));
        assert!(!record.is_valid_at(Timestamp(2)));
    }
}
