//! Two tenants, and every RPC that there is: each is called for what belongs to the other tenant.
//!
//! The RPCs and their messages are those of the descriptor set, so a new one is called too, without a line here: what
//! names an agent or a token in its request gets one of the other tenant.

use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, MethodDescriptor,
    Value, prost::Message as _,
};
use serde_json::json;
use superserve::proto::FILE_DESCRIPTOR_SET;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{
    Database, LIMIT,
    fixtures::ALL_SCOPES,
    grpc_web, on_each_database,
    rest::Rest,
    server::Server,
    steps::{audit, resolve},
};

on_each_database!(no_rpc_reaches_into_another_tenant, every_rpc_needs_one_scope);

/// What every name of the other tenant has in it.
const MARK: &str = "OTHERS";

/// A tenant with an agent, and a token that may do everything in it.
struct Tenant {
    id: String,
    token: String,
    token_id: String,
    agent: String,
}

/// What a request is about.
struct Target<'t> {
    agent: &'t str,
    token: &'t str,
}

impl Tenant {
    /// Makes one by the operator's command, and in it what others would like to have.
    async fn create(server: &Server, name: &str) -> Self {
        let made = server.setup().run(&["tenants", "create", name, "--json"]).done();
        let made: serde_json::Value = serde_json::from_str(&made).unwrap();
        let admin = server.grpc().await.token(made["text"].as_str().unwrap());
        let mut grant = superserve::proto::v1::CreateTokenRequest {
            name: format!("{MARK}-{name}"),
            scopes: ALL_SCOPES.map(str::to_owned).to_vec(),
            ..Default::default()
        };
        grant.email = format!("{MARK}@example.com");
        let token = admin.tokens.clone().create_token(grant).await.unwrap().into_inner();
        let rest = server.rest().token(&token.text);
        let agent = rest.post("/v1/agents").json(&json!({"name": format!("{MARK}-agent")})).send().await;
        let agent = agent.json()["id"].as_str().unwrap().to_owned();
        let set = rest.patch(&format!("/v1/agents/{agent}/secrets"));
        let secrets = json!({"secrets": {format!("{MARK}_KEY"): format!("{MARK} value")}});
        assert_eq!(set.json(&secrets).send().await.status, 200);
        let id = made["tenant"]["id"].as_str().unwrap().to_owned();
        Self { id, token: token.text, token_id: token.token.unwrap().id, agent }
    }

    /// All that a caller of this tenant can see of it.
    async fn state(&self, server: &Server) -> String {
        let rest = server.rest().token(&self.token);
        let grpc = server.grpc().await.token(&self.token);
        let agents = rest.get("/v1/agents").send().await.text();
        let secrets = rest.get(&format!("/v1/agents/{}/secrets?view=full", self.agent)).send().await.text();
        let trail = audit(&grpc, "").await;
        let tokens =
            grpc.tokens.clone().list_tokens(superserve::proto::v1::ListTokensRequest::default()).await;
        format!("{agents} {secrets} {trail:?} {:?}", tokens.unwrap().into_inner())
    }
}

fn methods() -> Vec<MethodDescriptor> {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let ours = pool.services().filter(|service| service.package_name() == "superserve.secrets.v1");
    let methods: Vec<_> = ours.flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
    assert!(methods.len() >= 16, "{methods:?}");
    methods
}

/// Whether a request names what belongs to a tenant.
fn names_something(method: &MethodDescriptor) -> bool {
    method.input().fields().any(|field| is_agent(&field) || is_token(&field))
}

/// Whether a message within another one names an agent or a token, where [`request`] would not see it.
fn names_something_within(message: &MessageDescriptor, is_within: bool) -> bool {
    message.fields().any(|field| {
        if let Kind::Message(inner) = field.kind() {
            return names_something_within(&inner, true);
        }
        is_within && (is_agent(&field) || is_token(&field))
    })
}

#[test]
fn requests_name_what_they_are_about_at_their_top() {
    for method in methods() {
        assert!(!names_something_within(&method.input(), false), "{}", method.name());
    }
}

fn is_agent(field: &FieldDescriptor) -> bool {
    field.name().ends_with("agent_id") || field.name().ends_with("agent_ids")
}

fn is_token(field: &FieldDescriptor) -> bool {
    field.name().ends_with("token_id") || field.name().ends_with("token_ids")
}

