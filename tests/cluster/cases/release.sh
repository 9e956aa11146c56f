# shellcheck shell=bash
# shellcheck disable=SC2154 # what is not set here is set in lib.sh
# A release of the chart in the namespace of the case, and what an operator prepares for it; sourced after lib.sh.

release=secrets
fullname=secrets-superserve-secrets

# prepare KIND [tls]: what the chart expects to be there, and the values that say so, in $values. KIND: sqlite, postgres, or
# several, which takes the URL of a PostgreSQL of several hosts, up to the database's name, from $hosts.
prepare() {
  local namespace folder
  namespace=$(kubectl config view --minify --output 'jsonpath={..namespace}')
  folder=$CLUSTER/$namespace
  mkdir "$folder"
  values=$folder/values.yaml
  cat >"$values" <<'END'
image: {registry: localhost, repository: superserve-secrets}
END
  "prepare_$1" "$namespace" "$folder"
  scheme=http
  tls_arguments=()
  kubectl create configmap ca >/dev/null
  if [[ ${2:-} == tls ]]; then
    scheme=https
    prepare_tls "$namespace" "$folder"
    tls_arguments=(-ca /ca/ca.crt)
  fi
  url=$scheme://$fullname.$namespace.svc:8080
}

# Keyring and first token are made by the service; only a volume is missing here, since nothing provides them.
prepare_sqlite() {
  workload=statefulset/$fullname
  mkdir -p "$CLUSTER/volumes/$1"
  kubectl apply -f - >/dev/null <<END
apiVersion: v1
kind: PersistentVolume
metadata: {name: $1}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  claimRef: {namespace: $1, name: data-$fullname-0}
  local: {path: $CLUSTER/volumes/$1}
  nodeAffinity:
    required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [node1]}]}]}
END
}

prepare_postgres() {
  psql --host="$CLUSTER/postgresql" --username=postgres --quiet --command="CREATE DATABASE \"$1\" OWNER secrets"
  prepare_replicas "$2" "postgres://secrets:secrets@$node_network.1/$1"
}

prepare_several() {
  prepare_replicas "$2" "$hosts/$1?target_session_attrs=read-write"
}

# prepare_replicas FOLDER URL
prepare_replicas() {
  workload=deployment/$fullname
  superserve keys generate --keyring "$1/keyring.json" 2>/dev/null
  superserve tokens generate >"$1/token"
  kubectl create secret generic database --from-literal=url="$2" >/dev/null
  kubectl create secret generic keyring --from-file="$1/keyring.json" >/dev/null
  kubectl create secret generic bootstrap --from-file="$1/token" >/dev/null
  cat >>"$values" <<'END'
database: {kind: postgres, postgres: {existingSecret: database}}
keyring: {existingSecret: keyring}
bootstrapToken: {existingSecret: bootstrap}
END
}

# A certificate for the names of both services, of the cluster's own authority.
prepare_tls() {
  (
    cd "$2" || exit
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -subj /CN=secrets -keyout tls.key -out tls.csr
    openssl x509 -req -in tls.csr -CA "$CLUSTER/pki/ca.crt" -CAkey "$CLUSTER/pki/ca.key" -CAcreateserial -days 2 \
      -out tls.crt -extfile <(echo "subjectAltName=DNS:$fullname.$1.svc,DNS:$fullname-headless.$1.svc")
  ) 2>/dev/null
  kubectl create secret generic tls --type=kubernetes.io/tls --from-file="$2/tls.crt" --from-file="$2/tls.key" \
    --from-file="$CLUSTER/pki/ca.crt" >/dev/null
  kubectl delete configmap ca >/dev/null
  kubectl create configmap ca --from-file="$CLUSTER/pki/ca.crt" >/dev/null
  echo 'tls: {enabled: true, existingSecret: tls}' >>"$values"
}

# install|upgrade TAG ARGUMENTS…, with $helm, waiting until all of it is ready.
install() {
  "$helm" install "$release" "$chart" --values "$values" --set-string "image.tag=$1" --wait --timeout 3m "${@:2}" \
    >"$CLUSTER/log/notes.txt"
}

upgrade() {
  "$helm" upgrade "$release" "$chart" --values "$values" --set-string "image.tag=$1" --wait --timeout 3m "${@:2}" \
    >/dev/null
}

# The command line as the chart's notes have it.
cli() {
  kubectl exec --stdin "$workload" -- superserve "$@"
}

# deploy_agent: an agent with a secret, a token for its runs, and another for who makes load; its id is in $agent.
# `scopes` in the environment says what who makes load may do.
deploy_agent() {
  cli agents deploy my-agent --require API_KEY &>/dev/null
  agent=$(cli agents get my-agent --json </dev/null | sed -n 's/^ *"id": "\(.*\)",$/\1/p')
  echo -n 'sk-of-the-cluster' | cli secrets set my-agent API_KEY=- >/dev/null
  token my-agent-superserve-token my-agent-runs secrets:resolve,agents:read
  token client load "${scopes:-secrets:list}"
}

# token SECRET NAME SCOPES
token() {
  cli tokens create --name "$2" --scope "$3" --agent my-agent 2>/dev/null </dev/null | tr -d '\n' |
    kubectl create secret generic "$1" --from-file=token=/dev/stdin >/dev/null
}

# The example as it stands, but for image and address. `volumes` in the environment changes those of the pod.
run_agent() {
  local folder=$CLUSTER/example-$RANDOM
  mkdir "$folder"
  cp "$root/examples/kubernetes/agent.yaml" "$folder/"
  cat >"$folder/kustomization.yaml" <<END
resources: [agent.yaml]
images: [{name: registry.example/my-agent, newName: localhost/agent}]
patches:
  - patch: |
      apiVersion: apps/v1
      kind: Deployment
      metadata: {name: my-agent}
      spec:
        template:
          spec:
            containers:
              - name: agent
                env:
                  - {name: SUPERSERVE_API_URL, value: "$url"}
                  - {name: SUPERSERVE_CA_CERT, value: "${tls_arguments[1]:-}"}
                volumeMounts: [{name: ca, mountPath: /ca}]
            volumes:
              - {name: ca, configMap: {name: ca}}${volumes:-}
END
  kubectl apply --kustomize "$folder" >/dev/null
  eventually 60 "the agent to find its secret" agent_has_secret
}

agent_has_secret() {
  kubectl logs deployment/my-agent | grep -qx 'started with a key'
}

# service_load NAME ARGUMENTS…: on the service's one address; headless_load: on all pods at their own.
service_load() {
  start_load "$1" -target "dns:///${url#*://}" -agent "$agent" "${tls_arguments[@]}" "${@:2}"
}

headless_load() {
  local target=${url#*://}
  start_load "$1" -target "dns:///${target/$fullname/$fullname-headless}" -agent "$agent" "${tls_arguments[@]}" "${@:2}"
}
