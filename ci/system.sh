#!/usr/bin/env bash
# In CI alone: Debian packages that a few tests need, and are skipped without, saying so: a PostgreSQL server (studies in
# a database), Chromium and its driver (pages opened in a browser), shellcheck (our own scripts).
set -euo pipefail
[ -n "${CI:-}" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0
wanted=()
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || wanted+=(postgresql)
command -v chromedriver >/dev/null || wanted+=(chromium chromium-driver)
command -v shellcheck >/dev/null || wanted+=(shellcheck)
[ ${#wanted[@]} = 0 ] && exit 0
{ timeout 120 apt-get update -qq && timeout 300 apt-get install -y -qq --no-install-recommends "${wanted[@]}"; } >/dev/null 2>&1 \
    || echo "cannot be installed, so that their tests are skipped: ${wanted[*]}"
