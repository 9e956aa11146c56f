#!/usr/bin/env bash
# check-version.sh v1.2.3: that Cargo.toml, the chart and CHANGELOG.md speak of the version that the tag names.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=${1#v}
fail() {
  echo "check-version: $1" >&2
  exit 1
}
[[ $1 == v* ]] || fail "$1 is no tag of a version: v1.2.3"
grep -qx "version = \"${version}\"" Cargo.toml || fail "Cargo.toml has another version than ${version}"
grep -qx "appVersion: \"\?${version}\"\?" helm/superserve-secrets/Chart.yaml || fail "Chart.yaml has another appVersion than ${version}"
[[ -n $(release/notes.sh "$1") ]] || fail "CHANGELOG.md says nothing of ${version}"
