//! How an environment is written down for those who cannot be started with it.

use clap::ValueEnum;
use zeroize::Zeroizing;

use crate::cli::failure::{Exit, Failure};

use super::resolve::Values;

/// The most bytes that a byte of a value becomes (`\u0001` in JSON).
const MOST_FOR_A_BYTE: usize = 6;
/// Enough bytes for what stands around a value.
const AROUND_A_VALUE: usize = 32;

/// The forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// An object of strings
    Json,
    /// A `.env` file, as `secrets set --env-file` reads it
    Dotenv,
    /// `export KEY='…'`, for a POSIX shell to source
    Shell,
    /// `KEY=value`, for `docker run --env-file`; refuses values of several lines
    Docker,
}

// === impl Format ===

impl Format {
    /// The text, in the order of the keys.
    ///
    /// # Errors
    /// When a value cannot be told in this form.
    pub(super) fn render(self, values: &Values) -> Result<Zeroizing<String>, Failure> {
        // Enough from the start: growing would leave copies of the values behind
        let room = values.iter().map(|(k, v)| k.len() + v.len() * MOST_FOR_A_BYTE + AROUND_A_VALUE).sum();
        let mut text = Zeroizing::new(String::with_capacity(room));
        match self {
            Self::Json => json(&mut text, values)?,
            Self::Dotenv => values.iter().for_each(|(key, value)| dotenv(&mut text, key, value)),
            Self::Shell => values.iter().for_each(|(key, value)| shell(&mut text, key, value)),
            Self::Docker => docker(&mut text, values)?,
        }
        Ok(text)
    }
}

fn json(text: &mut String, values: &Values) -> Result<(), Failure> {
    let mut separator = "{";
    for (key, value) in values {
        let mut quoted = Zeroizing::new(Vec::with_capacity(value.len() * MOST_FOR_A_BYTE + 2));
        let written = serde_json::to_writer(&mut *quoted, value.as_str());
        let quoted = written.ok().and_then(|()| str::from_utf8(&quoted).ok());
        let quoted = quoted.ok_or_else(|| Failure::local(format!("{key}: cannot be written as JSON.")))?;
        text.extend([separator, "\"", key, "\":", quoted]);
        separator = ",";
    }
    text.push_str(if values.is_empty() { "{}\n" } else { "}\n" });
    Ok(())
}

/// In single quotes, which no reader expands; with escapes where those cannot hold the value.
fn dotenv(text: &mut String, key: &str, value: &str) {
    if !value.contains(['\'', '\\', '\r']) {
        text.extend([key, "='", value, "'\n"]);
        return;
    }
    text.extend([key, "=\""]);
    for c in value.chars() {
        match c {
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '"' | '\\' => text.extend(['\\', c]),
            c => text.push(c),
        }
    }
    text.push_str("\"\n");
}

fn shell(text: &mut String, key: &str, value: &str) {
    text.extend(["export ", key, "='"]);
    for c in value.chars() {
        match c {
            '\'' => text.push_str("'\\''"),
            c => text.push(c),
        }
    }
    text.push_str("'\n");
}

fn docker(text: &mut String, values: &Values) -> Result<(), Failure> {
    let too_long: Vec<_> =
        values.iter().filter(|(_, value)| value.contains(['\n', '\r'])).map(|(key, _)| key.clone()).collect();
    if !too_long.is_empty() {
        return Err(Failure::new(Exit::Local, "Values of several lines cannot be told to docker:")
            .lines(too_long)
            .hint("Leave them out with --only, or use another --format."));
    }
    for (key, value) in values {
        text.extend([key, "=", value.as_str(), "\n"]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;
    use crate::cli::dotenv;

    fn values(pairs: &[(&str, &str)]) -> Values {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), Zeroizing::new((*value).to_owned()))).collect()
    }

    fn rendered(format: Format, pairs: &[(&str, &str)]) -> String {
        format.render(&values(pairs)).unwrap().to_string()
    }

    #[test]
    fn forms_are_as_their_readers_know_them() {
        let pairs = [("B", "x y"), ("A", "it's \\ $HOME\n")];
        assert_eq!(rendered(Format::Json, &pairs), "{\"A\":\"it's \\\\ $HOME\\n\",\"B\":\"x y\"}\n");
        assert_eq!(rendered(Format::Json, &[]), "{}\n");
        assert_eq!(rendered(Format::Dotenv, &pairs), "A=\"it's \\\\ $HOME\\n\"\nB='x y'\n");
        assert_eq!(rendered(Format::Shell, &pairs), "export A='it'\\''s \\ $HOME\n'\nexport B='x y'\n");
        assert_eq!(rendered(Format::Docker, &[("A", " '\"$ ")]), "A= '\"$ \n");
    }

    #[test]
    fn docker_cannot_be_told_several_lines() {
        let failure =
            Format::Docker.render(&values(&[("A", "a"), ("PEM", "sen\ntinel"), ("CR", "x\r")])).unwrap_err();
        let text = failure.to_string();
        assert!(
            text.contains("\n  - CR\n  - PEM\n") && !text.contains("tinel") && !text.contains("- A"),
            "{text}"
        );
    }

    fn value() -> impl Strategy<Value = String> {
        prop_oneof!["[^\0]{1,40}", "[ \t\r\n'\"\\\\$`#=!;&a]{1,20}"]
    }

    proptest! {
        #[test]
        fn our_own_reader_reads_dotenv_back(value in value(), other in value()) {
            let text = rendered(Format::Dotenv, &[("A", &value), ("B", &other)]);
            let entries = dotenv::parse(text.as_bytes(), false).map_err(|faults| format!("{faults:?}")).unwrap().entries;
            let read: Vec<_> = entries.iter().map(|entry| (entry.key.as_str(), entry.value.as_str())).collect();
            prop_assert_eq!(read, [("A", value.as_str()), ("B", other.as_str())]);
        }

        #[test]
        fn json_reads_back_and_needs_no_more_room(value in value()) {
            let text = Format::Json.render(&values(&[("A", &value)])).unwrap();
            let read: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&read["A"], &value);
            prop_assert_eq!(text.capacity(), 1 + value.len() * MOST_FOR_A_BYTE + AROUND_A_VALUE);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_real_shell_reads_it_back(value in value()) {
            let mut script = rendered(Format::Shell, &[("A", &value)]);
            script.push_str("printf '%s' \"$A\"; printenv A >/dev/null");
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            prop_assert!(output.status.success());
            prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), value);
        }
    }
}
