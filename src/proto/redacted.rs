//! `Debug` for the messages that carry a value or a token (marked `debug_redact` in the protos).

use std::fmt;

use super::v1::{CreateTokenResponse, ResolveSecretsResponse, RotateTokenResponse, SetSecretsRequest};

const REDACTED: &str = "[redacted]";

impl fmt::Debug for SetSecretsRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            agent_id,
            secrets: _,
            expected_revision,
            idempotency_key,
            validate_only,
            prune,
            previous_for,
        } = self;
        f.debug_struct("SetSecretsRequest")
            .field("agent_id", agent_id)
            .field("secrets", &REDACTED)
            .field("expected_revision", expected_revision)
            .field("idempotency_key", idempotency_key)
            .field("validate_only", validate_only)
            .field("prune", prune)
            .field("previous_for", previous_for)
            .finish()
    }
}

impl fmt::Debug for ResolveSecretsResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { env: _, revision, not_modified } = self;
        f.debug_struct("ResolveSecretsResponse")
            .field("env", &REDACTED)
            .field("revision", revision)
            .field("not_modified", not_modified)
            .finish()
    }
}

impl fmt::Debug for CreateTokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token, text: _ } = self;
        f.debug_struct("CreateTokenResponse").field("token", token).field("text", &REDACTED).finish()
    }
}

impl fmt::Debug for RotateTokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token, text: _, previous } = self;
        f.debug_struct("RotateTokenResponse")
            .field("token", token)
            .field("text", &REDACTED)
            .field("previous", previous)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_do_not_print() {
        let env = [("A".to_owned(), "sentinel".to_owned())];
        let set = SetSecretsRequest { secrets: env.clone().into(), ..Default::default() };
        let resolved = ResolveSecretsResponse { env: env.into(), revision: 1, not_modified: false };
        let token = CreateTokenResponse { token: None, text: "sentinel".to_owned() };
        let rotated = RotateTokenResponse { text: "sentinel".to_owned(), ..Default::default() };
        let printed = format!("{set:?}{resolved:?}{token:?}{rotated:?}");
        assert!(!printed.contains("sentinel"), "{printed}");
    }
}
