//! `superserve secrets run AGENT -- COMMAND…`.
//!
//! The command takes this process's place: signals, terminal, exit code and process id are its own, and
//! no process with the values in its memory stays behind. The values are in its environment and nowhere
//! else. It gets what this process got, less what looks like a credential: see [`inherit`].
//!
//! Two ways differ. With `--watch` this process stays and starts the command again when a value changes
//! ([`watch`]). With `--env-file-fd` there is no command: the environment is written to a file that is
//! already open ([`env_file`]).
//!
//! Linux alone has what this rests on: while this process has a token or values, no other process of the
//! same user may look into it.

mod changes;
mod env_file;
mod fingerprint;
mod format;
mod group;
mod inherit;
mod launch;
mod patience;
mod resolve;
mod signals;
mod terminal;
mod watch;

use std::{
    ffi::OsString,
    io::{Error, ErrorKind},
    os::unix::process::CommandExt as _,
    process::Command,
    time::Duration,
};

use clap::Args;
use rustix::process::{DumpableBehavior, getpid, set_dumpable_behavior};

use crate::{
    cli::{
        agent::{AgentArgument, OF_PROJECT},
        context::Context,
        duration,
        failure::{Exit, Failure},
        input::interruptible,
        random,
        settings::ClientArgs,
    },
    domain::{RunId, SecretName},
};

use env_file::{Descriptor, EnvFile};
use format::Format;
use inherit::{Inheritance, Inherited};
pub(crate) use launch::{LAUNCH, Launch};
use patience::patiently;
use resolve::{Plan, Resolver, Values, not_run};
use signals::Signals;

/// The most of a host's name that becomes part of a run's.
const MAX_HOST_CHARS: usize = 64;

/// The arguments of `secrets run`.
#[derive(Args, Debug)]
pub(crate) struct RunCommand {
    /// The agent: a name or an `agt_` id; `.` is the one of superserve.yaml
    #[arg(value_name = "AGENT", default_value = OF_PROJECT, value_parser = AgentArgument::parse)]
    agent: AgentArgument,
    /// Ask for these keys alone, required or not; may be given again
    #[arg(long, value_name = "KEY", value_delimiter = ',', value_parser = parse_key)]
    only: Vec<SecretName>,
    /// A name for this run, kept in the audit trail [default: one made of host, process and chance]
    #[arg(long, value_name = "ID", value_parser = parse_run_id)]
    run_id: Option<RunId>,
    #[command(flatten)]
    inheritance: Inheritance,
    /// How long to try until the command is started, also while there is no server yet: seconds, or 90s, 5m
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_timeout)]
    timeout: Duration,
    /// Stay, and start the command again when a value changes; the token needs `secrets:list` too
    #[arg(long)]
    watch: bool,
    /// How long the command has to end before it is killed, when it is started again
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse, requires = "watch")]
    grace: Duration,
    /// Write the agent's environment to this open file descriptor instead of running a command
    #[arg(long, value_name = "N", value_parser = Descriptor::parse)]
    #[arg(conflicts_with_all = ["command", "watch", "preserve_env", "clean_env"])]
    env_file_fd: Option<Descriptor>,
    /// How it is written there
    #[arg(long, value_enum, default_value = "dotenv", conflicts_with = "command")]
    format: Format,
    /// The command and its arguments
    #[arg(last = true, required_unless_present = "env_file_fd", value_name = "COMMAND")]
    command: Vec<OsString>,
}

fn parse_key(text: &str) -> Result<SecretName, &'static str> {
    SecretName::parse(text).ok_or("a key is letters, digits and underscores and does not begin with a digit")
}

fn parse_run_id(text: &str) -> Result<RunId, &'static str> {
    RunId::parse(text).ok_or("1 to 255 printable ASCII characters")
}

fn parse_timeout(text: &str) -> Result<Duration, &'static str> {
    duration::parse(text).or_else(|_| duration::parse(&format!("{text}s")))
}

/// A name by which this run is found again: the manifest of runs says who holds which version, and a name
/// like this says where that one is.
///
/// # Errors
/// When the system has no randomness.
fn new_run_id() -> Result<RunId, Failure> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host: String = host.chars().filter(char::is_ascii_graphic).take(MAX_HOST_CHARS).collect();
    let chance = u64::from_le_bytes(random::bytes()?);
    RunId::parse(&format!("{host}-{}-{chance:016x}", getpid()))
        .ok_or_else(|| Failure::local("No name can be made for this run: give one with --run-id."))
}

