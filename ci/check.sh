#!/usr/bin/env bash
# All that must hold: the main job, format, lint, types, imports, tests, and scores that are no worse than the reference.
# What CI runs is what a person runs.
set -euo pipefail
cd "$(dirname "$0")/.."
bash ci/system.sh &
system=$!
. ci/setup.sh

bash ci/smoke.sh
ruff format --check .
ruff check .
mypy
wait "$system"
OMP_NUM_THREADS=1 python -m pytest -n auto --dist loadgroup -q --durations=5
bash ci/scores.sh --replicates 5
echo "all checks passed"
