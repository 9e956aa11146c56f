//! `superserve secrets delete AGENT KEY…`.

use clap::Args;
use serde_json::json;

use crate::{
    cli::{
        agent::AgentArgument,
        client::{Client, NamedAgent},
        context::Context,
        failure::{Exit, Failure},
        output::Output,
        random, refusal,
        settings::ClientArgs,
        similar::nearest,
    },
    domain::SecretName,
    proto::v1::DeleteSecretRequest,
};

/// The arguments of `secrets delete`.
#[derive(Args, Debug)]
pub(crate) struct Delete {
    /// The agent: a name or an `agt_` id; `.` is the one of superserve.yaml
    #[arg(value_name = "AGENT", value_parser = AgentArgument::parse)]
    agent: AgentArgument,
    /// The keys to delete
    #[arg(required = true, value_name = "KEY", value_parser = parse_key)]
    keys: Vec<SecretName>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// A key that is not set is no error
    #[arg(long)]
    allow_missing: bool,
}

fn parse_key(text: &str) -> Result<SecretName, &'static str> {
    SecretName::parse(text).ok_or("a key is letters, digits and underscores, and does not begin with a digit")
}

/// What was done to the keys.
#[derive(Default)]
struct Outcome {
    deleted: Vec<String>,
    not_found: Vec<String>,
    remaining: Vec<String>,
}

impl Delete {
    /// Asks for each key, then deletes them all. One "no" keeps them all.
    ///
    /// # Errors
    /// When it is not confirmed, a key is not set, or the server refuses or fails.
    pub(crate) async fn run(mut self, client: &ClientArgs, context: &mut Context) -> Result<Exit, Failure> {
        let agent = self.agent.resolve(context)?;
        let mut seen = std::collections::HashSet::new();
        self.keys.retain(|key| seen.insert(key.clone()));
        if !self.yes {
            for key in &self.keys {
                let question = format!("Delete secret '{key}' from agent '{}'?", agent.shown());
                context.input.confirm(&mut context.output, &question).await?;
            }
        }
        let client = context.connect(client).await?;
        let agent = agent.find(&client).await?;
        let outcome = self.delete(&client, &agent, &mut context.output).await?;
        report(&mut context.output, &agent, &outcome)?;
        if self.allow_missing || outcome.not_found.is_empty() {
            return Ok(Exit::Fine);
        }
        Err(Failure::new(Exit::Server, "Secret not found.")
            .lines(outcome.not_found.iter().map(|key| with_suggestion(key, &outcome.remaining)))
            .hint("With --allow-missing this is no error."))
    }

    async fn delete(
        &self,
        client: &Client,
        agent: &NamedAgent,
        output: &mut Output,
    ) -> Result<Outcome, Failure> {
        let mut outcome = Outcome::default();
        let mut is_known = false;
        for key in &self.keys {
            match delete_one(client, agent, key).await {
                Ok(remaining) => {
                    outcome.deleted.push(key.as_str().to_owned());
                    outcome.remaining = remaining;
                    is_known = true;
                }
                Err(failure) if failure.reason == refusal::SECRET_NOT_FOUND => {
                    outcome.not_found.push(key.as_str().to_owned());
                }
                Err(failure) => {
                    if !outcome.deleted.is_empty() {
                        output.talk(format!("Deleted before the failure: {}", outcome.deleted.join(", ")));
                    }
                    return Err(failure);
                }
            }
        }
        if !is_known {
            outcome.remaining = super::fetch(client, agent).await?.keys;
        }
        Ok(outcome)
    }
}

async fn delete_one(client: &Client, agent: &NamedAgent, key: &SecretName) -> Result<Vec<String>, Failure> {
    let request = DeleteSecretRequest {
        agent_id: agent.id.clone(),
        key: key.as_str().to_owned(),
        expected_revision: None,
        idempotency_key: random::idempotency_key()?,
    };
    let answer = client.repeatable(|| {
        let (mut secrets, request) = (client.secrets(), request.clone());
        async move { secrets.delete_secret(request).await }
    });
    Ok(answer.await?.keys)
}

/// A key that is not set, and which that is it may stand for.
fn with_suggestion(key: &str, remaining: &[String]) -> String {
    match nearest(key, remaining.iter().map(String::as_str)) {
        Some(meant) => format!("{key}: did you mean {meant}?"),
        None => key.to_owned(),
    }
}

fn report(output: &mut Output, agent: &NamedAgent, outcome: &Outcome) -> Result<(), Failure> {
    let Outcome { deleted, not_found, remaining } = outcome;
    if output.json {
        return output.document(&json!({
            "agent_id": agent.id,
            "deleted": deleted,
            "not_found": not_found,
            "keys": remaining,
        }));
    }
    for key in deleted {
        output.talk(format!("Deleted secret '{key}' from agent '{}'", agent.shown));
    }
    if remaining.is_empty() {
        return output.data(format!("No secrets configured for agent '{}'", agent.shown));
    }
    output.data(format!("Remaining secrets: {}", remaining.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{
        environment::Environment,
        input::Input,
        run_in,
        secrets::sample,
        testing::{Captured, superserve},
    };

    #[test]
    fn tells_what_remains() {
        let captured = Captured::default();
        let remaining = vec!["B".to_owned(), "C".to_owned()];
        let outcome = Outcome { deleted: vec!["A".to_owned()], remaining, ..Outcome::default() };
        report(&mut captured.output(), &sample(), &outcome).unwrap();
        assert_eq!(captured.stdout(), "Remaining secrets: B, C\n");
        assert_eq!(captured.stderr(), "Deleted secret 'A' from agent 'my-agent'\n");
        let captured = Captured::default();
        report(&mut captured.output(), &sample(), &Outcome::default()).unwrap();
        assert_eq!(captured.stdout(), "No secrets configured for agent 'my-agent'\n");
    }

    #[tokio::test]
    async fn asks_in_these_words_and_takes_no_for_an_answer() {
        let captured = Captured::default();
        let mut context = Context {
            environment: Environment::from([]),
            directory: None,
            input: Input::new(&b"y\nn\n"[..], true),
            output: captured.output(),
        };
        let args = ["superserve", "secrets", "delete", "my-agent", "A", "B"].map(Into::into);
        assert_eq!(run_in(args, &mut context).await, Exit::Local);
        let asked =
            "Delete secret 'A' from agent 'my-agent'? (y/N) Delete secret 'B' from agent 'my-agent'? (y/N) ";
        assert_eq!(captured.stderr(), format!("{asked}error: Cancelled: nothing was changed.\n"));
    }

    #[tokio::test]
    async fn what_is_no_key_is_refused_unseen() {
        let outcome = superserve(&["secrets", "delete", "my-agent", "A=sentinel"], [], b"").await;
        assert_eq!(outcome.code, 1);
        assert!(outcome.stderr.contains("a key is letters") && !outcome.stderr.contains("sentinel"));
    }
}
