//! The variables of the process, read once, and the files they name.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::File,
    io::Read as _,
    path::Path,
};

use zeroize::Zeroizing;

use super::SettingError;
use crate::domain::TokenText;

/// What is put behind the name of a variable to read its value from a file.
const FILE_SUFFIX: &str = "_FILE";

/// The longest file that is read for a setting, in bytes.
const MAX_FILE_BYTES: usize = 64 * 1024;

/// A snapshot of the variables.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
}

// === impl Environment ===

impl Environment {
    /// The variables of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self { variables: std::env::vars_os().collect() }
    }

    /// All of them.
    pub fn variables(&self) -> impl Iterator<Item = (&OsString, &OsString)> {
        self.variables.iter()
    }

    /// A variable as it is; an empty one counts as not set.
    #[must_use]
    pub fn get_os(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// A variable; an empty one counts as not set.
    ///
    /// # Errors
    /// [`SettingError`] when it is not UTF-8.
    pub fn get(&self, name: &str) -> Result<Option<&str>, SettingError> {
        match self.get_os(name) {
            Some(value) if value.to_str().is_none() => Err(SettingError::new(name, "is not UTF-8")),
            value => Ok(value.and_then(OsStr::to_str)),
        }
    }

    /// A variable `X`, or what is in the file that `X_FILE` names, less one newline at its end.
    ///
    /// # Errors
    /// [`SettingError`] when both are set, and when the file cannot be read, is empty, is larger than
    /// 64 KiB or is not UTF-8. None of them shows what is in it.
    pub fn get_or_file(&self, name: &str) -> Result<Option<Zeroizing<String>>, SettingError> {
        let file_name = format!("{name}{FILE_SUFFIX}");
        match (self.get(name)?, self.get_os(&file_name)) {
            (Some(_), Some(_)) => {
                Err(SettingError::new(file_name, format!("{name} is set too: unset one of them")))
            }
            (Some(value), None) => Ok(Some(Zeroizing::new(value.to_owned()))),
            (None, Some(path)) => read_setting(&file_name, Path::new(path)).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// The admin token to begin with, if one is given.
    ///
    /// # Errors
    /// [`SettingError`] when it is none.
    pub(super) fn bootstrap_token(&self) -> Result<Option<TokenText>, SettingError> {
        const NAME: &str = "SUPERSERVE_BOOTSTRAP_TOKEN";
        let Some(text) = self.get_or_file(NAME)? else { return Ok(None) };
        TokenText::parse(&text).map(Some).map_err(|error| {
            SettingError::new(NAME, format!("{error}: `superserve tokens generate` prints a fresh one"))
        })
    }

    /// Whether `X_FILE` is set for the variable `X`.
    pub(super) fn has_file(&self, name: &str) -> bool {
        self.get_os(&format!("{name}{FILE_SUFFIX}")).is_some()
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Environment")
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        Self { variables: variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect() }
    }
}

/// Reads a file for a setting, less one newline at its end.
pub(super) fn read_setting(setting: &str, path: &Path) -> Result<Zeroizing<String>, SettingError> {
    let problem = |what: String| SettingError::new(setting, format!("{}: {what}", path.display()));
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES + 1));
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| problem(format!("cannot be read: {error}")))?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(problem("is too large".to_owned()));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_where| problem("is not UTF-8".to_owned()))?;
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() { Err(problem("is empty".to_owned())) } else { Ok(Zeroizing::new(text.to_owned())) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(variables: [(&str, &str); 2]) -> Result<Option<String>, String> {
        let value = Environment::from(variables).get_or_file("X");
        value.map(|value| value.map(|text| (*text).clone())).map_err(|error| error.to_string())
    }

    #[test]
    fn a_value_comes_from_the_variable_or_from_the_file_it_names() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        for (content, value) in [("v", "v"), ("v\n", "v"), ("v\r\n", "v"), ("v\n\n", "v\n")] {
            fs::write(path, content).unwrap();
            assert_eq!(read([("X_FILE", path), ("X", "")]), Ok(Some(value.to_owned())), "{content:?}");
        }
        assert_eq!(read([("X_FILE", ""), ("X", "v")]), Ok(Some("v".to_owned())));
        assert_eq!(read([("X_FILE", ""), ("X", "")]), Ok(None));
    }

    #[test]
    fn doubt_about_a_value_is_refused_without_showing_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        assert!(read([("X_FILE", path), ("X", "sentinel")]).unwrap_err().contains("unset one of them"));
        assert!(read([("X_FILE", path), ("X", "")]).unwrap_err().contains("is empty"));
        fs::write(path, b"sentinel\xff").unwrap();
        let message = read([("X_FILE", path), ("X", "")]).unwrap_err();
        assert!(message.contains("not UTF-8") && !message.contains("sentinel"), "{message}");
        fs::write(path, "a".repeat(MAX_FILE_BYTES + 1)).unwrap();
        assert!(read([("X_FILE", path), ("X", "")]).unwrap_err().contains("too large"));
        assert!(read([("X_FILE", "/nowhere/x"), ("X", "")]).unwrap_err().contains("cannot be read"));
    }
}
