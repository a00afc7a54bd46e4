#!/usr/bin/env bash
# Tests `kshot serve` by its OpenAPI document with schemathesis: no server error, and every answer as described.
#
#     bench/schemathesis.sh [EXAMPLES]     requests for each operation in each phase, 50 unless given
#
# KSHOT_SCHEMATHESIS_SEED is the seed, 1 unless given.
# Python's venv module must be there; schemathesis is installed into bench/.venv-schemathesis (ignored by git).
set -euo pipefail
cd "$(dirname "$0")/.."
venv=bench/.venv-schemathesis
[ -d "$venv" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet -r crates/kshot-cli/tests/schemathesis/requirements.txt
SCHEMATHESIS="$PWD/$venv/bin/schemathesis" KSHOT_SCHEMATHESIS_EXAMPLES="${1:-50}" \
  cargo test --locked -p kshot-cli --test schemathesis -- --nocapture
