#!/usr/bin/env bash
# schemathesis.sh BINARY: has Schemathesis call every operation of the OpenAPI document that a running server serves, with
# what that allows, with what it does not, and in sequences, and fails on any answer that it does not describe.
set -euo pipefail
binary=$(realpath "$1")
. "$(dirname "${BASH_SOURCE[0]}")/server.sh"

start_server "$binary"

# An agent with secrets, so that there is something to be found
api() {
  curl --silent --show-error --fail --header "Authorization: Bearer $token" \
    --header 'Content-Type: application/json' "$@"
}
api --data '{"name": "demo"}' "http://$address/v1/agents" >"$work/agent"
agent=$(sed -n 's/.*"id":"\(agt_[A-Za-z0-9]*\)".*/\1/p' "$work/agent")
api --request PATCH --data '{"secrets": {"KEY": "value"}}' "http://$address/v1/agents/$agent/secrets" >"$work/set"

# What no schema says: a key that no pattern has room for, a page token that is not of this list, a revision that has passed,
# an If-Match of `null`, which is how the document says that a header may be left out
cat >"$work/schemathesis.toml" <<'END'
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", 400, 401, 403, 404, 409, 412, 422, 429, "5xx"]
END
cd "$work"
schemathesis --config-file schemathesis.toml run "http://$address/openapi.json" --url "http://$address" \
  --header "Authorization: Bearer $token" \
  --checks all --max-examples 60 --seed 1 --generation-database none --request-timeout 20 --no-color
server_is_well
