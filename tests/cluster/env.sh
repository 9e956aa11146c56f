# shellcheck shell=bash
# Versions and places of the real-cluster tests; sourced by every script beside it.
# shellcheck disable=SC2034 # what is set here is used by those who source it

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

kubernetes_version=1.37.2
coredns_version=1.15.0
helm3_version=3.22.0
helm4_version=4.3.1
metrics_server_version=0.9.0
gateway_api_version=1.7.0
cert_manager_version=1.21.2
prometheus_operator_version=0.85.0

# What takes minutes to build is kept here, in folders named by version, so that a newer one never meets an older one.
cache=${SUPERSERVE_CLUSTER_CACHE:-$root/.tools/cluster}
kubernetes=$cache/kubernetes-$kubernetes_version
tools=$cache/tools

# A network of its own: nothing here is seen outside the namespaces, so the addresses may be fixed.
node_network=10.89.0
pod_network=10.244
service_network=10.96.0
dns_address=$service_network.10

# The program as it is in the image.
target=$(uname -m)-unknown-linux-musl
program=$root/target/$target/release/superserve

export PATH="$kubernetes:$tools:${program%/*}:$PATH"

# The time of every line is that since the first script began.
export CLUSTER_STARTED=${CLUSTER_STARTED:-${EPOCHREALTIME/./}}
say() {
  local tenths=$(((${EPOCHREALTIME/./} - CLUSTER_STARTED) / 100000))
  printf '[%4d.%d s] %s\n' $((tenths / 10)) $((tenths % 10)) "$*"
}

fail() {
  say "FAILED: $*" >&2
  exit 1
}

# eventually SECONDS WHAT COMMAND…: looks again and again until the command succeeds, for so many seconds at most.
eventually() {
  local limit=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    if [[ $SECONDS -ge $limit ]]; then
      "$@" || true
      fail "waited in vain for $what"
    fi
    sleep 0.2
  done
}
