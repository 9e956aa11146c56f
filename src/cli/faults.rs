//! Faults of an input in words. Whoever finds one, this side or the server, it reads the same.

use crate::domain::{Fault, Limits};

/// What is refused anywhere: names and values that no server takes. How much is too much, and which names
/// beyond that, its settings say.
pub(crate) fn form() -> Limits {
    Limits {
        key_bytes: usize::MAX,
        value_bytes: usize::MAX,
        keys_per_agent: usize::MAX,
        agent_bytes: usize::MAX,
        watches: usize::MAX,
        allow_loader_names: true,
    }
}

/// One line about a fault that the server found: `reason` is its code, `description` its words, which it
/// leaves out where there are very many.
pub(crate) fn describe(key: &str, reason: &str, description: &str) -> String {
    let code = reason.to_ascii_lowercase();
    let words = if description.is_empty() { code.replace('_', " ") } else { description.to_owned() };
    line(key, &words, &code)
}

/// One line about a fault that this side found.
pub(crate) fn describe_local(fault: &Fault) -> String {
    let Fault { key, code, limit } = fault;
    let limit = limit.map(|limit| format!(" (limit {limit})")).unwrap_or_default();
    line(key, &format!("{}{limit}", code.advice()), code.as_str())
}

fn line(key: &str, words: &str, code: &str) -> String {
    let key = if key.is_empty() { String::new() } else { format!("{key}: ") };
    let code = if code.is_empty() { String::new() } else { format!(" [{code}]") };
    format!("{key}{words}{code}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::FaultCode;

    #[test]
    fn reads_the_same_from_both_sides() {
        let here = describe_local(&Fault::over("A", FaultCode::TooLong, 9));
        assert_eq!(here, "A: is too long (limit 9) [too_long]");
        assert_eq!(describe("A", "TOO_LONG", "is too long (limit 9)"), here);
        assert_eq!(describe("", "EMPTY_SET", "give at least one key"), "give at least one key [empty_set]");
    }

    #[test]
    fn what_is_left_out_or_unknown_still_makes_a_line() {
        assert_eq!(describe("A", "LATER_WORD", ""), "A: later word [later_word]");
        assert_eq!(describe("A", "", "is not right"), "A: is not right");
    }
}
