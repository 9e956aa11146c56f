//! Who calls with a client certificate and no token: the operator's rules make a SPIFFE id somebody.
//!
//! ```toml
//! [spiffe]
//! trust_domain = "prod.example"
//!
//! [[spiffe.rules]]
//! path = "/ns/agents/sa/runner"   # `*` is any one segment, `**` at the end any that follow
//! scopes = ["secrets:resolve"]
//! agents = ["agt_…"]              # left out: all of the tenant
//! tenant = "ten_default"          # left out: this one
//! ```
//!
//! The first rule that fits counts. What stands for somebody is a token's record under the SPIFFE id, which no token can
//! have as its id.

use std::sync::Arc;

use serde::Deserialize;
use tokio::sync::watch;

use super::{Error, Service};
use crate::domain::{
    AgentId, AgentScope, Principal, Scope, SpiffeId, SpiffeIdError, TenantId, Timestamp, TokenGrant, TokenId,
    TokenRecord, check_segment, check_trust_domain,
};

/// Any one segment, any that follow, and a segment that is the id of a tenant or an agent.
const ANY: &str = "*";
const REST: &str = "**";
const TENANT: &str = "{tenant}";
const AGENT: &str = "{agent}";

/// What whom may by his SPIFFE id. Without rules it is nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpiffeRules {
    /// Whose ids count: the authorities of client certificates vouch for this one.
    trust_domain: String,
    rules: Vec<Rule>,
}

/// What is wrong with rules, and in which line, if that is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct SpiffeRulesError {
    line: Option<usize>,
    problem: String,
}

/// What those may whose ids fit a path.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    path: Vec<Segment>,
    tenant: TenantId,
    scopes: Vec<Scope>,
    agents: AgentScope,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Exactly(String),
    Any,
    Tenant,
    Agent,
    /// Only at the end: one or more.
    Rest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    spiffe: Section,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    trust_domain: String,
    rules: Vec<toml::Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    path: String,
    tenant: Option<String>,
    scopes: Vec<String>,
    agents: Option<Vec<String>>,
}

// === impl SpiffeRules ===

impl SpiffeRules {
    /// Reads them from TOML.
    ///
    /// # Errors
    /// [`SpiffeRulesError`], for what is wrong first.
    pub fn parse(text: &str) -> Result<Self, SpiffeRulesError> {
        let line = |at: usize| Some(text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1);
        let file: File = toml::from_str(text).map_err(|error| SpiffeRulesError {
            line: error.span().and_then(|span| line(span.start)),
            problem: error.message().to_owned(),
        })?;
        let Section { trust_domain, rules: entries } = file.spiffe;
        let fault = |line, problem: String| SpiffeRulesError { line, problem };
        check_trust_domain(&trust_domain).map_err(|error| fault(None, format!("trust_domain: {error}")))?;
        let mut rules: Vec<Rule> = Vec::with_capacity(entries.len());
        for entry in entries {
            let line = line(entry.span().start);
            let rule = entry.into_inner().check().map_err(|problem| fault(line, problem))?;
            if rules.iter().any(|before| before.path == rule.path) {
                return Err(fault(
                    line,
                    "an earlier rule has the same path: this one counts never".to_owned(),
                ));
            }
            rules.push(rule);
        }
        if rules.is_empty() {
            return Err(fault(None, "there is no rule".to_owned()));
        }
        Ok(Self { trust_domain, rules })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.rules.len()
    }

    /// What stands for somebody of this id until `end`; `None` if no rule is for him.
    fn record(&self, id: &SpiffeId, since: Timestamp, end: Timestamp) -> Option<TokenRecord> {
        if id.trust_domain() != self.trust_domain {
            return None;
        }
        let (tenant, scopes, agents) = self.rules.iter().find_map(|rule| rule.apply(id))?;
        let name = id.as_str().to_owned();
        let grant = TokenGrant { name, scopes, agents, email: String::new(), expires_at: Some(end) };
        let id = TokenId::from_stored(id.as_str().to_owned());
        Some(TokenRecord { id, tenant, grant, created_at: since, revoked_at: None })
    }
}

// === impl Rule ===

impl Rule {
    fn apply(&self, id: &SpiffeId) -> Option<(TenantId, Vec<Scope>, AgentScope)> {
        let (mut tenant, mut agents) = (self.tenant.clone(), self.agents.clone());
        let mut path = id.segments();
        for expected in &self.path {
            let segment = path.next()?;
            match expected {
                Segment::Exactly(text) if text == segment => {}
                Segment::Exactly(_) => return None,
                Segment::Any => {}
                Segment::Tenant => tenant = TenantId::parse(segment)?,
                Segment::Agent => agents = AgentScope::Only(vec![AgentId::parse(segment)?]),
                Segment::Rest => return Some((tenant, self.scopes.clone(), agents)),
            }
        }
        path.next().is_none().then(|| (tenant, self.scopes.clone(), agents))
    }
}

// === impl Entry ===

