#!/usr/bin/env bash
# All that must hold: the main job, format, lint, types, imports, tests. What CI runs is what a person runs.
set -euo pipefail
. "$(dirname "$0")/setup.sh"

bash ci/smoke.sh
ruff format --check .
ruff check .
mypy
OMP_NUM_THREADS=1 python -m pytest -n auto --dist loadgroup -q --durations=5
echo "all checks passed"
