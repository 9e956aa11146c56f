//! Values with their rules: no async, no I/O, no SQL, no HTTP.
//!
//! Outside data becomes one of these types at the border and is never checked again. To add a rule:
//! put it into the constructor of the type it is about and give the fault a [`FaultCode`], which is
//! part of the contract with callers.

/// What every text has that was checked when it was made: taking it from our own database, and its text.
macro_rules! stored_text {
    ($name:ident) => {
        impl $name {
            /// Takes one as our own database has it.
            #[must_use]
            pub fn from_stored(text: String) -> Self {
                Self(text)
            }

            /// The text of it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}

mod agent;
mod audit;
mod fault;
mod id;
mod identity;
mod limits;
mod page;
mod principal;
mod secret;
mod spiffe;
mod tenant;
mod time;
mod token_text;
mod warning;

pub use agent::{Agent, AgentName, Command, RequiredSecret};
pub use audit::{Action, AuditEvent, AuditedSecret, Origin};
pub use fault::{Fault, FaultCode, Faults};
pub use id::{AgentId, EventId, IdempotencyKey, KekId, RunId, TenantId, TokenId, base62};
pub use identity::{Identity, IdentityName};
pub use limits::Limits;
pub use page::{Page, PageRequest, Weigh};
pub use principal::{AgentScope, ListedToken, Principal, Scope, TokenGrant, TokenRecord};
pub use secret::{SecretMetadata, SecretName, SecretValue};
pub use spiffe::{SpiffeId, SpiffeIdError, check_segment, check_trust_domain};
pub use tenant::{Tenant, TenantName};
pub use time::{Revision, Timestamp};
pub use token_text::{MalformedToken, TokenText};
pub use warning::{Warning, WarningCode};
