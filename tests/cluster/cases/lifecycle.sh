#!/usr/bin/env bash
# lifecycle.sh KIND HELM [tls]: a release from install to uninstall, with an agent that reads a secret. On PostgreSQL no
# call may fail through upgrade and rollback; SQLite has one pod, so there it is the data that must stay.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$(dirname "${BASH_SOURCE[0]}")/release.sh"

kind=$1
helm=$2
tls=${3:-}
say "--- $kind, $("$helm" version --short)${tls:+, with TLS}"
use_namespace "$kind-$helm"
prepare "$kind" "$tls"

install 1
say "installed"
"$helm" test "$release" >/dev/null
say "tested"
deploy_agent
run_agent
say "an agent's pod: $(kubectl logs deployment/my-agent)"

pods_run_image() {
  [[ $(kubectl get pods --selector "app.kubernetes.io/name=superserve-secrets" \
    --output 'jsonpath={range .items[*]}{.spec.containers[0].image}{"\n"}{end}' | sort --unique) == *":$1" ]]
}

if [[ $kind == postgres ]]; then
  service_load "$kind-$helm-service" -rate 100
  headless_load "$kind-$helm-headless" -rate 50
fi
upgrade 2
eventually 60 "the old pods to end" pods_run_image 2
say "upgraded"
"$helm" test "$release" >/dev/null
"$helm" rollback "$release" 1 --wait --timeout 3m >/dev/null
eventually 60 "the newer pods to end" pods_run_image 1
say "rolled back"
# An image that does not exist: its pod never gets ready, and the way back must not wait for it
if upgrade no-such-tag --timeout 15s --set migration.timeoutSeconds=10,migration.ttlSecondsAfterFinished=5 \
  2>/dev/null; then
  fail "an image that does not exist was waited for in vain"
fi
"$helm" rollback "$release" 1 --wait --timeout 3m >/dev/null
eventually 60 "the pods of the faulty upgrade to end" pods_run_image 1
say "rolled back from an image that does not exist"
if [[ $kind == postgres ]]; then
  lossless "$kind-$helm-service"
  lossless "$kind-$helm-headless"
fi
kubectl rollout restart deployment/my-agent >/dev/null
kubectl rollout status deployment/my-agent --timeout=60s >/dev/null
eventually 60 "the agent to find its secret again" agent_has_secret

# All kinds of objects that the cluster knows, not only those that one would think of. A claim is kept: it is the data.
left() {
  kubectl get "$(kubectl api-resources --namespaced --verbs=list --output=name | paste -sd,)" \
    --selector "app.kubernetes.io/instance=$release" --output=name | grep -v '^persistentvolumeclaim/'
}

nothing_left() {
  ! left
}

"$helm" uninstall "$release" --wait >/dev/null
eventually 60 "all of the release to be gone" nothing_left
kubectl delete namespace "$kind-$helm" --wait=false >/dev/null
say "uninstalled, nothing is left${tls:+ (TLS)}"
