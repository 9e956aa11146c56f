#!/usr/bin/env bash
# failover.sh [DRILL…]: a PostgreSQL of three members under two replicas, which know all three. What was acknowledged
# stays, and no pod is restarted, when the leader hands over (switchover), when its PostgreSQL is killed (kill), when
# its Patroni is killed with it (loss), and when its machine is gone without a word (silence): all of them by default.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$(dirname "${BASH_SOURCE[0]}")/release.sh"

helm=helm4
say "--- a PostgreSQL of three members fails over"
use_namespace failover

# Beside the cluster, each member at an address of its own: that can fall silent.
home=$node_network.10
members=("$node_network.11" "$node_network.12" "$node_network.13")
for address in "$home" "${members[@]}"; do
  ip address add "$address/32" dev lan
done
mkdir "$CLUSTER/patroni"
chown postgres:postgres "$CLUSTER/patroni"
coproc database {
  TMPDIR=$CLUSTER/patroni exec "$root/tests/failover/cluster.sh" "$home" "${members[@]}" 2>"$CLUSTER/log/patroni.log"
}
guard=$! commands=${database[1]}

# expect WORD: waits for an answer that begins so, and leaves the rest of it in $answer.
expect() {
  local word
  read -r word answer <&"${database[0]}" || true
  [[ $word == "$1" ]] || fail "no $1 but: $word $answer"
}

tell() {
  echo "$*" >&"$commands"
}

expect started
for statement in "CREATE ROLE secrets LOGIN PASSWORD 'secrets'" 'CREATE DATABASE failover OWNER secrets'; do
  PGPASSWORD=drill psql --host="$home" --username=postgres --quiet --command="$statement"
done
say "three members, through HAProxy at $home and at ${members[*]}"

hosts=postgres://secrets:secrets@$(IFS=, && echo "${members[*]}")
prepare several
install 1
scopes=secrets:list,secrets:write,secrets:resolve,audit:read deploy_agent
say "installed"

can_write() {
  echo -n "$SECONDS" | cli secrets set my-agent AFTER=-
}

# drill NAME LIMIT COMMAND ANSWER: the command under load, until all is as before. LIMIT: of the outage, in seconds.
drill() {
  local name=$1 limit=$2 leader recovered sets lists
  headless_load "$name-sets" -rate 25 -timeout 15s -write "${name^^}"
  service_load "$name-lists" -rate 50 -timeout 15s
  tell "$3"
  expect "$4"
  leader=$answer
  # Should there be none, so is it yet to be told how long callers felt it
  (eventually 90 "a write after the $name of $leader" can_write) || true
  recovered=$SECONDS
  tell "return $leader"
  expect returned
  recovered=$((SECONDS - recovered))
  stop_load "$name-lists"
  lists=$(figure gap)
  stop_load "$name-sets"
  sets=$(figure gap)
  [[ $report == *' acknowledged are there'* ]] || fail "not all that was acknowledged is there"
  say "$name of $leader: no set for $sets ms, no list for $lists ms; $leader followed $recovered s after"
  [[ $sets -lt ${limit}000 && $lists -lt ${limit}000 ]] || fail "callers felt it for more than $limit s"
}

# The limits are those of tests/it/failover.rs, which has the same drills without a cluster.
[[ $# -gt 0 ]] || set -- switchover kill loss silence
for name in "$@"; do
  case $name in
    switchover) drill "$name" 15 switchover switchover ;;
    kill) drill "$name" 25 kill-postgres killed ;;
    loss) drill "$name" 50 kill-member killed ;;
    silence) drill "$name" 50 lose-member killed ;;
    *) fail "there is no drill $name" ;;
  esac
done

restarts=$(kubectl get pods --selector app.kubernetes.io/name=superserve-secrets \
  --output 'jsonpath={.items[*].status.containerStatuses[0].restartCount}')
[[ $restarts == '0 0' ]] || fail "pods were restarted: $restarts"
kubectl wait --for=condition=Available "$workload" --timeout=30s >/dev/null
"$helm" test "$release" >/dev/null
"$helm" uninstall "$release" --wait >/dev/null
exec {commands}>&-
wait "$guard"