impl Entry {
    fn check(self) -> Result<Rule, String> {
        let Self { path, tenant, scopes, agents } = self;
        let path = parse_path(&path)?;
        let is_twice = |what: &Segment, is_given: bool| is_given && path.contains(what);
        if is_twice(&Segment::Tenant, tenant.is_some()) || is_twice(&Segment::Agent, agents.is_some()) {
            return Err("tenant and agents are either in the path or beside it".to_owned());
        }
        let tenant = match tenant {
            None => TenantId::default_tenant(),
            Some(text) => TenantId::parse(&text).ok_or_else(|| format!("{text:?} is no id of a tenant"))?,
        };
        let scope = |text: String| text.parse::<Scope>().map_err(|_code| format!("{text:?} is no scope"));
        let scopes = scopes.into_iter().map(scope).collect::<Result<Vec<_>, _>>()?;
        let agent = |text: String| AgentId::parse(&text).ok_or(format!("{text:?} is no id of an agent"));
        let agents = match agents {
            None => AgentScope::All,
            Some(ids) => AgentScope::Only(ids.into_iter().map(agent).collect::<Result<_, _>>()?),
        };
        if scopes.is_empty() || agents == AgentScope::Only(Vec::new()) {
            return Err("scopes and agents name one at least; without agents it is all of them".to_owned());
        }
        Ok(Rule { path, tenant, scopes, agents })
    }
}

fn parse_path(text: &str) -> Result<Vec<Segment>, String> {
    let wrong = |what: &str| format!("path {text:?}: {what}");
    let segments = text.strip_prefix('/').ok_or_else(|| wrong("it has to begin with `/`"))?;
    let mut path = Vec::new();
    for segment in segments.split('/') {
        if path.last() == Some(&Segment::Rest) {
            return Err(wrong("`**` has to be at its end"));
        }
        path.push(match segment {
            ANY => Segment::Any,
            REST => Segment::Rest,
            TENANT => Segment::Tenant,
            AGENT => Segment::Agent,
            plain => {
                check_segment(plain).map_err(|error: SpiffeIdError| wrong(&error.to_string()))?;
                Segment::Exactly(plain.to_owned())
            }
        });
    }
    let times = |what: &Segment| path.iter().filter(|it| *it == what).count();
    if times(&Segment::Tenant) > 1 || times(&Segment::Agent) > 1 {
        return Err(wrong("it has two tenants or two agents"));
    }
    Ok(path)
}

// === impl Service ===

impl Service {
    /// Finds out who calls with a client certificate of this id, which was verified. Rules and the certificate's end are
    /// looked at anew at each call.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] if no rule is for him, or the certificate has ended.
    pub fn authenticate_spiffe(
        &self,
        id: &SpiffeId,
        since: Timestamp,
        end: Timestamp,
    ) -> Result<Principal, Error> {
        let record = self.parts.spiffe.borrow().record(id, since, end);
        let record = record.filter(|record| record.is_valid_at(self.parts.clock.now()));
        let token = record.map(Arc::new).ok_or(Error::Unauthenticated)?;
        Ok(Principal { token })
    }

    /// Uses other rules from now on. Watches that were begun under the ones before end.
    pub fn take_spiffe_rules(&self, rules: SpiffeRules) {
        self.parts.spiffe.send_replace(Arc::new(rules));
    }
}

