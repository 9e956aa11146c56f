//! `RuntimeService`.

use futures_util::{StreamExt as _, stream::BoxStream};
use tonic::{Request, Response, Status};

use super::{check_members, open};
use crate::{
    domain::Revision,
    proto::v1::{
        CheckRequiredSecretsRequest, CheckRequiredSecretsResponse, ResolveSecretsRequest,
        ResolveSecretsResponse, WatchSecretsRequest, WatchSecretsResponse,
        runtime_service_server::RuntimeService,
    },
    service::{Environment, Resolve, Service},
    transport::error::to_status,
};

#[tonic::async_trait]
impl RuntimeService for Service {
    async fn check_required_secrets(
        &self,
        request: Request<CheckRequiredSecretsRequest>,
    ) -> Result<Response<CheckRequiredSecretsResponse>, Status> {
        let (call, CheckRequiredSecretsRequest { agent_id }) = open(request)?;
        let (missing, revision) =
            self.check_required(&call, &agent_id).await.map_err(|error| to_status(&error))?;
        let missing = missing.iter().map(ToString::to_string).collect();
        Ok(Response::new(CheckRequiredSecretsResponse { missing, revision: revision.0 }))
    }

    async fn resolve_secrets(
        &self,
        request: Request<ResolveSecretsRequest>,
    ) -> Result<Response<ResolveSecretsResponse>, Status> {
        let (call, ResolveSecretsRequest { agent_id, run_id, only, if_revision_not }) = open(request)?;
        check_members(only.len())?;
        let request = Resolve {
            agent: agent_id,
            run_id: run_id.unwrap_or_default(),
            only,
            if_revision_not: if_revision_not.map(Revision),
        };
        let environment = self.resolve(&call, request).await.map_err(|error| to_status(&error))?;
        let Environment { values, revision, not_modified } = environment;
        // The one place where a value leaves. The copies in the answer's buffers cannot be wiped
        let env = values.iter().map(|(name, value)| (name.to_string(), value.expose().to_owned())).collect();
        Ok(Response::new(ResolveSecretsResponse { env, revision: revision.0, not_modified }))
    }

    type WatchSecretsStream = BoxStream<'static, Result<WatchSecretsResponse, Status>>;

    async fn watch_secrets(
        &self,
        request: Request<WatchSecretsRequest>,
    ) -> Result<Response<Self::WatchSecretsStream>, Status> {
        let (call, WatchSecretsRequest { agent_id }) = open(request)?;
        let revisions = self.watch(&call, &agent_id).await.map_err(|error| to_status(&error))?;
        let told = revisions.map(|revision| match revision {
            Ok(revision) => Ok(WatchSecretsResponse { revision: revision.0 }),
            Err(error) => Err(to_status(&error)),
        });
        Ok(Response::new(told.boxed()))
    }
}
