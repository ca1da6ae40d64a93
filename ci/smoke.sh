#!/usr/bin/env bash
# The main job on simulated data: sets up .venv if there is none, runs the suite `smoke`, prints its board.
# Further arguments go to `bench run`.
set -euo pipefail
. "$(dirname "$0")/setup.sh"

bench run --suite smoke "$@"
bench board smoke | sed -n '1,/^## /{/^## /!p}'
