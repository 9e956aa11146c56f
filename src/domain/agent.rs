//! Agents and what they require.

use regex::RegexBuilder;
use serde::{Deserialize, Serialize};

use super::{
    AgentId, Fault, FaultCode, Faults, Limits, Revision, SecretName, SecretValue, TenantId, Timestamp, Weigh,
};

/// The longest name of an agent, in characters.
const MAX_NAME_CHARS: usize = 128;
/// The longest command, in bytes.
const MAX_COMMAND_BYTES: usize = 4096;
/// The longest pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 512;
/// The longest description, in bytes.
const MAX_DESCRIPTION_BYTES: usize = 1024;
/// A pattern may compile to this many bytes: `a{1000}{1000}` is short and huge, and matching takes time by
/// the product of this and the value's length (half a second for the longest value).
const MAX_COMPILED_BYTES: usize = 64 * 1024;

/// The name of an agent, unique within its tenant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AgentName(String);

/// The command line of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command(String);

/// A secret that an agent declares. What is stored is checked when it is declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequiredSecret {
    /// The key.
    pub name: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// A regular expression that a value must match somewhere; empty means none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pattern: String,
    /// The least number of characters; 0 means no such rule.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub min_length: u32,
    /// A run may start without it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub optional: bool,
}

/// An agent as it is told to callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its name.
    pub name: AgentName,
    /// The command that runs it.
    pub command: Option<Command>,
    /// What a run requires.
    pub required_secrets: Vec<RequiredSecret>,
    /// The keys that are set, sorted by byte value.
    pub keys: Vec<SecretName>,
    /// How often its secrets changed.
    pub revision: Revision,
    /// When it was first deployed.
    pub created_at: Timestamp,
    /// When it was last deployed.
    pub updated_at: Timestamp,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

// === impl AgentName ===

stored_text!(AgentName);

impl AgentName {
    /// Reads a name. One that begins like an id is refused, so that a name and an id cannot be confused.
    ///
    /// # Errors
    /// [`FaultCode::InvalidName`] or [`FaultCode::TooLong`].
    pub fn new(text: &str) -> Result<Self, FaultCode> {
        if text.chars().count() > MAX_NAME_CHARS {
            return Err(FaultCode::TooLong);
        }
        let refused = text.is_empty()
            || text.trim().len() != text.len()
            || text.contains(char::is_control)
            || text.starts_with(AgentId::PREFIX);
        if refused { Err(FaultCode::InvalidName) } else { Ok(Self(text.to_owned())) }
    }
}

// === impl Command ===

stored_text!(Command);

impl Command {
    /// Reads a command; an empty one is none.
    ///
    /// # Errors
    /// [`FaultCode::TooLong`] over 4,096 bytes, [`FaultCode::NulInValue`] with a NUL.
    pub fn new(text: &str) -> Result<Option<Self>, FaultCode> {
        match text {
            "" => Ok(None),
            text if text.len() > MAX_COMMAND_BYTES => Err(FaultCode::TooLong),
            text if text.contains('\0') => Err(FaultCode::NulInValue),
            text => Ok(Some(Self(text.to_owned()))),
        }
    }
}

// === impl RequiredSecret ===

