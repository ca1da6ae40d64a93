#!/usr/bin/env bash
# Run the tests in the arithmetic of other x86-64 processors and with other numbers of threads, one setting after another.
#
#     bash ci/portable.sh [SETTING ...] [-- ARGUMENTS OF PYTEST]
#     bash ci/portable.sh baseline two-threads -- tests/generators -k gaussian
#
# Settings (all without an argument); a setting restricts the instruction sets of torch, oneDNN, MKL, OpenBLAS and NumPy:
#     own           what this processor offers
#     two-threads   the same, with two threads
#     amd-like      the kernels of an AMD Zen for matrix products, AVX2 in torch; NumPy and oneDNN as they are
#     avx2          a processor without AVX-512
#     baseline      a processor without AVX
#     other-seeds   what this processor offers, with the seeds of TEST_SEEDS, a number (1): tests that pass by luck fail
# The environment reaches the processes that tests start. Ends with a table, and with 1 where a setting failed.
set -euo pipefail
. "$(dirname "$0")/setup.sh"

settings=()
while [ $# -gt 0 ]; do
    if [ "$1" = -- ]; then
        shift
        break
    fi
    settings+=("$1")
    shift
done
[ ${#settings[@]} -gt 0 ] || settings=(own two-threads amd-like avx2 baseline other-seeds)

# Print the instruction sets beyond a level (v2: SSE4.2, v3: AVX2) that NumPy would use here. It warns of one that it would not.
numpy_beyond() {
    python - "$1" <<'PYTHON'
import sys

import numpy

found = numpy.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
print(*(name for name in found if sys.argv[1] == "v2" or name.startswith("AVX512") or name == "X86_V4"))
PYTHON
}

# Print the environment of a setting, a variable a line.
variables() {
    case "$1" in
    own) echo OMP_NUM_THREADS=1 ;;
    other-seeds) printf '%s\n' OMP_NUM_THREADS=1 "TEST_SEEDS=${TEST_SEEDS:-1}" PYTEST_ADDOPTS="-m 'not pinned'" ;;
    two-threads) echo OMP_NUM_THREADS=2 ;;
    amd-like) printf '%s\n' OMP_NUM_THREADS=1 ATEN_CPU_CAPABILITY=avx2 MKL_CBWR=AVX2 OPENBLAS_CORETYPE=Zen ;;
    avx2)
        printf '%s\n' OMP_NUM_THREADS=1 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_CBWR=AVX2 \
            OPENBLAS_CORETYPE=Haswell "NPY_DISABLE_CPU_FEATURES=$(numpy_beyond v3)"
        ;;
    baseline)
        printf '%s\n' OMP_NUM_THREADS=1 ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE \
            OPENBLAS_CORETYPE=Prescott "NPY_DISABLE_CPU_FEATURES=$(numpy_beyond v2)"
        ;;
    *)
        echo "no setting '$1': expected own, two-threads, amd-like, avx2, baseline or other-seeds" >&2
        return 1
        ;;
    esac
}

# Print what the libraries make of the environment.
in_force() {
    python - <<'PYTHON'
import numpy
import torch
from threadpoolctl import threadpool_info

blas = {lib["architecture"] for lib in threadpool_info() if lib["internal_api"] == "openblas"}
numpy_uses = numpy.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
print(f"torch {torch.backends.cpu.get_cpu_capability()}, OpenBLAS {' '.join(sorted(blas))}, "
      f"NumPy {' '.join(numpy_uses) or 'baseline'}, {torch.get_num_threads()} threads")
PYTHON
}

# Print a row of the table from a JUnit report.
row() {
    python - "$1" "$2" <<'PYTHON'
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

name, report = sys.argv[1:]
if not Path(report).exists():
    sys.exit(print(f"{name:<12} no report: pytest did not come to its end"))
suites = list(xml.parse(report).iter("testsuite"))
total, failed, errors, skipped = (sum(int(s.get(k)) for s in suites) for k in ("tests", "failures", "errors", "skipped"))
seconds = sum(float(s.get("time")) for s in suites)
print(f"{name:<12} {total - failed - errors - skipped:>7} {failed + errors:>7} {skipped:>8} {seconds:>8.0f}")
PYTHON
}

for setting in "${settings[@]}"; do variables "$setting" > /dev/null; done
reports=$(mktemp -d)
trap 'rm -rf "$reports"' EXIT
failed=0
for setting in "${settings[@]}"; do
    mapfile -t chosen < <(variables "$setting")
    (
        export "${chosen[@]}"
        echo "== $setting: ${chosen[*]}"
        in_force
        python -m pytest -n auto --dist loadgroup -q --junit-xml="$reports/$setting.xml" "$@"
    ) || failed=1
done
printf '%-12s %7s %7s %8s %8s\n' setting passed failed skipped seconds
for setting in "${settings[@]}"; do row "$setting" "$reports/$setting.xml"; done
exit "$failed"
