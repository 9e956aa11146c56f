//! Faults of an input in words. Whoever finds one, this side or the server, it reads the same.

use crate::domain::{Fault, FaultCode};

/// The codes that have words. A server of a later version may send others.
const KNOWN: [FaultCode; 24] = [
    FaultCode::Malformed,
    FaultCode::WrongType,
    FaultCode::UnknownField,
    FaultCode::MissingField,
    FaultCode::Duplicate,
    FaultCode::EmptySet,
    FaultCode::InvalidKey,
    FaultCode::ReservedKey,
    FaultCode::EmptyValue,
    FaultCode::TooLong,
    FaultCode::NulInValue,
    FaultCode::TooShort,
    FaultCode::PatternMismatch,
    FaultCode::InvalidPattern,
    FaultCode::TooManyKeys,
    FaultCode::AgentTooLarge,
    FaultCode::InvalidName,
    FaultCode::TooMany,
    FaultCode::OutOfRange,
    FaultCode::InvalidPageToken,
    FaultCode::InvalidHeader,
    FaultCode::IdempotencyKeyReused,
    FaultCode::UnknownScope,
    FaultCode::NotInFuture,
];

/// One line about a fault that the server found: `description` is a code, maybe with a limit.
pub(crate) fn describe(key: &str, description: &str) -> String {
    let word: String = description.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
    let Some(code) = KNOWN.into_iter().find(|code| code.as_str() == word) else {
        return line(key, description, None);
    };
    let digits: String =
        description.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    line(key, code.advice(), digits.parse().ok()) + &format!(" [{word}]")
}

/// One line about a fault that this side found.
pub(crate) fn describe_local(fault: &Fault) -> String {
    let Fault { key, code, limit } = fault;
    line(key, code.advice(), *limit) + &format!(" [{code}]")
}

fn line(key: &str, advice: &str, limit: Option<u64>) -> String {
    let key = if key.is_empty() { String::new() } else { format!("{key}: ") };
    let limit = limit.map(|limit| format!(" (limit {limit})")).unwrap_or_default();
    format!("{key}{advice}{limit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_same_from_both_sides() {
        let here = describe_local(&Fault::over("A", FaultCode::TooLong, 9));
        assert_eq!(here, "A: is too long (limit 9) [too_long]");
        for told in ["too_long (limit 9)", "too_long:9", "too_long 9"] {
            assert_eq!(describe("A", told), here);
        }
        assert_eq!(describe("", "empty_set"), "give at least one key [empty_set]");
        assert_eq!(describe("A", "later_word"), "A: later_word");
    }

    #[test]
    fn every_code_is_found_by_its_word() {
        for code in KNOWN {
            assert!(describe("A", code.as_str()).contains(code.advice()), "{code}");
        }
    }
}
