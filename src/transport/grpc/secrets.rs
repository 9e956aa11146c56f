//! `SecretsService`.

use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::{check_members, convert, open};
use crate::{
    domain::{Faults, Revision},
    proto::v1::{
        DeleteSecretRequest, DeleteSecretResponse, ListSecretsRequest, ListSecretsResponse, SecretChange,
        SecretWarning, SetSecretsRequest, SetSecretsResponse, secrets_service_server::SecretsService,
    },
    service::{DeleteSecret, RawEntry, Service, SetSecrets, SetSecretsAnswer, Written},
    transport::{error::to_status, timestamp::micros},
};

#[tonic::async_trait]
impl SecretsService for Service {
    async fn set_secrets(
        &self,
        request: Request<SetSecretsRequest>,
    ) -> Result<Response<SetSecretsResponse>, Status> {
        let (call, message) = open(request)?;
        let SetSecretsRequest {
            agent_id,
            secrets,
            expected_revision,
            idempotency_key,
            validate_only,
            prune,
            previous_for,
        } = message;
        let entry = |(key, value)| RawEntry { key, value: Zeroizing::new(value) };
        let mut entries: Vec<_> = secrets.into_iter().map(entry).collect();
        check_members(entries.len())?;
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        let request = SetSecrets {
            agent: agent_id,
            entries,
            faults: Faults::new(),
            expected_revision: expected_revision.map(Revision),
            idempotency_key,
            validate_only,
            prune,
            previous_for: previous_for.map(micros),
        };
        let answer = self.set_secrets(&call, request).await.map_err(|error| to_status(&error))?;
        let SetSecretsAnswer { written: Written { keys, revision }, warnings, changes } = answer;
        let warning = |(key, code)| SecretWarning { key, code };
        let change = |(key, kind)| SecretChange { key, kind: convert::change(kind).into() };
        Ok(Response::new(SetSecretsResponse {
            keys,
            revision,
            warnings: warnings.into_iter().map(warning).collect(),
            changes: changes.into_iter().map(change).collect(),
        }))
    }

    async fn list_secrets(
        &self,
        request: Request<ListSecretsRequest>,
    ) -> Result<Response<ListSecretsResponse>, Status> {
        let (call, ListSecretsRequest { agent_id }) = open(request)?;
        let listing = self.list_secrets(&call, &agent_id).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(ListSecretsResponse {
            keys: listing.secrets.iter().map(|secret| secret.name.to_string()).collect(),
            secrets: listing.secrets.into_iter().map(convert::metadata).collect(),
            revision: listing.revision.0,
        }))
    }

    async fn delete_secret(
        &self,
        request: Request<DeleteSecretRequest>,
    ) -> Result<Response<DeleteSecretResponse>, Status> {
        let (call, message) = open(request)?;
        let DeleteSecretRequest { agent_id, key, expected_revision, idempotency_key } = message;
        let request = DeleteSecret {
            agent: agent_id,
            key,
            expected_revision: expected_revision.map(Revision),
            idempotency_key,
        };
        let answer = self.delete_secret(&call, request).await.map_err(|error| to_status(&error))?;
        let Written { keys, revision } = answer;
        Ok(Response::new(DeleteSecretResponse { keys, revision }))
    }
}
