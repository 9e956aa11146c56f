//! Words in, words out: gRPC, gRPC-Web and REST on one port. No decisions are made here.
//!
//! A request passes, from outside in (`layers`): its id and the access log, CORS; then by its content type to
//! gRPC or REST; and there, the same for both, the net for panics and the gate (`gate`): its place (`load`), the limit of concurrent calls,
//! the deadline, authentication and the rate limit. Then a handler of `grpc` or `http` turns its words into a
//! call of [`Service`](crate::service::Service) and the outcome into words, errors by the one table of
//! `error`.

mod access;
mod config;
mod error;
mod gate;
mod grpc;
mod guesses;
mod head;
mod http;
mod known;
mod layers;
pub mod listener;
mod load;
mod protocol;
mod rates;
mod seldom;
mod source;
mod timestamp;

pub use config::Config;
pub use grpc::SERVICE_NAMES;
pub use http::openapi;
#[doc(hidden)]
pub use http::set_without_service;
pub use layers::Front;
