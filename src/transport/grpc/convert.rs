//! Between the wire's types and the domain's.

use crate::{
    domain::{
        self, Agent, AgentScope, AuditEvent, AuditedSecret, ListedToken, RequiredSecret, SecretMetadata,
        TokenRecord,
    },
    proto::v1,
    service::ChangeKind,
    transport::timestamp::to_wire,
};

/// A page size from the wire; a negative one asks for the default.
pub(super) fn page_size(size: i32) -> u32 {
    u32::try_from(size).unwrap_or_default()
}

/// An agent.
pub(super) fn agent(agent: Agent) -> v1::Agent {
    let missing_secrets = agent.missing_secrets().iter().map(ToString::to_string).collect();
    let Agent { id, tenant: _, name, command, required_secrets, keys, revision: _, created_at, updated_at } =
        agent;
    v1::Agent {
        id: id.to_string(),
        name: name.as_str().to_owned(),
        command: command.map(|command| command.as_str().to_owned()),
        environment_keys: keys.iter().map(ToString::to_string).collect(),
        required_secrets: required_secrets.into_iter().map(required_secret).collect(),
        missing_secrets,
        deps_status: "none".to_owned(),
        deps_error: None,
        created_at: Some(to_wire(created_at)),
        updated_at: Some(to_wire(updated_at)),
    }
}

fn required_secret(secret: RequiredSecret) -> v1::RequiredSecret {
    let RequiredSecret { name, description, pattern, min_length, optional } = secret;
    v1::RequiredSecret { name, description, pattern, min_length, optional }
}

/// A declaration from the wire.
pub(super) fn from_required_secret(secret: v1::RequiredSecret) -> RequiredSecret {
    let v1::RequiredSecret { name, description, pattern, min_length, optional } = secret;
    RequiredSecret { name, description, pattern, min_length, optional }
}

/// What may be told of a secret.
pub(super) fn metadata(secret: SecretMetadata) -> v1::SecretMetadata {
    let SecretMetadata { name, version, fingerprint, created_at, updated_at, updated_by, previous_until } =
        secret;
    v1::SecretMetadata {
        key: name.to_string(),
        version: version.0,
        fingerprint,
        created_at: Some(to_wire(created_at)),
        updated_at: Some(to_wire(updated_at)),
        updated_by,
        previous_until: previous_until.map(to_wire),
    }
}

/// What a set does to a key.
pub(super) fn change(kind: ChangeKind) -> v1::SecretChangeKind {
    match kind {
        ChangeKind::Added => v1::SecretChangeKind::Added,
        ChangeKind::Replaced => v1::SecretChangeKind::Replaced,
        ChangeKind::Unchanged => v1::SecretChangeKind::Unchanged,
        ChangeKind::Pruned => v1::SecretChangeKind::Pruned,
    }
}

/// A token, without its text.
pub(super) fn token(record: TokenRecord) -> v1::Token {
    let TokenRecord { id, tenant: _, grant, created_at, revoked_at } = record;
    let domain::TokenGrant { name, scopes, agents, email, expires_at } = grant;
    v1::Token {
        id: id.to_string(),
        name,
        scopes: scopes.iter().map(ToString::to_string).collect(),
        agent_ids: match agents {
            AgentScope::All => Vec::new(),
            AgentScope::Only(ids) => ids.iter().map(ToString::to_string).collect(),
        },
        email,
        created_at: Some(to_wire(created_at)),
        expires_at: expires_at.map(to_wire),
        revoked_at: revoked_at.map(to_wire),
        last_used_at: None,
    }
}

/// A token of a list.
pub(super) fn listed_token(listed: ListedToken) -> v1::Token {
    let ListedToken { token: record, last_used_at } = listed;
    v1::Token { last_used_at: last_used_at.map(to_wire), ..token(record) }
}

/// An audit event.
pub(super) fn event(event: AuditEvent) -> v1::AuditEvent {
    let AuditEvent { id, at, tenant: _, agent, action, actor, origin, secrets, revision, run_id, subject } =
        event;
    v1::AuditEvent {
        id: id.to_string(),
        time: Some(to_wire(at)),
        action: action.as_str().to_owned(),
        actor,
        agent_id: agent.map(|agent| agent.to_string()).unwrap_or_default(),
        secrets: secrets.into_iter().map(audited_secret).collect(),
        run_id,
        request_id: origin.request_id,
        remote: origin.remote,
        revision: revision.0,
        subject,
    }
}

/// A run, of the event of its resolve.
pub(super) fn run(event: AuditEvent) -> v1::Run {
    let AuditEvent {
        id: _,
        at,
        tenant: _,
        agent,
        action: _,
        actor,
        origin,
        secrets,
        revision,
        run_id,
        subject: _,
    } = event;
    v1::Run {
        run_id,
        resolved_at: Some(to_wire(at)),
        revision: revision.0,
        secrets: secrets.into_iter().map(audited_secret).collect(),
        actor,
        remote: origin.remote,
        agent_id: agent.map(|agent| agent.to_string()).unwrap_or_default(),
    }
}

fn audited_secret(secret: AuditedSecret) -> v1::AuditedSecret {
    let AuditedSecret { key, version, fingerprint, is_previous: _, previous_until } = secret;
    v1::AuditedSecret { key, version, fingerprint, previous_until: previous_until.map(to_wire) }
}
