//! `superserve agents deploy NAME`.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::{
    requirements::{self, Changes},
    runner_token::RunnerToken,
};
use crate::{
    cli::{
        agent::OF_PROJECT,
        client::Client,
        context::Context,
        failure::{Exit, Failure},
        faults,
        output::Output,
        project::{self, Project},
        refusal,
        settings::ClientArgs,
    },
    domain::{self, AgentName, Command, Fault, Faults, SecretName},
    proto::v1::{Agent, DeployAgentRequest, DeployAgentResponse, RequiredSecret},
};

/// The arguments of `agents deploy`.
#[derive(Args, Debug)]
pub(crate) struct Deploy {
    /// The agent's name; left out, or `.`: name, command and secrets of superserve.yaml
    #[arg(default_value = OF_PROJECT)]
    name: String,
    /// The command line that runs it, for the platform's use; before that of superserve.yaml
    #[arg(long, value_name = "CMD")]
    command: Option<String>,
    /// A key that a run requires, beside those of superserve.yaml; may be given again, or with commas. What an earlier
    /// deploy required and this one does not is required no longer
    #[arg(long = "require", value_name = "KEY", value_delimiter = ',')]
    required: Vec<String>,
    /// Do not ask before an agent that required something requires nothing
    #[arg(long, short)]
    yes: bool,
    /// Also make a token that may run this agent and nothing else, and write it to this file, which is not there yet
    #[arg(long, value_name = "FILE")]
    runner_token: Option<PathBuf>,
}

/// What the agent required before.
enum Before {
    /// There was no such agent, or it required this.
    Required(Vec<RequiredSecret>),
    /// The token may deploy agents and not read them.
    Unreadable,
}

// === impl Deploy ===

impl Deploy {
    /// Creates or updates the agent. Doing so again changes nothing, so the call is repeatable.
    ///
    /// # Errors
    /// When the input is invalid, or the server refuses or fails.
    pub(crate) async fn run(self, client: &ClientArgs, context: &mut Context) -> Result<Exit, Failure> {
        let faults = self.faults();
        if !faults.is_empty() {
            let lines = faults.iter().map(faults::describe_local);
            return Err(
                Failure::local("The agent cannot be deployed like this; nothing was sent.").lines(lines)
            );
        }
        let runner_token = self.runner_token.as_deref().map(RunnerToken::at).transpose()?;
        let is_confirmed = self.yes;
        let request = self.request(context)?;
        let client = context.connect(client).await?;
        let before = Before::read(&client, &request.name).await?;
        if !is_confirmed {
            before.confirm(&request, context).await?;
        }
        let answer = client.repeatable(|| {
            let (mut agents, request) = (client.agents(), request.clone());
            async move { agents.deploy_agent(request).await }
        });
        let answer = answer.await?;
        let agent = answer.agent.clone().unwrap_or_default();
        report(&mut context.output, answer, &before)?;
        if let Some(token) = runner_token {
            token.make(&client, &agent, &mut context.output).await?;
        }
        Ok(Exit::Fine)
    }

    /// What is asked for: what the file says if none is named, and what the flags say.
    fn request(self, context: &mut Context) -> Result<DeployAgentRequest, Failure> {
        let Self { name, command, required, .. } = self;
        let Project { name, command: of_file, secrets } = if name == OF_PROJECT {
            project::of(context)?
        } else {
            Project { name, command: None, secrets: Vec::new() }
        };
        let more = required.into_iter().filter(|name| secrets.iter().all(|secret| secret.name != *name));
        let more: Vec<_> = more.map(|name| RequiredSecret { name, ..RequiredSecret::default() }).collect();
        let required_secrets = secrets.into_iter().map(to_wire).chain(more).collect();
        Ok(DeployAgentRequest { name, command: command.or(of_file), required_secrets })
    }

    fn faults(&self) -> Faults {
        let limits = faults::form();
        let name = AgentName::new(&self.name).err().map(|code| Fault::new("NAME", code));
        let command = self.command.as_deref().and_then(|command| Command::new(command).err());
        let command = command.map(|code| Fault::new("--command", code));
        let keys = self.required.iter().filter_map(|key| {
            SecretName::new(key, &limits).err().map(|code| Fault::new(format!("--require {key}"), code))
        });
        name.into_iter().chain(command).chain(keys).collect()
    }
}

