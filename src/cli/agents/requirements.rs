//! What a deploy changes of what an agent requires, by name.
//!
//! A deploy replaces the whole list, so one without `--require` takes away all that an earlier one gave.

use std::collections::BTreeMap;

use crate::{cli::output::Output, proto::v1::RequiredSecret};

/// The difference between two lists of required secrets.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    gone: Vec<String>,
    new: Vec<String>,
    /// Required as before, under another description, pattern or length.
    described_anew: Vec<String>,
}

// === impl Changes ===

impl Changes {
    /// What `after` changes of `before`. What becomes optional is no longer required, and the other way round.
    pub(super) fn between(before: &[RequiredSecret], after: &[RequiredSecret]) -> Self {
        let [was, is] = [before, after]
            .map(|secrets| secrets.iter().map(|it| (it.name.as_str(), it)).collect::<BTreeMap<_, _>>());
        let mut changes = Self::default();
        for secret in before {
            match is.get(secret.name.as_str()) {
                None => changes.gone.push(shown(secret)),
                Some(now) if now.optional && !secret.optional => {
                    changes.gone.push(format!("{} (optional now)", secret.name));
                }
                Some(now) if now.optional == secret.optional && *now != secret => {
                    changes.described_anew.push(secret.name.clone());
                }
                Some(_) => {}
            }
        }
        let is_new = |secret: &&RequiredSecret| match was.get(secret.name.as_str()) {
            None => true,
            Some(then) => then.optional && !secret.optional,
        };
        changes.new = after.iter().filter(is_new).map(shown).collect();
        changes
    }

    /// Says each that there is.
    pub(super) fn tell(&self, output: &mut Output) {
        let Self { gone, new, described_anew } = self;
        for (what, names) in [
            ("No longer required", gone),
            ("Newly required", new),
            ("Required with another description or rule", described_anew),
        ] {
            if !names.is_empty() {
                output.talk(format!("{what}: {}", names.join(", ")));
            }
        }
    }
}

/// A secret by its name, and whether it may be missing.
pub(super) fn shown(secret: &RequiredSecret) -> String {
    let RequiredSecret { name, optional, .. } = secret;
    if *optional { format!("{name} (optional)") } else { name.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::Captured;

    fn secret(name: &str) -> RequiredSecret {
        RequiredSecret { name: name.to_owned(), ..RequiredSecret::default() }
    }

    fn optional(name: &str) -> RequiredSecret {
        RequiredSecret { optional: true, ..secret(name) }
    }

    fn told(before: &[RequiredSecret], after: &[RequiredSecret]) -> String {
        let captured = Captured::default();
        Changes::between(before, after).tell(&mut captured.output());
        assert_eq!(captured.stdout(), "", "it is talk");
        captured.stderr()
    }

    #[test]
    fn what_goes_and_what_comes_is_named() {
        assert_eq!(
            told(&[secret("B"), secret("A"), optional("O")], &[secret("A"), secret("C"), optional("P")]),
            "No longer required: B, O (optional)\nNewly required: C, P (optional)\n"
        );
        assert_eq!(told(&[secret("A")], &[]), "No longer required: A\n");
        assert_eq!(told(&[], &[secret("A")]), "Newly required: A\n");
    }

    #[test]
    fn what_becomes_optional_is_no_longer_required() {
        assert_eq!(told(&[secret("A")], &[optional("A")]), "No longer required: A (optional now)\n");
        assert_eq!(told(&[optional("A")], &[secret("A")]), "Newly required: A\n");
    }

    #[test]
    fn a_rule_that_is_lost_is_told_and_no_change_is_not() {
        let ruled = RequiredSecret { pattern: "^sk-".to_owned(), ..secret("A") };
        let told_of_a_rule = told(std::slice::from_ref(&ruled), &[secret("A")]);
        assert_eq!(told_of_a_rule, "Required with another description or rule: A\n");
        assert_eq!(told(&[ruled.clone(), secret("B")], &[secret("B"), ruled]), "", "the order is no change");
    }
}
