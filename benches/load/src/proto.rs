//! The service's protos, as `build.rs` makes them.

/// Package `superserve.secrets.v1`.
#[expect(clippy::pedantic, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("superserve.secrets.v1");
}

/// Paths of the calls that are measured.
pub mod path {
    pub const DEPLOY: &str = "/superserve.secrets.v1.AgentsService/DeployAgent";
    pub const SET: &str = "/superserve.secrets.v1.SecretsService/SetSecrets";
    pub const LIST: &str = "/superserve.secrets.v1.SecretsService/ListSecrets";
    pub const DELETE: &str = "/superserve.secrets.v1.SecretsService/DeleteSecret";
    pub const RESOLVE: &str = "/superserve.secrets.v1.RuntimeService/ResolveSecrets";
    pub const CREATE_TOKEN: &str = "/superserve.secrets.v1.TokensService/CreateToken";
}
