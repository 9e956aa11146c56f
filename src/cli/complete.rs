//! What a shell asks for at the press of a key: what may stand at this place of a command line.
//!
//! The script of `superserve completions` runs this program with [`VARIABLE`] set. Agents and keys come from the
//! server, by the same settings and token as any command, with no more than `agents:read`; the clap engine knows
//! the rest. Whatever fails is silent, and nothing takes longer than [`DEADLINE`]: a person is typing.

use std::{
    ffi::{OsStr, OsString},
    sync::Arc,
    time::Duration,
};

use clap::{ArgMatches, Command, CommandFactory as _, FromArgMatches as _};
use clap_complete::{ArgValueCompleter, CompletionCandidate, env::Shells};
use tokio::{runtime::Handle, task, time::timeout};

use crate::proto::v1::Agent;

use super::{
    Cli,
    agent::{AgentArgument, OF_PROJECT},
    context::Context,
    environment::Environment,
    failure::{Exit, Failure},
    input::Input,
    output::Output,
    settings::ClientArgs,
    tree,
};

/// The variable that names the shell which asks.
pub(super) const VARIABLE: &str = "SUPERSERVE_COMPLETE";

/// How long the server may take, from the connection to the answer.
const DEADLINE: Duration = Duration::from_secs(1);

/// Asks the server for what may stand there.
struct Asker {
    environment: Environment,
    directory: Option<std::path::PathBuf>,
    /// The words of the command line, as far as they can be understood.
    matches: ArgMatches,
    runtime: Handle,
}

/// The shell that asks for completions, if one does.
pub(super) fn asked(context: &Context) -> Option<String> {
    context.environment.get_os(VARIABLE).and_then(OsStr::to_str).map(str::to_owned)
}

/// Prints what may stand at the place that the shell says, in the shell's own form.
pub(super) async fn run(shell: String, args: Vec<OsString>, context: &mut Context) -> Exit {
    let words: Vec<_> = args.into_iter().skip_while(|word| word != "--").skip(1).collect();
    let matches = Cli::command().ignore_errors(true).try_get_matches_from(&words).unwrap_or_default();
    let asker = Asker {
        environment: context.environment.clone(),
        directory: context.directory.clone(),
        matches,
        runtime: Handle::current(),
    };
    let directory = context.directory.clone();
    let completed = task::spawn_blocking(move || {
        let mut candidates = Vec::new();
        let mut command = with_completers(tree(), &Arc::new(asker));
        let shells = Shells::builtins();
        let shell = shells.completer(&shell)?;
        shell.write_complete(&mut command, words, directory.as_deref(), &mut candidates).ok()?;
        String::from_utf8(candidates).ok()
    });
    let Ok(Some(candidates)) = completed.await else { return Exit::Fine };
    if !candidates.is_empty() {
        let _unread = context.output.only_copy(candidates.trim_end_matches('\n'));
    }
    Exit::Fine
}

/// The same commands, asking for agents and keys where these stand.
fn with_completers(command: Command, asker: &Arc<Asker>) -> Command {
    let command = command.mut_subcommands(|inner| with_completers(inner, asker));
    command.mut_args(|arg| match arg.get_id().as_str() {
        "agent" | "agents" => {
            let asker = Arc::clone(asker);
            arg.add(ArgValueCompleter::new(move |typed: &OsStr| asker.agents(typed)))
        }
        "arguments" | "keys" | "key" | "only" => {
            let asker = Arc::clone(asker);
            arg.add(ArgValueCompleter::new(move |typed: &OsStr| asker.keys(typed)))
        }
        _ => arg,
    })
}

// === impl Asker ===

impl Asker {
    /// The agents whose name, or else whose id, begins like this.
    fn agents(&self, typed: &OsStr) -> Vec<CompletionCandidate> {
        let names = |agent: Agent| if is_plain(&agent.name) { agent.name } else { agent.id };
        let agents = self.wait(self.all_agents()).unwrap_or_default();
        candidates(agents.into_iter().map(names), typed)
    }

