# shellcheck shell=bash
# What the cases share; sourced. Each case has a namespace of its own, in which the strictest of Kubernetes' own
# standards for pods is enforced.

. "$(dirname "${BASH_SOURCE[0]}")/../env.sh"
# shellcheck disable=SC2034 # used by those who source this
chart=$root/helm/superserve-secrets

# use_namespace NAME: makes it, and makes it the one that kubectl and helm mean.
use_namespace() {
  kubectl create namespace "$1" >/dev/null
  kubectl label namespace "$1" pod-security.kubernetes.io/enforce=restricted >/dev/null
  kubectl config set-context --current --namespace="$1" >/dev/null
  # A pod made before its account is refused
  eventually 30 "the account of namespace $1" kubectl get serviceaccount default
}

# start_load NAME ARGUMENTS…: calls from a pod, from now on until stop_load. `node` in the environment says where.
start_load() {
  local name=$1 arguments
  shift
  arguments=$(printf '"%s", ' "$@")
  kubectl apply -f - >/dev/null <<END
apiVersion: v1
kind: Pod
metadata: {name: $name}
spec:
  restartPolicy: Never
  nodeSelector: {kubernetes.io/hostname: ${node:-node1}}
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: load
      image: localhost/load:1
      args: [${arguments%, }]
      env: [{name: SUPERSERVE_TOKEN, valueFrom: {secretKeyRef: {name: client, key: token}}}]
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
      volumeMounts: [{name: ca, mountPath: /ca}]
  volumes: [{name: ca, configMap: {name: ca}}]
END
  eventually 60 "load from $name" under_load "$name"
}

under_load() {
  kubectl logs "$1" | grep -q 'under load'
}

# stop_load NAME: ends it, and leaves its report in $report. What it found is not judged here.
stop_load() {
  local text=$CLUSTER/log/$1.txt
  kubectl logs --follow "$1" >"$text" &
  kubectl delete pod "$1" --grace-period=30 --wait >/dev/null
  wait $!
  report=$(tail -n +2 "$text")
  [[ -n $report ]] || fail "no report of $1"
  say "$1: $report"
}

# lossless NAME: ends the load and fails where one call failed.
lossless() {
  stop_load "$1"
  [[ $report == *' failed=0 '* ]] || fail "calls failed"
}

# felt: for how many milliseconds calls failed, by the last report
felt() {
  figure felt
}

# figure NAME: one of the milliseconds of the last report
figure() {
  sed -n "s/.* $1=\([0-9]*\)ms.*/\1/p" <<<"$report"
}
