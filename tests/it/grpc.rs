//! All RPCs of the five services, as the generated clients call them.

use std::collections::HashMap;

use superserve::proto::v1::{
    CheckRequiredSecretsRequest, CreateTokenRequest, DeleteAgentRequest, DeleteSecretRequest,
    DeployAgentRequest, GetAgentRequest, ListAgentsRequest, ListAuditEventsRequest, ListRunsRequest,
    ListSecretsRequest, ListTokensRequest, RequiredSecret, ResolveSecretsRequest, RevokeTokenRequest,
    SecretChangeKind::{self, Added, Pruned, Replaced, Unchanged},
    SetSecretsRequest, SetSecretsResponse, WatchSecretsRequest, WhoAmIRequest,
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{
    Database, fixtures::ALL_SCOPES, grpc::Grpc, on_each_database, server::Server, steps::audit,
};

on_each_database!(
    agents_are_served,
    secrets_are_served,
    a_runtime_is_served,
    tokens_are_served,
    the_audit_trail_is_served,
    lists_come_in_pages,
);

async fn agents_are_served(database: Database) {
    let server = Server::start(database);
    let mut agents = server.grpc().await.agents;
    let key = RequiredSecret { name: "KEY".to_owned(), min_length: 3, ..Default::default() };
    let maybe = RequiredSecret { name: "MAYBE".to_owned(), optional: true, ..Default::default() };
    let request = DeployAgentRequest {
        name: "demo".to_owned(),
        command: Some("run".to_owned()),
        required_secrets: vec![key.clone(), maybe.clone()],
    };
    let new = agents.deploy_agent(request.clone()).await.unwrap().into_inner();
    let agent = new.agent.unwrap();
    assert!(new.created);
    assert_eq!((agent.name.as_str(), agent.command.as_deref()), ("demo", Some("run")));
    assert_eq!(
        (&agent.required_secrets, &agent.missing_secrets),
        (&vec![key, maybe], &vec!["KEY".to_owned()])
    );
    assert_eq!((agent.deps_status.as_str(), &agent.deps_error), ("none", &None));
    assert!(agent.created_at.is_some() && agent.created_at == agent.updated_at);
    let agent_id = agent.id.clone();
    let get = || GetAgentRequest { agent_id: agent_id.clone() };
    assert_eq!(agents.get_agent(get()).await.unwrap().into_inner().agent.unwrap(), agent);
    let again =
        agents.deploy_agent(DeployAgentRequest { command: None, ..request }).await.unwrap().into_inner();
    assert!(!again.created);
    assert_eq!(
        (again.agent.as_ref().unwrap().id.as_str(), &again.agent.as_ref().unwrap().command),
        (&*agent_id, &None)
    );
    let list = agents.list_agents(ListAgentsRequest::default()).await.unwrap().into_inner();
    assert_eq!((list.agents, list.next_page_token.as_str()), (vec![again.agent.unwrap()], ""));
    agents.delete_agent(DeleteAgentRequest { agent_id: agent_id.clone() }).await.unwrap();
    assert_eq!(agents.get_agent(get()).await.unwrap_err().code(), Code::NotFound);
}

async fn secrets_are_served(database: Database) {
    let server = Server::start(database);
    let agent_id = server.deploy("demo").await;
    let mut grpc = server.grpc().await;
    let request = |pairs: &[(&str, &str)]| SetSecretsRequest {
        agent_id: agent_id.clone(),
        secrets: map(pairs),
        ..Default::default()
    };
    let first = set(&mut grpc, request(&[("B", "b"), ("A", "todo")])).await;
    assert_eq!((told(&first).as_slice(), first.revision), (&[("A", Added), ("B", Added)][..], 1));
    assert_eq!((first.warnings[0].key.as_str(), first.warnings[0].code.as_str()), ("A", "placeholder"));
    let mixed = request(&[("A", "todo"), ("B", "c"), ("C", "c")]);
    // What only validates says what would happen
    let would = set(&mut grpc, SetSecretsRequest { validate_only: true, ..mixed.clone() }).await;
    assert_eq!((&would.keys, would.revision), (&texts(&["A", "B", "C"]), 1));
    let list = || ListSecretsRequest { agent_id: agent_id.clone() };
    assert_eq!(grpc.secrets.list_secrets(list()).await.unwrap().into_inner().keys, ["A", "B"]);
    let did = set(&mut grpc, mixed).await;
    assert_eq!(told(&did), [("A", Unchanged), ("B", Replaced), ("C", Added)]);
    assert_eq!((&did.changes, did.revision), (&would.changes, 2));
    // It also said which values are equal: that it was asked, and of which, is recorded
    let trail = audit(&grpc, &agent_id).await;
    let validated = trail.iter().find(|event| event.action == "secrets.validate").unwrap();
    let compared: Vec<_> = validated.secrets.iter().map(|it| (it.key.as_str(), it.version)).collect();
    assert_eq!((compared.as_slice(), validated.revision), (&[("A", 1), ("B", 1)][..], 1));
    assert_eq!(
        trail.iter().map(|event| event.action.as_str()).collect::<Vec<_>>(),
        ["secrets.set", "secrets.validate", "secrets.set", "agent.deploy"]
    );
    let pruned =
        set(&mut grpc, SetSecretsRequest { prune: true, ..request(&[("B", "c"), ("D", "d")]) }).await;
    assert_eq!(told(&pruned), [("A", Pruned), ("B", Unchanged), ("C", Pruned), ("D", Added)]);
    assert_eq!((pruned.keys, pruned.revision), (texts(&["B", "D"]), 3));
    let only = SetSecretsRequest { expected_revision: Some(3), ..request(&[("B", "c")]) };
    assert_eq!(set(&mut grpc, only).await.revision, 3);

    let listed = grpc.secrets.list_secrets(list()).await.unwrap().into_inner();
    assert_eq!((listed.keys.as_slice(), listed.revision), (&texts(&["B", "D"])[..], 3));
    let versions: Vec<_> =
        listed.secrets.iter().map(|it| (it.key.as_str(), it.version, it.fingerprint.len())).collect();
    assert_eq!(versions, [("B", 2, 12), ("D", 3, 12)]);
    assert!(listed.secrets.iter().all(|it| it.created_at.is_some() && it.updated_by.starts_with("tok_")));
    let delete = DeleteSecretRequest {
        agent_id,
        key: "B".to_owned(),
        expected_revision: Some(3),
        idempotency_key: "x".to_owned(),
    };
    for _ in 0..2 {
        let deleted = grpc.secrets.delete_secret(delete.clone()).await.unwrap().into_inner();
        assert_eq!((deleted.keys.as_slice(), deleted.revision), (&["D".to_owned()][..], 4));
    }
}

async fn a_runtime_is_served(database: Database) {
    let server = Server::start(database);
    let mut grpc = server.grpc().await.token(&server.token(&ALL_SCOPES, &[]).await);
    let key = RequiredSecret { name: "KEY".to_owned(), ..Default::default() };
    let deploy =
        DeployAgentRequest { name: "demo".to_owned(), required_secrets: vec![key], ..Default::default() };
    let agent_id = grpc.agents.deploy_agent(deploy).await.unwrap().into_inner().agent.unwrap().id;
    let check = || CheckRequiredSecretsRequest { agent_id: agent_id.clone() };
    let resolve = |run_id: &str| ResolveSecretsRequest {
        agent_id: agent_id.clone(),
        run_id: Some(run_id.to_owned()),
        ..Default::default()
    };
    let set_one = |key: &str, value: &str| SetSecretsRequest {
        agent_id: agent_id.clone(),
        secrets: map(&[(key, value)]),
        ..Default::default()
    };
    let checked = grpc.runtime.check_required_secrets(check()).await.unwrap().into_inner();
    assert_eq!((checked.missing.as_slice(), checked.revision), (&["KEY".to_owned()][..], 0));
    let refused = grpc.runtime.resolve_secrets(resolve("run-1")).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::FailedPrecondition, "Required secrets are missing")
    );
    assert_eq!(refused.get_details_error_info().unwrap().reason, "REQUIRED_SECRETS_MISSING");
    let violations = refused.get_details_precondition_failure().unwrap().violations;
    assert_eq!((violations.len(), violations[0].subject.as_str()), (1, "KEY"));

    let watch = WatchSecretsRequest { agent_id: agent_id.clone() };
    let mut revisions = grpc.runtime.watch_secrets(watch).await.unwrap().into_inner();
    assert_eq!(revisions.message().await.unwrap().unwrap().revision, 0);
    set(&mut grpc, set_one("KEY", "first\nline = ü")).await;
    assert_eq!(revisions.message().await.unwrap().unwrap().revision, 1);
    let resolved = grpc.runtime.resolve_secrets(resolve("run-2")).await.unwrap().into_inner();
    assert_eq!((resolved.env, resolved.revision), (map(&[("KEY", "first\nline = ü")]), 1));
    assert!(grpc.runtime.check_required_secrets(check()).await.unwrap().into_inner().missing.is_empty());
    set(&mut grpc, set_one("KEY", "second")).await;
    assert_eq!(revisions.message().await.unwrap().unwrap().revision, 2);
    let refused = grpc.runtime.resolve_secrets(resolve("run\n3")).await.unwrap_err();
    assert_eq!(refused.get_details_bad_request().unwrap().field_violations[0].field, "run_id");
    grpc.agents.delete_agent(DeleteAgentRequest { agent_id: agent_id.clone() }).await.unwrap();
    assert_eq!(revisions.message().await.unwrap_err().code(), Code::NotFound);

    let runs = ListRunsRequest { agent_id, ..Default::default() };
    let runs = grpc.audit.list_runs(runs).await.unwrap().into_inner().runs;
    assert_eq!((runs.len(), runs[0].run_id.as_str(), runs[0].revision), (1, "run-2", 1));
    assert_eq!((runs[0].secrets[0].key.as_str(), runs[0].secrets[0].version), ("KEY", 1));
}

