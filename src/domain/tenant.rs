//! Those who are kept apart from each other.

use super::{FaultCode, TenantId, Timestamp, Weigh};

/// The longest name of a tenant, in characters.
const MAX_NAME_CHARS: usize = 128;

/// What a tenant is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantName(String);

stored_text!(TenantName);

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its name, which no other has.
    pub name: TenantName,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether it is being deleted: nobody can call for it any more, and what is left of it goes.
    pub is_going: bool,
}

// === impl TenantName ===

impl TenantName {
    /// Reads a name.
    ///
    /// # Errors
    /// [`FaultCode`] if it is empty, longer than 128 characters or has control characters.
    pub fn new(text: &str) -> Result<Self, FaultCode> {
        if text.trim().is_empty() || text.contains(char::is_control) {
            Err(FaultCode::InvalidName)
        } else if text.chars().count() > MAX_NAME_CHARS {
            Err(FaultCode::TooLong)
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

impl Weigh for Tenant {
    fn weight(&self) -> usize {
        self.id.as_str().len() + self.name.as_str().len() + 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_be_read_by_people() {
        assert!(TenantName::new("Acme & Söhne").is_ok());
        for (text, code) in [
            ("", FaultCode::InvalidName),
            (" ", FaultCode::InvalidName),
            ("a\nb", FaultCode::InvalidName),
            (&"a".repeat(129), FaultCode::TooLong),
        ] {
            assert_eq!(TenantName::new(text).unwrap_err(), code, "{text:?}");
        }
    }
}
