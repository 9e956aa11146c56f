//! Somebody whom another than this service vouches for.

use super::{SpiffeId, TenantId, Timestamp, TokenGrant, TokenId, TokenRecord};

/// The longest subject, in bytes: the limit of `OpenID` Connect.
const MAX_SUBJECT_BYTES: usize = 255;

/// What stands between the issuer and the subject in the name of an identity. No issuer has one in it.
const BETWEEN: char = '#';

/// Somebody whom an issuer or an authority vouches for, and what the rules let him do. Nothing of it is kept in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who: the name in the audit trail.
    pub name: IdentityName,
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// What it may do; it ends with what vouches for it.
    pub grant: TokenGrant,
    /// Since when it is vouched for, as far as that is known.
    pub since: Timestamp,
}

/// An issuer and what it calls somebody, `ISSUER#SUBJECT`, or a SPIFFE id, which has no `#`. It is no token's id: those
/// have neither `#` nor `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityName(String);

// === impl IdentityName ===

impl IdentityName {
    /// Puts a name together; `None` if the subject is empty, longer than 255 bytes or not printable ASCII without
    /// spaces, or if the issuer has a `#` in it.
    #[must_use]
    pub fn new(issuer: &str, subject: &str) -> Option<Self> {
        let fits = (1..=MAX_SUBJECT_BYTES).contains(&subject.len());
        let is_plain = subject.bytes().all(|b| b.is_ascii_graphic());
        (fits && is_plain && !issuer.contains(BETWEEN)).then(|| Self(format!("{issuer}{BETWEEN}{subject}")))
    }

    /// The name of a workload: its SPIFFE id.
    #[must_use]
    pub fn of_workload(id: &SpiffeId) -> Self {
        Self(id.as_str().to_owned())
    }

    /// The text of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// === impl Identity ===

impl Identity {
    /// What stands for it where callers are told apart: a record like that of a token, under the identity's name.
    #[must_use]
    pub fn into_record(self) -> TokenRecord {
        let Self { name, tenant, grant, since } = self;
        let id = TokenId::from_stored(name.0);
        TokenRecord { id, tenant, grant, created_at: since, revoked_at: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AgentScope, Scope};

    #[test]
    fn a_name_is_printable_and_splits_in_one_way() {
        let name = IdentityName::new("https://issuer", "system:serviceaccount:agents:one#two").unwrap();
        assert_eq!(
            name.as_str().split_once('#'),
            Some(("https://issuer", "system:serviceaccount:agents:one#two"))
        );
        for subject in ["", "a b", "a\n", "é", &"a".repeat(256)] {
            assert_eq!(IdentityName::new("https://issuer", subject), None, "{subject:?}");
        }
        assert_eq!(IdentityName::new("https://issuer#a", "b"), None);
    }

    #[test]
    fn an_identity_passes_for_no_token() {
        let grant = TokenGrant {
            name: "tok_x".to_owned(),
            scopes: vec![Scope::SecretsList],
            agents: AgentScope::All,
            email: String::new(),
            expires_at: None,
        };
        let name = IdentityName::new("tok_", "x").unwrap();
        let tenant = TenantId::default_tenant();
        let record = Identity { name, tenant, grant, since: Timestamp(0) }.into_record();
        assert!(!record.is_kept());
        assert!(TokenRecord { id: TokenId::from_random(1), ..record.clone() }.is_kept());
        let workload = IdentityName::of_workload(&SpiffeId::parse("spiffe://tok_/x").unwrap());
        assert!(!TokenRecord { id: TokenId::from_stored(workload.0), ..record }.is_kept());
    }
}
