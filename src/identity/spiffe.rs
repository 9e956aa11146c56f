//! Whose client certificates are believed: rules by the SPIFFE id in them.
//!
//! ```toml
//! [spiffe]
//! trust_domain = "prod.example"
//!
//! [[spiffe.rules]]
//! path = "/ns/agents/sa/runner"   # `*` is any one segment, `**` at the end any that follow
//! tenant = "ten_default"          # or `{tenant}` in the path
//! scopes = ["secrets:resolve"]
//! agents = ["agt_…"]              # or "all", or `{agent}` in the path
//! ```
//!
//! The first rule that fits counts.

use serde::Deserialize;
use toml::Spanned;

use super::{
    file::Problem,
    grant::{self, Granted, OneOrMore},
};
use crate::domain::{
    AgentId, AgentScope, Scope, SpiffeId, SpiffeIdError, TenantId, check_segment, check_trust_domain,
};

/// Any one segment, any that follow, and a segment that is the id of a tenant or an agent.
const ANY: &str = "*";
const REST: &str = "**";
const TENANT: &str = "{tenant}";
const AGENT: &str = "{agent}";

/// What whom may by his SPIFFE id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SpiffeRules {
    /// Whose ids count: the authorities of client certificates vouch for this one.
    trust_domain: String,
    rules: Vec<Rule>,
}

/// What those may whose ids fit a path. Without a tenant or agents their ids are in the path.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    path: Vec<Segment>,
    tenant: Option<TenantId>,
    scopes: Vec<Scope>,
    agents: Option<AgentScope>,
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

/// The part of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    trust_domain: String,
    rules: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    path: String,
    tenant: Option<String>,
    scopes: Vec<String>,
    agents: Option<OneOrMore>,
}

// === impl Section ===

impl Section {
    /// Checks the rules.
    ///
    /// # Errors
    /// The first [`Problem`].
    pub(super) fn check(self) -> Result<SpiffeRules, Problem> {
        let Self { trust_domain, rules: entries } = self;
        let fault = |at, text: String| Problem { at, text: format!("spiffe: {text}") };
        check_trust_domain(&trust_domain).map_err(|error| fault(None, format!("trust_domain: {error}")))?;
        let mut rules: Vec<Rule> = Vec::with_capacity(entries.len());
        for (number, entry) in entries.into_iter().enumerate() {
            let at = Some(entry.span().start);
            let fault = |text: String| fault(at, format!("rule {}: {text}", number + 1));
            let rule = entry.into_inner().check().map_err(fault)?;
            if rules.iter().any(|before| before.path == rule.path) {
                return Err(fault("an earlier rule has the same path: this one counts never".to_owned()));
            }
            rules.push(rule);
        }
        if rules.is_empty() {
            return Err(fault(None, "rules: it has none, so nobody of it could call".to_owned()));
        }
        Ok(SpiffeRules { trust_domain, rules })
    }
}

// === impl SpiffeRules ===

impl SpiffeRules {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.rules.len()
    }

    /// What somebody of this id may; `None` if no rule is for him.
    pub(super) fn apply(&self, id: &SpiffeId) -> Option<Granted> {
        let is_ours = id.trust_domain() == self.trust_domain;
        is_ours.then(|| self.rules.iter().find_map(|rule| rule.apply(id)))?
    }
}

// === impl Rule ===

impl Rule {
    fn apply(&self, id: &SpiffeId) -> Option<Granted> {
        let (mut tenant, mut agents) = (self.tenant.clone(), self.agents.clone());
        let mut path = id.segments();
        let mut more_may_follow = false;
        for expected in &self.path {
            let segment = path.next()?;
            match expected {
                Segment::Exactly(text) if text == segment => {}
                Segment::Exactly(_) => return None,
                Segment::Any => {}
                Segment::Tenant => tenant = Some(TenantId::parse(segment)?),
                Segment::Agent => agents = Some(AgentScope::Only(vec![AgentId::parse(segment)?])),
                Segment::Rest => more_may_follow = true,
            }
        }
        let fits = more_may_follow || path.next().is_none();
        fits.then(|| Some(Granted { tenant: tenant?, scopes: self.scopes.clone(), agents: agents? }))?
    }
}

// === impl Entry ===

