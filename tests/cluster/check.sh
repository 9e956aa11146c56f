#!/usr/bin/env bash
# The chart in a real cluster: installed, used, upgraded under load, rolled back, uninstalled. `just cluster-test`
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

if [[ ${1:-} == inside ]]; then
  "$here/postgres.sh"
  "$here/cases/dry-run.sh"
  "$here/cases/lifecycle.sh" sqlite helm3
  "$here/cases/lifecycle.sh" postgres helm3
  "$here/cases/lifecycle.sh" sqlite helm4
  "$here/cases/lifecycle.sh" postgres helm4 tls
  say "all is well"
  exit
fi

"$here/build-kubernetes.sh"
"$here/build-tools.sh"
"$here/run.sh" 1 "$here/check.sh" inside
