#!/usr/bin/env bash
# PostgreSQL beside the cluster, as a database usually stands: on the node's address, as a user of its own.
# Prints nothing; the database is postgres://secrets:secrets@10.89.0.1/secrets.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

programs=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort --version-sort | tail -1)
[[ -x $programs/initdb ]] || fail "there is no PostgreSQL"
folder=$CLUSTER/postgresql
as_postgres=(setpriv --reuid=postgres --regid=postgres --clear-groups env -C "$folder")

install -d -o postgres -g postgres "$folder"
"${as_postgres[@]}" "$programs/initdb" --auth=trust --pgdata="$folder/data" >"$CLUSTER/log/initdb.log"
# From the pods only with the password; the tests themselves come through the socket.
echo "host secrets secrets $pod_network.0.0/16 scram-sha-256" >>"$folder/data/pg_hba.conf"
setsid "${as_postgres[@]}" "$programs/postgres" -D "$folder/data" \
  -c listen_addresses="$node_network.1" -c unix_socket_directories="$folder" >"$CLUSTER/log/postgresql.log" 2>&1 &
query=("${as_postgres[@]}" psql --host="$folder" --quiet --dbname=postgres)
eventually 30 PostgreSQL "${query[@]}" --command='SELECT 1'
"${query[@]}" --command="CREATE ROLE secrets LOGIN PASSWORD 'secrets'" --command='CREATE DATABASE secrets OWNER secrets'
say "PostgreSQL takes connections at $node_network.1"
