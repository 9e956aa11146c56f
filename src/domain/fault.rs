//! What is wrong with an input, in words a program can read.

use std::fmt;

/// One thing that is wrong with an input. It names a key or a field and never holds a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The key or the field it is about; empty when it is about the whole input.
    pub key: String,
    /// What is wrong.
    pub code: FaultCode,
    /// The limit that was passed, where there is one.
    pub limit: Option<u64>,
}

/// All that is wrong with an input.
pub type Faults = Vec<Fault>;

/// Longer keys are cut in a fault: what is wrong with them shows in the first characters.
const SHOWN_KEY_CHARS: usize = 128;

/// The kinds of fault. Their names are part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultCode {
    /// The body is not well-formed: JSON or protobuf.
    Malformed,
    /// A member has another type than it should.
    WrongType,
    /// A member that is not known.
    UnknownField,
    /// A member that must be there is not.
    MissingField,
    /// The same member twice.
    Duplicate,
    /// Nothing to set.
    EmptySet,
    /// The key does not match the grammar of keys.
    InvalidKey,
    /// The key is refused: it would change how programs run.
    ReservedKey,
    /// The value is empty.
    EmptyValue,
    /// The value, name or command is longer than the limit in bytes.
    TooLong,
    /// The value has a NUL byte, which no environment variable can hold.
    NulInValue,
    /// The value is shorter than the declared least number of characters.
    TooShort,
    /// The value does not match the declared pattern.
    PatternMismatch,
    /// The pattern is not a regular expression this service accepts.
    InvalidPattern,
    /// The agent would have more keys than the limit.
    TooManyKeys,
    /// All `name=value` strings of the agent together would pass the limit in bytes.
    AgentTooLarge,
    /// Not a name of this kind.
    InvalidName,
    /// More members than the limit.
    TooMany,
    /// Not a number or outside its range.
    OutOfRange,
    /// Not a page token of this list.
    InvalidPageToken,
    /// Not an idempotency key, a run id or an entity tag.
    InvalidHeader,
    /// The idempotency key was used for another request.
    IdempotencyKeyReused,
    /// Not a scope.
    UnknownScope,
    /// A time that is not in the future.
    NotInFuture,
    /// A kept previous value and a key would have the same name.
    PreviousNameTaken,
    /// The token is revoked, or has expired.
    TokenEnded,
    /// Another token has replaced this one already.
    TokenReplaced,
}

// === impl Fault ===

impl Fault {
    /// A fault without a limit. A long key is cut to 128 characters.
    pub fn new(key: impl AsRef<str>, code: FaultCode) -> Self {
        Self { key: key.as_ref().chars().take(SHOWN_KEY_CHARS).collect(), code, limit: None }
    }

    /// A fault of passing a limit.
    pub fn over(key: impl AsRef<str>, code: FaultCode, limit: usize) -> Self {
        Self { limit: Some(limit as u64), ..Self::new(key, code) }
    }

    /// A fault of the whole input.
    #[must_use]
    pub fn whole(code: FaultCode) -> Self {
        Self::new("", code)
    }
}

// === impl FaultCode ===

impl FaultCode {
    /// The stable word that callers match on.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::WrongType => "wrong_type",
            Self::UnknownField => "unknown_field",
            Self::MissingField => "missing_field",
            Self::Duplicate => "duplicate",
            Self::EmptySet => "empty_set",
            Self::InvalidKey => "invalid_key",
            Self::ReservedKey => "reserved_key",
            Self::EmptyValue => "empty_value",
            Self::TooLong => "too_long",
            Self::NulInValue => "nul_in_value",
            Self::TooShort => "too_short",
            Self::PatternMismatch => "pattern_mismatch",
            Self::InvalidPattern => "invalid_pattern",
            Self::TooManyKeys => "too_many_keys",
            Self::AgentTooLarge => "agent_too_large",
            Self::InvalidName => "invalid_name",
            Self::TooMany => "too_many",
            Self::OutOfRange => "out_of_range",
            Self::InvalidPageToken => "invalid_page_token",
            Self::InvalidHeader => "invalid_header",
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::UnknownScope => "unknown_scope",
            Self::NotInFuture => "not_in_future",
            Self::PreviousNameTaken => "previous_name_taken",
            Self::TokenEnded => "token_ended",
            Self::TokenReplaced => "token_replaced",
        }
    }

    /// What to do about it, for people.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::Malformed => "the body is not well-formed",
            Self::WrongType => "has the wrong type",
            Self::UnknownField => "is not a known field",
            Self::MissingField => "must be given",
            Self::Duplicate => "is given twice",
            Self::EmptySet => "give at least one key",
            Self::InvalidKey => "a key is letters, digits and underscores, and does not begin with a digit",
            Self::ReservedKey => "this name is refused because it changes how programs run: choose another",
            Self::EmptyValue => "an empty value is refused: delete the key instead",
            Self::TooLong => "is too long",
            Self::NulInValue => "a value cannot hold a NUL byte",
            Self::TooShort => "is shorter than the agent requires",
            Self::PatternMismatch => "does not match the pattern that the agent requires",
            Self::InvalidPattern => "is not a regular expression (RE2 syntax)",
            Self::TooManyKeys => "the agent would have too many keys",
            Self::AgentTooLarge => "the agent's environment would be too large",
            Self::InvalidName => "is not a valid name",
            Self::TooMany => "too many are given",
            Self::OutOfRange => "is out of range",
            Self::InvalidPageToken => "is not a page token of this list",
            Self::InvalidHeader => "is not well-formed",
            Self::IdempotencyKeyReused => "was used for another request: choose a new one",
            Self::UnknownScope => "is not a scope",
            Self::NotInFuture => "must be in the future",
            Self::PreviousNameTaken => "is the name of a previous value that is still given out",
            Self::TokenEnded => "is revoked or has expired: create another token instead",
            Self::TokenReplaced => {
                "was rotated already: rotate the token that replaced it, the newest of its name"
            }
        }
    }
}

impl fmt::Display for FaultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
