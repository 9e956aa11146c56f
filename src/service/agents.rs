//! Deploy, read, list and delete agents.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::{Call, Error, PageOf, Service, page_token};
use crate::{
    crypto::{DataKey, Owner},
    domain::{
        Action, Agent, AgentId, AgentName, AgentScope, Command, Fault, FaultCode, Faults, RequiredSecret,
        Scope,
    },
    store::{Deployment, Tx, WrappedKeyRow},
};

/// What to deploy, as the caller wrote it.
#[derive(Debug)]
pub struct NewAgent {
    /// Its name, or what was wrong with it already when it was read.
    pub name: Result<String, Fault>,
    /// The command that runs it; empty for none.
    pub command: String,
    /// What it requires.
    pub required_secrets: Vec<RequiredSecret>,
    /// What else was wrong when it was read.
    pub faults: Faults,
}

/// What was deployed.
#[derive(Debug)]
pub struct Deployed {
    /// The agent as it is now.
    pub agent: Agent,
    /// Whether it is new.
    pub created: bool,
}

impl Service {
    /// Creates an agent, or updates the one of this name, which keeps its id and its secrets.
    ///
    /// A pattern declared anew is not held against values that are set already: trying patterns on a value
    /// would be a way to read it.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] without `agents:write`, and for a token limited to other agents;
    /// [`Error::Invalid`] with all faults; [`Error::TenantNotFound`]; [`Error::Kms`] for a new agent, when who wraps its
    /// data key does not answer; [`Error::Store`].
    pub async fn deploy_agent(&self, call: &Call, new: NewAgent) -> Result<Deployed, Error> {
        call.needs(Scope::AgentsWrite)?;
        let deployment = Arc::new(self.prepare(call, new).await?);
        let scope = &call.principal.token.grant.agents;
        // It keeps its data key, so none is wrapped, for which a provider may have to be called
        if self.parts.store.has_agent(&deployment.tenant, scope, &deployment.name).await?
            && let Some(deployed) = self.redeploy(call, &deployment).await?
        {
            return Ok(deployed);
        }
        // Nobody may touch a new agent who is limited to some
        if *scope != AgentScope::All {
            return Err(Error::PermissionDenied { required: Scope::AgentsWrite });
        }
        let Deployment { id, tenant, .. } = &*deployment;
        let data_key = DataKey::generate(&self.parts.random)?;
        let wrapped = self.parts.keyring.get().wrap(&data_key, Owner { tenant, agent: id }).await?;
        let key = Arc::new(WrappedKeyRow { kek: wrapped.kek, bytes: wrapped.bytes });
        let (service, call) = (self.clone(), call.clone());
        self.write(move |tx| {
            let (service, call) = (service.clone(), call.clone());
            let (deployment, key) = (Arc::clone(&deployment), Arc::clone(&key));
            async move {
                call.hold_tenant(tx).await?;
                let (agent, created) = tx.deploy(&deployment, &key).await?;
                service.record_deploy(tx, &call, agent, created).await
            }
            .boxed()
        })
        .await
    }

    /// Updates the agent of this name; `None` if it is gone.
    async fn redeploy(&self, call: &Call, deployment: &Arc<Deployment>) -> Result<Option<Deployed>, Error> {
        let (service, call, deployment) = (self.clone(), call.clone(), Arc::clone(deployment));
        self.write(move |tx| {
            let (service, call, deployment) = (service.clone(), call.clone(), Arc::clone(&deployment));
            async move {
                call.hold_tenant(tx).await?;
                let Some(agent) = tx.redeploy(&deployment).await? else { return Ok(None) };
                service.record_deploy(tx, &call, agent, false).await.map(Some)
            }
            .boxed()
        })
        .await
    }

    async fn prepare(&self, call: &Call, new: NewAgent) -> Result<Deployment, Error> {
        let NewAgent { name, command, required_secrets, mut faults } = new;
        let name = name
            .and_then(|name| AgentName::new(&name).map_err(|code| Fault::new("name", code)))
            .map_err(|fault| faults.push(fault));
        let command = Command::new(&command).map_err(|code| faults.push(Fault::new("command", code)));
        let (required_secrets, checked) = self.check_required_secrets(required_secrets).await?;
        faults.extend(checked.err().unwrap_or_default());
        let (Ok(name), Ok(command), true) = (name, command, faults.is_empty()) else {
            return Err(Error::Invalid(faults));
        };
        let id = AgentId::from_random(self.parts.random.id_bits()?);
        let tenant = call.tenant().clone();
        Ok(Deployment { id, tenant, name, command, required_secrets, at: self.parts.clock.now() })
    }

