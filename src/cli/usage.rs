//! Usage errors, help and version.
//!
//! The parser's own messages repeat the argument that was not understood, and an argument of this program
//! can hold a value (`secrets set my-agent --KEY=value`). So the words are put together here from what is
//! known to be ours, and of what was typed only what looks like the name of a flag or a command is shown.

use std::error::Error as _;

use clap::{
    Error,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{failure::Exit, output::Output};

/// A longer word is more likely a value than a mistyped name.
const MAX_SHOWN_CHARS: usize = 24;

/// Prints what the parser has to say. Help and version are data, errors are talk.
pub(super) fn report(error: &Error, output: &mut Output) -> Exit {
    let kind = error.kind();
    if matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return output.help(&error.render(), true).err().map_or(Exit::Fine, |failure| failure.exit);
    }
    if kind == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _said = output.help(&error.render(), false);
        return Exit::Local;
    }
    output.error(&sentence(error));
    if let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) {
        let usage = usage.to_string();
        let takes_command = usage.contains("-- <COMMAND>");
        if takes_command
            && kind == ErrorKind::UnknownArgument
            && error.get(ContextKind::SuggestedArg).is_none()
        {
            output.talk("Put `--` before the command that is to be run.");
        }
        output.talk(usage.trim_end());
    }
    output.talk("For more information, try '--help'.");
    Exit::Local
}

/// What the parser has not understood, without a word that may be a value.
#[expect(clippy::wildcard_enum_match_arm, reason = "the parser may learn to fail in more ways")]
pub(super) fn sentence(error: &Error) -> String {
    let kind = error.kind();
    let ours = known(error, ContextKind::InvalidArg).unwrap_or_else(|| "an argument".to_owned());
    let suggestion = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand]
        .into_iter()
        .find_map(|kind| known(error, kind))
        .map(|name| format!("; did you mean {name}?"))
        .unwrap_or_default();
    match kind {
        ErrorKind::UnknownArgument => {
            format!("unexpected argument{}{suggestion}", typed(error, ContextKind::InvalidArg))
        }
        ErrorKind::InvalidSubcommand => {
            format!("unknown command{}{suggestion}", typed(error, ContextKind::InvalidSubcommand))
        }
        ErrorKind::MissingRequiredArgument => format!("missing: {ours}"),
        ErrorKind::MissingSubcommand => "a command is missing".to_owned(),
        ErrorKind::ArgumentConflict => match known(error, ContextKind::PriorArg) {
            Some(prior) => format!("{ours} cannot be used with {prior}"),
            None => format!("{ours} cannot be used more than once or with what else was given"),
        },
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let choices = known(error, ContextKind::ValidValue).map(|valid| format!(": one of {valid}"));
            // The reason comes from our own parsers, which do not repeat what they read
            let reason = || error.source().map(|reason| format!(": {reason}"));
            format!("invalid value for {ours}{}", choices.or_else(reason).unwrap_or_default())
        }
        ErrorKind::InvalidUtf8 => "an argument is not UTF-8".to_owned(),
        _ => format!("wrong number of values for {ours}"),
    }
}

/// A part of the message that comes from our own definitions.
fn known(error: &Error, kind: ContextKind) -> Option<String> {
    let value = error.get(kind)?;
    if let ContextValue::String(name) = value {
        return Some(name.clone());
    }
    if let ContextValue::Strings(names) = value {
        return Some(names.join(", ")).filter(|names| !names.is_empty());
    }
    None
}

/// A part of the message that was typed, if it looks like a name; nothing otherwise.
fn typed(error: &Error, kind: ContextKind) -> String {
    let Some(text) = known(error, kind) else { return String::new() };
    let name = text.split('=').next().unwrap_or_default();
    let is_flag_or_command = kind == ContextKind::InvalidSubcommand || name.starts_with("--");
    let is_name = name.len() <= MAX_SHOWN_CHARS && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    if is_flag_or_command && is_name { format!(" '{name}'") } else { String::new() }
}
