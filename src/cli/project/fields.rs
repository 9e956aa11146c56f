//! The fields of `superserve.yaml`. All that is wrong is told at once.

use crate::{
    cli::faults,
    domain::{AgentName, Command, RequiredSecret, SecretName},
};

use super::{
    Project,
    yaml::{self, Content, Node, Refusal},
};

/// Reads the file.
///
/// # Errors
/// A line for each thing that is wrong. None of them repeats what may be a value.
pub(super) fn parse(text: &str) -> Result<Project, Vec<String>> {
    let document =
        yaml::parse(text).map_err(|Refusal { line, reason }| vec![format!("line {line}: {reason}")])?;
    let mut fields = Fields::default();
    let Content::Members(members) = document.content else {
        return Err(vec![format!("line {}: the file has fields, such as `name: my-agent`", document.line)]);
    };
    for (name, node) in members {
        fields.take(&name, node);
    }
    fields.checked()
}

/// What was read so far, and what was wrong with it.
#[derive(Default)]
struct Fields {
    name: Option<String>,
    command: Option<String>,
    secrets: Vec<RequiredSecret>,
    faults: Vec<String>,
}

// === impl Fields ===

impl Fields {
    fn take(&mut self, name: &str, node: Node) {
        let line = node.line;
        match (name, node.content) {
            ("name", Content::Text(text)) => match AgentName::new(&text) {
                Ok(_) if text != crate::cli::agent::OF_PROJECT => self.name = Some(text),
                Ok(_) | Err(_) => self.fault(line, "`name` is not a valid name of an agent"),
            },
            ("command", Content::Text(text)) => match Command::new(&text) {
                Ok(_) => self.command = Some(text),
                Err(_) => self.fault(line, "`command` is too long, or has a NUL byte"),
            },
            // `ignore` is of the platform that the file comes from: what is not uploaded
            ("name" | "command" | "secrets", Content::Nothing) | ("ignore", _) => {}
            ("name" | "command", _) => self.fault(line, "`name` and `command` are one text each"),
            ("secrets", Content::List(items)) => items.into_iter().for_each(|item| self.secret(item)),
            ("secrets", _) => {
                self.fault(line, "`secrets` is a list of names: values are set by `superserve secrets set`");
            }
            _ => self.fault(line, "the fields are `name`, `command` and `secrets`, and this is none of them"),
        }
    }

    fn fault(&mut self, line: usize, reason: &str) {
        self.faults.push(format!("line {line}: {reason}"));
    }

    /// `- KEY`, or `- name: KEY` with what is known of it.
    fn secret(&mut self, node: Node) {
        let line = node.line;
        let (name, rest) = match node.content {
            Content::Text(name) => (Some(name), Vec::new()),
            Content::Members(mut members) => {
                let found = members.iter().position(|(field, _)| field == "name");
                let name = found.map(|index| members.remove(index).1.content);
                let name =
                    name.and_then(|name| if let Content::Text(name) = name { Some(name) } else { None });
                (name, members)
            }
            Content::Nothing | Content::List(_) => (None, Vec::new()),
        };
        let Some(name) = name.filter(|name| SecretName::parse(name).is_some()) else {
            return self.fault(line, NO_NAME);
        };
        let mut secret = RequiredSecret {
            name,
            description: String::new(),
            pattern: String::new(),
            min_length: 0,
            optional: false,
        };
        for (field, node) in rest {
            if let Err(reason) = describe(&mut secret, &field, node.content) {
                self.fault(node.line, reason);
            }
        }
        self.secrets.push(secret);
    }

    fn checked(mut self) -> Result<Project, Vec<String>> {
        if let Err(faults) = RequiredSecret::check_all(&self.secrets, &faults::form()) {
            self.faults.extend(faults.iter().map(faults::describe_local));
        }
        match self.name {
            Some(name) if self.faults.is_empty() => {
                Ok(Project { name, command: self.command, secrets: self.secrets })
            }
            None if self.faults.is_empty() => Err(vec!["`name` is missing: it is the agent's".to_owned()]),
            Some(_) | None => Err(self.faults),
        }
    }
}

const NO_NAME: &str =
    "a secret is given by its name alone, such as `- API_KEY`; its value never stands in this file";

