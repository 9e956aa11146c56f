//! Asks for the values.

use std::collections::BTreeMap;

use tonic::Streaming;
use zeroize::Zeroizing;

use crate::{
    cli::{
        agent::{AgentArgument, AgentRef},
        client::{Client, NamedAgent},
        context::Context,
        failure::{Exit, Failure},
        refusal,
        settings::{ClientArgs, FoundToken, Server},
    },
    client,
    domain::{RunId, SecretName},
    proto::v1::{ResolveSecretsRequest, WatchSecretsRequest, WatchSecretsResponse},
};

/// Values by their names.
pub(super) type Values = BTreeMap<String, Zeroizing<String>>;

/// Values of one revision.
pub(super) struct Resolved {
    /// The agent's revision.
    pub(super) revision: i64,
    /// All that was asked for.
    pub(super) values: Values,
}

/// Whose values are resolved, by whom and where: all that is known before there is a connection.
pub(super) struct Plan {
    server: Server,
    token: FoundToken,
    agent: AgentRef,
    run_id: RunId,
}

/// Resolves for one run, as often as it is asked.
pub(super) struct Resolver {
    client: Client,
    request: ResolveSecretsRequest,
    /// The agent as the person named it.
    shown: String,
}

/// 125, as other programs that run programs do: the command's own codes must stay recognisable.
pub(super) fn not_run(failure: Failure) -> Failure {
    match failure.exit {
        Exit::Missing | Exit::Interrupted => failure,
        Exit::Fine
        | Exit::Local
        | Exit::Server
        | Exit::Conflict
        | Exit::NotRun
        | Exit::NotExecutable
        | Exit::NotFound
        | Exit::Command(_) => {
            let failure = failure.exiting(Exit::NotRun);
            match failure.reason.as_str() {
                refusal::TIMED_OUT => failure.hint("Nothing was started: it is safe to run the same again."),
                refusal::UNREACHABLE | refusal::UNAVAILABLE => {
                    failure.hint_first("Nothing was started: run the same again when the server answers.")
                }
                _ => failure,
            }
        }
    }
}

// === impl Plan ===

impl Plan {
    /// Reads settings and files, and tells of them: once, however often a connection is tried.
    ///
    /// # Errors
    /// When nobody is logged in, or no agent is named.
    pub(super) fn make(
        agent: &AgentArgument,
        run_id: RunId,
        client: &ClientArgs,
        context: &mut Context,
    ) -> Result<Self, Failure> {
        let agent = agent.resolve(context)?;
        let (server, token) = context.destination(client)?;
        Ok(Self { server, token, agent, run_id })
    }
}

// === impl Resolver ===

impl Resolver {
    /// Connects and finds the agent.
    ///
    /// # Errors
    /// When the server cannot be reached or there is no such agent.
    pub(super) async fn connect(plan: &Plan, only: &[SecretName]) -> Result<Self, Failure> {
        let Plan { server, token, agent, run_id } = plan;
        let client = Client::connect(server, token).await?;
        let NamedAgent { id, shown } = agent.find(&client).await?;
        let request = ResolveSecretsRequest {
            agent_id: id,
            run_id: Some(run_id.as_str().to_owned()),
            only: only.iter().map(|key| key.as_str().to_owned()).collect(),
            if_revision_not: None,
        };
        Ok(Self { client, request, shown })
    }

    /// The values as they are now.
    ///
    /// # Errors
    /// [`Exit::Missing`] when required secrets are; when the server refuses or fails.
    pub(super) async fn resolve(&self) -> Result<Resolved, Failure> {
        let answer = self.client.resolve(self.request.clone()).await;
        let client::Resolved { revision, values, not_modified: _ } =
            answer.map_err(|failure| self.advise(failure, "secrets:resolve"))?;
        let values = values.into_iter().map(|(key, value)| (key, value.into_exposed())).collect();
        Ok(Resolved { revision, values })
    }

    /// The agent's revisions from now on.
    ///
    /// # Errors
    /// When the server refuses or fails.
    pub(super) async fn watch(&self) -> Result<Streaming<WatchSecretsResponse>, Failure> {
        let request = WatchSecretsRequest { agent_id: self.request.agent_id.clone() };
        let stream = self.client.once(self.client.runtime().watch_secrets(request)).await;
        stream.map_err(|failure| self.advise(failure, "secrets:list"))
    }

    /// Says what to do about a failure, with the agent's name in it.
    fn advise(&self, failure: Failure, scope: &str) -> Failure {
        let agent = &self.shown;
        if failure.exit == Exit::Missing {
            return failure.hint(format!("Set them with `superserve secrets set '{agent}'`."));
        }
        if failure.reason != refusal::PERMISSION_DENIED {
            return failure;
        }
        let others = if scope == "secrets:list" { "secrets:resolve," } else { "" };
        failure.hint(format!(
            "The token lacks the scope '{scope}', or does not reach this agent. Make one that does: `superserve \
             tokens create --name runner --scope {scope},{others}agents:read --agent '{agent}'`."
        ))
    }
}
