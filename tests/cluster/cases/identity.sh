#!/usr/bin/env bash
# identity.sh: an agent's pod is known by its service account's projected token, and by nothing else: it resolves its secrets
# without a token of the service. Tokens of other accounts and for other audiences are refused.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$(dirname "${BASH_SOURCE[0]}")/release.sh"

helm=helm4
say "--- a pod is known by its service account"
use_namespace identity
prepare postgres
install 1
deploy_agent
cat >>"$values" <<END
identities:
  clusterKeys: {enabled: true}
  rules: |
    [[issuers]]
    issuer = "https://kubernetes.default.svc"
    audiences = ["superserve"]
    jwks_url = "https://kubernetes.default.svc/openid/v1/jwks"
    ca_file = "/run/superserve/cluster/ca.crt"
    token_file = "/run/superserve/cluster/token"

    [[issuers.rules]]
    claims = { sub = "system:serviceaccount:identity:default" }
    tenant = "ten_default"
    scopes = ["secrets:resolve", "agents:read"]
    agents = ["$agent"]
END
upgrade 1
kubectl delete secret my-agent-superserve-token >/dev/null
say "installed, with a rule for the account of the agent's pod"

# As examples/kubernetes says it
volumes='
              - name: superserve
                secret: null
                projected:
                  defaultMode: 0440
                  sources:
                    - serviceAccountToken: {path: token, audience: superserve, expirationSeconds: 3600}'
volumes=$volumes run_agent
say "an agent's pod without a token of the service: $(kubectl logs deployment/my-agent)"
cli audit my-agent </dev/null | grep -q 'https://kubernetes.default.svc#system:serviceaccount:identity:default' ||
  fail "the trail does not name the account"

# status TOKEN: what the service answers whom it does not know, or knows
status() {
  curl --silent --output /dev/null --write-out '%{http_code}' --header "Authorization: Bearer $1" \
    "http://$(kubectl get pods --selector app.kubernetes.io/name=superserve-secrets \
      --output 'jsonpath={.items[0].status.podIP}'):8080/v1/auth/validate"
}

kubectl create serviceaccount other >/dev/null
good=$(kubectl create token default --audience=superserve)
[[ $(status "$good") == 200 ]] || fail "the account's own token is refused"
for forged in "$(kubectl create token other --audience=superserve)" "$(kubectl create token default)" \
  "$(kubectl create token default --audience=superserve-other)" "${good%?????}AAAAA" "${good%.*}."; do
  [[ $(status "$forged") == 401 ]] || fail "a token of somebody else, or for somebody else, is taken"
done
say "tokens of another account, for another audience, or changed are refused"
"$helm" uninstall "$release" --wait >/dev/null
