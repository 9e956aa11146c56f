//! The file of rules: TOML, read as a whole, refused with the line that is wrong.
//!
//! Each way of being vouched for has its part of it: `[[issuers]]` here, `[spiffe]` in `spiffe`. What a rule gives is
//! written alike in all of them (`grant`).

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use jsonwebtoken::Algorithm;
use serde::Deserialize;
use toml::Spanned;
use url::Url;

use super::{
    fetch::{Place, is_trustworthy},
    grant::{self, OneOrMore},
    keys::{Freshness, Source},
    rule::{Agents, ClaimName, Rule, Tenant},
    spiffe::{self, SpiffeRules},
};

/// The algorithms that can be allowed. None of them has a secret that both sides know.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// What is allowed where nothing is said.
const DEFAULT_ALGORITHMS: [Algorithm; 2] = [Algorithm::RS256, Algorithm::ES256];

/// The longest name of an issuer, in bytes.
const MAX_ISSUER_BYTES: usize = 255;

const DEFAULT_SKEW: u64 = 30;
const MAX_SKEW: u64 = 300;
const DEFAULT_REFRESH: u64 = 300;
const DEFAULT_KEEP: u64 = 6 * 3600;
const MAX_KEEP: u64 = 7 * 24 * 3600;

/// What the file says.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) issuers: Vec<IssuerRules>,
    pub(super) spiffe: Option<SpiffeRules>,
}

/// An issuer, and what its rules are.
#[derive(Debug)]
pub(super) struct IssuerRules {
    pub(super) issuer: String,
    pub(super) audiences: Vec<String>,
    pub(super) algorithms: Vec<Algorithm>,
    /// By how much the clocks may differ, in seconds.
    pub(super) skew: u64,
    pub(super) source: Source,
    pub(super) freshness: Freshness,
    pub(super) rules: Vec<Rule>,
}

