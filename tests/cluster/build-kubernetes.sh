#!/usr/bin/env bash
# Builds Kubernetes from its Go modules into the cache, once for each version: about eight minutes on two cores.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

[[ ! -x $kubernetes/kubelet ]] || exit 0
say "building Kubernetes $kubernetes_version into $kubernetes"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
source=$(go mod download -json "k8s.io/kubernetes@v$kubernetes_version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')

# Kubernetes names its own libraries by folders of its repository. The same libraries are published as modules, whose
# versions begin with 0 where Kubernetes' begins with 1.
{
  echo 'module superserve.ai/test/kubernetes'
  sed -n '/^go [0-9]/p; /^godebug/p' "$source/go.mod"
  echo "require k8s.io/kubernetes v$kubernetes_version"
  sed -n "s|^\t\(k8s\.io/[a-z-]*\) => \./staging/.*|replace \1 => \1 v0.${kubernetes_version#1.}|p" "$source/go.mod"
  for program in kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl; do
    echo "tool k8s.io/kubernetes/cmd/$program"
  done
} >go.mod
go mod tidy

version=k8s.io/component-base/version
IFS=. read -r major minor _ <<<"$kubernetes_version"
CGO_ENABLED=0 go build -trimpath -o built/ \
  -ldflags "-s -w -X $version.gitVersion=v$kubernetes_version -X $version.gitMajor=$major -X $version.gitMinor=$minor" tool

# By a rename, so that a build that was ended halfway is not taken for a whole one.
mkdir -p "$cache"
rm -rf "$kubernetes.new"
mv built "$kubernetes.new"
mv "$kubernetes.new" "$kubernetes"
say "built Kubernetes $kubernetes_version"
