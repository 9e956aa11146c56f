//! Where a setting comes from when no flag gives it: its variable, the file that `VARIABLE_FILE` names, the
//! TOML file, the default. clap knows flags, variables and defaults; the other two become defaults here, so
//! that one mechanism reads and checks them all.

use std::{ffi::OsString, path::Path};

use clap::{Arg, Args as _, Command};

use super::{Environment, ServeSettings, environment::read_setting};

/// A setting that cannot be used. It names the setting and never shows a value that may be secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct SettingError {
    setting: String,
    problem: String,
}

// === impl SettingError ===

impl SettingError {
    /// A problem with a setting.
    pub fn new(setting: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { setting: setting.into(), problem: problem.into() }
    }
}

/// Gives the settings of a command their sources beside flag and variable. `arguments` are looked at for
/// `--config` only.
///
/// # Errors
/// [`SettingError`] when a file cannot be read or has a setting that does not exist.
pub fn layer(
    command: Command,
    arguments: &[OsString],
    environment: &Environment,
) -> Result<Command, SettingError> {
    let file = config_file(arguments, environment)?;
    let file = file.map(|path| read_toml(&path)).transpose()?.unwrap_or_default();
    // One file is for all commands of an operator, and `serve` has every setting there is
    let serve = ServeSettings::augment_args(Command::new("serve"));
    let known = |name: &String| serve.get_arguments().any(|arg| arg.get_long() == Some(name));
    if let Some(unknown) = file.keys().find(|name| !known(name)) {
        return Err(SettingError::new("--config", format!("the file has the unknown setting {unknown:?}")));
    }
    let mut failed = None;
    let command = command.mut_args(|arg| match layer_argument(arg.clone(), &file, environment) {
        Ok(arg) => arg,
        Err(error) => {
            failed.get_or_insert(error);
            arg
        }
    });
    failed.map_or(Ok(command), Err)
}

/// The settings of `serve` that a text names by their flags, each with its variable, in the order of the text.
#[must_use]
pub fn variables_in(text: &str) -> Vec<(String, String)> {
    let serve = ServeSettings::augment_args(Command::new("serve"));
    let is_of_flag = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let mut found: Vec<(String, String)> = Vec::new();
    for word in text.split(|c| !is_of_flag(c)) {
        let Some(name) = word.strip_prefix("--").map(|name| name.trim_end_matches('-')) else { continue };
        let argument = serve.get_arguments().find(|argument| argument.get_long() == Some(name));
        let variable = argument.and_then(Arg::get_env).and_then(|variable| variable.to_str());
        if let Some(variable) = variable.filter(|_new| found.iter().all(|(flag, _)| flag != word)) {
            found.push((word.to_owned(), variable.to_owned()));
        }
    }
    found
}

fn layer_argument(arg: Arg, file: &toml::Table, environment: &Environment) -> Result<Arg, SettingError> {
    let Some(name) = arg.get_long().map(str::to_owned) else { return Ok(arg) };
    if let Some(variable) = arg.get_env().and_then(|name| name.to_str()).map(str::to_owned) {
        let from_file = environment.has_file(&variable);
        if let (true, Some(value)) = (from_file, environment.get_or_file(&variable)?) {
            return Ok(arg.default_value(value.as_str().to_owned()).hide_default_value(true));
        }
    }
    match file.get(&name) {
        None => Ok(arg),
        Some(toml::Value::Array(items)) => {
            let items = items.iter().map(|item| to_text(&name, item)).collect::<Result<Vec<_>, _>>()?;
            Ok(arg.default_values(items).hide_default_value(true))
        }
        Some(value) => {
            let takes_value = arg.get_action().takes_values();
            let arg = arg.default_value(to_text(&name, value)?);
            Ok(if takes_value { arg.hide_default_value(true) } else { arg })
        }
    }
}

fn config_file(arguments: &[OsString], environment: &Environment) -> Result<Option<String>, SettingError> {
    let mut texts = arguments.iter().map(|argument| argument.to_string_lossy());
    while let Some(text) = texts.next() {
        if text == "--config" {
            return Ok(texts.next().map(std::borrow::Cow::into_owned));
        }
        if let Some(path) = text.strip_prefix("--config=") {
            return Ok(Some(path.to_owned()));
        }
    }
    Ok(environment.get_or_file("SUPERSERVE_CONFIG")?.map(|path| path.as_str().to_owned()))
}

