//! How an environment is written down for those who cannot be started with it.
//!
//! Whoever reads it back must get what was written: a value that a reader of the form would change, cut or
//! execute is refused, by the name of its key. A form is a variant of [`Format`], its rule in
//! [`Format::fault`] and its words in [`Format::write`].

use std::fmt;

use clap::ValueEnum;
use zeroize::Zeroizing;

use crate::cli::failure::Failure;

use super::resolve::Values;

/// The most bytes that a byte of a value becomes (`\u0001` in JSON).
const MOST_FOR_A_BYTE: usize = 6;
/// Enough bytes for what stands around a value.
const AROUND_A_VALUE: usize = 32;

/// Docker reads lines of less than this.
const DOCKER_LINE_BYTES: usize = 65_536;

/// Variables that a shell does not take, changes, computes (and so executes what is in them) or shows at
/// its prompt.
const OF_SHELLS: [&str; 42] = [
    "BASHOPTS",
    "BASHPID",
    "BASH_ALIASES",
    "BASH_ARGC",
    "BASH_ARGV",
    "BASH_ARGV0",
    "BASH_CMDS",
    "BASH_COMMAND",
    "BASH_COMPAT",
    "BASH_LINENO",
    "BASH_MONOSECONDS",
    "BASH_SOURCE",
    "BASH_SUBSHELL",
    "BASH_TRAPSIG",
    "BASH_VERSINFO",
    "BASH_XTRACEFD",
    "DIRSTACK",
    "EGID",
    "EPOCHREALTIME",
    "EPOCHSECONDS",
    "ERRNO",
    "EUID",
    "FUNCNAME",
    "GID",
    "GROUPS",
    "HISTCMD",
    "LINENO",
    "OPTIND",
    "PIPESTATUS",
    "POSIXLY_CORRECT",
    "PPID",
    "PS0",
    "PS1",
    "PS2",
    "RANDOM",
    "SECONDS",
    "SHELLOPTS",
    "SRANDOM",
    "TTYIDLE",
    "UID",
    "USERNAME",
    "_",
];

/// The forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// An object of strings: holds every value
    Json,
    /// A `.env` file that Node, npm's and Python's dotenv, a shell and `secrets set --env-file` read alike;
    /// refuses what they do not
    Dotenv,
    /// `export KEY='…'`, for a POSIX shell to source
    Shell,
    /// `KEY=value`, for `docker run --env-file`; refuses values of several lines
    Docker,
}

/// Why a secret cannot be told in a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The name is one of the shell's own.
    OfShells,
    /// No quotes hold the value for every reader.
    Quotes,
    /// A line ends in it.
    SeveralLines,
    /// The line would be too long.
    TooLong,
}

// === impl Format ===

impl Format {
    /// The text, in the order of the keys.
    ///
    /// # Errors
    /// When a value cannot be told in this form.
    pub(super) fn render(self, values: &Values) -> Result<Zeroizing<String>, Failure> {
        let faults: Vec<_> =
            values.iter().filter_map(|(key, value)| Some((key, self.fault(key, value)?))).collect();
        if !faults.is_empty() {
            return Err(self.refusal(&faults));
        }
        // Enough from the start: growing would leave copies of the values behind
        let room = values.iter().map(|(k, v)| k.len() + v.len() * MOST_FOR_A_BYTE + AROUND_A_VALUE).sum();
        let mut text = Zeroizing::new(String::with_capacity(room));
        self.write(&mut text, values)?;
        Ok(text)
    }

    fn fault(self, key: &str, value: &str) -> Option<Fault> {
        let of_shells = || OF_SHELLS.contains(&key).then_some(Fault::OfShells);
        match self {
            Self::Json => None,
            Self::Dotenv => of_shells().or_else(|| quotes_for(value).is_none().then_some(Fault::Quotes)),
            Self::Shell => of_shells(),
            Self::Docker if value.contains(['\n', '\r']) => Some(Fault::SeveralLines),
            Self::Docker => (key.len() + 1 + value.len() >= DOCKER_LINE_BYTES).then_some(Fault::TooLong),
        }
    }

    fn write(self, text: &mut String, values: &Values) -> Result<(), Failure> {
        match self {
            Self::Json => return json(text, values),
            Self::Dotenv => values.iter().for_each(|(key, value)| dotenv(text, key, value)),
            Self::Shell => values.iter().for_each(|(key, value)| shell(text, key, value)),
            Self::Docker => {
                for (key, value) in values {
                    text.extend([key, "=", value.as_str(), "\n"]);
                }
            }
        }
        Ok(())
    }

    fn refusal(self, faults: &[(&String, Fault)]) -> Failure {
        let holds_all = |format: &Self| faults.iter().all(|(_, fault)| format.holds(*fault));
        let others = [Self::Json, Self::Shell].into_iter().filter(holds_all).map(Self::name);
        let others: Vec<_> = others.map(|name| format!("--format {name}")).collect();
        Failure::local(format!("Not every secret can be written as {}:", self.name()))
            .lines(faults.iter().map(|(key, fault)| format!("{key}: {fault}")))
            .hint(format!("Use {}, or leave these out with --only.", others.join(" or ")))
    }

    /// Whether it holds what another form refuses for this reason.
    fn holds(self, fault: Fault) -> bool {
        self == Self::Json || (self == Self::Shell && fault != Fault::OfShells)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Dotenv => "dotenv",
            Self::Shell => "shell",
            Self::Docker => "docker",
        }
    }
}

// === impl Fault ===

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OfShells => "is a variable of the shell itself",
            Self::Quotes => "readers would not agree on what stands in quotes",
            Self::SeveralLines => "has several lines",
            Self::TooLong => "makes a line of 65,536 bytes or more",
        })
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

