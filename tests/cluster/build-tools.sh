#!/usr/bin/env bash
# Builds what the tests need beside Kubernetes into the cache, each once for its version.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

export CGO_ENABLED=0
mkdir -p "$tools"

# tool NAME VERSION PACKAGE: the file says its version, the plain name points to it.
tool() {
  local file=$1-$2 work
  if [[ ! -x $tools/$file ]]; then
    say "building $1 $2"
    work=$(mktemp -d)
    GOBIN=$work go install -trimpath -ldflags '-s -w' "$3@v$2"
    mv "$work"/* "$tools/$file"
    rmdir "$work"
  fi
  ln -sf "$file" "$tools/$1"
}

tool coredns "$coredns_version" github.com/coredns/coredns
tool helm3 "$helm3_version" helm.sh/helm/v3/cmd/helm
tool helm4 "$helm4_version" helm.sh/helm/v4/cmd/helm
if [[ ${1:-} == long ]]; then
  tool metrics-server "$metrics_server_version" sigs.k8s.io/metrics-server/cmd/metrics-server
fi

go build -C "$here/load" -trimpath -ldflags '-s -w' -o "$tools/load" .

# files MODULE VERSION FOLDER: what a project publishes as plain files, from the archive of its module. (The module itself
# may ask for a newer Go than is here, which files do not.)
files() {
  local folder=$cache/files/${1##*/}-$2 archive
  [[ ! -d $folder ]] || return 0
  archive=$({ go mod download -json "$1@v$2" || true; } | sed -n 's/^\t"Zip": "\(.*\)",$/\1/p')
  [[ -n $archive ]] || fail "could not fetch $1 $2"
  rm -rf "$folder.new"
  mkdir -p "$folder.new"
  unzip -qj "$archive" "$1@v$2/$3/*.yaml" -d "$folder.new"
  mv "$folder.new" "$folder"
}

files sigs.k8s.io/gateway-api "$gateway_api_version" config/crd/standard
files github.com/cert-manager/cert-manager "$cert_manager_version" deploy/crds
files github.com/prometheus-operator/prometheus-operator "$prometheus_operator_version" example/prometheus-operator-crd
files sigs.k8s.io/metrics-server "$metrics_server_version" manifests/base
