//! Which claims make somebody what.

use serde_json::{Map, Value};

use super::grant::Granted;
use crate::domain::{AgentId, AgentScope, Scope, TenantId};

/// What a token says, by name.
pub(super) type Claims = Map<String, Value>;

/// A claim, by its name or by a JSON pointer (RFC 6901).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClaimName(pub(super) String);

/// For whose claims are these, he may this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// All of these have to be there, each with one of its values.
    pub(super) claims: Vec<(ClaimName, Vec<String>)>,
    pub(super) tenant: Tenant,
    pub(super) scopes: Vec<Scope>,
    pub(super) agents: Agents,
}

/// Which tenant somebody belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tenant {
    /// This one.
    Named(TenantId),
    /// The one whose id a claim has.
    Claimed(ClaimName),
}

/// Which agents somebody may touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Agents {
    /// These, or all.
    Named(AgentScope),
    /// Those whose ids a claim has.
    Claimed(ClaimName),
}

// === impl ClaimName ===

impl ClaimName {
    /// The texts of a claim: one, or those of a list. A list with anything else in it has none.
    fn texts<'c>(&self, claims: &'c Claims) -> Vec<&'c str> {
        let found = match self.0.strip_prefix('/') {
            None => claims.get(&self.0),
            Some(path) => {
                let (first, rest) = path.split_once('/').map_or((path, None), |(a, b)| (a, Some(b)));
                let first = claims.get(&first.replace("~1", "/").replace("~0", "~"));
                match rest {
                    None => first,
                    Some(rest) => first.and_then(|it| it.pointer(&format!("/{rest}"))),
                }
            }
        };
        match found {
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(items)) => {
                items.iter().map(Value::as_str).collect::<Option<_>>().unwrap_or_default()
            }
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => Vec::new(),
        }
    }
}

// === impl Rule ===

impl Rule {
    /// What it makes of somebody with these claims; `None` if it is not for him. Texts are equal or they are not: no
    /// part of one counts.
    pub(super) fn apply(&self, claims: &Claims) -> Option<Granted> {
        let is_met = |(name, values): &(ClaimName, Vec<String>)| {
            name.texts(claims).iter().any(|text| values.iter().any(|value| value == text))
        };
        if !self.claims.iter().all(is_met) {
            return None;
        }
        let tenant = match &self.tenant {
            Tenant::Named(tenant) => tenant.clone(),
            Tenant::Claimed(name) => match name.texts(claims)[..] {
                [only] => TenantId::parse(only)?,
                _ => return None,
            },
        };
        let agents = match &self.agents {
            Agents::Named(agents) => agents.clone(),
            Agents::Claimed(name) => {
                let agents =
                    name.texts(claims).into_iter().map(AgentId::parse).collect::<Option<Vec<_>>>()?;
                // None is not all
                (!agents.is_empty()).then_some(AgentScope::Only(agents))?
            }
        };
        Some(Granted { tenant, scopes: self.scopes.clone(), agents })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(json: Value) -> Claims {
        let Value::Object(claims) = json else { panic!("an object") };
        claims
    }

    fn rule(name: &str, values: &[&str]) -> Rule {
        Rule {
            claims: vec![(ClaimName(name.to_owned()), values.iter().map(ToString::to_string).collect())],
            tenant: Tenant::Named(TenantId::default_tenant()),
            scopes: vec![Scope::SecretsList],
            agents: Agents::Named(AgentScope::All),
        }
    }

    fn applies(rule: &Rule, json: Value) -> bool {
        rule.apply(&claims(json)).is_some()
    }

    #[test]
    fn a_value_is_the_whole_claim_or_a_member_of_it() {
        let rule = rule("sub", &["system:serviceaccount:agents:one", "two"]);
        assert!(applies(&rule, json!({"sub": "system:serviceaccount:agents:one"})));
        assert!(applies(&rule, json!({"sub": ["x", "two"]})));
        for other in [
            json!("system:serviceaccount:agents:one-more"),
            json!("system:serviceaccount:agents:on"),
            json!("SYSTEM:serviceaccount:agents:one"),
            json!(["two", 1]),
            json!([["two"]]),
            json!({"two": "two"}),
            json!(null),
            json!(2),
            json!([]),
        ] {
            assert!(!applies(&rule, json!({ "sub": other })), "{other}");
        }
        assert!(!applies(&rule, json!({"/sub": "two", "Sub": "two"})));
    }

    #[test]
    fn all_claims_of_a_rule_count() {
        let mut both = rule("a", &["1"]);
        both.claims.extend(rule("b", &["2"]).claims);
        assert!(applies(&both, json!({"a": "1", "b": "2"})));
        assert!(!applies(&both, json!({"a": "1"})));
    }

    #[test]
    fn a_pointer_reaches_into_a_claim() {
        let rule = rule("/kubernetes.io/serviceaccount/name", &["one"]);
        assert!(applies(&rule, json!({"kubernetes.io": {"serviceaccount": {"name": "one"}}})));
        assert!(!applies(&rule, json!({"kubernetes.io/serviceaccount/name": "one"})));
        assert!(applies(&self::rule("/a~1b", &["one"]), json!({"a/b": "one"})));
    }

    #[test]
    fn tenant_and_agents_can_be_claimed_by_their_ids_only() {
        let mut claimed = rule("a", &["1"]);
        claimed.tenant = Tenant::Claimed(ClaimName("t".to_owned()));
        claimed.agents = Agents::Claimed(ClaimName("g".to_owned()));
        let granted =
            claimed.apply(&claims(json!({"a": "1", "t": "ten_x", "g": ["agt_a", "agt_b"]}))).unwrap();
        assert_eq!(granted.tenant.as_str(), "ten_x");
        let agents = ["agt_a", "agt_b"].map(|id| AgentId::parse(id).unwrap());
        assert_eq!(granted.agents, AgentScope::Only(agents.to_vec()));
        for refused in [
            json!({"a": "1", "t": "ten_x"}),
            json!({"a": "1", "t": "ten_x", "g": []}),
            json!({"a": "1", "t": "ten_x", "g": ["agt_a", "all"]}),
            json!({"a": "1", "g": "agt_a"}),
            json!({"a": "1", "t": ["ten_x", "ten_y"], "g": "agt_a"}),
            json!({"a": "1", "t": "x", "g": "agt_a"}),
        ] {
            assert!(!applies(&claimed, refused.clone()), "{refused}");
        }
    }
}
