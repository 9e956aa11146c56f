//! Spans of time as people write them.

use std::time::Duration;

/// Reads `30d`. What is longer than 100 years is a mistake.
///
/// # Errors
/// The form it should have.
pub(super) fn parse(text: &str) -> Result<Duration, &'static str> {
    const LONGEST_SECONDS: u64 = 100 * 365 * 86_400;
    const FORM: &str = "a number and s, m, h, d or w, such as 30d; at most 100 years";
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.strip_prefix(digits) {
        Some("s") => 1,
        Some("m") => 60,
        Some("h") => 3_600,
        Some("d") => 86_400,
        Some("w") => 7 * 86_400,
        Some(_) | None => return Err(FORM),
    };
    let seconds = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    seconds.filter(|s| (1..=LONGEST_SECONDS).contains(s)).map(Duration::from_secs).ok_or(FORM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_an_end() {
        assert_eq!(parse("30d"), Ok(Duration::from_hours(720)));
        assert_eq!(parse("12h"), Ok(Duration::from_hours(12)));
        for text in ["", "d", "30", "0d", "-1d", "1y", "1.5h", "30d1", "101w w", "99999999999d", "5300w"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
