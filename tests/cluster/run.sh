#!/usr/bin/env bash
# run.sh NODES COMMAND…: a real Kubernetes of so many nodes, then the command in it, then nothing is left.
#
# It lives in mount, network and process namespaces of its own: nothing it listens on is seen outside, and with the
# first process of the namespaces every other one and every mount ends, however this script ends.
# The command finds kubectl ready to use, and in CLUSTER the folder with logs, images and identities.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

if [[ ${1:-} == inside ]]; then
  nodes=$2
  shift 2
  mount -t tmpfs tmpfs /run
  mkdir /run/netns
  cd "$CLUSTER"
  "$here/control-plane.sh"
  export KUBECONFIG=$CLUSTER/admin.kubeconfig
  for ((node = 1; node <= nodes; node++)); do
    "$here/node.sh" "$node" &
    starts+=($!)
  done
  for start in "${starts[@]}"; do
    wait "$start"
  done
  "$here/dns.sh"
  "$@"
  exit
fi

[[ $(id -u) -eq 0 ]] || fail "a cluster needs root"
CLUSTER=$(mktemp -d "${TMPDIR:-/tmp}/cluster.XXXXXX")
export CLUSTER CLUSTER_CGROUP=${CLUSTER##*/}
chmod 711 "$CLUSTER" # PostgreSQL, another user, has its folder in it

cgroups() {
  find /sys/fs/cgroup -type d -path "*/$CLUSTER_CGROUP*" "$@"
}

clean() {
  local status=$?
  if [[ $status -ne 0 ]]; then
    rm -rf "$cache/last-failure"
    mkdir -p "$cache/last-failure"
    cp -r "$CLUSTER"/log "$CLUSTER"/pods "$cache/last-failure/" 2>/dev/null || true
    say "logs of what failed: $cache/last-failure" >&2
  fi
  # A cgroup goes when its last process is reaped, which may be a moment after it was killed.
  cgroups -depth -exec rmdir {} + 2>/dev/null || eventually 20 "the cgroups to empty" remove_cgroups
  rm -rf "$CLUSTER"
}

remove_cgroups() {
  cgroups -depth -exec rmdir {} + || true
  [[ -z $(cgroups -print -quit) ]]
}

trap clean EXIT
"$here/images.sh" "$CLUSTER/images"
"$here/service-image.sh" "$CLUSTER/images"
say "the images are built"
trap 'kill -KILL "$cluster"' INT TERM
# Should this script itself be killed, then so is `unshare`, and with it the cluster.
setpriv --pdeathsig KILL unshare --mount --net --pid --fork --kill-child --mount-proc "$0" inside "$@" &
cluster=$!
wait "$cluster"
