#!/usr/bin/env bash
# Make .venv where there is none, or where pyproject.toml has changed since it was made. Source it: `. ci/setup.sh`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stamp=.venv/made-from
want=$(cksum < pyproject.toml)
if [ ! -x .venv/bin/bench ] || [ "$(cat "$stamp" 2>/dev/null)" != "$want" ]; then
    echo "setting up .venv"
    python3 -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
    echo "$want" > "$stamp"
fi
export PATH="$PWD/.venv/bin:$PATH"
