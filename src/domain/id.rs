//! Identifiers: different types, so that none passes for another.

use std::fmt;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// What follows the prefix of an id may be this long.
const MAX_ID_BYTES: usize = 64;

/// Caller-chosen names (idempotency keys, run ids) may be this long.
const MAX_HEADER_BYTES: usize = 255;

/// Writes a number in base 62 (`0-9A-Za-z`), zero-padded to `width` characters; higher digits are cut.
#[must_use]
pub fn base62(mut number: u128, width: usize) -> String {
    let mut digits = vec![b'0'; width];
    for digit in digits.iter_mut().rev() {
        let index = usize::try_from(number % 62).unwrap_or_default();
        *digit = BASE62.get(index).copied().unwrap_or(b'0');
        number /= 62;
    }
    digits.into_iter().map(char::from).collect()
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        stored_text!($name);

        impl $name {
            /// What every id of this kind begins with.
            pub const PREFIX: &'static str = $prefix;

            /// Makes an id of 128 random bits: the prefix and 22 base62 characters.
            #[must_use]
            pub fn from_random(bits: u128) -> Self {
                Self(format!("{}{}", $prefix, base62(bits, 22)))
            }

            /// Reads an id; `None` if it cannot be one.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                let rest = text.strip_prefix($prefix)?;
                let fits = (1..=MAX_ID_BYTES).contains(&rest.len());
                (fits && rest.bytes().all(|b| b.is_ascii_alphanumeric())).then(|| Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// An agent's id, `agt_…`.
    AgentId,
    "agt_"
);
id!(
    /// A token's id, `tok_…`: a name for it, not its text.
    TokenId,
    "tok_"
);
id!(
    /// The id of an audit event, `evt_…`. See [`EventId::at`].
    EventId,
    "evt_"
);
id!(
    /// The id of a key-encryption key, `kek_…`.
    KekId,
    "kek_"
);
id!(
    /// A tenant's id, `ten_…`.
    TenantId,
    "ten_"
);

impl EventId {
    /// Makes an id that sorts by time: 64 bits of microseconds, then 64 random bits.
    #[must_use]
    pub fn at(micros: i64, random: u64) -> Self {
        let time = u128::from(micros.unsigned_abs());
        Self::from_random(time << 64 | u128::from(random))
    }
}

impl TenantId {
    /// The tenant that every database has.
    #[must_use]
    pub fn default_tenant() -> Self {
        Self("ten_default".to_owned())
    }
}

macro_rules! header {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(String);

        impl $name {
            /// Reads one; `None` if it is empty, longer than 255 bytes or not printable ASCII.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                let fits = (1..=MAX_HEADER_BYTES).contains(&text.len());
                (fits && text.bytes().all(|b| b.is_ascii_graphic() || b == b' '))
                    .then(|| Self(text.to_owned()))
            }

            /// The text of it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}

header!(
    /// A caller's name for one attempt at a write, so that a repeat has no second effect.
    IdempotencyKey
);
header!(
    /// A runtime's name for a run.
    RunId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base62_pads_and_orders_like_the_number() {
        assert_eq!(base62(0, 6), "000000");
        assert_eq!(base62(61, 2), "0z");
        assert_eq!(base62(62, 2), "10");
        assert!(base62(u128::MAX, 22) > base62(u128::MAX - 1, 22));
        assert_eq!(base62(u128::from(u32::MAX), 6), "4gfFC3");
    }

    #[test]
    fn ids_refuse_what_is_not_one() {
        assert!(AgentId::parse("agt_abc123").is_some());
        for text in ["", "agt_", "agt_a b", "agt_a/b", "tok_abc", "agt_\0", "AGT_abc", "agt_é"] {
            assert!(AgentId::parse(text).is_none(), "{text:?}");
        }
        assert!(AgentId::parse(&format!("agt_{}", "a".repeat(65))).is_none());
        assert_eq!(AgentId::from_random(7).as_str().len(), 26);
    }

    #[test]
    fn event_ids_sort_by_time() {
        assert!(EventId::at(1, u64::MAX) < EventId::at(2, 0));
    }

    #[test]
    fn header_values_are_printable_and_bounded() {
        assert!(RunId::parse("run 1/2").is_some());
        for text in ["", "a\n", "é", &"a".repeat(256)] {
            assert!(IdempotencyKey::parse(text).is_none(), "{text:?}");
        }
    }
}
