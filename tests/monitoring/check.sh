#!/usr/bin/env bash
# check.sh BINARY [PICTURE]: the rules and the dashboard of the chart. promtool judges the rules and runs their tests; then
# `run.py` has them under a real Prometheus that scrapes a real run, asks every query, and has alerts fire. With PICTURE it
# draws the dashboard of that run. It takes prometheus and promtool in the PATH, PostgreSQL 15, openssl, python3, and
# SUPERSERVE_TEST_MOTO, the program `moto_server`; and two minutes.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
for program in prometheus promtool openssl python3 "${SUPERSERVE_TEST_MOTO:?names moto_server}" /usr/lib/postgresql/15/bin/initdb; do
  if ! type -P "$program" >/dev/null; then
    echo "not installed: $program" >&2
    exit 1
  fi
done

promtool check rules "$here/../../helm/superserve-secrets/files/rules.yaml"
promtool test rules "$here/rules_test.yaml"
PYTHONDONTWRITEBYTECODE=1 python3 "$here/run.py" "$@"
