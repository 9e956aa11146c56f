//! Where the values of a set come from: arguments, stdin, files, a `.env` file.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    fmt,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use clap::Args;
use zeroize::Zeroizing;

use crate::{
    cli::{bounded, context::Context, dotenv, failure::Failure, faults, input::MAX_INPUT_BYTES},
    domain::{Fault, FaultCode, SecretName, SecretValue},
};

/// An argument `KEY`, `KEY=VALUE`, `KEY=-` or `KEY=@FILE`. It may hold a value, so it does not print.
#[derive(Clone)]
pub(super) struct Argument(OsString);

/// Where one value comes from.
enum Source {
    Inline(Zeroizing<String>),
    Stdin,
    File(PathBuf),
    Ask,
}

/// A key with its value, ready to be sent.
#[derive(Debug)]
pub(super) struct Assignment {
    /// The key.
    pub(super) key: SecretName,
    /// The value.
    pub(super) value: SecretValue,
}

/// The `.env` file of a set.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct EnvFile {
    /// Also set all that this .env file holds; - is stdin
    #[arg(long = "env-file", value_name = "FILE")]
    pub(super) path: Option<PathBuf>,
    /// Leave out the keys of the .env file that have no value, instead of refusing them
    #[arg(long, requires = "path")]
    pub(super) skip_empty: bool,
}

/// What was gathered.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// Keys that have their value.
    pub(super) assignments: Vec<Assignment>,
    /// Keys whose value is to be asked for.
    pub(super) to_ask: Vec<SecretName>,
    /// A value stood among the arguments, where other users of the machine can see it.
    pub(super) had_inline: bool,
}

/// A gathering in progress: faults are collected, so that all are told at once.
struct Gatherer<'a> {
    context: &'a mut Context,
    gathered: Gathered,
    keys: HashSet<String>,
    stdin_is_used: bool,
    faults: Vec<String>,
}

/// Checks a key with its value for what no server takes; says what is wrong.
pub(super) fn check(key: &str, value: &str) -> Result<Assignment, Fault> {
    let (limits, fault) = (faults::form(), |code| Fault::new(key, code));
    let name = SecretName::new(key, &limits).map_err(fault)?;
    let value = SecretValue::new(value.to_owned(), &limits).map_err(fault)?;
    Ok(Assignment { key: name, value })
}

/// Reads all that needs no person.
///
/// # Errors
/// All that is wrong with the arguments and the file, or a file that cannot be read.
pub(super) async fn gather(
    arguments: &[Argument],
    env_file: &EnvFile,
    context: &mut Context,
) -> Result<Gathered, Failure> {
    let mut gatherer = Gatherer {
        context,
        gathered: Gathered::default(),
        keys: HashSet::new(),
        stdin_is_used: false,
        faults: Vec::new(),
    };
    for (index, argument) in arguments.iter().enumerate() {
        gatherer.argument(index + 1, argument).await?;
    }
    if let Some(path) = &env_file.path {
        gatherer.env_file(path, env_file.skip_empty).await?;
    }
    let Gatherer { gathered, faults, .. } = gatherer;
    if faults.is_empty() {
        return Ok(gathered);
    }
    Err(Failure::local("The input is invalid; nothing was sent.").lines(faults))
}

// === impl Argument ===

impl From<OsString> for Argument {
    fn from(text: OsString) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Argument {
    /// The key and where its value comes from.
    fn parse(&self) -> Result<(&str, Source), &'static str> {
        let mut parts = self.0.as_bytes().splitn(2, |b| *b == b'=');
        let key = parts.next().and_then(|key| std::str::from_utf8(key).ok());
        let key = key.filter(|key| SecretName::parse(key).is_some()).ok_or(FaultCode::InvalidKey.advice())?;
        let source = match parts.next() {
            None => Source::Ask,
            Some(b"-") => Source::Stdin,
            Some([b'@', path @ ..]) => Source::File(PathBuf::from(OsStr::from_bytes(path))),
            Some(value) => {
                let value = std::str::from_utf8(value).map_err(|_where| NOT_UTF8)?;
                Source::Inline(Zeroizing::new(value.to_owned()))
            }
        };
        Ok((key, source))
    }
}

