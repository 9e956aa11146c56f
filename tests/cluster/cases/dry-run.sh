#!/usr/bin/env bash
# dry-run.sh: every set of values that the chart is tested with, as the API server judges it, with the real definitions
# of the custom kinds and the strictest pod security.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

for kinds in "gateway-api-$gateway_api_version" "cert-manager-$cert_manager_version" \
  "prometheus-operator-$prometheus_operator_version"; do
  kubectl apply --server-side --filename "$cache/files/$kinds" >/dev/null
done
kubectl wait --for=condition=Established customresourcedefinitions --all --timeout=60s >/dev/null
say "--- the custom kinds are there"

use_namespace dry-run
kubectl label namespace dry-run pod-security.kubernetes.io/warn=restricted >/dev/null
for values in "$chart"/ci/*-values.yaml; do
  for helm in helm3 helm4; do
    "$helm" install judged "$chart" --values "$values" --dry-run=server >/dev/null
  done
  # Helm asks the server what it knows; kubectl has it judge each object, without keeping it
  objects=$("$helm" template judged "$chart" --namespace dry-run --values "$values" |
    kubectl apply --dry-run=server --validate=strict --filename - 2>&1) || fail "${values##*/}: $objects"
  [[ $objects != *Warning* ]] || fail "${values##*/}: $objects"
  say "${values##*/}: $(wc -l <<<"$objects") objects are accepted"
done
kubectl delete namespace dry-run --wait=false >/dev/null
