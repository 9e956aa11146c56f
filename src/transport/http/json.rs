//! JSON as it was written: with every member, also the doubled ones, so that all faults of a body can be
//! told at once. Texts are wiped on drop: any of them may be a value.

use std::fmt;

use serde::{
    Deserializer,
    de::{DeserializeSeed, MapAccess, SeqAccess, Visitor},
};
use zeroize::Zeroizing;

use crate::{
    domain::{Fault, FaultCode, Faults, RequiredSecret},
    service::{NewAgent, RawEntry},
    transport::error::MAX_MEMBERS,
};

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
    /// Reads a body. One of more than [`MAX_MEMBERS`] is not read to its end.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Fault> {
        let mut left = Some(MAX_MEMBERS);
        let mut text = serde_json::Deserializer::from_slice(body);
        let read = Reader { left: &mut left }.deserialize(&mut text);
        let read = read.and_then(|json| text.end().map(|()| json));
        read.map_err(|_hidden| match left {
            Some(_) => Fault::whole(FaultCode::Malformed),
            None => Fault::over("", FaultCode::TooMany, MAX_MEMBERS),
        })
    }

    /// The members of an object, with doubled ones.
    fn into_members(self, key: &str) -> Result<Vec<(String, Self)>, Fault> {
        match self {
            Self::Object(members) => Ok(members),
            Self::Array(_) | Self::Text(_) | Self::Number(_) | Self::Bool(_) | Self::Null => {
                Err(Fault::new(key, FaultCode::WrongType))
            }
        }
    }

    fn into_text(self, key: &str) -> Result<String, Fault> {
        match self {
            Self::Text(mut text) => Ok(std::mem::take(&mut *text)),
            Self::Object(_) | Self::Array(_) | Self::Number(_) | Self::Bool(_) | Self::Null => {
                Err(Fault::new(key, FaultCode::WrongType))
            }
        }
    }

    /// The text of a member that may be left out; what is wrong goes to `faults`.
    fn into_optional_text(self, key: &str, faults: &mut Faults) -> String {
        self.into_text(key).unwrap_or_else(|fault| {
            faults.push(fault);
            String::new()
        })
    }
}

/// Reads a value.
struct Reader<'r> {
    /// How many more members and items may come; `None` once there were more.
    left: &'r mut Option<usize>,
}

