//! What is accepted but looks like a mistake.

use super::{SecretName, SecretValue};

/// A warning about a key, which it names, and never its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The key it is about.
    pub key: SecretName,
    /// What looks wrong.
    pub code: WarningCode,
}

/// What can look wrong. The names are part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarningCode {
    /// White space before or after the value.
    SurroundingWhitespace,
    /// Typographic quotes, as word processors make them.
    SmartQuotes,
    /// Characters that cannot be seen.
    ZeroWidth,
    /// `changeme`, `<your key>` and their like.
    Placeholder,
    /// Quotes around the whole value, which some reader did not take off.
    Quoted,
    /// An overlap was asked for, and there is no value before to give out.
    NoPrevious,
    /// A value before that was still given out is so no longer: the value it was given out beside was replaced.
    PreviousDropped,
}

const SMART_QUOTES: [char; 8] =
    ['\u{2018}', '\u{2019}', '\u{201a}', '\u{201b}', '\u{201c}', '\u{201d}', '\u{201e}', '\u{201f}'];

const ZERO_WIDTH: [char; 6] = ['\u{200b}', '\u{200c}', '\u{200d}', '\u{2060}', '\u{feff}', '\u{00ad}'];

const PLACEHOLDERS: [&str; 14] = [
    "change-me",
    "change_me",
    "changeit",
    "changeme",
    "example",
    "fixme",
    "placeholder",
    "replace-me",
    "replace_me",
    "replaceme",
    "tbd",
    "todo",
    "xxx",
    "your-api-key",
];

impl WarningCode {
    /// The stable word that callers match on.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SurroundingWhitespace => "surrounding_whitespace",
            Self::SmartQuotes => "smart_quotes",
            Self::ZeroWidth => "zero_width",
            Self::Placeholder => "placeholder",
            Self::Quoted => "quoted",
            Self::NoPrevious => "no_previous",
            Self::PreviousDropped => "previous_dropped",
        }
    }

    /// Everything that looks wrong with a value by itself.
    #[must_use]
    pub fn inspect(value: &SecretValue) -> Vec<Self> {
        let text = value.expose();
        let checks = [
            (text.trim().len() != text.len(), Self::SurroundingWhitespace),
            (text.contains(SMART_QUOTES), Self::SmartQuotes),
            (text.contains(ZERO_WIDTH), Self::ZeroWidth),
            (is_placeholder(text), Self::Placeholder),
            (is_quoted(text), Self::Quoted),
        ];
        checks.into_iter().filter(|(found, _)| *found).map(|(_, code)| code).collect()
    }
}

fn is_placeholder(text: &str) -> bool {
    let text = text.trim();
    let bracketed = text.len() > 2 && text.starts_with('<') && text.ends_with('>');
    bracketed || PLACEHOLDERS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

fn is_quoted(text: &str) -> bool {
    ['"', '\'', '`'].iter().any(|quote| text.len() > 1 && text.starts_with(*quote) && text.ends_with(*quote))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(text: &str) -> Vec<&'static str> {
        let value = SecretValue::from_opened(text.to_owned());
        WarningCode::inspect(&value).into_iter().map(WarningCode::as_str).collect()
    }

    #[test]
    fn says_what_looks_wrong() {
        assert_eq!(codes(" x"), ["surrounding_whitespace"]);
        assert_eq!(codes("x\n"), ["surrounding_whitespace"]);
        assert_eq!(codes("“x”"), ["smart_quotes"]);
        assert_eq!(codes("a\u{200b}b"), ["zero_width"]);
        assert_eq!(codes("ChangeMe"), ["placeholder"]);
        assert_eq!(codes("<your key>"), ["placeholder"]);
        assert_eq!(codes("\"x\""), ["quoted"]);
        assert_eq!(codes(" “changeme” "), ["surrounding_whitespace", "smart_quotes"]);
    }

    #[test]
    fn is_silent_about_ordinary_values() {
        for text in ["sk-ant-api03-abc", "{\"a\": 1}", "a b", "\"", "<", "it's", "-----BEGIN-----\nx"] {
            assert_eq!(codes(text), Vec::<&str>::new(), "{text}");
        }
    }
}
