#!/usr/bin/env bash
# Figures of the pods' use of the processor, for the autoscaler: metrics-server, by its project's own manifests.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

folder=$CLUSTER/metrics-server
mkdir "$folder"
cp -r "$cache/files/metrics-server-$metrics_server_version" "$folder/base"
# The kubelets sign their own certificates here; and figures are to come as fast as they can.
cat >"$folder/kustomization.yaml" <<'END'
resources: [base]
images:
  - {name: gcr.io/k8s-staging-metrics-server/metrics-server, newName: localhost/metrics-server, newTag: "1"}
patches:
  - target: {kind: Deployment}
    patch: |
      - {op: add, path: /spec/template/spec/containers/0/args/-, value: --kubelet-insecure-tls}
      - {op: add, path: /spec/template/spec/containers/0/args/-, value: --metric-resolution=10s}
      - {op: add, path: /spec/template/spec/containers/0/args/-, value: --kubelet-request-timeout=5s}
      - {op: replace, path: /spec/template/spec/containers/0/readinessProbe/initialDelaySeconds, value: 1}
      - {op: add, path: /spec/template/spec/nodeSelector/kubernetes.io~1hostname, value: node1}
END
kubectl apply --kustomize "$folder" >/dev/null
kubectl --namespace kube-system rollout status deployment/metrics-server --timeout=120s >/dev/null
eventually 120 "figures of a pod" kubectl --namespace kube-system top pods
say "pods are measured"
