#!/usr/bin/env bash
# What is looked at before a release: two nodes, nodes that go, autoscaling, kills, failures. `just cluster-test-long`
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

if [[ ${1:-} == inside ]]; then
  "$here/postgres.sh"
  "$here/cases/sqlite-kill.sh"
  "$here/cases/manual-scale.sh"
  "$here/cases/failing-migration.sh" helm3
  "$here/cases/failing-migration.sh" helm4
  "$here/cases/two-nodes.sh"
  "$here/metrics.sh"
  "$here/cases/autoscaling.sh"
  say "all is well"
  exit
fi

"$here/build-kubernetes.sh"
"$here/build-tools.sh" long
"$here/run.sh" 2 "$here/check-long.sh" inside