// === impl RunCommand ===

impl RunCommand {
    /// Resolves, then becomes the command, or stays and watches, or writes the environment down.
    ///
    /// # Errors
    /// [`Exit::Missing`] when required secrets are, [`Exit::NotRun`] when nothing was resolved,
    /// [`Exit::NotFound`] or [`Exit::NotExecutable`] when the command cannot be started.
    pub(crate) async fn run(self, client: &ClientArgs, context: &mut Context) -> Result<Exit, Failure> {
        shield().map_err(not_run)?;
        if self.watch {
            return self.supervise(client, context).await;
        }
        let mut signals = Signals::as_process_1().map_err(not_run)?;
        if let Some(descriptor) = &self.env_file_fd {
            let written = signals.or_end(self.write(descriptor, client, context)).await;
            return written.map(|ended| ended.unwrap_or_else(|exit| exit)).map_err(not_run);
        }
        let values = match signals.or_end(self.resolve(client, context)).await.map_err(not_run)? {
            Ok(values) => values,
            Err(exit) => return Ok(exit),
        };
        let inherited = self.inheritance.choose(&context.environment, &values, &mut context.output);
        let mut command = with_environment(command(&self.command), &inherited, &values);
        if let Some(exit) = signals.has_ended() {
            return Ok(exit);
        }
        let error = command.exec();
        Err(cannot_start(&self.command, &error))
    }

    /// The values; no connection of ours stays open in the command.
    async fn resolve(&self, client: &ClientArgs, context: &mut Context) -> Result<Values, Failure> {
        let plan = self.plan(client, context)?;
        let resolve = async || Resolver::connect(&plan, &self.only).await?.resolve().await;
        Ok(patiently(self.timeout, &mut context.output, resolve).await?.values)
    }

    fn plan(&self, client: &ClientArgs, context: &mut Context) -> Result<Plan, Failure> {
        let run_id = self.run_id.clone().map_or_else(new_run_id, Ok)?;
        Plan::make(&self.agent, run_id, client, context)
    }

    /// Looks at the file first: what cannot be written is not handed out.
    async fn write(
        &self,
        descriptor: &Descriptor,
        client: &ClientArgs,
        context: &mut Context,
    ) -> Result<Exit, Failure> {
        let file = EnvFile::open(descriptor, &mut context.output)?;
        let values = self.resolve(client, context).await?;
        let text = self.format.render(&values)?;
        // Who reads slowly holds up no signal
        let written = interruptible(tokio::task::spawn_blocking(move || file.write(&text))).await?;
        written.map_err(|error| Failure::local(format!("Cannot write: {error}.")))??;
        Ok(Exit::Fine)
    }

    async fn supervise(&self, client: &ClientArgs, context: &mut Context) -> Result<Exit, Failure> {
        let mut signals = Signals::listen().map_err(not_run)?;
        let plan = self.plan(client, context).map_err(not_run)?;
        let prepare = async || {
            let resolver = Resolver::connect(&plan, &self.only).await?;
            // A token that may not watch is found out before anything is started
            let stream = resolver.watch().await?;
            let first = resolver.resolve().await?;
            Ok((resolver, stream, first))
        };
        let prepare = patiently(self.timeout, &mut context.output, prepare);
        let (resolver, stream, first) = match signals.or_end(prepare).await.map_err(not_run)? {
            Ok(prepared) => prepared,
            Err(exit) => return Ok(exit),
        };
        let changes = changes::Changes::new(&resolver, stream, first.revision);
        watch::Supervisor { command: &self.command, inheritance: &self.inheritance, grace: self.grace }
            .run(first.values, changes, signals, context)
            .await
    }
}

/// Lets no process of the same user read the token and the values of this one (`/proc/PID/environ`, a
/// debugger), and no core dump hold them. The command that takes this process's place is as any other.
fn shield() -> Result<(), Failure> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| Failure::local(format!("Cannot keep other processes out of this one: {error}.")))
}

