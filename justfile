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

# the Helm chart, without a cluster
chart:
    .ci/run chart

# rules and dashboard against a real Prometheus; `PICTURE=docs/dashboard.svg just monitoring` draws the dashboard anew
monitoring:
    .ci/run monitoring

# everything that is checked before a merge
ci:
    .ci/run

# what single steps cost: sealing and opening, a `.env` file, a JSON body, a token
bench *ARGS:
    cargo bench --locked --bench micro -- {{ ARGS }}

# the release binary on real sockets beside yardsticks: `just bench-load --only set --connections 16 --pairs 3`
bench-load *ARGS:
    cargo build --release --locked --bin superserve
    cargo run --release --locked --manifest-path benches/load/Cargo.toml --target-dir target/load -- {{ ARGS }}

# the chart in a real Kubernetes, which is built the first time; as root, after tests/cluster/system.sh
cluster-test:
    tests/cluster/check.sh

# the same with two nodes: nodes and databases that go, kills, failures, autoscaling; or one of it, such as `failover`
cluster-test-long *CASES:
    tests/cluster/check-long.sh {{ CASES }}

# the clients in examples/clients, generated anew, against a server
clients:
    .ci/run clients

# the bill of materials, target/superserve.cdx.json
sbom:
    .ci/run sbom

# nonsense for what strangers can send, so many seconds a target: `just fuzz 600` or `just fuzz 60 dotenv`
fuzz SECONDS *TARGETS:
    fuzz/run.sh {{ SECONDS }} {{ TARGETS }}

# the server, on an SQLite database in ./data
run *ARGS:
    cargo run --locked -- serve {{ ARGS }}

# puts Rust and protos into form
fmt:
    .ci/run format