/// The rules that calls use.
pub(super) type Held = watch::Sender<Arc<SpiffeRules>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(entries: &str) -> Result<SpiffeRules, String> {
        let text = format!("[spiffe]\ntrust_domain = \"a.b\"\n{entries}");
        SpiffeRules::parse(&text).map_err(|error| error.to_string())
    }

    fn one(path: &str) -> SpiffeRules {
        let entry = format!("[[spiffe.rules]]\npath = {path:?}\nscopes = [\"secrets:list\"]\n");
        rules(&entry).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn record(rules: &SpiffeRules, id: &str) -> Option<TokenRecord> {
        rules.record(&SpiffeId::parse(id).unwrap(), Timestamp(1), Timestamp(2))
    }

    #[test]
    fn whole_segments_fit_and_nothing_else() {
        for (path, fitting, others) in [
            ("/ns/a", &["/ns/a"][..], &["/ns", "/ns/ab", "/ns/a/b", "/ns/A", "/n/s/a", "/xns/a"][..]),
            ("/ns/a/**", &["/ns/a/b", "/ns/a/b/c"][..], &["/ns/a", "/ns/ab/c", "/ns/ab"][..]),
            ("/ns/*/sa/x", &["/ns/a/sa/x"][..], &["/ns/a/b/sa/x", "/ns/sa/x", "/ns/a/sa/xy"][..]),
            ("/**", &["/a", "/a/b"][..], &[][..]),
            ("/*", &["/a"][..], &["/a/b"][..]),
        ] {
            let rules = one(path);
            for id in fitting {
                assert!(record(&rules, &format!("spiffe://a.b{id}")).is_some(), "{path}: {id}");
                for trust_domain in ["a", "a.bc", "b", "x.a.b", "a.b.c"] {
                    let id = format!("spiffe://{trust_domain}{id}");
                    assert!(record(&rules, &id).is_none(), "{path}: {id}");
                }
            }
            for id in others {
                assert!(record(&rules, &format!("spiffe://a.b{id}")).is_none(), "{path}: {id}");
            }
        }
        assert_eq!(
            SpiffeRules::default().record(
                &SpiffeId::parse("spiffe://a.b/c").unwrap(),
                Timestamp(1),
                Timestamp(2)
            ),
            None
        );
    }

    #[test]
    fn the_first_rule_that_fits_counts() {
        let rules = rules(
            "[[spiffe.rules]]\npath = \"/a/b\"\nscopes = [\"secrets:resolve\"]\nagents = [\"agt_1\"]\ntenant = \"ten_x\"\n\
             [[spiffe.rules]]\npath = \"/a/*\"\nscopes = [\"secrets:list\", \"agents:read\"]\n",
        )
        .unwrap();
        assert_eq!(rules.count(), 2);
        let first = record(&rules, "spiffe://a.b/a/b").unwrap();
        assert_eq!((first.tenant.as_str(), &first.grant.scopes[..]), ("ten_x", &[Scope::SecretsResolve][..]));
        assert_eq!(first.grant.agents, AgentScope::Only(vec![AgentId::parse("agt_1").unwrap()]));
        assert_eq!((first.id.as_str(), first.is_kept()), ("spiffe://a.b/a/b", false));
        assert_eq!((first.is_valid_at(Timestamp(1)), first.is_valid_at(Timestamp(2))), (true, false));
        let second = record(&rules, "spiffe://a.b/a/c").unwrap();
        assert_eq!((second.tenant, second.grant.agents), (TenantId::default_tenant(), AgentScope::All));
    }

    #[test]
    fn tenant_and_agent_can_be_segments() {
        let rules = one("/t/{tenant}/agent/{agent}");
        let found = record(&rules, "spiffe://a.b/t/ten_x/agent/agt_1").unwrap();
        assert_eq!(found.tenant.as_str(), "ten_x");
        assert_eq!(found.grant.agents, AgentScope::Only(vec![AgentId::parse("agt_1").unwrap()]));
        for id in ["/t/x/agent/agt_1", "/t/ten_x/agent/all", "/t/ten_x/agent/agt_1.2"] {
            assert!(record(&rules, &format!("spiffe://a.b{id}")).is_none(), "{id}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let rule = |more: &str| rules(&format!("[[spiffe.rules]]\n{more}\n")).unwrap_err();
        for (entry, words) in [
            ("path = \"/a\"", "line 3: missing field `scopes`"),
            ("path = \"/a\"\nscopes = []", "line 3: scopes and agents name one at least"),
            ("path = \"/a\"\nscopes = [\"secrets:list\"]\nagents = []", "line 3: scopes and agents name one"),
            ("path = \"/a\"\nscopes = [\"all\"]", "line 3: \"all\" is no scope"),
            ("path = \"/a\"\nscopes = [\"secrets:list\"]\nagents = [\"a\"]", "\"a\" is no id of an agent"),
            ("path = \"/a\"\nscopes = [\"secrets:list\"]\ntenant = \"a\"", "\"a\" is no id of a tenant"),
            ("path = \"/a\"\nscopes = [\"secrets:list\"]\nscope = 1", "unknown field `scope`"),
            ("path = \"a\"\nscopes = [\"secrets:list\"]", "it has to begin with `/`"),
            ("path = \"/\"\nscopes = [\"secrets:list\"]", "neither empty"),
            ("path = \"/a*\"\nscopes = [\"secrets:list\"]", "neither empty"),
            ("path = \"/**/a\"\nscopes = [\"secrets:list\"]", "`**` has to be at its end"),
            ("path = \"/{agent}/{agent}\"\nscopes = [\"secrets:list\"]", "two agents"),
            ("path = \"/{agent}\"\nscopes = [\"secrets:list\"]\nagents = [\"agt_1\"]", "either in the path"),
        ] {
            let said = rule(entry);
            assert!(said.contains(words), "{entry}: {said}");
        }
        let twice = "[[spiffe.rules]]\npath = \"/a\"\nscopes = [\"secrets:list\"]\n".repeat(2);
        assert!(rules(&twice).unwrap_err().starts_with("line 6: an earlier rule"));
        assert!(rules("rules = []").unwrap_err().contains("there is no rule"));
        let text = "[spiffe]\ntrust_domain = \"A\"\nrules = []";
        assert!(SpiffeRules::parse(text).unwrap_err().to_string().starts_with("trust_domain: "));
        assert!(SpiffeRules::parse("").unwrap_err().to_string().contains("missing field `spiffe`"));
        assert!(SpiffeRules::parse("[spiffe").unwrap_err().to_string().starts_with("line 1: "));
    }
}