fn read_toml(path: &str) -> Result<toml::Table, SettingError> {
    let text = read_setting("--config", Path::new(path))?;
    // The parser's own message shows the line, and a line may hold a password
    text.parse::<toml::Table>().map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let line = text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
        SettingError::new("--config", format!("{path} is not TOML, see line {line}"))
    })
}

fn to_text(name: &str, value: &toml::Value) -> Result<String, SettingError> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Float(number) => Ok(number.to_string()),
        toml::Value::Boolean(flag) => Ok(flag.to_string()),
        toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => {
            Err(SettingError::new(name, "must be a text, a number, true or false, or a list of these"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use clap::FromArgMatches as _;

    use super::*;

    fn parse<const N: usize>(
        arguments: &[&str],
        variables: [(&str, &str); N],
    ) -> Result<ServeSettings, String> {
        let environment = Environment::from(variables);
        let arguments: Vec<OsString> =
            std::iter::once("serve").chain(arguments.iter().copied()).map(Into::into).collect();
        let command = ServeSettings::augment_args(Command::new("serve"));
        let command = layer(command, &arguments, &environment).map_err(|error| error.to_string())?;
        let matches = command.try_get_matches_from(arguments).map_err(|error| error.to_string())?;
        ServeSettings::from_arg_matches(&matches).map_err(|error| error.to_string())
    }

    fn file(content: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file
    }

    #[test]
    fn flags_in_a_sentence_have_their_variables() {
        let found = variables_in("--tls-key: goes with --tls-cert, --tls-key or `--nonsense`: give --help");
        let names: Vec<_> = found.iter().map(|(flag, variable)| (&**flag, &**variable)).collect();
        assert_eq!(names, [("--tls-key", "SUPERSERVE_TLS_KEY"), ("--tls-cert", "SUPERSERVE_TLS_CERT")]);
    }

    #[test]
    fn a_file_gives_what_no_flag_gives() {
        let toml = file(
            "listen = \"127.0.0.1:1\"\nrate-limit = 5\ninsecure = true\ncors-origins = [\"http://a\", \"http://b\"]\n",
        );
        let path = toml.path().to_str().unwrap();
        let settings = parse(&["--config", path, "--rate-limit", "7"], []).unwrap();
        assert_eq!((settings.listen.port(), settings.rate_limit, settings.tls.insecure), (1, 7, true));
        assert_eq!(settings.cors_origins.len(), 2);
    }

    #[test]
    fn a_variable_can_name_a_file() {
        let url = file("postgres://u:hunter2@h/db\n");
        let path = url.path().to_str().unwrap();
        let settings = parse(&[], [("SUPERSERVE_DATABASE_URL_FILE", path)]).unwrap();
        assert_eq!(settings.storage.database_url.as_deref(), Some("postgres://u:hunter2@h/db"));
    }

    #[test]
    fn mistakes_are_named_without_their_values() {
        let toml = file("listen = \"127.0.0.1:1\"\nlisten-on-port = \"hunter2\"\n");
        let error = parse(&["--config", toml.path().to_str().unwrap()], []).unwrap_err();
        assert!(error.contains("listen-on-port") && !error.contains("hunter2"), "{error}");
        let toml = file("a = 1\ndatabase-url = postgres://u:hunter2@h/db\n");
        let error = parse(&["--config", toml.path().to_str().unwrap()], []).unwrap_err();
        assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn plaintext_off_loopback_must_be_asked_for() {
        let check = |arguments: &[&str]| {
            parse(arguments, [])
                .unwrap()
                .check(&Environment::default())
                .map(|_| ())
                .map_err(|error| error.to_string())
        };
        assert!(check(&["--listen", "0.0.0.0:1"]).unwrap_err().contains("--insecure"));
        assert_eq!(check(&["--listen", "0.0.0.0:1", "--insecure"]), Ok(()));
        assert_eq!(check(&["--listen", "[::1]:1"]), Ok(()));
        assert!(check(&["--tls-cert", "c.pem"]).unwrap_err().contains("--tls-key"));
        assert!(check(&["--tls-client-ca", "c.pem"]).unwrap_err().contains("--tls-cert"));
    }
}
