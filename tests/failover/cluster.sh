#!/usr/bin/env bash
# cluster.sh [HOME MEMBER MEMBER MEMBER]
# Keeps one throw-away PostgreSQL of three members, which Patroni leads, for the process that holds our standard input.
#
# At HOME are etcd (one member: its own failover is not what is tried here) and HAProxy, which leads to the primary; at
# each MEMBER are PostgreSQL and its Patroni. Without addresses they are 127.0.0.1, 127.0.0.11, 127.0.0.12 and 127.0.0.13,
# with ports that are free; else addresses of this machine, with the ports that all of it usually has: PostgreSQL, and
# HAProxy in its place, on 5432. The first line of output is
#   started PRIMARY_PROXY MEMBER MEMBER MEMBER       ADDRESS:PORT of each; superuser "postgres" with password "drill"
# Then come commands, each answered by one line, or by "failed WHY" after the logs on standard error:
#   leader               which member leads: "leader m2"
#   switchover           the leader hands over in order: "switchover m2"
#   kill-postgres        SIGKILL to all of the leader's PostgreSQL: "killed m2"
#   kill-member          SIGKILL to the leader's Patroni and all of its PostgreSQL: "killed m2"
#   lose-member          the same after nothing reaches or leaves the leader's address any more, so that nobody is told,
#                        as with a machine that is gone; only as root and with nft: "killed m2"
#   return MEMBER        starts its Patroni again where that is gone, and waits until it follows the leader: "returned m2"
# When the input ends, which it also does when the process that held it is killed, all of it is ended and deleted.
set -euo pipefail

members=(m1 m2 m3)
programs=/usr/lib/postgresql/15/bin
limit=90 # seconds for anything that is waited for
home=${1:-127.0.0.1}
declare -A address=([m1]=${2:-127.0.0.11} [m2]=${3:-127.0.0.12} [m3]=${4:-127.0.0.13})

trap '' HUP INT TERM PIPE # ours is the last hand on the cluster, also when nobody hears the answers
umask 077
cd /
exec 3>&1 4<&0 >/dev/null </dev/null

become=()
if [[ $(id -u) -eq 0 ]]; then # PostgreSQL refuses to run as root
  become=(setpriv --reuid=postgres --regid=postgres --clear-groups)
fi
folder=$("${become[@]}" mktemp -d "${TMPDIR:-/tmp}/superserve-failover-XXXXXX")
declare -A pids=() database=() patroni=()

# in_folder NAME COMMAND…: starts it, with a log of its own, by nobody's terminal.
in_folder() {
  local name=$1
  shift
  setsid "${become[@]}" env -C "$folder" PATH="$programs:$PATH" "$@" >>"$folder/$name.log" 2>&1 3>&- 4<&- &
  pids[$name]=$!
  disown # nobody needs to be told how it ended
}

answer() {
  printf '%s\n' "$*" >&3
}

