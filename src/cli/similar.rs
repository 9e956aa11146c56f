//! Names that were probably meant.

/// The name that is spelled most like `typed`; none when none is near enough to be a slip.
pub(super) fn nearest<'n>(typed: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    // One slip in three characters; more is another word
    let most = (typed.chars().count() / 3).max(1);
    let typed = typed.to_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&typed, &name.to_lowercase());
    let near = names.into_iter().map(|name| (distance(name), name)).filter(|(distance, _)| *distance <= most);
    near.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_told_from_another_word() {
        let names = ["my-agent", "my-agents", "billing", "B"];
        for (typed, meant) in [
            ("my-agnt", Some("my-agent")),
            ("MY-AGENT", Some("my-agent")),
            ("ym-agent", Some("my-agent")),
            ("my-agentss", Some("my-agents")),
            ("biling", Some("billing")),
            ("A", Some("B")),
            ("something", None),
            ("", Some("B")),
        ] {
            assert_eq!(nearest(typed, names), meant, "{typed}");
        }
        assert_eq!(nearest("a", []), None);
    }
}
