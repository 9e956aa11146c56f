#!/bin/sh
# Keeps one throw-away PostgreSQL cluster for the process that holds our standard input. Run by `sh`, with the
# directory of PostgreSQL's programs as $1 and, if it is not to be 300, the most connections as $2.
#
# The first line of input is the superuser's password. Then come commands, each answered by one line:
#   start PORT…  on the first of these ports that is free: "started PORT DIRECTORY"
#   stop         orderly: "stopped"
#   kill         SIGKILL to all of it: "stopped"
# or by "failed", with the log on standard error. When the input ends, which it also does when the process that held
# it is killed, the cluster is stopped and its directory deleted.

trap '' HUP INT TERM # ours is the last hand on the cluster
bin=$1
connections=${2:-300}
umask 077
cd / || exit 1
exec 3>&1 4<&0 >/dev/null </dev/null

user=''
become=''
if [ "$(id -u)" -eq 0 ]; then # PostgreSQL refuses to run as root
  user=nobody
  if id postgres 2>/dev/null; then user=postgres; fi
  become="runuser -u $user --"
  if command -v setpriv; then become="setpriv --reuid=$user --regid=$(id -g $user) --clear-groups"; fi
fi

as_user() {
  # shellcheck disable=SC2086 # several words, or none
  $become "$@" 3>&- 4<&-
}

pg_ctl() {
  as_user "$bin/pg_ctl" --silent --pgdata="$dir/data" "$@" >>"$dir/log" 2>&1
}

answer() {
  printf '%s\n' "$*" >&3
}

fail() {
  cat "$dir/log" >&2
  answer failed
}

# Text sorts by a language's rules where this PostgreSQL knows them, not by bytes: queries that need bytes must say so.
make_cluster() {
  set -- --pgdata="$dir/data" --username=postgres --pwfile="$dir/password" --auth=scram-sha-256 \
    --encoding=UTF8 --locale=C --no-sync
  as_user "$bin/initdb" "$@" --locale-provider=icu --icu-locale=en-US >>"$dir/log" 2>&1 ||
    as_user "$bin/initdb" "$@" >>"$dir/log" 2>&1
}

start() {
  for port in "$@"; do
    options="-c listen_addresses=127.0.0.1 -c port=$port -c unix_socket_directories= -c max_connections=$connections"
    if pg_ctl --log="$dir/log" --options="$options" --timeout=60 --wait start; then
      answer started "$port" "$dir"
      return
    fi
  done
  fail
}

kill_all() {
  read -r leader <"$dir/data/postmaster.pid"
  everyone="$leader $(cat "/proc/$leader/task/$leader/children")"
  # shellcheck disable=SC2086 # several words
  kill -KILL $everyone
  for process in $everyone; do
    while [ -e "/proc/$process/exe" ]; do sleep 0.02; done # gone, or dead and not yet reaped
  done
  rm -f "$dir/data/postmaster.pid"
}

dir=$(as_user mktemp -d "${TMPDIR:-/tmp}/superserve-postgres-XXXXXX") || exit 1
read -r password <&4
printf '%s\n' "$password" | as_user tee "$dir/password"
as_user touch "$dir/log" # root writes to it as well
make_cluster || fail

while read -r command ports <&4; do
  case $command in
    start)
      # shellcheck disable=SC2086 # several words
      start $ports
      ;;
    stop) if pg_ctl --mode=fast stop; then answer stopped; else fail; fi ;;
    kill) if kill_all; then answer stopped; else fail; fi ;;
  esac
done

pg_ctl --mode=immediate stop
rm -rf "$dir"
