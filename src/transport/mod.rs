//! Words in, words out, no decisions: what carries requests to the operations and answers back.

pub mod listener;