impl Entry {
    fn check(self) -> Result<Rule, String> {
        let Self { path, tenant, scopes, agents } = self;
        let path = parse_path(&path)?;
        if path.contains(&Segment::Tenant) == tenant.is_some() {
            return Err("give either tenant, or {tenant} in the path".to_owned());
        }
        if path.contains(&Segment::Agent) == agents.is_some() {
            return Err("give either agents (ids, or \"all\"), or {agent} in the path".to_owned());
        }
        Ok(Rule {
            path,
            tenant: tenant.as_deref().map(grant::tenant).transpose()?,
            scopes: grant::scopes(&scopes)?,
            agents: agents.map(grant::agents).transpose()?,
        })
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

#[cfg(test)]
mod tests {
    use super::{super::file::parse, *};

    const REST_OF_RULE: &str = "tenant = \"ten_default\"\nscopes = [\"secrets:list\"]\nagents = \"all\"\n";

    /// The rules, or the line of what is wrong with them and what is said of it.
    fn rules(entries: &str) -> Result<SpiffeRules, (usize, String)> {
        let text = format!("[spiffe]\ntrust_domain = \"a.b\"\n{entries}");
        let parsed = parse(&text).map_err(|Problem { at, text: said }| {
            let before = text.get(..at.expect("a place")).expect("a place in the text");
            (before.matches('\n').count() + 1, said)
        })?;
        Ok(parsed.spiffe.expect("the section"))
    }

    fn one(path: &str) -> SpiffeRules {
        let entry = format!("[[spiffe.rules]]\npath = {path:?}\n{REST_OF_RULE}");
        rules(&entry).unwrap_or_else(|error| panic!("{path}: {error:?}"))
    }

    fn granted(rules: &SpiffeRules, id: &str) -> Option<Granted> {
        rules.apply(&SpiffeId::parse(id).unwrap())
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
                assert!(granted(&rules, &format!("spiffe://a.b{id}")).is_some(), "{path}: {id}");
                for trust_domain in ["a", "a.bc", "b", "x.a.b", "a.b.c"] {
                    let id = format!("spiffe://{trust_domain}{id}");
                    assert!(granted(&rules, &id).is_none(), "{path}: {id}");
                }
            }
            for id in others {
                assert!(granted(&rules, &format!("spiffe://a.b{id}")).is_none(), "{path}: {id}");
            }
        }
    }

    #[test]
    fn the_first_rule_that_fits_counts() {
        let first = "[[spiffe.rules]]\npath = \"/a/b\"\nscopes = [\"secrets:resolve\"]\nagents = [\"agt_1\"]\ntenant = \"ten_x\"\n";
        let rules = rules(&format!("{first}[[spiffe.rules]]\npath = \"/a/*\"\n{REST_OF_RULE}")).unwrap();
        assert_eq!(rules.count(), 2);
        let first = granted(&rules, "spiffe://a.b/a/b").unwrap();
        assert_eq!((first.tenant.as_str(), &first.scopes[..]), ("ten_x", &[Scope::SecretsResolve][..]));
        assert_eq!(first.agents, AgentScope::Only(vec![AgentId::parse("agt_1").unwrap()]));
        let second = granted(&rules, "spiffe://a.b/a/c").unwrap();
        assert_eq!((second.tenant, second.agents), (TenantId::default_tenant(), AgentScope::All));
    }

    #[test]
    fn tenant_and_agent_can_be_segments() {
        let rule = "[[spiffe.rules]]\npath = \"/t/{tenant}/agent/{agent}\"\nscopes = [\"secrets:list\"]\n";
        let rules = rules(rule).unwrap();
        let found = granted(&rules, "spiffe://a.b/t/ten_x/agent/agt_1").unwrap();
        assert_eq!(found.tenant.as_str(), "ten_x");
        assert_eq!(found.agents, AgentScope::Only(vec![AgentId::parse("agt_1").unwrap()]));
        for id in ["/t/x/agent/agt_1", "/t/ten_x/agent/all", "/t/ten_x/agent/agt_1.2"] {
            assert!(granted(&rules, &format!("spiffe://a.b{id}")).is_none(), "{id}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        const GOOD: [&str; 4] =
            ["path = \"/a\"", "tenant = \"ten_x\"", "scopes = [\"secrets:list\"]", "agents = \"all\""];
        let rule = |changed: usize, to: &str| {
            let lines: Vec<_> =
                (0..).zip(GOOD).map(|(at, line)| if at == changed { to } else { line }).collect();
            rules(&format!("[[spiffe.rules]]\n{}\n", lines.join("\n"))).unwrap_err()
        };
        for (changed, to, line, words) in [
            (0, "path = \"a\"", 3, "it has to begin with `/`"),
            (0, "path = \"/\"", 3, "neither empty"),
            (0, "path = \"/a*\"", 3, "neither empty"),
            (0, "path = \"/**/a\"", 3, "`**` has to be at its end"),
            (0, "path = \"/{agent}/{agent}\"", 3, "two agents"),
            (0, "path = \"/{agent}\"", 3, "give either agents"),
            (0, "path = \"/{tenant}\"", 3, "give either tenant"),
            (1, "", 3, "give either tenant"),
            (1, "tenant = \"a\"", 3, "\"a\" is no tenant's id"),
            (2, "", 3, "missing field `scopes`"),
            (2, "scopes = []", 3, "scopes: name at least one"),
            (2, "scopes = [\"all\"]", 3, "there is no scope \"all\""),
            (3, "", 3, "give either agents"),
            (3, "agents = []", 3, "agents: name at least one"),
            (3, "agents = [\"a\"]", 3, "\"a\" is no agent's id"),
            (3, "agents = \"all\"\nscope = 1", 8, "unknown field `scope`"),
        ] {
            let (at, said) = rule(changed, to);
            assert!(said.contains(words), "{to}: {said}");
            assert_eq!(at, line, "{to}: {said}");
        }
        let twice = format!("[[spiffe.rules]]\npath = \"/a\"\n{REST_OF_RULE}").repeat(2);
        let (at, said) = rules(&twice).unwrap_err();
        assert!(at == 8 && said.starts_with("spiffe: rule 2: an earlier rule"), "{at} {said}");
        assert!(rules("rules = []").unwrap_err().1.contains("rules: it has none"));
        let problem = parse("[spiffe]\ntrust_domain = \"A\"\nrules = []").unwrap_err();
        assert!(problem.text.starts_with("spiffe: trust_domain: "), "{}", problem.text);
    }
}