    /// The keys that the agent of this command line has or requires, and that begin like this.
    fn keys(&self, typed: &OsStr) -> Vec<CompletionCandidate> {
        let Some(agent) = self.wait(self.agent()) else { return Vec::new() };
        let required = agent.required_secrets.into_iter().map(|secret| secret.name);
        let mut keys: Vec<_> = agent.environment_keys.into_iter().chain(required).collect();
        keys.sort();
        keys.dedup();
        candidates(keys.into_iter(), typed)
    }

    /// On the thread that completes, which may wait.
    fn wait<T>(&self, answer: impl Future<Output = Result<T, Failure>>) -> Option<T> {
        self.runtime.block_on(timeout(DEADLINE, answer)).ok()?.ok()
    }

    async fn all_agents(&self) -> Result<Vec<Agent>, Failure> {
        let client = self.context().connect(&self.client()).await?;
        let (agents, _more) = client
            .once(async { client.agents_page("", String::new()).await.map(tonic::Response::new) })
            .await?;
        Ok(agents)
    }

    async fn agent(&self) -> Result<Agent, Failure> {
        let mut context = self.context();
        let agent = self.named_agent()?.resolve(&mut context)?;
        let client = context.connect(&self.client()).await?;
        agent.fetch(&client).await
    }

    /// What the words before name, or the project's.
    fn named_agent(&self) -> Result<AgentArgument, Failure> {
        let mut deepest = &self.matches;
        while let Some((_, inner)) = deepest.subcommand() {
            deepest = inner;
        }
        match deepest.try_get_one::<AgentArgument>("agent") {
            Ok(Some(agent)) => Ok(agent.clone()),
            Ok(None) | Err(_) => AgentArgument::parse(OF_PROJECT).map_err(Failure::local),
        }
    }

    fn client(&self) -> ClientArgs {
        ClientArgs::from_arg_matches(&self.matches).unwrap_or_default()
    }

    /// What a command works with, but deaf and mute.
    fn context(&self) -> Context {
        Context {
            environment: self.environment.clone(),
            directory: self.directory.clone(),
            input: Input::new(std::io::empty(), false),
            output: Output::new(Box::new(std::io::sink()), Box::new(std::io::sink())),
        }
    }
}

fn candidates(names: impl Iterator<Item = String>, typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_str().unwrap_or_default();
    names.filter(|name| name.starts_with(typed) && is_plain(name)).map(CompletionCandidate::new).collect()
}

/// Whether a shell reads the name as one word. Others choose the names of agents, and what is completed is run
/// when Enter is pressed: `$(…)` must not get there.
fn is_plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./@+".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::superserve;

    async fn completed(shell: &str, words: &[&str]) -> Vec<String> {
        let words: Vec<_> = ["--", "superserve"].iter().chain(words).copied().collect();
        // fish says by the words alone which of them is completed
        let outcome = superserve(&words, [(VARIABLE, shell)], b"").await;
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
        outcome.stdout.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect()
    }

    #[tokio::test]
    async fn commands_and_flags_need_no_server() {
        assert_eq!(completed("fish", &["sec"]).await, ["secrets"]);
        assert!(completed("fish", &["secrets", "set", "a", "--dry"]).await.contains(&"--dry-run".to_owned()));
        assert_eq!(completed("fish", &["completions", "zs"]).await, ["zsh"]);
    }

    #[tokio::test]
    async fn what_fails_is_silent() {
        // Nobody is logged in, and nobody serves
        let unreachable = ["--api-url", "http://127.0.0.1:1", "secrets", "list", "x"];
        assert!(completed("fish", &unreachable).await.is_empty());
        assert!(completed("no-shell", &["sec"]).await.is_empty());
        assert!(completed("fish", &["secrets", "delete", "KEY=x", "A"]).await.is_empty());
    }

    #[test]
    fn what_a_shell_would_read_otherwise_is_not_offered() {
        for name in ["my-agent", "a.b", "A_1", "team/agent"] {
            assert!(is_plain(name), "{name}");
        }
        for name in ["", "a b", "$(id)", "`id`", "a;b", "-rf", "~", "a'b", "a\nb", "é", "a*", "a:b"] {
            assert!(!is_plain(name), "{name}");
        }
    }
}
