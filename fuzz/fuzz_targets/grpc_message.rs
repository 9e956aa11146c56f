//! Messages of gRPC, decoded and turned into what the service works with. None of them shows a value when it is logged.
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use prost::Message;
use superserve::{
    domain::{AgentId, AgentName, Limits, SecretName, SecretValue, Timestamp, TokenGrant, TokenId},
    proto::v1::{
        CreateTokenRequest, DeleteSecretRequest, DeployAgentRequest, ListAuditEventsRequest,
        ResolveSecretsRequest, ResolveSecretsResponse, RevokeTokenRequest, RotateTokenRequest,
        SetSecretsRequest,
    },
};

/// In the place of each value, so that it is known when it is seen.
const SENTINEL: &str = "sentinel-8c1f2e";

fn decoded<M: Message + Default + Debug>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    // What was understood is understood again
    let again = M::decode(message.encode_to_vec().as_slice()).expect("its own bytes");
    assert_eq!(format!("{message:?}").len(), format!("{again:?}").len());
    Some(message)
}

fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = data.split_first() else { return };
    let limits = Limits::default();
    match which % 7 {
        0 => {
            let Some(mut message) = decoded::<SetSecretsRequest>(bytes) else { return };
            for (name, value) in &mut message.secrets {
                let _name = SecretName::new(name, &limits);
                let _value = SecretValue::new(value.clone(), &limits);
                SENTINEL.clone_into(value);
            }
            assert!(!format!("{message:?}").contains(SENTINEL));
        }
        1 => {
            let Some(message) = decoded::<DeployAgentRequest>(bytes) else { return };
            let _name = AgentName::new(&message.name);
        }
        2 => {
            let Some(message) = decoded::<CreateTokenRequest>(bytes) else { return };
            let CreateTokenRequest { name, scopes, agent_ids, email, .. } = message;
            let _grant = TokenGrant::new(name, &scopes, &agent_ids, email, None, Timestamp(0));
        }
        3 => {
            let Some(message) = decoded::<ResolveSecretsRequest>(bytes) else { return };
            let _agent = AgentId::parse(&message.agent_id);
        }
        4 => {
            let Some(mut message) = decoded::<ResolveSecretsResponse>(bytes) else { return };
            message.env.values_mut().for_each(|value| SENTINEL.clone_into(value));
            assert!(!format!("{message:?}").contains(SENTINEL));
        }
        5 => {
            let Some(message) = decoded::<RevokeTokenRequest>(bytes) else { return };
            let _token = TokenId::parse(&message.token_id);
        }
        _ => {
            drop(decoded::<DeleteSecretRequest>(bytes));
            drop(decoded::<ListAuditEventsRequest>(bytes));
            drop(decoded::<RotateTokenRequest>(bytes));
        }
    }
});
