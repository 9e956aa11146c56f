//! What a command works with.

use std::path::PathBuf;

use super::{
    client::Client,
    environment::Environment,
    failure::Failure,
    input::Input,
    output::Output,
    settings::{ClientArgs, FoundToken, Server, Settings},
};

/// Everything a command touches beside its own arguments.
pub(crate) struct Context {
    /// The variables it was started with.
    pub(crate) environment: Environment,
    /// The working directory; none where it is gone.
    pub(crate) directory: Option<PathBuf>,
    /// What is typed or piped in.
    pub(crate) input: Input,
    /// Where data and talk go.
    pub(crate) output: Output,
}

impl Context {
    /// The process's own.
    pub(crate) fn of_process() -> Self {
        let environment = Environment::of_process();
        Self {
            output: Output::of_process(&environment),
            environment,
            directory: std::env::current_dir().ok(),
            input: Input::of_process(),
        }
    }

    /// A connection to the server as whom the person is logged in.
    ///
    /// # Errors
    /// When nobody is logged in, a setting is malformed or the server cannot be reached.
    pub(crate) async fn connect(&mut self, args: &ClientArgs) -> Result<Client, Failure> {
        let (server, token) = self.destination(args)?;
        Client::connect(&server, &token).await
    }

    /// Where a connection leads and as whom, for who connects by himself.
    ///
    /// # Errors
    /// When nobody is logged in, or a setting is malformed.
    pub(crate) fn destination(&mut self, args: &ClientArgs) -> Result<(Server, FoundToken), Failure> {
        let Settings { server, token } = Settings::resolve(args, &self.environment, &mut self.output)?;
        Ok((server, token.ok_or_else(super::refusal::not_logged_in)?))
    }
}
