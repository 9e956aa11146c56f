#!/usr/bin/env bash
# clients.sh BINARY RUST_EXAMPLE [LANGUAGE…]: generates the clients in examples/clients and runs each against a server that
# limits how often it is called, so that they have to wait as it asks. `buf`, Go, Node with npm, and a `python3` with
# examples/clients/python/requirements.txt are on the PATH.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
binary=$(realpath "$1")
rust_example=$(realpath "$2")
languages=("${@:3}")
if [[ ${#languages[@]} -eq 0 ]]; then
  languages=(rust python go typescript)
fi
. tests/server.sh

start_server "$binary" --rate-limit 2
export SUPERSERVE_TOKEN=$token
export SUPERSERVE_API_URL=http://$address
export ANTHROPIC_API_KEY=sk-ant-sentinel

cat >"$work/expected" <<'END_OF_OUTPUT'
deployed
missing: ANTHROPIC_API_KEY
set: ANTHROPIC_API_KEY
not set: OTHER
resolved: ANTHROPIC_API_KEY
deleted
END_OF_OUTPUT

# says NAME COMMAND…: the command does what all the examples do, waits when it is told to, and shows no value.
says() {
  local name=$1 start=$SECONDS
  if ! "${@:2}" >"$work/out" 2>"$work/err"; then
    cat "$work/out" "$work/err" >&2
    return 1
  fi
  diff "$work/expected" "$work/out"
  if grep sentinel "$work/out" "$work/err"; then
    echo "$name has shown a value" >&2
    return 1
  fi
  # The library waits in silence
  if [[ $name != rust ]]; then
    grep -q 'waiting, as RATE_LIMITED asks' "$work/err"
  fi
  echo "$name: as expected, in $((SECONDS - start)) s"
}

rust() {
  says rust "$rust_example"
}

python() (
  cd examples/clients/python
  buf generate
  says python python3 main.py
)

go() (
  cd examples/clients/go
  buf generate
  command go vet .
  command go build -o "$work/go-client" .
  says go "$work/go-client"
)

typescript() (
  cd examples/clients/typescript
  npm ci --silent --no-audit --no-fund --prefer-offline </dev/null
  buf generate
  npm run --silent build
  says "typescript over gRPC" npm start --silent
  says "typescript over gRPC-Web" npm start --silent -- grpc-web
)

for language in "${languages[@]}"; do
  "$language"
done
server_is_well