// === impl Before ===

impl Before {
    /// Reads the agent of this name, if there is one.
    ///
    /// # Errors
    /// When the server fails, or refuses for another reason than that the token may not read.
    async fn read(client: &Client, name: &str) -> Result<Self, Failure> {
        match client.pages(1, |page_token| client.agents_page(name, page_token)).await {
            Ok(agents) => {
                let agent = agents.into_iter().find(|agent| agent.name == name);
                Ok(Self::Required(agent.map(|agent| agent.required_secrets).unwrap_or_default()))
            }
            Err(failure) if failure.reason == refusal::PERMISSION_DENIED => Ok(Self::Unreadable),
            Err(failure) => Err(failure),
        }
    }

    /// Asks, where there is somebody to ask, before all that was required is dropped: it is easily done by a deploy that is
    /// about something else.
    ///
    /// # Errors
    /// When the answer is no.
    async fn confirm(&self, request: &DeployAgentRequest, context: &mut Context) -> Result<(), Failure> {
        let Self::Required(before) = self else { return Ok(()) };
        if before.is_empty() || !request.required_secrets.is_empty() || !context.input.is_terminal {
            return Ok(());
        }
        let names: Vec<_> = before.iter().map(requirements::shown).collect();
        let question = format!("No longer require {} of agent '{}'?", names.join(", "), request.name);
        context.input.confirm(&mut context.output, &question).await
    }

    /// Says what is required now and was not, and the other way round.
    fn tell_changes(&self, agent: &Agent, output: &mut Output) {
        match self {
            Self::Required(before) => Changes::between(before, &agent.required_secrets).tell(output),
            Self::Unreadable => output.talk(
                "What this changed of what is required is not known: the token lacks the scope 'agents:read'.",
            ),
        }
    }
}

fn to_wire(secret: domain::RequiredSecret) -> RequiredSecret {
    let domain::RequiredSecret { name, description, pattern, min_length, optional } = secret;
    RequiredSecret { name, description, pattern, min_length, optional }
}

fn report(output: &mut Output, answer: DeployAgentResponse, before: &Before) -> Result<(), Failure> {
    let DeployAgentResponse { agent, created } = answer;
    let agent = agent.unwrap_or_default();
    if output.json {
        let mut document = super::document(&agent);
        if let Some(fields) = document.as_object_mut() {
            fields.insert("created".to_owned(), Value::from(created));
        }
        output.document(&document)?;
    } else {
        let verb = if created { "Created" } else { "Updated" };
        output.data(format!("{verb} agent '{}' ({})", agent.name, agent.id))?;
    }
    if !created {
        before.tell_changes(&agent, output);
    }
    let Agent { name, missing_secrets, .. } = agent;
    if !missing_secrets.is_empty() {
        output.talk(format!("Required secrets that are not set: {}", missing_secrets.join(", ")));
        output.talk(format!("Set them with `superserve secrets set '{name}'`."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{Captured, superserve};

    #[test]
    fn tells_new_from_updated_and_what_is_missing() {
        for (created, line) in
            [(true, "Created agent 'my-agent' (agt_1)\n"), (false, "Updated agent 'my-agent' (agt_1)\n")]
        {
            let captured = Captured::default();
            let answer = DeployAgentResponse { agent: Some(super::super::sample()), created };
            let before = Before::Required(super::super::sample().required_secrets);
            report(&mut captured.output(), answer, &before).unwrap();
            assert_eq!(captured.stdout(), line);
            assert!(!captured.stderr().contains("required:"), "nothing changed: {}", captured.stderr());
            assert!(captured.stderr().contains("not set: B\n"), "{}", captured.stderr());
        }
    }

    #[tokio::test]
    async fn all_that_is_invalid_is_told_before_anything_is_sent() {
        let outcome =
            superserve(&["agents", "deploy", "agt_x", "--require", "A,1B", "--require=PATH"], [], b"").await;
        assert_eq!(outcome.code, 1);
        for line in
            ["NAME: is not a valid name", "--require 1B: a key is letters", "--require PATH: this name"]
        {
            assert!(outcome.stderr.contains(line), "{}", outcome.stderr);
        }
    }
}
