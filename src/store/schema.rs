//! Which migrations made a database what it is, and which programs may use it.

use sea_orm_migration::MigratorTrait as _;

use super::migration::Migrator;

/// What a database says of its schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// The names of the migrations that were applied, oldest first.
    pub applied: Vec<String>,
    /// The number of the newest migration of the oldest program that may use it. `None` from programs that did not say.
    pub oldest: Option<i64>,
}

// === impl Schema ===

impl Schema {
    /// Where sea-orm keeps which migrations were applied.
    pub(super) const MIGRATIONS: &str = "seaql_migrations";

    /// Where it is kept which programs may use it.
    pub(super) const REACH: &str = "schema_reach";

    /// The number that is kept there.
    pub(super) const OLDEST: &str = "SELECT oldest FROM schema_reach";

    /// The name of the newest migration; empty without any.
    #[must_use]
    pub fn newest(&self) -> &str {
        self.applied.last().map_or("", String::as_str)
    }

    /// The migrations that this program has and the database lacks.
    #[must_use]
    pub fn pending(&self) -> Vec<String> {
        known().filter(|name| !self.applied.contains(name)).collect()
    }

    /// The newest migration that this program does not know; `None` if it knows all.
    #[must_use]
    pub fn later(&self) -> Option<&str> {
        let known: Vec<_> = known().collect();
        self.applied.iter().rfind(|name| !known.contains(name)).map(String::as_str)
    }

    /// Why this program must leave the database alone: a later one has changed it beyond what this one understands.
    #[must_use]
    pub fn too_new(&self) -> Option<String> {
        let later = self.later()?;
        let newest = known().filter_map(|name| number(&name)).max().unwrap_or_default();
        let is_understood = self.oldest.is_some_and(|oldest| oldest <= newest);
        (!is_understood).then(|| {
            format!(
                "the database has the schema {later} of a later version, which version {} does not understand: start \
                 the version that made it, or a later one, or restore a backup from before the upgrade",
                env!("CARGO_PKG_VERSION")
            )
        })
    }
}

fn known() -> impl Iterator<Item = String> {
    Migrator::migrations().into_iter().map(|migration| migration.name().to_owned())
}

/// The number in the name of a migration, `m<date>_<number>_<name>`.
fn number(name: &str) -> Option<i64> {
    name.split('_').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(later: Option<&str>, oldest: Option<i64>) -> Schema {
        Schema { applied: known().chain(later.map(str::to_owned)).collect(), oldest }
    }

    #[test]
    fn migrations_are_numbered_one_by_one() {
        let numbers: Vec<_> = known().map(|name| number(&name).unwrap()).collect();
        assert_eq!(numbers, (1..=i64::try_from(numbers.len()).unwrap()).collect::<Vec<_>>());
    }

    #[test]
    fn a_later_schema_is_left_alone_unless_it_says_that_we_understand_it() {
        let newest = known().filter_map(|name| number(&name)).max().unwrap();
        let later = Some("m29991231_999999_later");
        for oldest in [None, Some(newest), Some(newest + 1)] {
            assert_eq!(schema(None, oldest).too_new(), None, "all is known");
        }
        assert_eq!(schema(later, Some(newest)).too_new(), None);
        for oldest in [None, Some(newest + 1)] {
            let why = schema(later, oldest).too_new().unwrap();
            assert!(
                why.contains("m29991231_999999_later") && why.contains(env!("CARGO_PKG_VERSION")),
                "{why}"
            );
        }
        assert_eq!(schema(later, None).later(), later);
        assert_eq!(Schema::default().pending(), known().collect::<Vec<_>>());
    }
}