    /// Checks declarations and gives them back. Their patterns have to be compiled for it.
    async fn check_required_secrets(
        &self,
        declared: Vec<RequiredSecret>,
    ) -> Result<(Vec<RequiredSecret>, Result<(), Faults>), Error> {
        let limits = self.parts.limits.clone();
        if !declared.iter().any(RequiredSecret::has_pattern) {
            let checked = RequiredSecret::check_all(&declared, &limits);
            return Ok((declared, checked));
        }
        let check = move || {
            let checked = RequiredSecret::check_all(&declared, &limits);
            (declared, checked)
        };
        self.parts.heavy.run(check).await
    }

    async fn record_deploy(
        &self,
        tx: &Tx,
        call: &Call,
        agent: Agent,
        created: bool,
    ) -> Result<Deployed, Error> {
        if !call.principal.token.grant.agents.allows(&agent.id) {
            return Err(Error::PermissionDenied { required: Scope::AgentsWrite });
        }
        let mut event = self.event(call, Action::AgentDeploy, Some(&agent.id))?;
        event.revision = agent.revision;
        tx.record(&event).await?;
        Ok(Deployed { agent, created })
    }

    /// Reads an agent.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] without `agents:read`; [`Error::AgentNotFound`]; [`Error::Store`].
    pub async fn get_agent(&self, call: &Call, agent: &str) -> Result<Agent, Error> {
        let id = call.needs_on(Scope::AgentsRead, agent)?;
        self.parts.store.agent(call.tenant(), &id).await?.ok_or(Error::AgentNotFound)
    }

    /// Lists the agents that the token may see, by name; only the one of exactly this name, if it is given.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] without `agents:read`; [`Error::Invalid`] for a page token that is not of
    /// this list; [`Error::Store`].
    pub async fn list_agents(
        &self,
        call: &Call,
        name: &str,
        page_size: u32,
        page_token: &str,
    ) -> Result<PageOf<Agent>, Error> {
        call.needs(Scope::AgentsRead)?;
        let page = page_token::request(page_size, page_token, Some)?;
        let name = Some(name).filter(|name| !name.is_empty());
        // PostgreSQL cannot store a NUL in text, so no agent has such a name
        if name.is_some_and(|name| name.contains('\0'))
            || page.after.as_ref().is_some_and(|it| it.contains('\0'))
        {
            return Err(Error::invalid(Fault::new("name", FaultCode::InvalidName)));
        }
        let scope = &call.principal.token.grant.agents;
        let page = self.parts.store.agents(call.tenant(), scope, name, &page).await?;
        Ok(page_token::page(page, |name| name))
    }

    /// Deletes an agent, its secrets and its data key.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] without `agents:write`; [`Error::AgentNotFound`]; [`Error::Store`].
    pub async fn delete_agent(&self, call: &Call, agent: &str) -> Result<(), Error> {
        let id = call.needs_on(Scope::AgentsWrite, agent)?;
        let (service, call, deleted) = (self.clone(), call.clone(), id.clone());
        let written = self.write(move |tx| {
            let (service, call, id) = (service.clone(), call.clone(), deleted.clone());
            async move { service.apply_delete_agent(tx, &call, &id).await }.boxed()
        });
        written.await?;
        self.tell_watchers(&id, None);
        Ok(())
    }

    async fn apply_delete_agent(&self, tx: &Tx, call: &Call, id: &AgentId) -> Result<(), Error> {
        let agent = tx.lock_agent(call.tenant(), id).await?.ok_or(Error::AgentNotFound)?;
        tx.delete_agent(&agent.id).await?;
        let mut event = self.event(call, Action::AgentDelete, Some(&agent.id))?;
        event.revision = agent.revision;
        Ok(tx.record(&event).await?)
    }
}
