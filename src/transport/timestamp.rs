//! Points in time on the wire.

use prost_types::{Duration as WireDuration, Timestamp as Wire};

use crate::domain::Timestamp;

const MICROS: i64 = 1_000_000;

/// As protobuf has it.
pub(super) fn to_wire(at: Timestamp) -> Wire {
    let nanos = i32::try_from(at.0.rem_euclid(MICROS) * 1000).unwrap_or_default();
    Wire { seconds: at.0.div_euclid(MICROS), nanos }
}

/// From protobuf, as far as it can be written in microseconds.
pub(super) fn from_wire(at: &Wire) -> Timestamp {
    Timestamp(at.seconds.saturating_mul(MICROS).saturating_add(i64::from(at.nanos) / 1000))
}

/// A span of time from protobuf in microseconds, rounded down.
pub(super) fn micros(span: WireDuration) -> i64 {
    span.seconds.saturating_mul(MICROS).saturating_add(i64::from(span.nanos).div_euclid(1000))
}

/// As RFC 3339 has it, in UTC with a `Z`.
pub(super) fn to_rfc3339(at: Timestamp) -> String {
    to_wire(at).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn times_keep_their_microseconds(micros in -62_135_596_800_000_000_i64..253_402_300_799_000_000) {
            prop_assert_eq!(from_wire(&to_wire(Timestamp(micros))), Timestamp(micros));
        }
    }

    #[test]
    fn text_is_rfc_3339() {
        assert_eq!(to_rfc3339(Timestamp(1_700_000_000_123_456)), "2023-11-14T22:13:20.123456Z");
        assert_eq!(to_rfc3339(Timestamp(0)), "1970-01-01T00:00:00Z");
    }
}
