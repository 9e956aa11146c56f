#!/usr/bin/env bash
# Who is who in the cluster: one authority, and for each part a certificate whose subject is its name and group.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

cd "$CLUSTER/pki"
key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc)
openssl req -x509 "${key[@]}" -days 2 -subj /CN=test-cluster -addext basicConstraints=critical,CA:TRUE \
  -keyout ca.key -out ca.crt 2>/dev/null

# certificate NAME SUBJECT EXTENSION
certificate() {
  openssl req "${key[@]}" -subj "$2" -keyout "$1.key" -out "$1.csr" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out "$1.crt" \
    -extfile <(echo "$3") 2>/dev/null
}

# user NAME SUBJECT: with a kubeconfig beside the folder
user() {
  certificate "$1" "$2" extendedKeyUsage=clientAuth
  cat >"../$1.kubeconfig" <<END
apiVersion: v1
kind: Config
clusters:
  - name: test
    cluster: {server: "https://$node_network.1:6443", certificate-authority: $PWD/ca.crt}
users:
  - name: $1
    user: {client-certificate: $PWD/$1.crt, client-key: $PWD/$1.key}
contexts:
  - name: test
    context: {cluster: test, user: $1}
current-context: test
END
}

certificate apiserver /CN=kube-apiserver \
  "subjectAltName=DNS:kubernetes.default.svc,IP:$node_network.1,IP:$service_network.1"
certificate kubelet-client /O=system:masters/CN=apiserver extendedKeyUsage=clientAuth
certificate front-proxy /CN=front-proxy extendedKeyUsage=clientAuth
user admin /O=system:masters/CN=admin
user controllers /CN=system:kube-controller-manager
user scheduler /CN=system:kube-scheduler
user proxy /CN=system:kube-proxy
for node in 1 2; do
  user "node$node" "/O=system:nodes/CN=system:node:node$node"
done

openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out service-accounts.key 2>/dev/null
openssl pkey -in service-accounts.key -pubout -out service-accounts.pub
