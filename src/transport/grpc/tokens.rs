//! `TokensService`.

use tonic::{Request, Response, Status};

use super::{check_members, convert, open};
use crate::{
    proto::v1::{
        CreateTokenRequest, CreateTokenResponse, ListTokensRequest, ListTokensResponse, RevokeTokenRequest,
        RevokeTokenResponse, RotateTokenRequest, RotateTokenResponse, WhoAmIRequest, WhoAmIResponse,
        tokens_service_server::TokensService,
    },
    service::{NewToken, Rotated, Service},
    transport::{error::to_status, timestamp},
};

#[tonic::async_trait]
impl TokensService for Service {
    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let (call, CreateTokenRequest { name, scopes, agent_ids, expires_at, email }) = open(request)?;
        check_members(scopes.len() + agent_ids.len())?;
        let expires_at = expires_at.as_ref().map(timestamp::from_wire);
        let new = NewToken { name, scopes, agent_ids, expires_at, email };
        let (record, text) = self.create_token(&call, new).await.map_err(|error| to_status(&error))?;
        let token = Some(convert::token(record));
        Ok(Response::new(CreateTokenResponse { token, text: text.expose().to_owned() }))
    }

    async fn list_tokens(
        &self,
        request: Request<ListTokensRequest>,
    ) -> Result<Response<ListTokensResponse>, Status> {
        let (call, ListTokensRequest { page_size, page_token }) = open(request)?;
        let size = convert::page_size(page_size);
        let page = self.list_tokens(&call, size, &page_token).await.map_err(|error| to_status(&error))?;
        let tokens = page.rows.into_iter().map(convert::listed_token).collect();
        Ok(Response::new(ListTokensResponse { tokens, next_page_token: page.next_page_token }))
    }

    async fn rotate_token(
        &self,
        request: Request<RotateTokenRequest>,
    ) -> Result<Response<RotateTokenResponse>, Status> {
        let (call, RotateTokenRequest { token_id, overlap }) = open(request)?;
        let overlap = overlap.map_or(0, timestamp::micros);
        let rotated = self.rotate_token(&call, &token_id, overlap).await;
        let Rotated { token, text, previous } = rotated.map_err(|error| to_status(&error))?;
        Ok(Response::new(RotateTokenResponse {
            token: Some(convert::token(token)),
            text: text.expose().to_owned(),
            previous: Some(convert::token(previous)),
        }))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        let (call, RevokeTokenRequest { token_id }) = open(request)?;
        let record = self.revoke_token(&call, &token_id).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(RevokeTokenResponse { token: Some(convert::token(record)) }))
    }

    async fn who_am_i(&self, request: Request<WhoAmIRequest>) -> Result<Response<WhoAmIResponse>, Status> {
        let (call, WhoAmIRequest {}) = open(request)?;
        let tenant = call.tenant().to_string();
        Ok(Response::new(WhoAmIResponse {
            token: Some(convert::token(call.principal.token.as_ref().clone())),
            tenant,
        }))
    }
}