fn describe(secret: &mut RequiredSecret, field: &str, content: Content) -> Result<(), &'static str> {
    let text = if let Content::Text(text) = content { Some(text) } else { None };
    match (field, text) {
        ("description", Some(text)) => secret.description = text,
        ("pattern", Some(text)) => secret.pattern = text,
        ("min_length", text) => {
            secret.min_length = text.and_then(|text| text.parse().ok()).ok_or("`min_length` is a number")?;
        }
        ("optional", text) => {
            secret.optional = match text.as_deref() {
                Some("true") => true,
                Some("false") => false,
                _ => return Err("`optional` is true or false"),
            };
        }
        ("description" | "pattern", None) => return Err("`description` and `pattern` are one text each"),
        _ => {
            return Err(
                "a secret has `name`, `description`, `pattern`, `min_length` and `optional`, and never a value",
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str) -> RequiredSecret {
        RequiredSecret {
            name: name.to_owned(),
            description: String::new(),
            pattern: String::new(),
            min_length: 0,
            optional: false,
        }
    }

    #[test]
    fn a_whole_file_is_read() {
        let text = "name: my-agent # ours\ncommand: \"python agent.py\"\nignore: [.venv]\nsecrets:\n  - A\n  - name: B\n    \
                    description: of the team\n    pattern: ^x\n    min_length: 8\n    optional: true\n";
        let described = RequiredSecret {
            description: "of the team".to_owned(),
            pattern: "^x".to_owned(),
            min_length: 8,
            optional: true,
            ..secret("B")
        };
        let expected = Project {
            name: "my-agent".to_owned(),
            command: Some("python agent.py".to_owned()),
            secrets: vec![secret("A"), described],
        };
        assert_eq!(parse(text), Ok(expected));
        let least = Project { name: "a".to_owned(), command: None, secrets: Vec::new() };
        assert_eq!(parse("name: a\ncommand:\nsecrets:\n"), Ok(least));
    }

    #[test]
    fn what_is_not_a_declaration_is_refused_by_its_line_and_unseen() {
        for (text, line) in [
            ("name: a\nsecrets:\n  - KEY=sentinel\n", "line 3: a secret is given by its name alone"),
            ("name: a\nsecrets:\n  - KEY: sentinel\n", "line 3: a secret is given by its name alone"),
            ("name: a\nsecrets:\n  KEY: sentinel\n", "line 3: `secrets` is a list of names"),
            ("name: a\nsecrets:\n  - name: KEY\n    value: sentinel\n", "line 4: a secret has `name`"),
            ("name: a\nsecrets: sentinel\n", "line 2: `secrets` is a list of names"),
            ("name: a\nsecrets:\n  - [sentinel]\n", "line 3: a secret is given"),
            (
                "name: a\nsecrets:\n  - name: KEY\n    optional: sentinel\n",
                "line 4: `optional` is true or false",
            ),
            ("name: a\nsecrets:\n  - name: KEY\n    min_length: -1\n", "line 4: `min_length` is a number"),
            ("name: a\nsecrets:\n  - name: KEY\n    pattern: [x]\n", "line 4: `description` and `pattern`"),
            ("name: a\nSENTINEL_KEY: sentinel\n", "line 2: the fields are"),
            ("name: [a]\n", "line 1: `name` and `command` are one text"),
            ("name: agt_sentinel\n", "line 1: `name` is not a valid name"),
            ("name: .\n", "line 1: `name` is not a valid name"),
            ("name:\n", "`name` is missing"),
            ("secrets: [A]\n", "`name` is missing"),
            ("- sentinel\n", "line 1: the file has fields"),
            ("name: a\nsecrets: [A, A]\n", "A: is given twice"),
            ("name: a\nsecrets: [PATH]\n", "PATH: this name is refused"),
            ("name: a\nsecrets:\n  - name: A\n    pattern: (\n", "A: is not a regular expression"),
        ] {
            let faults = parse(text).unwrap_err().join("\n");
            assert!(faults.contains(line), "{text}: {faults}");
            assert!(!faults.contains("sentinel"), "{faults}");
        }
        let all = parse("x: 1\ny: 2\nsecrets: [A, 1B]\n").unwrap_err();
        assert_eq!(all.len(), 3, "{all:?}");
    }
}
