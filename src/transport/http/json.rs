//! JSON as it was written: with every member, also the doubled ones, so that all faults of a body can be
//! told at once. Texts are wiped on drop: any of them may be a value.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use zeroize::Zeroizing;

use crate::domain::{Fault, FaultCode, Faults, RequiredSecret};
use crate::service::{NewAgent, RawEntry};

/// A JSON value.
pub(super) enum Json {
    Object(Vec<(String, Json)>),
    Array(Vec<Json>),
    Text(Zeroizing<String>),
    Number(Option<u64>),
    Bool(bool),
    Null,
}

/// What the body of a PATCH sets, and what is wrong with its form.
#[derive(Default)]
pub(super) struct SetBody {
    pub(super) entries: Vec<RawEntry>,
    pub(super) faults: Faults,
}

// === impl Json ===

impl Json {
    /// Reads a body.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Fault> {
        serde_json::from_slice(body).map_err(|_hidden| Fault::whole(FaultCode::Malformed))
    }

    /// The members of an object, each name once; what is wrong goes to `faults`.
    fn into_members(self, key: &str, faults: &mut Faults) -> Vec<(String, Self)> {
        let Self::Object(members) = self else {
            faults.push(Fault::new(key, FaultCode::WrongType));
            return Vec::new();
        };
        let mut seen = std::collections::HashSet::new();
        let doubled = members.iter().filter(|(name, _)| !seen.insert(name.as_str()));
        faults.extend(doubled.map(|(name, _)| Fault::new(name, FaultCode::Duplicate)));
        members
    }

    fn into_text(self, key: &str, faults: &mut Faults) -> String {
        match self {
            Self::Text(mut text) => std::mem::take(&mut *text),
            Self::Object(_) | Self::Array(_) | Self::Number(_) | Self::Bool(_) | Self::Null => {
                faults.push(Fault::new(key, FaultCode::WrongType));
                String::new()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Json::Object(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(Zeroizing::new(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(Some(number)))
    }

    fn visit_i64<E>(self, _negative: i64) -> Result<Json, E> {
        Ok(Json::Number(None))
    }

    fn visit_f64<E>(self, _fraction: f64) -> Result<Json, E> {
        Ok(Json::Number(None))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Json, E> {
        Ok(Json::Bool(flag))
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }
}

// === impl SetBody ===

impl SetBody {
    /// Reads `{"secrets": {"KEY": "value", …}}`.
    pub(super) fn read(json: Json) -> Self {
        let mut body = Self::default();
        let mut has_secrets = false;
        let is_object = matches!(json, Json::Object(_));
        for (name, value) in json.into_members("", &mut body.faults) {
            if name == "secrets" {
                has_secrets = true;
                body.read_secrets(value);
            } else {
                body.faults.push(Fault::new(name, FaultCode::UnknownField));
            }
        }
        if !has_secrets && is_object {
            body.faults.push(Fault::new("secrets", FaultCode::MissingField));
        }
        body
    }

    fn read_secrets(&mut self, secrets: Json) {
        let mut seen = std::collections::HashSet::new();
        for (key, value) in secrets.into_members("secrets", &mut self.faults) {
            if let Json::Text(value) = value {
                // A doubled key has its fault already; the second value would only add a second one
                if seen.insert(key.clone()) {
                    self.entries.push(RawEntry { key, value });
                }
            } else {
                self.faults.push(Fault::new(key, FaultCode::WrongType));
            }
        }
    }
}

/// Reads `{"name", "command"?, "required_secrets"?}`.
pub(super) fn read_agent(json: Json) -> NewAgent {
    let mut new = NewAgent::default();
    let mut has_name = false;
    for (name, value) in json.into_members("", &mut new.faults) {
        match (name.as_str(), value) {
            ("name", value) => {
                has_name = true;
                new.name = value.into_text("name", &mut new.faults);
            }
            ("command" | "required_secrets", Json::Null) => {}
            ("command", value) => new.command = value.into_text("command", &mut new.faults),
            ("required_secrets", Json::Array(items)) => {
                new.required_secrets =
                    items.into_iter().map(|item| read_required(item, &mut new.faults)).collect();
            }
            ("required_secrets", _) => new.faults.push(Fault::new(name, FaultCode::WrongType)),
            _ => new.faults.push(Fault::new(name, FaultCode::UnknownField)),
        }
    }
    if !has_name {
        new.faults.push(Fault::new("name", FaultCode::MissingField));
    }
    new
}

/// Reads a name, or an object `{"name", "description"?, "pattern"?, "min_length"?, "optional"?}`.
fn read_required(json: Json, faults: &mut Faults) -> RequiredSecret {
    let mut secret = RequiredSecret {
        name: String::new(),
        description: String::new(),
        pattern: String::new(),
        min_length: 0,
        optional: false,
    };
    if let Json::Text(mut name) = json {
        secret.name = std::mem::take(&mut *name);
        return secret;
    }
    for (member, value) in json.into_members("required_secrets", faults) {
        match (member.as_str(), value) {
            ("name", value) => secret.name = value.into_text("required_secrets.name", faults),
            (_, Json::Null) => {}
            ("description", value) => {
                secret.description = value.into_text("required_secrets.description", faults);
            }
            ("pattern", value) => secret.pattern = value.into_text("required_secrets.pattern", faults),
            ("min_length", Json::Number(Some(number))) => {
                secret.min_length = u32::try_from(number).unwrap_or(u32::MAX);
            }
            ("optional", Json::Bool(optional)) => secret.optional = optional,
            ("min_length" | "optional", _) => {
                faults.push(Fault::new(format!("required_secrets.{member}"), FaultCode::WrongType));
            }
            _ => faults.push(Fault::new(format!("required_secrets.{member}"), FaultCode::UnknownField)),
        }
    }
    secret
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(body: &str) -> Vec<(String, &'static str)> {
        let body = match Json::parse(body.as_bytes()) {
            Ok(json) => SetBody::read(json),
            Err(fault) => SetBody { faults: vec![fault], ..SetBody::default() },
        };
        body.faults.into_iter().map(|fault| (fault.key, fault.code.as_str())).collect()
    }

    fn found(pairs: &[(&str, &'static str)]) -> Vec<(String, &'static str)> {
        pairs.iter().map(|(key, code)| ((*key).to_owned(), *code)).collect()
    }

    #[test]
    fn every_fault_of_a_set_is_found() {
        assert_eq!(set(r#"{"secrets": {"A": "x"}}"#), found(&[]));
        assert_eq!(set("{"), found(&[("", "malformed")]));
        assert_eq!(set("[]"), found(&[("", "wrong_type")]));
        assert_eq!(set("{}"), found(&[("secrets", "missing_field")]));
        assert_eq!(set(r#"{"secrets": "x"}"#), found(&[("secrets", "wrong_type")]));
        assert_eq!(
            set(r#"{"secrets": {"A": "x", "A": "y", "B": 1, "C": null}, "more": {}}"#),
            found(&[("A", "duplicate"), ("B", "wrong_type"), ("C", "wrong_type"), ("more", "unknown_field")])
        );
        assert_eq!(
            set(r#"{"secrets": {"A": "x"}, "secrets": {"B": "y"}}"#),
            found(&[("secrets", "duplicate")])
        );
        assert_eq!(set(&"[".repeat(100_000)), found(&[("", "malformed")]));
    }

    #[test]
    fn agents_are_read_in_both_forms() {
        let body = r#"{"name": "a", "command": null, "required_secrets":
            ["A", {"name": "B", "pattern": "^x", "min_length": 3, "optional": true, "description": null}]}"#;
        let new = read_agent(Json::parse(body.as_bytes()).ok().unwrap());
        assert_eq!((new.name.as_str(), new.faults.len(), new.required_secrets.len()), ("a", 0, 2));
        assert!(new.required_secrets[1].optional && new.required_secrets[1].min_length == 3);
        let new = read_agent(Json::parse(br#"{"command": 1, "required_secrets": [{"x": 1}]}"#).ok().unwrap());
        let codes: Vec<_> =
            new.faults.iter().map(|fault| (fault.key.as_str(), fault.code.as_str())).collect();
        assert_eq!(
            codes,
            [("command", "wrong_type"), ("required_secrets.x", "unknown_field"), ("name", "missing_field")]
        );
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(body: Vec<u8>) {
            if let Ok(json) = Json::parse(&body) {
                drop(SetBody::read(json));
            }
        }
    }
}
