//! `superserve completions SHELL`.

use clap::Args;
use clap_complete::{Shell, env::Shells};

use super::{
    complete,
    context::Context,
    failure::{Exit, Failure},
};

/// The arguments of `completions`.
#[derive(Args, Debug)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    /// Prints the script, which asks this program at each completion.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn run(self, context: &mut Context) -> Result<Exit, Failure> {
        const NAME: &str = "superserve";
        let shells = Shells::builtins();
        let shell = shells.completer(&self.shell.to_string());
        let shell = shell.ok_or_else(|| Failure::local("There are no completions for this shell."))?;
        let mut script = Vec::new();
        shell
            .write_registration(complete::VARIABLE, NAME, NAME, NAME, &mut script)
            .map_err(|error| Failure::local(format!("Cannot make the completions: {error}.")))?;
        context.output.only_copy(String::from_utf8_lossy(&script).trim())?;
        Ok(Exit::Fine)
    }
}
