# `just` without a word lists these. Each is a step, or several, of .ci/run.

_list:
    @just --list

# before every commit: form, lints, unit tests
check:
    .ci/run fmt clippy unit

# all tests, as the README says
test *ARGS:
    cargo test --locked {{ ARGS }}

# two replicas on a PostgreSQL that fails over, see docs/scaling.md
failover-test:
    .ci/run failover

# everything that needs no running program
lint:
    .ci/run typos scripts fmt proto openapi dependencies unused clippy doc

# everything that is checked before a merge
ci:
    .ci/run

# the server, on an SQLite database in ./data
run *ARGS:
    cargo run --locked -- serve {{ ARGS }}

# puts Rust and protos into form
fmt:
    .ci/run format