impl Reader<'_> {
    /// Reads what is within the value.
    fn inner(&mut self) -> Reader<'_> {
        Reader { left: self.left }
    }

    fn count<E: serde::de::Error>(&mut self) -> Result<(), E> {
        *self.left = self.left.and_then(|left| left.checked_sub(1));
        self.left.map(|_| ()).ok_or_else(|| E::custom("too many members"))
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Json, A::Error> {
        let mut members = Vec::new();
        while let Some(name) = map.next_key()? {
            self.count()?;
            members.push((name, map.next_value_seed(self.inner())?));
        }
        Ok(Json::Object(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self.inner())? {
            self.count()?;
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

/// What is wrong with names that are there twice. `path` stands before them.
fn doubled(members: &[(String, Json)], path: &str) -> Faults {
    let mut seen = std::collections::HashSet::new();
    let doubled = members.iter().filter(|(name, _)| !seen.insert(name.as_str()));
    doubled.map(|(name, _)| Fault::new(format!("{path}{name}"), FaultCode::Duplicate)).collect()
}

// === impl SetBody ===

impl SetBody {
    /// Reads `{"secrets": {"KEY": "value", …}}`.
    pub(super) fn read(json: Json) -> Self {
        let mut body = Self::default();
        if let Err(fault) = body.read_members(json) {
            body.faults.push(fault);
        }
        body
    }

    fn read_members(&mut self, json: Json) -> Result<(), Fault> {
        let members = json.into_members("")?;
        self.faults.extend(doubled(&members, ""));
        let mut secrets = Err(Fault::new("secrets", FaultCode::MissingField));
        for (name, value) in members {
            if name == "secrets" {
                secrets = self.read_secrets(value);
            } else {
                self.faults.push(Fault::new(name, FaultCode::UnknownField));
            }
        }
        secrets
    }

    fn read_secrets(&mut self, secrets: Json) -> Result<(), Fault> {
        let members = secrets.into_members("secrets")?;
        self.faults.extend(doubled(&members, ""));
        let mut seen = std::collections::HashSet::new();
        for (key, value) in members {
            if let Json::Text(value) = value {
                // A doubled key has its fault already; the second value would only add a second one
                if seen.insert(key.clone()) {
                    self.entries.push(RawEntry { key, value });
                }
            } else {
                self.faults.push(Fault::new(key, FaultCode::WrongType));
            }
        }
        Ok(())
    }
}

/// Reads `{"name", "command"?, "required_secrets"?}`.
pub(super) fn read_agent(json: Json) -> NewAgent {
    let mut new = NewAgent {
        name: Err(Fault::new("name", FaultCode::MissingField)),
        command: String::new(),
        required_secrets: Vec::new(),
        faults: Faults::new(),
    };
    let members = match json.into_members("") {
        Ok(members) => members,
        Err(fault) => return NewAgent { name: Err(fault), ..new },
    };
    new.faults.extend(doubled(&members, ""));
    for (name, value) in members {
        match (name.as_str(), value) {
            ("name", value) => new.name = value.into_text("name"),
            ("command" | "required_secrets", Json::Null) => {}
            ("command", value) => new.command = value.into_optional_text("command", &mut new.faults),
            ("required_secrets", Json::Array(items)) => {
                for item in items {
                    match read_required(item, &mut new.faults) {
                        Ok(secret) => new.required_secrets.push(secret),
                        Err(fault) => new.faults.push(fault),
                    }
                }
            }
            ("required_secrets", _) => new.faults.push(Fault::new(name, FaultCode::WrongType)),
            _ => new.faults.push(Fault::new(name, FaultCode::UnknownField)),
        }
    }
    new
}

/// Reads a name, or an object `{"name", "description"?, "pattern"?, "min_length"?, "optional"?}`. What has no
/// name is nothing but that; what else is wrong goes to `faults`.
fn read_required(json: Json, faults: &mut Faults) -> Result<RequiredSecret, Fault> {
    let mut secret = RequiredSecret {
        name: String::new(),
        description: String::new(),
        pattern: String::new(),
        min_length: 0,
        optional: false,
    };
    if let Json::Text(mut name) = json {
        secret.name = std::mem::take(&mut *name);
        return Ok(secret);
    }
    let members = json.into_members("required_secrets")?;
    faults.extend(doubled(&members, "required_secrets."));
    let mut name = Err(Fault::new("required_secrets.name", FaultCode::MissingField));
    for (member, value) in members {
        match (member.as_str(), value) {
            ("name", value) => name = value.into_text("required_secrets.name"),
            (_, Json::Null) => {}
            ("description", value) => {
                secret.description = value.into_optional_text("required_secrets.description", faults);
            }
            ("pattern", value) => {
                secret.pattern = value.into_optional_text("required_secrets.pattern", faults);
            }
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
    secret.name = name?;
    Ok(secret)
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
        assert_eq!((new.name, new.faults.len(), new.required_secrets.len()), (Ok("a".to_owned()), 0, 2));
        assert!(new.required_secrets[1].optional && new.required_secrets[1].min_length == 3);
    }

    #[test]
    fn what_is_missing_in_an_agent_is_told_once() {
        let agent = |body: &str| {
            let new = read_agent(Json::parse(body.as_bytes()).ok().unwrap());
            let faults = new.faults.into_iter().chain(new.name.err());
            let faults: Vec<_> = faults.map(|fault| (fault.key, fault.code.as_str())).collect();
            (faults, new.required_secrets.len())
        };
        assert_eq!(agent("[]"), (found(&[("", "wrong_type")]), 0));
        assert_eq!(agent("{}"), (found(&[("name", "missing_field")]), 0));
        assert_eq!(agent(r#"{"name": 7}"#), (found(&[("name", "wrong_type")]), 0));
        let faults = [
            ("command", "wrong_type"),
            ("required_secrets.x", "unknown_field"),
            ("required_secrets.name", "missing_field"),
            ("required_secrets.name", "missing_field"),
            ("required_secrets", "wrong_type"),
            ("required_secrets.name", "duplicate"),
            ("name", "missing_field"),
        ];
        let required = r#"[{"x": 1}, {}, 7, {"name": "A", "name": "A"}]"#;
        let body = format!(r#"{{"command": 1, "required_secrets": {required}}}"#);
        assert_eq!(agent(&body), (found(&faults), 1));
    }

    #[test]
    fn a_body_is_not_read_beyond_its_members() {
        let items = |count| format!("[{}0]", "0,".repeat(count - 1));
        let members = |count| format!("{{{}\"A\":[]}}", "\"A\":{},".repeat(count - 1));
        let too_many = Fault::over("", FaultCode::TooMany, MAX_MEMBERS);
        for body in [items, members] {
            assert!(Json::parse(body(MAX_MEMBERS).as_bytes()).is_ok());
            assert_eq!(Json::parse(body(MAX_MEMBERS + 1).as_bytes()).err(), Some(too_many.clone()));
        }
        // Within each other they count together, and what comes after is not looked at
        let nested = format!("[{},{}]", items(MAX_MEMBERS / 2), items(MAX_MEMBERS / 2));
        assert_eq!(Json::parse(nested.as_bytes()).err(), Some(too_many.clone()));
        assert_eq!(Json::parse(items(MAX_MEMBERS + 1).replace(']', ",}").as_bytes()).err(), Some(too_many));
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
