//! `AgentsService`.

use tonic::{Request, Response, Status};

use super::{convert, open};
use crate::{
    domain::Faults,
    proto::v1::{
        DeleteAgentRequest, DeleteAgentResponse, DeployAgentRequest, DeployAgentResponse, GetAgentRequest,
        GetAgentResponse, ListAgentsRequest, ListAgentsResponse, agents_service_server::AgentsService,
    },
    service::{NewAgent, Service},
    transport::error::to_status,
};

#[tonic::async_trait]
impl AgentsService for Service {
    async fn deploy_agent(
        &self,
        request: Request<DeployAgentRequest>,
    ) -> Result<Response<DeployAgentResponse>, Status> {
        let (call, DeployAgentRequest { name, command, required_secrets }) = open(request)?;
        let new = NewAgent {
            name: Ok(name),
            command: command.unwrap_or_default(),
            required_secrets: required_secrets.into_iter().map(convert::from_required_secret).collect(),
            faults: Faults::new(),
        };
        let deployed = self.deploy_agent(&call, new).await.map_err(|error| to_status(&error))?;
        let agent = Some(convert::agent(deployed.agent));
        Ok(Response::new(DeployAgentResponse { agent, created: deployed.created }))
    }

    async fn get_agent(
        &self,
        request: Request<GetAgentRequest>,
    ) -> Result<Response<GetAgentResponse>, Status> {
        let (call, GetAgentRequest { agent_id }) = open(request)?;
        let agent = self.get_agent(&call, &agent_id).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(GetAgentResponse { agent: Some(convert::agent(agent)) }))
    }

    async fn list_agents(
        &self,
        request: Request<ListAgentsRequest>,
    ) -> Result<Response<ListAgentsResponse>, Status> {
        let (call, ListAgentsRequest { page_size, page_token, name }) = open(request)?;
        let size = convert::page_size(page_size);
        let page =
            self.list_agents(&call, &name, size, &page_token).await.map_err(|error| to_status(&error))?;
        let agents = page.rows.into_iter().map(convert::agent).collect();
        Ok(Response::new(ListAgentsResponse { agents, next_page_token: page.next_page_token }))
    }

    async fn delete_agent(
        &self,
        request: Request<DeleteAgentRequest>,
    ) -> Result<Response<DeleteAgentResponse>, Status> {
        let (call, DeleteAgentRequest { agent_id }) = open(request)?;
        self.delete_agent(&call, &agent_id).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(DeleteAgentResponse {}))
    }
}
