#!/bin/sh
# The entrypoint of an agent's container: its arguments are the agent's own command, which takes this process's place
# (signals, exit code and process id 1 are the agent's) with the agent's secrets in its environment.
# Where a required secret is missing it ends with 3 and starts nothing; where the service cannot be reached
# for a minute (--timeout), with 125.
set -eu

: "${AGENT:?the name or the id of the agent}"
: "${RUN_ID:?the name of this run in the audit trail}"

exec superserve secrets run "${AGENT}" --run-id "${RUN_ID}" -- "$@"