const NOT_UTF8: &str = "the value is not UTF-8";

// === impl Gatherer ===

impl Gatherer<'_> {
    async fn argument(&mut self, number: usize, argument: &Argument) -> Result<(), Failure> {
        let (key, source) = match argument.parse() {
            Ok(parsed) => parsed,
            Err(reason) => {
                self.faults.push(format!("KEY number {number}: {reason}"));
                return Ok(());
            }
        };
        if !self.keys.insert(key.to_owned()) {
            self.faults.push(format!("{key}: is given twice"));
            return Ok(());
        }
        match source {
            Source::Inline(value) => {
                self.gathered.had_inline = true;
                self.assign(key, &value);
            }
            Source::Stdin => {
                let bytes = self.read_stdin().await?;
                self.assign_bytes(key, &bytes);
            }
            Source::File(path) => {
                let bytes = read_file(&path)?;
                self.assign_bytes(key, &bytes);
            }
            Source::Ask => match SecretName::new(key, &faults::form()) {
                Ok(key) => self.gathered.to_ask.push(key),
                Err(code) => self.faults.push(faults::describe_local(&Fault::new(key, code))),
            },
        }
        Ok(())
    }

    /// A value as it stands in a file: one newline at its end is the editor's.
    fn assign_bytes(&mut self, key: &str, bytes: &[u8]) {
        let (bytes, was_cut) = bounded::without_newline(bytes);
        match std::str::from_utf8(bytes) {
            Ok(value) => self.assign(key, value),
            Err(_not_utf8) => self.faults.push(format!("{key}: {NOT_UTF8}")),
        }
        if was_cut {
            self.context.output.talk(format!("{key}: one trailing newline was cut"));
        }
    }

    fn assign(&mut self, key: &str, value: &str) {
        match check(key, value) {
            Ok(assignment) => self.gathered.assignments.push(assignment),
            Err(fault) => self.faults.push(faults::describe_local(&fault)),
        }
    }

    async fn env_file(&mut self, path: &Path, skip_empty: bool) -> Result<(), Failure> {
        let bytes = if path == Path::new("-") { self.read_stdin().await? } else { read_file(path)? };
        let parsed = match dotenv::parse(&bytes, skip_empty) {
            Ok(parsed) => parsed,
            Err(faults) => {
                self.faults.extend(faults.iter().map(ToString::to_string));
                return Ok(());
            }
        };
        for warning in &parsed.warnings {
            self.context.output.warn(warning.to_string());
        }
        if !parsed.skipped.is_empty() {
            let skipped = parsed.skipped.join(", ");
            self.context.output.talk(format!("Skipped, because they have no value: {skipped}"));
        }
        for dotenv::Entry { line, key, value } in parsed.entries {
            if !self.keys.insert(key.clone()) {
                self.faults.push(format!("line {line} ({key}): is also given as an argument"));
                continue;
            }
            match check(&key, &value) {
                Ok(assignment) => self.gathered.assignments.push(assignment),
                Err(fault) => {
                    let reason = faults::describe_local(&Fault { key: String::new(), ..fault });
                    self.faults.push(format!("line {line} ({key}): {reason}"));
                }
            }
        }
        Ok(())
    }

    async fn read_stdin(&mut self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        if self.stdin_is_used {
            return Err(Failure::local(
                "Stdin can be read only once: use '-' for one key or for --env-file.",
            ));
        }
        self.stdin_is_used = true;
        self.context.input.read_all().await
    }
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    bounded::read_file(path, MAX_INPUT_BYTES)
        .map_err(|error| Failure::local(format!("Cannot read {}: {error}.", path.display())))
}
