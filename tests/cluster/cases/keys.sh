#!/usr/bin/env bash
# keys.sh: the key-encryption key of two replicas is exchanged under load: first in the secret that they have mounted, by an
# operator's commands, then by `helm upgrade` with another secret. No call fails, and each old key is retired.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$(dirname "${BASH_SOURCE[0]}")/release.sh"

helm=helm4
say "--- keys are exchanged under two replicas"
use_namespace keys
prepare postgres
keyring=$CLUSTER/keys/keyring.json
install 1
deploy_agent
run_agent
say "installed"

# The operator has the keyring file, and reaches the database.
keys() {
  superserve keys "$1" --keyring "$keyring" --database-url "postgres://secrets:secrets@$node_network.1/keys" "${@:2}"
}

# hand_out SECRET: the keyring file as it is now
hand_out() {
  kubectl create secret generic "$1" --from-file="keyring.json=$keyring" --dry-run=client --output=yaml |
    kubectl apply --server-side --force-conflicts -f - >/dev/null
}

# The id of the key that is there in this state: `primary` or `decrypt-only`.
key() {
  keys status --json | tr -d ' \n' | grep -o "{[^{}]*\"state\":\"$1\"[^{}]*}" | sed -n 's/.*"id":"\([^"]*\)".*/\1/p'
}

# agents_of KEY: how many agents' data keys it wraps
agents_of() {
  keys status --json | tr -d ' \n' | grep -o "{[^{}]*\"id\":\"$1\"[^{}]*}" | sed -n 's/.*"agents":\([0-9]*\).*/\1/p'
}

none_under() {
  [[ $(agents_of "$1") == 0 ]]
}

first=$(key primary)
service_load keys-service -rate 100
headless_load keys-headless -rate 50

# In the order of docs/security.md
keys generate 2>/dev/null
hand_out keyring
keys rotate --wait 4m 2>/dev/null
second=$(key primary)
[[ $second != "$first" ]] || fail "the key was not exchanged"
hand_out keyring
keys retire "$first" --wait 4m 2>/dev/null
hand_out keyring
say "$second in the place of $first, which is retired"

keys generate --primary 2>/dev/null
hand_out keyring-2
upgrade 1 --set keyring.existingSecret=keyring-2
third=$(key primary)
[[ $third != "$second" ]] || fail "the key was not exchanged"
eventually 60 "all agents under $third" none_under "$second"
keys retire "$second" --wait 2m 2>/dev/null
hand_out keyring-3
upgrade 1 --set keyring.existingSecret=keyring-3
say "$third in the place of $second, by helm upgrade"

lossless keys-service
lossless keys-headless
[[ $(keys status --json | grep -c '"state": "absent"') == 2 ]] || fail "old keys are still there: $(keys status)"
kubectl rollout restart deployment/my-agent >/dev/null
kubectl rollout status deployment/my-agent --timeout=60s >/dev/null
eventually 60 "the agent to find its secret again" agent_has_secret
"$helm" test "$release" >/dev/null
"$helm" uninstall "$release" --wait >/dev/null