fail() {
  tail -n 60 "$folder"/*.log >&2
  answer failed "$*"
}

# eventually WHAT COMMAND…: until it succeeds.
eventually() {
  local what=$1 until=$((SECONDS + limit))
  shift
  until "$@"; do
    if [[ $SECONDS -ge $until ]]; then
      fail "waited $limit s for $what"
      return 1
    fi
    sleep 0.1
  done
}

# Below those that outgoing connections are given, so that a member finds its own again after it was killed.
free_ports() {
  python3 - "$1" <<'END'
import random, socket, sys
held = []
while len(held) < int(sys.argv[1]):
    try:
        held.append(socket.create_server(("127.0.0.1", random.randrange(20000, 32000))))
    except OSError:
        pass
print(*(it.getsockname()[1] for it in held))
END
}

write_config() {
  "${become[@]}" tee "$folder/$1" >/dev/null
}

configure_member() {
  local name=$1
  write_config "$name.yml" <<END
scope: superserve
name: $name
restapi:
  listen: ${address[$name]}:${patroni[$name]}
  connect_address: ${address[$name]}:${patroni[$name]}
etcd3:
  host: $home:$etcd
bootstrap:
  dcs:
    ttl: 20 # the least that Patroni takes
    loop_wait: 2
    retry_timeout: 3
    master_start_timeout: 0 # a primary that crashed is not waited for
    synchronous_mode: true
    postgresql:
      use_pg_rewind: true
      use_slots: true
  initdb: [{encoding: UTF8}, {locale: C}, no-sync]
postgresql:
  listen: ${address[$name]}:${database[$name]}
  connect_address: ${address[$name]}:${database[$name]}
  data_dir: $folder/$name
  bin_dir: $programs
  pgpass: $folder/$name.pgpass
  parameters:
    unix_socket_directories: ''
    shared_buffers: 32MB
    max_connections: 100
    wal_keep_size: 256MB
  pg_hba:
    - host all all all scram-sha-256
    - host replication replicator all scram-sha-256
  authentication:
    superuser: {username: postgres, password: drill}
    replication: {username: replicator, password: drill}
END
}

configure_proxy() {
  local name
  {
    cat <<END
defaults
  mode tcp
  timeout connect 2s
  timeout client 1h
  timeout server 1h
listen primary
  bind $home:$proxy
  option httpchk OPTIONS /primary
  http-check expect status 200
  default-server inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions
END
    for name in "${members[@]}"; do
      echo "  server $name ${address[$name]}:${database[$name]} check port ${patroni[$name]}"
    done
  } | write_config haproxy.cfg
}

# ask MEMBER PATH: whether its Patroni answers 200.
ask() {
  curl --silent --fail --max-time 2 --output /dev/null "http://${address[$1]}:${patroni[$1]}/$2"
}

find_leader() {
  local name
  for name in "${members[@]}"; do
    if ask "$name" primary; then
      leader=$name
      return
    fi
  done
  return 1
}

# Whether one of the others would lose nothing by taking over.
has_synchronous() {
  local name
  for name in "${members[@]}"; do
    if ask "$name" synchronous; then return; fi
  done
  return 1
}

# Whether all of them are there, and one may take over.
is_whole() {
  local name followers=0
  find_leader || return 1
  for name in "${members[@]}"; do
    if ask "$name" 'replica?lag=1MB'; then followers=$((followers + 1)); fi
  done
  [[ $followers -eq $((${#members[@]} - 1)) ]] && has_synchronous
}

has_another_leader() {
  local before=$1
  find_leader && [[ $leader != "$before" ]]
}

# end_all PID…: SIGKILL, and gone when it returns.
end_all() {
  local process
  kill -KILL "$@" 2>/dev/null || true
  for process in "$@"; do
    while [[ -e /proc/$process/exe ]]; do sleep 0.02; done # gone, or dead and not yet reaped
  done
}

# The processes of a member's PostgreSQL, the first of them first.
postgres_of() {
  local first
  if read -r first <"$folder/$1/postmaster.pid" 2>/dev/null && [[ -e /proc/$first ]]; then
    echo "$first $(cat "/proc/$first/task/$first/children" 2>/dev/null || true)"
  fi
}

start() {
  local name ports=(2379 2380 5432 5432 5432 5432 8008 8008 8008)
  if [[ $# -eq 0 ]]; then
    read -ra ports < <(free_ports 9)
  fi
  etcd=${ports[0]} etcd_peers=${ports[1]} proxy=${ports[2]}
  for name in "${members[@]}"; do
    database[$name]=${ports[${#database[@]} + 3]}
    patroni[$name]=${ports[${#patroni[@]} + 6]}
    configure_member "$name"
  done
  configure_proxy
  in_folder etcd etcd --data-dir "$folder/etcd" --log-outputs stderr --log-level warn \
    --listen-client-urls "http://$home:$etcd" --advertise-client-urls "http://$home:$etcd" \
    --listen-peer-urls "http://$home:$etcd_peers" --initial-advertise-peer-urls "http://$home:$etcd_peers" \
    --initial-cluster "default=http://$home:$etcd_peers"
  eventually etcd curl --silent --fail --output /dev/null "http://$home:$etcd/health" || return 1
  for name in "${members[@]}"; do
    in_folder "$name" patroni "$folder/$name.yml"
  done
  in_folder haproxy haproxy -db -f "$folder/haproxy.cfg"
  eventually "three members" is_whole || return 1
  answer started "$home:$proxy" "${address[m1]}:${database[m1]}" "${address[m2]}:${database[m2]}" \
    "${address[m3]}:${database[m3]}"
}

switch_over() {
  local before
  eventually "all members" is_whole || return 0
  before=$leader
  curl --silent --fail --output /dev/null --json "{\"leader\": \"$before\"}" \
    "http://${address[$before]}:${patroni[$before]}/switchover" || { fail "no switchover from $before"; return 0; }
  eventually "another leader" has_another_leader "$before" && answer switchover "$before"
}

# Nothing reaches a member's address or leaves it any more, also not from here.
silence() {
  local it=${address[$1]}
  nft -f - <<END
table inet superserve_failover {
  chain in { type filter hook input priority raw; ip saddr $it drop; ip daddr $it drop; }
  chain out { type filter hook output priority raw; ip saddr $it drop; ip daddr $it drop; }
}
END
}

end_silence() {
  nft delete table inet superserve_failover 2>/dev/null || true
}

# kill_leader postgres|member|machine
kill_leader() {
  local processes=() of_postgres
  eventually "all members" is_whole || return 0
  if [[ $1 != postgres ]]; then processes=("${pids[$leader]}"); fi
  if [[ $1 == machine ]]; then
    silence "$leader" || { fail "could not silence $leader"; return 0; }
  fi
  read -ra of_postgres < <(postgres_of "$leader")
  end_all "${processes[@]}" "${of_postgres[@]}"
  answer killed "$leader"
}

return_member() {
  local name=$1
  end_silence
  if [[ ! -e /proc/${pids[$name]}/exe ]]; then
    in_folder "$name" patroni "$folder/$name.yml"
  fi
  eventually "$name to follow" is_whole && answer returned "$name"
}

clean_up() {
  local name processes
  end_silence
  # Patroni first, or it would start its PostgreSQL again
  end_all "${pids[@]}"
  for name in "${members[@]}"; do
    read -ra processes < <(postgres_of "$name") || true
    end_all "${processes[@]}"
  done
  rm -rf "$folder"
}

if start "$@"; then
  while read -r command name <&4; do
    case $command in
      leader) eventually "a leader" find_leader && answer leader "$leader" ;;
      switchover) switch_over ;;
      kill-postgres) kill_leader postgres ;;
      kill-member) kill_leader member ;;
      lose-member) kill_leader machine ;;
      return) return_member "$name" ;;
      *) fail "unknown command $command" ;;
    esac || true
  done
fi
clean_up
