#!/usr/bin/env bash
# Runs every target in turn, and says what came of each.
#
#     fuzz/run.sh [SECONDS] [TARGET...]     seconds of each target, 600 unless given
#
# Needs a nightly Rust and cargo-fuzz (`cargo install cargo-fuzz`). Logs are written to fuzz/logs/, inputs that fail to
# fuzz/artifacts/; a target goes on after one, so that one doesn't hide the next.
set -uo pipefail
cd "$(dirname "$0")"
seconds=${1:-600}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo +nightly fuzz list)
mkdir -p logs
# Targets write files: into memory, where there is room for that.
memory=${TMPDIR:-/dev/shm}
[ -d "$memory" ] || memory=/tmp
TMPDIR=$(mktemp -d "$memory/kshot-fuzz.XXXXXX")
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
for target in "${targets[@]}"; do
  cargo +nightly fuzz build "$target" || exit 1
  seeds=("seeds/$target")
  [ "$target" = pytorch ] && seeds=(../crates/kshot/tests/golden/import)
  mkdir -p "corpus/$target"
  log=logs/$target.log
  : >"$log"
  end=$((SECONDS + seconds))
  while [ $((end - SECONDS)) -gt 0 ]; do
    cargo +nightly fuzz run "$target" "corpus/$target" "${seeds[@]}" -- -max_total_time=$((end - SECONDS)) \
      -max_len=65536 -rss_limit_mb=2048 -timeout=10 -print_funcs=0 -print_final_stats=1 >>"$log" 2>&1
  done
  runs=$(awk '/stat::number_of_executed_units/ {n += $2} END {print n + 0}' "$log")
  covered=$(grep -oE 'cov: [0-9]+' "$log" | tail -1)
  failed=$(find "artifacts/$target" -type f 2>/dev/null | wc -l)
  echo "$target: $runs runs, $covered, $failed failing inputs in all"
done
