#!/usr/bin/env bash
# PostgreSQL beside the cluster, as a database usually stands: on the node's address, as a user of its own.
# Who makes a database comes through the socket in $CLUSTER/postgresql.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

programs=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort --version-sort | tail -1)
[[ -x $programs/initdb ]] || fail "there is no PostgreSQL"
folder=$CLUSTER/postgresql
as_postgres=(setpriv --reuid=postgres --regid=postgres --clear-groups env -C "$folder")

install -d -o postgres -g postgres "$folder"
"${as_postgres[@]}" "$programs/initdb" --auth=trust --pgdata="$folder/data" >"$CLUSTER/log/initdb.log"
# From the pods, and from where an operator is, only with the password
printf 'host all secrets %s scram-sha-256\n' "$pod_network.0.0/16" "$node_network.1/32" >>"$folder/data/pg_hba.conf"
setsid "${as_postgres[@]}" "$programs/postgres" -D "$folder/data" \
  -c listen_addresses="$node_network.1" -c unix_socket_directories="$folder" >"$CLUSTER/log/postgresql.log" 2>&1 &
query=(psql --host="$folder" --username=postgres --quiet)
eventually 30 PostgreSQL "${query[@]}" --command='SELECT 1'
"${query[@]}" --command="CREATE ROLE secrets LOGIN PASSWORD 'secrets'"
say "PostgreSQL takes connections at $node_network.1"
