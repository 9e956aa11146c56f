//! The wire: what `build.rs` makes of `proto/`.

mod redacted;

/// Package `superserve.secrets.v1`: messages, clients and servers, documented by the protos' comments.
#[expect(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    clippy::pedantic,
    reason = "generated"
)]
pub mod v1 {
    tonic::include_proto!("superserve.secrets.v1");
}

/// Who gives the reasons in `google.rpc.ErrorInfo`. What names another domain is no error of this service.
pub const ERROR_DOMAIN: &str = "secrets.superserve.ai";

/// The protos with their comments and options, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
