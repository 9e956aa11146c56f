//! `AuditService`.

use tonic::{Request, Response, Status};

use super::{convert, open};
use crate::{
    proto::v1::{
        ListAuditEventsRequest, ListAuditEventsResponse, ListRunsRequest, ListRunsResponse,
        audit_service_server::AuditService,
    },
    service::{ListRuns, Service},
    transport::{error::to_status, timestamp::from_wire},
};

#[tonic::async_trait]
impl AuditService for Service {
    async fn list_audit_events(
        &self,
        request: Request<ListAuditEventsRequest>,
    ) -> Result<Response<ListAuditEventsResponse>, Status> {
        let (call, ListAuditEventsRequest { agent_id, page_size, page_token }) = open(request)?;
        let size = convert::page_size(page_size);
        let page =
            self.list_events(&call, &agent_id, size, &page_token).await.map_err(|error| to_status(&error))?;
        let events = page.rows.into_iter().map(convert::event).collect();
        Ok(Response::new(ListAuditEventsResponse { events, next_page_token: page.next_page_token }))
    }

    async fn list_runs(
        &self,
        request: Request<ListRunsRequest>,
    ) -> Result<Response<ListRunsResponse>, Status> {
        let (call, ListRunsRequest { agent_id, page_size, page_token, key, stale, since }) = open(request)?;
        let page_size = convert::page_size(page_size);
        let since = since.as_ref().map(from_wire);
        let request = ListRuns { agent: agent_id, key, stale, since, page_size, page_token };
        let page = self.list_runs(&call, request).await.map_err(|error| to_status(&error))?;
        let runs = page.rows.into_iter().map(convert::run).collect();
        Ok(Response::new(ListRunsResponse { runs, next_page_token: page.next_page_token }))
    }
}
