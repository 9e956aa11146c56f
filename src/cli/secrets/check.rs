//! `superserve secrets check AGENT`.

use clap::Args;
use serde_json::json;

use crate::{
    cli::{
        agent::{AgentArgument, OF_PROJECT},
        client::NamedAgent,
        context::Context,
        failure::{Exit, Failure},
        output::Output,
        settings::ClientArgs,
    },
    proto::v1::{CheckRequiredSecretsRequest, CheckRequiredSecretsResponse},
};

/// The arguments of `secrets check`.
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// The agent: a name or an `agt_` id; `.` is the one of superserve.yaml
    #[arg(value_name = "AGENT", default_value = OF_PROJECT, value_parser = AgentArgument::parse)]
    agent: AgentArgument,
}

impl Check {
    /// Ends with [`Exit::Missing`] unless a run may start.
    ///
    /// # Errors
    /// When the server refuses or fails.
    pub(crate) async fn run(self, client: &ClientArgs, context: &mut Context) -> Result<Exit, Failure> {
        let agent = self.agent.resolve(context)?;
        let client = context.connect(client).await?;
        let agent = agent.find(&client).await?;
        let answer = client.repeatable(|| {
            let (mut runtime, agent_id) = (client.runtime(), agent.id.clone());
            async move { runtime.check_required_secrets(CheckRequiredSecretsRequest { agent_id }).await }
        });
        report(&mut context.output, &agent, &answer.await?)
    }
}

fn report(
    output: &mut Output,
    agent: &NamedAgent,
    answer: &CheckRequiredSecretsResponse,
) -> Result<Exit, Failure> {
    let CheckRequiredSecretsResponse { missing, revision } = answer;
    let NamedAgent { id, shown } = agent;
    if output.json {
        output.document(&json!({ "agent_id": id, "missing": missing, "revision": revision }))?;
    } else if missing.is_empty() {
        output.data(format!("All required secrets are set for agent '{shown}'"))?;
    } else {
        output.data(format!("Missing secrets for agent '{shown}':\n  - {}", missing.join("\n  - ")))?;
    }
    if missing.is_empty() {
        return Ok(Exit::Fine);
    }
    output.talk(format!("Set them with `superserve secrets set '{shown}'`."));
    Ok(Exit::Missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{secrets::sample, testing::Captured};

    #[test]
    fn missing_secrets_are_listed_and_counted_as_such() {
        let captured = Captured::default();
        let answer =
            CheckRequiredSecretsResponse { missing: vec!["A".to_owned(), "B".to_owned()], revision: 1 };
        assert_eq!(report(&mut captured.output(), &sample(), &answer).unwrap(), Exit::Missing);
        assert_eq!(captured.stdout(), "Missing secrets for agent 'my-agent':\n  - A\n  - B\n");
    }

    #[test]
    fn nothing_missing_is_fine() {
        let captured = Captured::default();
        let answer = CheckRequiredSecretsResponse::default();
        assert_eq!(report(&mut captured.output(), &sample(), &answer).unwrap(), Exit::Fine);
        assert_eq!(captured.stdout(), "All required secrets are set for agent 'my-agent'\n");
        assert_eq!(captured.stderr(), "");
    }
}
