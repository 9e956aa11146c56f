//! `superserve completions SHELL`.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{
    Cli,
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
    /// Prints the script.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn run(self, context: &mut Context) -> Result<Exit, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "superserve", &mut script);
        context.output.only_copy(String::from_utf8_lossy(&script).trim_end())?;
        Ok(Exit::Fine)
    }
}
