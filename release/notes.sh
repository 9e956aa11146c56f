#!/usr/bin/env bash
# notes.sh v1.2.3: what CHANGELOG.md says of a version.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

awk -v version="[${1#v}]" '
  /^## / { found = $2 == version; next }
  found && !(NF == 0 && !begun) { begun = 1; print }
' CHANGELOG.md
