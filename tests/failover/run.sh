#!/usr/bin/env bash
# Tries the failover of a real PostgreSQL under two replicas of the service: `tests/it/failover.rs` says what happens
# and what must hold, `cluster.sh` beside this file makes the cluster. It takes Debian's patroni, etcd-server, haproxy,
# postgresql-15, curl and python3, and two minutes beyond the build. `SUPERSERVE_BIN` names another binary to try.
#
# As root it has a network of its own, in which a member can fall silent: that takes iproute2 and nftables too. Whatever
# ends it ends the cluster.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

limit=420 # seconds; two minutes are usual, four where others use the machine

programs=(patroni etcd haproxy /usr/lib/postgresql/15/bin/pg_rewind curl python3) drills=loud apart=()
if [[ $(id -u) -eq 0 ]]; then
  programs+=(ip nft) drills=all
  # shellcheck disable=SC2016 # the inner shell expands it
  apart=(unshare --net sh -c 'ip link set lo up && exec "$@"' sh)
fi
missing=()
for program in "${programs[@]}"; do
  PATH="$PATH:/usr/sbin" type -P "$program" >/dev/null || missing+=("$program")
done
if [[ ${#missing[@]} -gt 0 ]]; then
  echo "not installed: ${missing[*]}" >&2
  exit 1
fi

cargo test --locked --test it --no-run
# By its whole name, so it is to be seen that there is one of this name
"${apart[@]}" env SUPERSERVE_TEST_FAILOVER="$drills" PATH="$PATH:/usr/sbin" timeout "$limit" \
  cargo test --locked --offline --test it -- --exact --nocapture failover::a_failover_loses_nothing |
  tee >(cat >&2) | grep '^test result: ok. 1 passed' >/dev/null
