//! What the process was started with: its variables, and the time. The only place of the client's side
//! that reads them.

use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    time::SystemTime,
};

use zeroize::Zeroizing;

use super::{bounded, failure::Failure};

/// Variables that hold a token of this service: a command that is run does not get them.
pub(crate) const TOKEN_VARIABLES: [&str; 2] = ["SUPERSERVE_TOKEN", "SUPERSERVE_API_KEY"];

/// What is put behind the name of a variable to read its value from a file.
const FILE_SUFFIX: &str = "_FILE";

/// The longest value that is read from a file, in bytes.
const MAX_FILE_BYTES: usize = 16 * 1024;

/// A snapshot of the variables.
pub(crate) struct Environment {
    variables: BTreeMap<OsString, OsString>,
}

// === impl Environment ===

impl Environment {
    /// The variables of this process.
    pub(crate) fn of_process() -> Self {
        Self { variables: env::vars_os().collect() }
    }

    /// The time now.
    #[expect(clippy::disallowed_methods, reason = "the client's clock is read here and nowhere else")]
    pub(crate) fn now() -> SystemTime {
        SystemTime::now()
    }

    /// A variable; an empty one counts as not set.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub(crate) fn get(&self, name: &str) -> Result<Option<&str>, Failure> {
        match self.variables.get(OsStr::new(name)).map(|value| value.to_str()) {
            None | Some(Some("")) => Ok(None),
            Some(Some(value)) => Ok(Some(value)),
            Some(None) => Err(Failure::local(format!("{name} is not UTF-8."))),
        }
    }

    /// A variable `X`, or what is in the file that `X_FILE` names, less one trailing newline.
    ///
    /// # Errors
    /// When both are set, or the file cannot be read, is empty or is not UTF-8.
    pub(crate) fn get_or_file(&self, name: &str) -> Result<Option<Zeroizing<String>>, Failure> {
        let file_name = format!("{name}{FILE_SUFFIX}");
        match (self.get(name)?, self.get(&file_name)?) {
            (Some(_), Some(_)) => {
                Err(Failure::local(format!("{name} and {file_name} are both set: unset one of them.")))
            }
            (Some(value), None) => Ok(Some(Zeroizing::new(value.to_owned()))),
            (None, Some(path)) => read_value(&file_name, Path::new(path)).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// The home directory.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        let home = self.variables.get(OsStr::new("HOME")).filter(|home| !home.is_empty())?;
        Some(PathBuf::from(home))
    }

    /// The variables for a command that is run: all but the service's own tokens.
    pub(crate) fn without_tokens(&self) -> impl Iterator<Item = (&OsString, &OsString)> {
        self.variables.iter().filter(|(name, _)| !is_token_variable(name))
    }
}

fn is_token_variable(name: &OsStr) -> bool {
    name.to_str()
        .is_some_and(|name| TOKEN_VARIABLES.contains(&name.strip_suffix(FILE_SUFFIX).unwrap_or(name)))
}

fn read_value(variable: &str, path: &Path) -> Result<Zeroizing<String>, Failure> {
    let shown = path.display();
    let bytes = bounded::read_file(path, MAX_FILE_BYTES)
        .map_err(|error| Failure::local(format!("Cannot read {shown}, named by {variable}: {error}.")))?;
    let text = std::str::from_utf8(bounded::without_newline(&bytes).0)
        .map_err(|_where| Failure::local(format!("{shown}, named by {variable}, is not UTF-8.")))?;
    if text.is_empty() {
        return Err(Failure::local(format!("{shown}, named by {variable}, is empty.")));
    }
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        Self { variables: variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(variables: [(&str, &str); 2]) -> Result<Option<String>, String> {
        let value = Environment::from(variables).get_or_file("X");
        value.map(|value| value.map(|text| (*text).clone())).map_err(|failure| failure.to_string())
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
        assert!(read([("X_FILE", path), ("X", "sentinel")]).unwrap_err().contains("both set"));
        assert!(read([("X_FILE", path), ("X", "")]).unwrap_err().contains("is empty"));
        fs::write(path, b"sentinel\xff").unwrap();
        let message = read([("X_FILE", path), ("X", "")]).unwrap_err();
        assert!(message.contains("not UTF-8") && !message.contains("sentinel"), "{message}");
        fs::write(path, "a".repeat(MAX_FILE_BYTES + 1)).unwrap();
        assert!(read([("X_FILE", path), ("X", "")]).unwrap_err().contains("too large"));
        assert!(read([("X_FILE", "/nowhere/x"), ("X", "")]).unwrap_err().contains("Cannot read"));
    }

    #[test]
    fn a_command_does_not_get_the_tokens() {
        let environment = Environment::from([
            ("SUPERSERVE_TOKEN", "t"),
            ("SUPERSERVE_TOKEN_FILE", "t"),
            ("SUPERSERVE_API_KEY", "t"),
            ("SUPERSERVE_API_KEY_FILE", "t"),
            ("SUPERSERVE_API_URL", "u"),
            ("TOKEN_FILE", "f"),
        ]);
        let names: Vec<_> = environment.without_tokens().map(|(name, _)| name.to_str().unwrap()).collect();
        assert_eq!(names, ["SUPERSERVE_API_URL", "TOKEN_FILE"]);
    }
}
