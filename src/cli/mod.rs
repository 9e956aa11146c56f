//! The command line: operator's tool and client in one binary.
//!
//! A command is one file with its arguments, its `run` and the words it prints. It gets a [`Context`]
//! (environment, input, output) and answers with an [`Exit`] or a [`Failure`]; nothing below this module
//! reads the environment or writes to stdout by another way, so every command can be tested with all
//! three handed in. To add one: a file, a variant of [`Command`], an arm in `dispatch`, examples in `examples`.
//!
//! | file | holds |
//! |---|---|
//! | `settings`, `auth_file`, `environment`, `token_source` | which server, as whom |
//! | `agent`, `project`, `similar` | which agent: named, or by `superserve.yaml` |
//! | `client`, `refusal`, `faults` | calls, and their failures in words |
//! | `input`, `terminal`, `output`, `list`, `render`, `usage` | what a person types and reads |
//! | `dotenv` | `.env` files |
//! | `examples`, `completions`, `complete`, `man` | what helps to type a command |
//!
//! Values and tokens are never printed, with one exception each for `tokens create`, `tokens rotate` and `tokens
//! generate`, whose purpose it is. Not even a usage error repeats an argument that may hold one: see `usage`.

mod agent;
mod agents;
mod audit;
mod auth_file;
mod bounded;
mod client;
mod complete;
mod completions;
mod context;
mod dotenv;
mod duration;
mod environment;
mod examples;
mod failure;
mod faults;
mod health;
mod ignored;
mod input;
mod list;
mod man;
mod operator;
mod output;
mod project;
mod random;
mod refusal;
mod render;
mod secrets;
mod session;
mod settings;
mod similar;
mod terminal;
mod token_source;
mod tokens;
mod usage;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::{ffi::OsString, fmt, process::ExitCode};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use context::Context;
use failure::{Exit, Failure};
use settings::ClientArgs;

use crate::config::{Environment, ServeSettings, SettingError, StorageSettings};

/// The secrets service for AI agents: server, operator's tool and client
#[derive(Parser, Debug)]
#[command(name = "superserve", version, propagate_version = true, subcommand_required = true)]
#[command(arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    command: Command,
}

/// The commands, in the order in which `--help` lists them.
#[derive(Subcommand, Debug)]
enum Command {
    /// Serve gRPC, gRPC-Web and REST
    Serve(Box<ServeSettings>),
    /// Apply the database schema and exit
    Migrate(StorageSettings),
    /// Copy the embedded database while it is in use
    ///
    /// The copy has all that was acknowledged before, is checked, and is there as a whole or not at all. The keyring is not
    /// in it: keep a copy of that apart, as both together are all secrets. With PostgreSQL use `pg_dump`.
    Backup(operator::Backup),
    /// Put a backup in the place of the embedded database, while no server runs
    ///
    /// It is refused if it is damaged, of a later version, or if the keyring lacks a key that it needs. With PostgreSQL use
    /// `pg_restore`.
    Restore(operator::Restore),
    /// Say whether a server could run with these settings, and what to do where it could not
    ///
    /// It takes the settings of `serve`, looks at files, database, keys, clock and network, and changes nothing: a line for
    /// each check, `ok`, `warning` or `problem`. It exits with 1 if there is a problem.
    Doctor(Box<ServeSettings>),
    /// Make, show, rotate and retire the key-encryption keys
    #[command(subcommand)]
    Keys(operator::KeysCommand),
    /// Make, list and delete tenants
    #[command(subcommand)]
    Tenants(operator::TenantsCommand),
    /// Create, list, rotate and revoke API tokens
    #[command(subcommand)]
    Tokens(tokens::Tokens),
    /// Keep a token in `~/.superserve/auth.json` for the other commands
    Login(session::Login),
    /// Remove the kept token
    Logout(session::Logout),
    /// Say which token is used and what it may do
    Whoami(session::WhoAmI),
    /// Deploy, list, show and delete agents
    #[command(subcommand)]
    Agents(agents::Agents),
    /// Set, list, delete and use the secrets of an agent
    #[command(subcommand)]
    Secrets(secrets::Secrets),
    /// Show who did what to an agent
    Audit(audit::Audit),
    /// Say whether the server serves, for probes and scripts
    Health(health::Health),
    /// Print the completions of a shell, which also know agents and keys
    Completions(completions::Completions),
    /// Print the manual page, or write those of all commands
    Man(man::Manual),
}

/// A command line that was understood, with what the command works with.
pub struct Invocation {
    asked: Asked,
    context: Context,
}

/// What is asked for.
enum Asked {
    /// A shell wants to know what may stand at a place of this line.
    Completions { shell: String, line: Vec<OsString> },
    /// A command.
    Command { cli: Box<Cli>, line: Vec<OsString> },
}

