//! Asks for the values.

use std::collections::BTreeMap;

use tonic::Streaming;
use zeroize::Zeroizing;

use crate::{
    cli::{
        client::Client,
        context::Context,
        failure::{Exit, Failure},
        refusal,
        settings::ClientArgs,
    },
    domain::{RunId, SecretName},
    proto::v1::{ResolveSecretsRequest, ResolveSecretsResponse, WatchSecretsRequest, WatchSecretsResponse},
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

/// Resolves for one run, as often as it is asked.
pub(super) struct Resolver {
    client: Client,
    request: ResolveSecretsRequest,
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
            let is_unreachable = failure.reason == refusal::UNREACHABLE;
            let failure = failure.exiting(Exit::NotRun);
            if is_unreachable {
                failure.hint(
                    "Nothing was started: run the same again when the server answers. Start one with \
                     `superserve serve`, or point to it with --api-url or SUPERSERVE_API_URL.",
                )
            } else {
                failure
            }
        }
    }
}

// === impl Resolver ===

impl Resolver {
    /// Connects and finds the agent.
    ///
    /// # Errors
    /// When the server cannot be reached or there is no such agent.
    pub(super) async fn connect(
        agent: &str,
        run_id: Option<&RunId>,
        only: &[SecretName],
        client: &ClientArgs,
        context: &mut Context,
    ) -> Result<Self, Failure> {
        let client = context.connect(client).await?;
        let request = ResolveSecretsRequest {
            agent_id: client.find_agent(agent).await?.id,
            run_id: run_id.map(|id| id.as_str().to_owned()),
            only: only.iter().map(|key| key.as_str().to_owned()).collect(),
            if_revision_not: None,
        };
        Ok(Self { client, request })
    }

    /// The values as they are now.
    ///
    /// # Errors
    /// [`Exit::Missing`] when required secrets are; when the server refuses or fails.
    pub(super) async fn resolve(&self) -> Result<Resolved, Failure> {
        let answer = self.client.repeatable(|| {
            let (mut runtime, request) = (self.client.runtime(), self.request.clone());
            async move { runtime.resolve_secrets(request).await }
        });
        let ResolveSecretsResponse { env, revision, not_modified: _ } = answer.await?;
        let values = env.into_iter().map(|(key, value)| (key, Zeroizing::new(value))).collect();
        Ok(Resolved { revision, values })
    }

    /// The agent's revisions from now on.
    ///
    /// # Errors
    /// When the server refuses or fails.
    pub(super) async fn watch(&self) -> Result<Streaming<WatchSecretsResponse>, Failure> {
        let request = WatchSecretsRequest { agent_id: self.request.agent_id.clone() };
        self.client.once(self.client.runtime().watch_secrets(request)).await
    }
}
