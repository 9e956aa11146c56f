//! The binary `superserve`.

fn main() {}