// === impl Invocation ===

impl Invocation {
    /// Reads the command line (with the program's name first). Help and usage errors are told here, so that they need
    /// neither a runtime nor a connection.
    ///
    /// # Errors
    /// The exit code, where that was all.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, ExitCode> {
        let mut context = Context::of_process();
        let asked = understand(args, &mut context)?;
        Ok(Self { asked, context })
    }

    /// Does what is asked for, to its exit code.
    pub async fn run(mut self) -> ExitCode {
        answer(self.asked, &mut self.context).await.into()
    }
}

impl fmt::Debug for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The words of a command line may be values
        f.write_str("Invocation")
    }
}

#[cfg(test)]
async fn run_in(args: impl IntoIterator<Item = OsString>, context: &mut Context) -> Exit {
    match understand(args, context) {
        Ok(asked) => answer(asked, context).await,
        Err(exit) => exit,
    }
}

fn understand(args: impl IntoIterator<Item = OsString>, context: &mut Context) -> Result<Asked, Exit> {
    let args: Vec<OsString> = args.into_iter().collect();
    if let Some(shell) = complete::asked(context) {
        return Ok(Asked::Completions { shell, line: args });
    }
    let cli = parse(&args, context)?;
    Ok(Asked::Command { cli: Box::new(cli), line: args })
}

async fn answer(asked: Asked, context: &mut Context) -> Exit {
    let (cli, line) = match asked {
        Asked::Completions { shell, line } => return complete::run(shell, line, context).await,
        Asked::Command { cli, line } => (*cli, line),
    };
    context.output.json = cli.client.json;
    match dispatch(cli, &line, context).await {
        Ok(exit) => exit,
        Err(failure) => {
            context.output.failure(&failure);
            failure.exit
        }
    }
}

/// All commands, with their examples, and a short help where they take many settings.
fn tree() -> clap::Command {
    examples::attach(operator::shortened(Cli::command()))
}

/// For `benches/`: how many assignments a `.env` file has; `None` when it is refused.
#[doc(hidden)]
#[must_use]
pub fn count_assignments(file: &[u8]) -> Option<usize> {
    Some(dotenv::parse(file, false).ok()?.entries.len())
}

/// Flags, and for the operator's commands variables and files beneath them: what cannot be used of these, or what the
/// parser says of the line.
fn read(line: &[OsString], environment: &Environment) -> Result<clap::error::Result<Cli>, SettingError> {
    let command = operator::layered(tree(), line, environment)?;
    Ok(command.try_get_matches_from(line).and_then(|matches| Cli::from_arg_matches(&matches)))
}

fn parse(line: &[OsString], context: &mut Context) -> Result<Cli, Exit> {
    let parsed = read(line, &context.environment).map_err(|error| {
        context.output.failure(&Failure::from(error));
        Exit::Local
    })?;
    parsed.map_err(|error| usage::report(&error, &mut context.output))
}

/// The settings of a server as they are now: their files may have become others since it was called.
///
/// # Errors
/// Why they cannot be used any more.
fn serve_settings(line: &[OsString], environment: &Environment) -> Result<ServeSettings, String> {
    let parsed = read(line, environment).map_err(|error| error.to_string())?;
    let Command::Serve(settings) = parsed.map_err(|error| usage::sentence(&error))?.command else {
        return Err("it was not called to serve".to_owned());
    };
    Ok(*settings)
}

async fn dispatch(cli: Cli, line: &[OsString], context: &mut Context) -> Result<Exit, Failure> {
    let Cli { client, command } = cli;
    match command {
        Command::Serve(settings) => {
            let (line, environment) = (line.to_vec(), context.environment.clone());
            operator::serve(*settings, move || serve_settings(&line, &environment), context).await
        }
        Command::Migrate(settings) => operator::migrate(&settings, context).await,
        Command::Backup(command) => command.run(context).await,
        Command::Restore(command) => command.run(context).await,
        Command::Doctor(settings) => operator::doctor(*settings, context).await,
        Command::Keys(command) => operator::keys(&command, context).await,
        Command::Tenants(command) => operator::tenants(&command, context).await,
        Command::Tokens(command) => command.run(&client, context).await,
        Command::Login(command) => command.run(&client, context).await,
        Command::Logout(command) => command.run(context),
        Command::Whoami(command) => command.run(&client, context).await,
        Command::Agents(command) => command.run(&client, context).await,
        // Large for what one of its commands holds; the others need not carry that along
        Command::Secrets(command) => Box::pin(command.run(&client, context)).await,
        Command::Audit(command) => command.run(&client, context).await,
        Command::Health(command) => command.run(&client, context).await,
        Command::Completions(command) => command.run(context),
        Command::Man(command) => command.run(context),
    }
}