/// The quotes between which every reader finds this value as it is.
///
/// What they differ in: Node and npm's dotenv undo no backslash, Python's undoes two of them, also between
/// single quotes, and some readers see an escaped quote where one stands before the end. Python expands
/// `${`, also between single quotes; a shell expands `$` and backticks between double quotes. Some drop a
/// carriage return.
fn quotes_for(value: &str) -> Option<&'static str> {
    if value.contains('\r') || value.contains("${") {
        return None;
    }
    let single = !value.contains('\'') && !value.contains("\\\\") && !value.ends_with('\\');
    let double = !value.contains(['"', '\\', '$', '`']);
    if single { Some("'") } else { double.then_some("\"") }
}

fn dotenv(text: &mut String, key: &str, value: &str) {
    // What has none was refused
    let quotes = quotes_for(value).unwrap_or_default();
    text.extend([key, "=", quotes, value, quotes, "\n"]);
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

    fn refused(format: Format, pairs: &[(&str, &str)]) -> String {
        format.render(&values(pairs)).unwrap_err().to_string()
    }

    #[test]
    fn forms_are_as_their_readers_know_them() {
        let pairs = [("B", "x y"), ("A", "it's \\ $HOME\n")];
        assert_eq!(rendered(Format::Json, &pairs), "{\"A\":\"it's \\\\ $HOME\\n\",\"B\":\"x y\"}\n");
        assert_eq!(rendered(Format::Json, &[]), "{}\n");
        let pair = [("A", "\"$HOME\" `x` \\n\n"), ("B", "it's #1")];
        assert_eq!(rendered(Format::Dotenv, &pair), "A='\"$HOME\" `x` \\n\n'\nB=\"it's #1\"\n");
        assert_eq!(rendered(Format::Shell, &pairs), "export A='it'\\''s \\ $HOME\n'\nexport B='x y'\n");
        assert_eq!(rendered(Format::Docker, &[("A", " '\"$ ")]), "A= '\"$ \n");
    }

    #[test]
    fn what_readers_of_dotenv_differ_in_is_refused_by_name() {
        for value in ["it's `touch x` $HOME", "a\\\\b", "end\\", "a\rb", "${A}", "'\"", "'\\"] {
            let text = refused(Format::Dotenv, &[("GOOD", "a"), ("BAD", value)]);
            assert!(text.contains("\n  - BAD: ") && !text.contains("GOOD"), "{text}");
            assert!(text.contains("--format json or --format shell") && !text.contains(value), "{text}");
        }
    }

    #[test]
    fn docker_cannot_be_told_several_lines_or_a_long_one() {
        let text = refused(Format::Docker, &[("A", "a"), ("PEM", "sen\ntinel"), ("CR", "x\r")]);
        assert!(text.contains("\n  - CR: has several lines\n  - PEM: "), "{text}");
        assert!(!text.contains("tinel") && !text.contains("- A"), "{text}");
        let fits = "x".repeat(DOCKER_LINE_BYTES - "A=".len() - 1);
        assert_eq!(rendered(Format::Docker, &[("A", &fits)]).len(), DOCKER_LINE_BYTES);
        assert!(
            refused(Format::Docker, &[("A", &format!("{fits}x"))]).contains("- A: makes a line of 65,536")
        );
    }

    #[test]
    fn variables_of_shells_are_refused_where_a_shell_reads() {
        for name in OF_SHELLS {
            let text = refused(Format::Shell, &[(name, "sentinel"), ("A", "'")]);
            assert!(text.contains(&format!("\n  - {name}: ")) && !text.contains("sentinel"), "{text}");
            assert!(text.contains("Use --format json, or"), "{text}");
            refused(Format::Dotenv, &[(name, "a")]);
            rendered(Format::Docker, &[(name, "a")]);
        }
    }

    #[test]
    fn bash_takes_every_other_name_of_its_own() {
        // What it has from the start, and takes notice of
        let known = Command::new("bash").args(["-c", "compgen -v"]).env_clear().output().unwrap();
        let names = String::from_utf8(known.stdout).unwrap();
        let ours = |name: &&str| !OF_SHELLS.contains(name) && *name != "PATH" && *name != "IFS";
        for name in names.lines().filter(ours).chain(["HISTSIZE", "COLUMNS", "REPLY", "COMP_WORDBREAKS"]) {
            let mut script = rendered(Format::Shell, &[(name, "a b"), ("Z", "z")]);
            script.push_str("printf '%s|%s' \"$Z\" \"$");
            script.push_str(name);
            script.push('"');
            let output = Command::new("bash").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), "z|a b", "{name}");
        }
    }

    fn value() -> impl Strategy<Value = String> {
        prop_oneof![
            "[^\0]{1,40}",
            "[ \t\r\n'\"\\\\$`#=!;&a{}]{1,20}",
            "[ \n\"$`#=a]{1,20}",
            "[ \n'#=a]{1,20}"
        ]
    }

    proptest! {
        #[test]
        fn our_own_reader_reads_dotenv_back(value in value(), other in value()) {
            prop_assume!(quotes_for(&value).is_some() && quotes_for(&other).is_some());
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
            for format in [Format::Shell, Format::Dotenv] {
                let Ok(script) = format.render(&values(&[("A", &value)])) else { continue };
                let script = format!("{}printf '%s' \"$A\"", *script);
                let output = Command::new("sh").args(["-c", &script]).output().unwrap();
                prop_assert!(output.status.success());
                prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), value.as_str());
            }
        }
    }
}