/// A request about this, valid in all else.
fn request(method: &MethodDescriptor, target: &Target<'_>) -> Vec<u8> {
    let mut message = DynamicMessage::new(method.input());
    for field in method.input().fields() {
        let text = |text: &str| Value::String(text.to_owned());
        let value = match field.name() {
            _ if is_agent(&field) => text(target.agent),
            _ if is_token(&field) => text(target.token),
            "key" => text(&format!("{MARK}_KEY")),
            "name" => text("theirs"),
            "secrets" if field.is_map() => Value::Map([(MapKey::String("A".to_owned()), text("x"))].into()),
            _ => continue,
        };
        let value =
            if field.is_list() && field.kind() == Kind::String { Value::List(vec![value]) } else { value };
        message.set_field(&field, value);
    }
    message.encode_to_vec()
}

/// What a call is answered with: its status, and all its messages' bytes.
async fn call(rest: &Rest, method: &MethodDescriptor, message: &[u8]) -> (Status, Vec<u8>) {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let answer = grpc_web::call(rest, &path, message).send();
    let answer = tokio::time::timeout(LIMIT, answer).await;
    let answer = answer.unwrap_or_else(|_late| panic!("{path} goes on, which only its owner may have"));
    let messages = if answer.body.is_empty() { Vec::new() } else { grpc_web::frames(&answer).0 };
    (grpc_web::status(&answer), messages.concat())
}

fn told(status: &Status) -> (Code, String, Vec<u8>) {
    (status.code(), status.message().to_owned(), status.details().to_vec())
}

async fn no_rpc_reaches_into_another_tenant(database: Database) {
    let server = Server::start(database);
    let (own, other) = (Tenant::create(&server, "own").await, Tenant::create(&server, "other").await);
    let before = other.state(&server).await;
    let rest = server.rest().token(&own.token);
    let foreign = Target { agent: &other.agent, token: &other.token_id };
    let nothing = Target { agent: "agt_0000000000000000000000", token: "tok_0000000000000000000000" };
    let marks = [other.id.as_str(), other.agent.as_str(), other.token_id.as_str()];
    let mut refused = 0;
    for method in methods() {
        let name = method.name();
        let (status, answer) = call(&rest, &method, &request(&method, &foreign)).await;
        let text = String::from_utf8_lossy(&answer).into_owned();
        for mark in marks {
            assert!(!text.contains(mark), "{name} tells {mark}: {text}");
        }
        if names_something(&method) {
            // What is another's cannot be told from what is not there
            let unknown = call(&rest, &method, &request(&method, &nothing)).await;
            assert_eq!((told(&status), answer), (told(&unknown.0), unknown.1), "{name}");
            refused += usize::from(status.code() != Code::Ok);
        } else {
            assert_eq!(status.code(), Code::Ok, "{name}: {status:?}");
        }
    }
    assert!(refused >= 11, "{refused}");
    assert_eq!(other.state(&server).await, before, "nothing has happened to it");
    let values = resolve(&server.grpc().await.token(&other.token), &other.agent).await.unwrap();
    assert_eq!(values[&format!("{MARK}_KEY")], format!("{MARK} value"));
    // And its own is served: the requests were good ones
    let target = Target { agent: &own.agent, token: &own.token_id };
    let get = methods().into_iter().find(|method| method.name() == "GetAgent").unwrap();
    assert_eq!(call(&rest, &get, &request(&get, &target)).await.0.code(), Code::Ok);
}

async fn every_rpc_needs_one_scope(database: Database) {
    let server = Server::start(database);
    let agent = "agt_0000000000000000000000";
    let mut tokens = Vec::new();
    for scope in ALL_SCOPES {
        tokens.push((scope, server.rest().token(&server.token(&[scope], &[]).await)));
    }
    let anonymous = server.rest().anonymous();
    for method in methods() {
        let name = method.name();
        let message = request(&method, &Target { agent, token: "tok_0000000000000000000000" });
        let (status, _) = call(&anonymous, &method, &message).await;
        assert_eq!(status.code(), Code::Unauthenticated, "{name}");
        let mut enough = Vec::new();
        for (scope, rest) in &tokens {
            let (status, _) = call(rest, &method, &message).await;
            if status.code() != Code::PermissionDenied {
                enough.push(*scope);
                continue;
            }
            let needed = status.get_details_error_info().unwrap().metadata["required_scope"].clone();
            assert_ne!(needed, *scope, "{name}");
        }
        let expected = if name == "WhoAmI" { ALL_SCOPES.len() } else { 1 };
        assert_eq!(enough.len(), expected, "{name}: {enough:?}");
    }
}
