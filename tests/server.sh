# shellcheck shell=bash
# A server for the time of a script, which sources this: on an empty SQLite database, on free ports.

# Gone with the script, as the server is.
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

# start_server BINARY [OPTION…]: comes back once it listens, with its `address` and the `token` of its administrator.
start_server() {
  token=$("$1" tokens generate)
  SUPERSERVE_BOOTSTRAP_TOKEN=$token "$1" serve --data-dir "$work/data" --listen 127.0.0.1:0 --ops-listen 127.0.0.1:0 \
    --log-format json "${@:2}" >"$work/log" 2>&1 &
  server=$!
  address=
  for _ in $(seq 300); do
    address=$(sed -n '/"message":"listening"/s/.*"address":"\([^"]*\)".*/\1/p' "$work/log")
    if [[ -n $address ]]; then
      return
    fi
    sleep 0.1
  done
  cat "$work/log" >&2
  return 1
}

# Nothing that it was asked was a failure of its own.
server_is_well() {
  if grep -E '"level":"ERROR"|panicked' "$work/log"; then
    echo "the server has logged an error" >&2
    return 1
  fi
}