async fn tokens_are_served(database: Database) {
    let server = Server::start(database);
    let mut grpc = server.grpc().await;
    let request = |name: &str| CreateTokenRequest { name: name.to_owned(), ..Default::default() };
    let made = grpc.tokens.create_token(request("first")).await.unwrap().into_inner();
    let token = made.token.unwrap();
    assert!(made.text.starts_with("ss_") && made.text.len() == 52 && token.id.starts_with("tok_"));
    assert_eq!(token.scopes, ["agents:read", "agents:write", "secrets:list", "secrets:write"]);
    let who = grpc.token(&made.text).tokens.who_am_i(WhoAmIRequest {}).await.unwrap().into_inner();
    assert_eq!((who.token.as_ref(), who.tenant.as_str()), (Some(&token), "ten_default"));
    let list = grpc.tokens.list_tokens(ListTokensRequest::default()).await.unwrap().into_inner();
    assert_eq!(list.tokens.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["first", "admin"]);
    let revoke = || RevokeTokenRequest { token_id: token.id.clone() };
    let revoked = grpc.tokens.revoke_token(revoke()).await.unwrap().into_inner().token.unwrap();
    assert!(revoked.revoked_at.is_some());
    assert_eq!(grpc.tokens.revoke_token(revoke()).await.unwrap().into_inner().token.unwrap(), revoked);
    let refused = grpc.token(&made.text).tokens.who_am_i(WhoAmIRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let past = prost_types::Timestamp { seconds: 1, nanos: 0 };
    let wrong = CreateTokenRequest { scopes: texts(&["all"]), expires_at: Some(past), ..request("") };
    let refused = grpc.tokens.create_token(wrong).await.unwrap_err();
    let violations = refused.get_details_bad_request().unwrap().field_violations;
    let violations: Vec<_> = violations.iter().map(|it| (it.field.as_str(), it.reason.as_str())).collect();
    assert_eq!(
        violations,
        [("name", "INVALID_NAME"), ("expires_at", "NOT_IN_FUTURE"), ("all", "UNKNOWN_SCOPE")]
    );
}

async fn the_audit_trail_is_served(database: Database) {
    let server = Server::start(database);
    let agent_id = server.deploy("demo").await;
    let path = format!("/v1/agents/{agent_id}/secrets");
    let set = server.rest().patch(&path).header("x-request-id", "req-1");
    set.json(&serde_json::json!({"secrets": {"A": "x", "B": "x"}})).send().await;
    server.rest().delete(&format!("{path}/A")).send().await;
    let mut audit = server.grpc().await.audit;
    let of_agent = ListAuditEventsRequest { agent_id: agent_id.clone(), ..Default::default() };
    let events = audit.list_audit_events(of_agent).await.unwrap().into_inner().events;
    let actions: Vec<_> = events.iter().map(|it| (it.action.as_str(), it.revision)).collect();
    assert_eq!(actions, [("secrets.delete", 2), ("secrets.set", 1), ("agent.deploy", 0)]);
    let keys =
        |n: usize| events[n].secrets.iter().map(|it| (it.key.as_str(), it.version)).collect::<Vec<_>>();
    assert_eq!((keys(0), keys(1), keys(2)), (vec![("A", 0)], vec![("A", 1), ("B", 1)], vec![]));
    assert_eq!((events[1].request_id.as_str(), events[1].agent_id.as_str()), ("req-1", agent_id.as_str()));
    assert!(events[1].remote.starts_with("127.0.0.1") && events[1].actor.starts_with("tok_"));
    let whole = audit.list_audit_events(ListAuditEventsRequest::default()).await.unwrap().into_inner().events;
    assert_eq!((whole.len(), whole[3].action.as_str()), (4, "token.create"));
}

async fn lists_come_in_pages(database: Database) {
    let server = Server::start(database);
    let mut grpc = server.grpc().await;
    for name in ["a", "b", "c"] {
        server.deploy(name).await;
        grpc.tokens
            .create_token(CreateTokenRequest { name: name.to_owned(), ..Default::default() })
            .await
            .unwrap();
    }
    let (mut agents, mut tokens, mut events) = (Vec::new(), Vec::new(), Vec::new());
    let page_size = 2;
    let mut page_token = String::new();
    while agents.len() < 3 {
        let request = ListAgentsRequest { page_size, page_token, ..Default::default() };
        let page = grpc.agents.list_agents(request).await.unwrap().into_inner();
        agents.extend(page.agents.into_iter().map(|it| it.name));
        page_token = page.next_page_token;
        assert_eq!(page_token.is_empty(), agents.len() == 3);
    }
    let mut page_token = String::new();
    while tokens.len() < 4 {
        let page =
            grpc.tokens.list_tokens(ListTokensRequest { page_size, page_token }).await.unwrap().into_inner();
        tokens.extend(page.tokens.into_iter().map(|it| it.name));
        page_token = page.next_page_token;
        assert_eq!(page_token.is_empty(), tokens.len() == 4);
    }
    let mut page_token = String::new();
    while events.len() < 7 {
        let request = ListAuditEventsRequest { page_size, page_token, ..Default::default() };
        let page = grpc.audit.list_audit_events(request).await.unwrap().into_inner();
        events.extend(page.events.into_iter().map(|it| it.id));
        page_token = page.next_page_token;
        assert_eq!(page_token.is_empty(), events.len() == 7);
    }
    assert_eq!((agents.join(" ").as_str(), tokens.join(" ").as_str()), ("a b c", "c b a admin"));
    assert!(events.is_sorted_by(|newer, older| newer > older), "{events:?}");
    let mut unknown = ListTokensRequest { page_size: -1, page_token: String::new() };
    assert_eq!(grpc.tokens.list_tokens(unknown.clone()).await.unwrap().into_inner().tokens.len(), 4);
    "x".clone_into(&mut unknown.page_token);
    let refused = grpc.tokens.list_tokens(unknown).await.unwrap_err();
    assert_eq!(refused.get_details_bad_request().unwrap().field_violations[0].reason, "INVALID_PAGE_TOKEN");
}

async fn set(grpc: &mut Grpc, request: SetSecretsRequest) -> SetSecretsResponse {
    grpc.secrets.set_secrets(request).await.unwrap().into_inner()
}

fn told(answer: &SetSecretsResponse) -> Vec<(&str, SecretChangeKind)> {
    answer.changes.iter().map(|change| (change.key.as_str(), change.kind())).collect()
}

fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}
