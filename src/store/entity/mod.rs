//! The tables, as sea-orm sees them. What they mean is written where they are made:
//! [`migration`](super::migration).
#![expect(unreachable_pub, reason = "sea-orm's derives make public items")]

pub(super) mod agent;
pub(super) mod audit_event;
pub(super) mod idempotency;
pub(super) mod key;
pub(super) mod secret;
pub(super) mod tenant;
pub(super) mod token;
pub(super) mod token_use;
