#!/usr/bin/env bash
# schemathesis.sh BINARY: has Schemathesis call every operation of the OpenAPI document that a running server serves, with
# what that allows, with what it does not, and in sequences, and fails on any answer that it does not describe.
set -euo pipefail
binary=$(realpath "$1")
work=$(mktemp -d)
server=
finish() {
  if [[ -n $server ]]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap finish EXIT

# A token that may do all that is in the document, and nothing that ends what the others work with
SUPERSERVE_BOOTSTRAP_TOKEN=$("$binary" tokens generate)
export SUPERSERVE_BOOTSTRAP_TOKEN
"$binary" serve --data-dir "$work/data" --listen 127.0.0.1:0 --ops-listen 127.0.0.1:0 --log-format json \
  >"$work/log" 2>&1 &
server=$!
address=
for _ in $(seq 300); do
  address=$(sed -n 's/.*"message":"listening".*"address":"\([^"]*\)".*/\1/p; s/.*"address":"\([^"]*\)".*"message":"listening".*/\1/p' "$work/log")
  if [[ -n $address ]]; then break; fi
  sleep 0.1
done
if [[ -z $address ]]; then
  cat "$work/log" >&2
  exit 1
fi

# An agent with secrets, so that there is something to be found
api() {
  curl --silent --show-error --fail --header "Authorization: Bearer $SUPERSERVE_BOOTSTRAP_TOKEN" \
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
  --header "Authorization: Bearer $SUPERSERVE_BOOTSTRAP_TOKEN" \
  --checks all --max-examples 60 --seed 1 --generation-database none --request-timeout 20 --no-color
if grep -E '"level":"ERROR"|panicked' "$work/log"; then
  echo "the server has logged an error" >&2
  exit 1
fi
