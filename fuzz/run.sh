#!/usr/bin/env bash
# Feeds each target with nonsense, made from its seeds, for so many seconds: `fuzz/run.sh SECONDS [TARGET…]`. What a target
# falls over stays in fuzz/artifacts/. Needs cargo-fuzz and a C++ compiler; any Rust does, as nothing but coverage is
# built in.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=$1
targets=("${@:2}")
if [[ ${#targets[@]} -eq 0 ]]; then
  mapfile -t targets < <(cargo fuzz list)
fi

cargo fuzz build --sanitizer none
for target in "${targets[@]}"; do
  seeds=fuzz/seeds/$target
  if [[ $target == dotenv ]]; then
    seeds=tests/data/dotenv/cases
  fi
  mkdir -p "fuzz/corpus/$target"
  echo "$target, $seconds s"
  cargo fuzz run --sanitizer none "$target" "fuzz/corpus/$target" "$seeds" -- \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1
done
