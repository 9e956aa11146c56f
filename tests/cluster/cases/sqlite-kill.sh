#!/usr/bin/env bash
# sqlite-kill.sh: the one pod of SQLite is killed, first its process, then the pod itself; what was acknowledged stays.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$(dirname "${BASH_SOURCE[0]}")/release.sh"

helm=helm4
pod=$fullname-0
say "--- the pod of SQLite is killed"
use_namespace sqlite-kill
prepare sqlite
install 1
deploy_agent

restarted() {
  [[ $(kubectl get pod "$pod" --output 'jsonpath={.status.containerStatuses[0].restartCount}') -ge $1 ]] &&
    kubectl wait --for=condition=Ready "pod/$pod" --timeout=1s
}

# The process by its pod's cgroup: this namespace sees the processes of all containers
server() {
  local id
  id=$(kubectl get pod "$pod" --output 'jsonpath={.metadata.uid}')
  grep -l "pod$id" /proc/[0-9]*/cgroup 2>/dev/null | cut -d/ -f3 | while read -r process; do
    [[ $(tr '\0' ' ' <"/proc/$process/cmdline") != *'superserve serve '* ]] || echo "$process"
  done
}

for round in 1 2 3; do
  echo -n "value-$round" | cli secrets set my-agent "KEY_$round=-" >/dev/null
  kill -KILL "$(server)"
  eventually 90 "the restart" restarted "$round"
done
kubectl delete pod "$pod" --grace-period=0 --force >/dev/null 2>&1
eventually 90 "the new pod" restarted 0
keys=$(cli secrets list my-agent </dev/null)
for key in API_KEY KEY_1 KEY_2 KEY_3; do
  [[ $keys == *"- $key"* ]] || fail "$key is lost: $keys"
done
run_agent
say "killed three times and deleted once, all four keys are there, and an agent reads its own"
"$helm" uninstall "$release" --wait >/dev/null
