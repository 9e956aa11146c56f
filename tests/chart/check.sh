#!/usr/bin/env bash
# check.sh KUBERNETES: the chart without a cluster. Each set of values in ci/, by both Helms, as the schemas of this version
# of Kubernetes and of the oldest judge it; what it must refuse; its unit tests; its README. `.ci/run chart` fetches what is needed and names it in the environment:
#   SUPERSERVE_KINDS, a folder of custom kinds' definitions; SUPERSERVE_PYTHON, a Python that has kubernetes-validate.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
: "${SUPERSERVE_KINDS:?is set by .ci/run chart}" "${SUPERSERVE_PYTHON:?is set by .ci/run chart}"

chart=helm/superserve-secrets
newest=$1
# The chart itself says which is the oldest
oldest=$(sed -n 's/^kubeVersion: ">=\([0-9.]*\)-0"$/\1/p' "$chart/Chart.yaml")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
  echo "$*" >&2
  exit 1
}

"$SUPERSERVE_PYTHON" "$here/schemas.py" "$work/schemas" "$SUPERSERVE_KINDS" "$newest" "$oldest"

mapfile -t score_options < <(sed -n 's/^\(--[^ ]*\) .*/\1/p' "$here/kube-score.options")

# Helm 3, when it is not built by its makers, takes Kubernetes for 1.20 if it is not told. Both are told, as the version is
# among what a template may ask for.
for values in "$chart"/ci/*-values.yaml; do
  set=$(basename "$values" -values.yaml)
  for helm in helm3 helm4; do
    "$helm" lint "$chart" --strict --quiet --kube-version "$newest" --values "$values"
    for version in "$newest" "$oldest"; do
      "$helm" template secrets "$chart" --namespace secrets --kube-version "$version" --values "$values" \
        >"$work/$set-$helm-$version.yaml"
    done
  done
  for version in "$newest" "$oldest"; do
    diff --ignore-blank-lines --ignore-trailing-space "$work/$set-helm3-$version.yaml" "$work/$set-helm4-$version.yaml" || fail "$set: the two Helms differ"
    kubeconform -strict -summary -kubernetes-version "$version" \
      -schema-location "$work/schemas/$version/{{.ResourceKind}}{{.KindSuffix}}.json" "$work/$set-helm4-$version.yaml" \
      >"$work/judged" || fail "$set, Kubernetes $version: $(<"$work/judged")"
    echo "$set, Kubernetes $version: $(<"$work/judged")"
  done
  kube-score score --output-format ci --kubernetes-version "v${newest%.*}" "${score_options[@]}" \
    "$work/$set-helm4-$newest.yaml" >"$work/scored" || fail "$set: $(grep '^\[CRITICAL\]' "$work/scored")"
done

"$SUPERSERVE_PYTHON" "$here/closed.py" "$chart"
"$SUPERSERVE_PYTHON" "$here/refused.py" "$chart" "$newest"
helm-unittest --strict "$chart"

helm-docs --chart-search-root "$chart" --sort-values-order file --dry-run --log-level warning \
  >"$work/README.md"
if grep '|  |$' "$work/README.md"; then
  fail "$chart/values.yaml: these have no description"
fi
if [[ ${UPDATE_GOLDEN:-} == 1 ]]; then
  cp "$work/README.md" "$chart/README.md"
fi
diff "$chart/README.md" "$work/README.md" || fail "$chart/README.md: write it anew by UPDATE_GOLDEN=1 .ci/run chart"
