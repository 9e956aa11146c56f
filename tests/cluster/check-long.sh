#!/usr/bin/env bash
# check-long.sh [CASE…]: what is looked at before a release, or only these of it: two nodes, nodes that go, a database
# that fails over, keys that are exchanged, pods known by their accounts, autoscaling, kills, failures. `just cluster-test-long`
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

cases=(sqlite-kill manual-scale failing-migration two-nodes keys identity failover autoscaling)

if [[ ${1:-} == inside ]]; then
  shift
  "$here/postgres.sh"
  for case in "$@"; do
    case $case in
      failing-migration)
        "$here/cases/$case.sh" helm3
        "$here/cases/$case.sh" helm4
        ;;
      autoscaling)
        "$here/metrics.sh"
        "$here/cases/$case.sh"
        ;;
      *) "$here/cases/$case.sh" ;;
    esac
  done
  say "all is well"
  exit
fi

[[ $# -gt 0 ]] || set -- "${cases[@]}"
for case in "$@"; do
  [[ " ${cases[*]} " == *" $case "* ]] || fail "there is no case $case, but these: ${cases[*]}"
done
"$here/build-kubernetes.sh"
long=()
[[ " $* " != *" autoscaling "* ]] || long=(long)
"$here/build-tools.sh" "${long[@]}"
"$here/run.sh" 2 "$here/check-long.sh" inside "$@"