impl RequiredSecret {
    /// Checks a declaration as a whole and says all that is wrong with it.
    ///
    /// # Errors
    /// One fault for each thing that is wrong.
    pub fn check_all(declared: &[Self], limits: &Limits) -> Result<(), Faults> {
        if declared.len() > limits.keys_per_agent {
            // Not looked at one by one: each may hold a pattern to compile
            return Err(vec![Fault::over("required_secrets", FaultCode::TooMany, limits.keys_per_agent)]);
        }
        let mut faults = Faults::new();
        let mut seen = std::collections::HashSet::new();
        for secret in declared {
            if !seen.insert(&secret.name) {
                faults.push(Fault::new(&secret.name, FaultCode::Duplicate));
            }
            faults.extend(secret.faults(limits));
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    fn faults(&self, limits: &Limits) -> Faults {
        let mut faults = Faults::new();
        if let Err(code) = SecretName::new(&self.name, limits) {
            faults.push(Fault::new(&self.name, code));
        }
        if self.description.len() > MAX_DESCRIPTION_BYTES {
            faults.push(Fault::over(&self.name, FaultCode::TooLong, MAX_DESCRIPTION_BYTES));
        }
        if self.pattern.len() > MAX_PATTERN_BYTES || (self.has_pattern() && self.matcher().is_err()) {
            faults.push(Fault::new(&self.name, FaultCode::InvalidPattern));
        }
        if usize::try_from(self.min_length).unwrap_or(usize::MAX) > limits.value_bytes {
            faults.push(Fault::over(&self.name, FaultCode::OutOfRange, limits.value_bytes));
        }
        faults
    }

    /// What is wrong with a value for this secret.
    #[must_use]
    pub fn faults_of(&self, value: &SecretValue) -> Faults {
        let mut faults = Faults::new();
        let least = usize::try_from(self.min_length).unwrap_or(usize::MAX);
        if value.expose().chars().count() < least {
            faults.push(Fault::over(&self.name, FaultCode::TooShort, least));
        }
        // A pattern that no longer compiles (a later version reads it differently) refuses: the safe side.
        if self.has_pattern() && !self.matcher().is_ok_and(|matcher| matcher.is_match(value.expose())) {
            faults.push(Fault::new(&self.name, FaultCode::PatternMismatch));
        }
        faults
    }

    /// Whether holding a value to it takes more than a moment.
    #[must_use]
    pub fn has_pattern(&self) -> bool {
        !self.pattern.is_empty()
    }

    fn matcher(&self) -> Result<regex::Regex, regex::Error> {
        RegexBuilder::new(&self.pattern)
            .size_limit(MAX_COMPILED_BYTES)
            .dfa_size_limit(MAX_COMPILED_BYTES)
            .build()
    }
}

// === impl Agent ===

impl Agent {
    /// The required keys that are not set, in the order they were declared.
    #[must_use]
    pub fn missing_secrets(&self) -> Vec<SecretName> {
        let is_set = |name: &str| self.keys.binary_search_by(|key| key.as_str().cmp(name)).is_ok();
        self.required_secrets
            .iter()
            .filter(|required| !required.optional && !is_set(&required.name))
            .map(|required| SecretName::from_stored(required.name.clone()))
            .collect()
    }
}

impl Weigh for Agent {
    fn weight(&self) -> usize {
        let command = self.command.as_ref().map_or(0, |command| command.as_str().len());
        let keys: usize = self.keys.iter().map(|key| key.as_str().len() + 8).sum();
        let required = self.required_secrets.iter();
        // A name may be told twice: as required, and as missing
        let required: usize =
            required.map(|it| 2 * it.name.len() + it.description.len() + it.pattern.len() + 32).sum();
        self.name.as_str().len() + command + keys + required + 128
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn required(name: &str) -> RequiredSecret {
        RequiredSecret {
            name: name.to_owned(),
            description: String::new(),
            pattern: String::new(),
            min_length: 0,
            optional: false,
        }
    }

    #[test]
    fn names_cannot_be_taken_for_ids() {
        assert!(AgentName::new("my-agent").is_ok());
        assert!(AgentName::new("Mein Agent é").is_ok());
        for name in ["", " a", "a\n", "agt_abc", "a\u{7f}"] {
            assert_eq!(AgentName::new(name), Err(FaultCode::InvalidName), "{name:?}");
        }
        assert_eq!(AgentName::new(&"a".repeat(129)), Err(FaultCode::TooLong));
    }

    #[test]
    fn a_declaration_is_checked_as_a_whole() {
        let declared = [
            required("A"),
            required("A"),
            required("1"),
            RequiredSecret { pattern: "(".to_owned(), ..required("B") },
            RequiredSecret { pattern: "(a{1000}){1000}".to_owned(), ..required("C") },
        ];
        let faults = RequiredSecret::check_all(&declared, &Limits::default()).unwrap_err();
        let found: Vec<_> = faults.iter().map(|fault| (fault.key.as_str(), fault.code.as_str())).collect();
        assert_eq!(
            found,
            [("A", "duplicate"), ("1", "invalid_key"), ("B", "invalid_pattern"), ("C", "invalid_pattern")]
        );
    }

    #[test]
    fn a_value_is_held_to_its_declaration() {
        let rule = RequiredSecret { pattern: "^sk-".to_owned(), min_length: 6, ..required("A") };
        let codes = |text: &str| -> Vec<_> {
            let value = SecretValue::from_opened(text.to_owned());
            rule.faults_of(&value).into_iter().map(|fault| fault.code.as_str()).collect()
        };
        assert_eq!(codes("sk-ant-1"), Vec::<&str>::new());
        assert_eq!(codes("pk"), ["too_short", "pattern_mismatch"]);
    }

    #[test]
    fn the_short_form_is_stored_short() {
        let text = serde_json::to_string(&required("A")).unwrap();
        assert_eq!(text, r#"{"name":"A"}"#);
        assert_eq!(serde_json::from_str::<RequiredSecret>(&text).unwrap(), required("A"));
    }
}