/// What is wrong, and at which byte of the file, if that is known.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) at: Option<usize>,
    pub(super) text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    issuers: Vec<Spanned<IssuerEntry>>,
    spiffe: Option<Spanned<spiffe::Section>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IssuerEntry {
    issuer: String,
    audiences: Vec<String>,
    jwks_url: Option<String>,
    jwks_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    token_file: Option<PathBuf>,
    algorithms: Option<Vec<String>>,
    clock_skew_seconds: Option<u64>,
    refresh_seconds: Option<u64>,
    keep_seconds: Option<u64>,
    rules: Vec<Spanned<RuleEntry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleEntry {
    claims: BTreeMap<String, OneOrMore>,
    tenant: Option<String>,
    tenant_claim: Option<String>,
    scopes: Vec<String>,
    agents: Option<OneOrMore>,
    agents_claim: Option<String>,
}

/// Reads the rules.
///
/// # Errors
/// The first [`Problem`].
pub(super) fn parse(text: &str) -> Result<Parsed, Problem> {
    let file: File = toml::from_str(text).map_err(|error| Problem {
        at: error.span().map(|span| span.start),
        text: error.message().to_owned(),
    })?;
    let mut issuers: Vec<IssuerRules> = Vec::with_capacity(file.issuers.len());
    for entry in file.issuers {
        let at = entry.span().start;
        let entry = entry.into_inner();
        let place = format!("the issuer {:?}", entry.issuer);
        let fault = |text: String| Problem { at: Some(at), text: format!("{place}: {text}") };
        if issuers.iter().any(|it| it.issuer == entry.issuer) {
            return Err(fault("it is here twice".to_owned()));
        }
        issuers.push(entry.check(&place).map_err(|problem| match problem {
            Problem { at: None, text } => fault(text),
            of_rule => of_rule,
        })?);
    }
    let spiffe = file.spiffe.map(|section| {
        let at = section.span().start;
        section.into_inner().check().map_err(|problem| Problem { at: problem.at.or(Some(at)), ..problem })
    });
    Ok(Parsed { issuers, spiffe: spiffe.transpose()? })
}

// === impl IssuerEntry ===

impl IssuerEntry {
    fn check(self, place: &str) -> Result<IssuerRules, Problem> {
        let Self { issuer, audiences, rules, .. } = &self;
        if issuer.is_empty() || issuer.len() > MAX_ISSUER_BYTES || issuer.contains('#') {
            return fault(format!("issuer: 1 to {MAX_ISSUER_BYTES} bytes without `#`"));
        }
        if !issuer.bytes().all(|b| b.is_ascii_graphic()) {
            return fault("issuer: it has spaces, or characters that are not printable ASCII".to_owned());
        }
        if audiences.is_empty() || audiences.iter().any(String::is_empty) {
            return fault(
                "audiences: name at least one, as which tokens are meant for this service".to_owned(),
            );
        }
        if rules.is_empty() {
            return fault("rules: it has none, so nobody of it could call".to_owned());
        }
        let (algorithms, source) = (self.algorithms()?, self.source()?);
        let skew = within("clock_skew_seconds", self.clock_skew_seconds, 0, DEFAULT_SKEW, MAX_SKEW)?;
        let refresh = within("refresh_seconds", self.refresh_seconds, 1, DEFAULT_REFRESH, MAX_KEEP)?;
        let keep = within("keep_seconds", self.keep_seconds, 1, DEFAULT_KEEP.max(refresh), MAX_KEEP)?;
        if keep < refresh {
            return fault(
                "keep_seconds: less than refresh_seconds, so keys would end while all is well".to_owned(),
            );
        }
        let freshness = Freshness { refresh: Duration::from_secs(refresh), keep: Duration::from_secs(keep) };
        let mut checked = Vec::with_capacity(rules.len());
        for (number, rule) in self.rules.into_iter().enumerate() {
            let at = rule.span().start;
            let rule = rule.into_inner().check();
            checked.push(rule.map_err(|text| Problem {
                at: Some(at),
                text: format!("rule {} of {place}: {text}", number + 1),
            })?);
        }
        Ok(IssuerRules {
            issuer: self.issuer,
            audiences: self.audiences,
            algorithms,
            skew,
            source,
            freshness,
            rules: checked,
        })
    }

    fn algorithms(&self) -> Result<Vec<Algorithm>, Problem> {
        let Some(names) = &self.algorithms else { return Ok(DEFAULT_ALGORITHMS.to_vec()) };
        let known = |name: &String| ALGORITHMS.into_iter().find(|it| format!("{it:?}") == *name);
        match names.iter().find(|name| known(name).is_none()) {
            Some(unknown) => fault(format!("algorithms: {unknown:?} is none of {ALGORITHMS:?}")),
            None if names.is_empty() => fault("algorithms: name at least one".to_owned()),
            None => Ok(names.iter().filter_map(known).collect()),
        }
    }

    fn source(&self) -> Result<Source, Problem> {
        let Self { jwks_url, jwks_file, ca_file, token_file, .. } = self;
        let url = match (jwks_url, jwks_file) {
            (Some(url), None) => url,
            (None, Some(_)) if ca_file.is_some() || token_file.is_some() => {
                return fault("ca_file and token_file go with jwks_url".to_owned());
            }
            (None, Some(file)) => return Ok(Source::File(file.clone())),
            (Some(_), Some(_)) | (None, None) => {
                return fault("give either jwks_url or jwks_file, by which its keys are had".to_owned());
            }
        };
        match Url::parse(url) {
            Ok(url) if is_trustworthy(&url) && url.username().is_empty() && url.password().is_none() => {
                let (ca_file, token_file) = (ca_file.clone(), token_file.clone());
                Ok(Source::Network(Place { url, ca_file, token_file }))
            }
            Ok(_) => fault(
                "jwks_url: it must begin with https:// (http:// on this machine only) and hold no password"
                    .to_owned(),
            ),
            Err(error) => fault(format!("jwks_url: {error}")),
        }
    }
}

// === impl RuleEntry ===

impl RuleEntry {
    fn check(self) -> Result<Rule, String> {
        let Self { claims, tenant, tenant_claim, scopes, agents, agents_claim } = self;
        if claims.is_empty() {
            return Err("claims: without one it would be for everybody whom the issuer knows".to_owned());
        }
        let claims: Vec<_> =
            claims.into_iter().map(|(name, values)| (ClaimName(name), values.texts())).collect();
        if let Some((name, _)) = claims.iter().find(|(_, values)| values.is_empty()) {
            return Err(format!("claims: {:?} has no value", name.0));
        }
        let tenant = match (tenant, tenant_claim) {
            (Some(id), None) => Tenant::Named(grant::tenant(&id)?),
            (None, Some(claim)) => Tenant::Claimed(ClaimName(claim)),
            (Some(_), Some(_)) | (None, None) => return Err("give either tenant or tenant_claim".to_owned()),
        };
        let agents = match (agents, agents_claim) {
            (Some(agents), None) => Agents::Named(grant::agents(agents)?),
            (None, Some(claim)) => Agents::Claimed(ClaimName(claim)),
            (Some(_), Some(_)) | (None, None) => {
                return Err("give either agents (ids, or \"all\") or agents_claim".to_owned());
            }
        };
        Ok(Rule { claims, tenant, scopes: grant::scopes(&scopes)?, agents })
    }
}

fn fault<T>(text: String) -> Result<T, Problem> {
    Err(Problem { at: None, text })
}

fn within(name: &str, given: Option<u64>, least: u64, default: u64, most: u64) -> Result<u64, Problem> {
    let given = given.unwrap_or(default);
    if (least..=most).contains(&given) {
        Ok(given)
    } else {
        fault(format!("{name}: it goes from {least} to {most}"))
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
