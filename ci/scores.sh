#!/usr/bin/env bash
# The suite `ci`, and its scores against the committed reference: fails where one is worse than replicates explain.
# Arguments go to both commands: CI passes `--replicates 5`, half of the suite's, for the time's sake.
# For a change that is meant to move scores, README says how the reference is replaced.
set -euo pipefail
. "$(dirname "$0")/setup.sh"

store=${BENCH_STORE:-bench-store}
bench run --suite ci --no-track "$@"
bench check ci --markdown "$store/boards/ci/check.md" --junit "$store/boards/ci/check.xml" "$@"
