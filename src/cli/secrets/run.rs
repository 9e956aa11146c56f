//! `superserve secrets run AGENT -- COMMAND…`.
//!
//! The command takes this process's place: signals, terminal, exit code and process id are its own, and
//! no process with the values in its memory stays behind. The values are in its environment and nowhere
//! else. It gets what this process got, less the service's own tokens.

use std::{
    ffi::OsString,
    io::{Error, ErrorKind},
    os::unix::process::CommandExt as _,
    process::Command,
};

use clap::Args;
use zeroize::Zeroizing;

use crate::{
    cli::{
        client::Client,
        context::Context,
        environment::Environment,
        failure::{Exit, Failure},
        settings::ClientArgs,
    },
    domain::RunId,
    proto::v1::{ResolveSecretsRequest, ResolveSecretsResponse},
};

/// The arguments of `secrets run`.
#[derive(Args, Debug)]
pub(crate) struct RunCommand {
    /// The agent: a name or an `agt_` id
    agent: String,
    /// A name for this run, kept in the audit trail
    #[arg(long, value_name = "ID", value_parser = parse_run_id)]
    run_id: Option<RunId>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Names and values.
type Resolved = Vec<(String, Zeroizing<String>)>;

fn parse_run_id(text: &str) -> Result<RunId, &'static str> {
    RunId::parse(text).ok_or("1 to 255 printable ASCII characters")
}

impl RunCommand {
    /// Resolves, then becomes the command. Returns only when that failed.
    ///
    /// # Errors
    /// [`Exit::Missing`] when required secrets are, [`Exit::NotRun`] when nothing was resolved,
    /// [`Exit::NotFound`] or [`Exit::NotExecutable`] when the command cannot be started.
    pub(crate) async fn run(self, client: &ClientArgs, context: &mut Context) -> Result<Exit, Failure> {
        let Self { agent, run_id, command } = self;
        let secrets = match resolve(&agent, run_id, client, context).await {
            Ok(secrets) => secrets,
            Err(failure) => return Err(not_run(failure)),
        };
        Err(become_command(&command, &context.environment, &secrets))
    }
}

async fn resolve(
    agent: &str,
    run_id: Option<RunId>,
    client: &ClientArgs,
    context: &mut Context,
) -> Result<Resolved, Failure> {
    let client: Client = context.connect(client).await?;
    let agent = client.find_agent(agent).await?;
    let run_id = run_id.map(|id| id.as_str().to_owned());
    let request = ResolveSecretsRequest { agent_id: agent.id, run_id };
    let answer = client.repeatable(|| {
        let (mut runtime, request) = (client.runtime(), request.clone());
        async move { runtime.resolve_secrets(request).await }
    });
    let ResolveSecretsResponse { env, revision: _ } = answer.await?;
    Ok(env.into_iter().map(|(key, value)| (key, Zeroizing::new(value))).collect())
}

/// 125, as other programs that run programs do: the command's own codes must stay recognisable.
fn not_run(failure: Failure) -> Failure {
    match failure.exit {
        Exit::Missing | Exit::Interrupted => failure,
        Exit::Fine
        | Exit::Local
        | Exit::Server
        | Exit::Conflict
        | Exit::NotRun
        | Exit::NotExecutable
        | Exit::NotFound => failure.exiting(Exit::NotRun),
    }
}

fn become_command(command: &[OsString], environment: &Environment, secrets: &Resolved) -> Failure {
    let Some((program, args)) = command.split_first() else {
        return Failure::new(Exit::NotRun, "No command was given.");
    };
    let error = Command::new(program)
        .args(args)
        .env_clear()
        .envs(environment.without_tokens())
        .envs(secrets.iter().map(|(key, value)| (key, value.as_str())))
        .exec();
    cannot_start(program, &error)
}

fn cannot_start(program: &OsString, error: &Error) -> Failure {
    let exit = if error.kind() == ErrorKind::NotFound { Exit::NotFound } else { Exit::NotExecutable };
    Failure::new(exit, format!("Cannot start '{}': {error}.", program.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::superserve;

    #[test]
    fn a_command_that_cannot_be_started_is_told_as_shells_do() {
        let environment = Environment::from([("PATH", "/usr/bin:/bin")]);
        let start = |program: &str| become_command(&[program.into()], &environment, &Vec::new()).exit.code();
        assert_eq!(start("no-such-program-here"), 127);
        assert_eq!(start("/nowhere/program"), 127);
        assert_eq!(start("/"), 126);
        assert_eq!(start("/etc/passwd"), 126);
    }

    #[test]
    fn a_failed_start_shows_no_value() {
        let secrets = vec![("A".to_owned(), Zeroizing::new("sen\0tinel".to_owned()))];
        let failure = become_command(&["true".into()], &Environment::from([]), &secrets);
        assert_eq!(failure.exit.code(), 126);
        assert!(!failure.to_string().contains("tinel"), "{failure}");
    }

    #[tokio::test]
    async fn what_fails_before_the_start_has_a_code_of_its_own() {
        let args = ["--api-url", "http://127.0.0.1:1", "secrets", "run", "a", "--", "true"];
        let logged_out = superserve(&args, [], b"").await;
        assert_eq!(logged_out.code, 125, "{}", logged_out.stderr);
        let unreachable = superserve(&args, [("SUPERSERVE_TOKEN", "a.b.c")], b"").await;
        assert_eq!(unreachable.code, 125, "{}", unreachable.stderr);
        assert!(unreachable.stderr.contains("http://127.0.0.1:1"), "{}", unreachable.stderr);
        let malformed = superserve(&args, [("SUPERSERVE_TOKEN", "ss_x")], b"").await;
        assert_eq!(malformed.code, 125, "{}", malformed.stderr);
        let usage = superserve(&["secrets", "run", "a"], [], b"").await;
        assert_eq!(usage.code, 1, "{}", usage.stderr);
    }
}