/// The command without its environment.
fn command(command: &[OsString]) -> Command {
    // The parser sees to it that there is one
    let (program, args) =
        command.split_first().map_or_else(Default::default, |(program, args)| (program.clone(), args));
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// The same with its environment; the agent's values win.
fn with_environment(mut command: Command, inherited: &Inherited, values: &Values) -> Command {
    command
        .env_clear()
        .envs(inherited.iter().map(|(name, value)| (name, value)))
        .envs(values.iter().map(|(key, value)| (key, value.as_str())));
    command
}

fn cannot_start(command: &[OsString], error: &Error) -> Failure {
    let exit = if error.kind() == ErrorKind::NotFound { Exit::NotFound } else { Exit::NotExecutable };
    let program = command.first().map(|program| program.to_string_lossy()).unwrap_or_default();
    Failure::new(exit, format!("Cannot start '{program}': {error}."))
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::cli::testing::superserve;

    fn start(program: &str, values: &Values) -> Failure {
        let (line, inherited) = ([OsString::from(program)], vec![("PATH".into(), "/usr/bin:/bin".into())]);
        cannot_start(&line, &with_environment(command(&line), &inherited, values).exec())
    }

    #[test]
    fn a_command_that_cannot_be_started_is_told_as_shells_do() {
        let code = |program: &str| start(program, &Values::new()).exit.code();
        assert_eq!(code("no-such-program-here"), 127);
        assert_eq!(code("/nowhere/program"), 127);
        assert_eq!(code("/"), 126);
        assert_eq!(code("/etc/passwd"), 126);
    }

    #[test]
    fn a_failed_start_shows_no_value() {
        let values = Values::from([("A".to_owned(), Zeroizing::new("sen\0tinel".to_owned()))]);
        let failure = start("true", &values);
        assert_eq!(failure.exit.code(), 126);
        assert!(!failure.to_string().contains("tinel"), "{failure}");
    }

    #[tokio::test]
    async fn what_fails_before_the_start_has_a_code_of_its_own() {
        let args = ["--api-url", "http://127.0.0.1:1", "secrets", "run", "a", "--timeout", "1", "--", "true"];
        let logged_out = superserve(&args, [], b"").await;
        assert_eq!(logged_out.code, 125, "{}", logged_out.stderr);
        let unreachable = superserve(&args, [("SUPERSERVE_TOKEN", "a.b.c")], b"").await;
        assert_eq!(unreachable.code, 125, "{}", unreachable.stderr);
        assert!(unreachable.stderr.contains("http://127.0.0.1:1"), "{}", unreachable.stderr);
        assert!(unreachable.stderr.contains("run the same again"), "{}", unreachable.stderr);
        let malformed = superserve(&args, [("SUPERSERVE_TOKEN", "ss_x")], b"").await;
        assert_eq!(malformed.code, 125, "{}", malformed.stderr);
    }

    #[tokio::test]
    async fn arguments_that_contradict_each_other_are_refused() {
        for args in [
            &[][..],
            &["--env-file-fd", "3", "--", "true"],
            &["--env-file-fd", "0"],
            &["--env-file-fd", "2"],
            &["--env-file-fd", "3", "--watch"],
            &["--env-file-fd", "3", "--clean-env"],
            &["--format", "json", "--", "true"],
            &["--grace", "1s", "--", "true"],
            &["--watch"],
            &["--preserve-env", "--clean-env", "--", "true"],
            &["--only", "NO-KEY", "--", "true"],
        ] {
            let outcome = superserve(&[&["secrets", "run", "a"], args].concat(), [], b"").await;
            assert_eq!(outcome.code, 1, "{args:?}: {}", outcome.stderr);
        }
    }

    #[tokio::test]
    async fn a_command_without_the_dashes_is_told_of_them() {
        let advice = "Put `--` before the command";
        for args in [&["node", "x"][..], &["node", "-e", "x"], &["--watch", "node"]] {
            let outcome = superserve(&[&["secrets", "run", "a"], args].concat(), [], b"").await;
            assert_eq!(outcome.code, 1, "{}", outcome.stderr);
            assert!(outcome.stderr.contains(advice), "{args:?}: {}", outcome.stderr);
        }
        for args in [&["secrets", "run", "a", "--wach", "--", "x"][..], &["secrets", "list", "a", "b"]] {
            assert!(!superserve(args, [], b"").await.stderr.contains(advice), "{args:?}");
        }
    }

    #[test]
    fn every_run_has_a_name_of_its_own() {
        let id = new_run_id().unwrap();
        assert!(id.as_str().contains(&format!("-{}-", std::process::id())), "{id:?}");
        assert_ne!(id, new_run_id().unwrap());
    }

    #[test]
    fn a_timeout_is_seconds_unless_it_says_otherwise() {
        assert_eq!(parse_timeout("5"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_timeout("2m"), Ok(Duration::from_mins(2)));
        assert!(parse_timeout("0").is_err() && parse_timeout("x").is_err());
    }
}
