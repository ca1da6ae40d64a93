#!/usr/bin/env bash
# All that needs an NVIDIA GPU: the tests marked gpu, the suite `smoke` on every GPU here, each diffusion method on one
# dataset of its own shape, and the benchmarks of speed. Ends with one table; exit code 1 where a step failed.
# Logs, boards, tables and profiles go to the folder BENCH_OUT, bench-store/gpu where it is not set.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! gpus=$(nvidia-smi --query-gpu=index,name,memory.total,driver_version --format=csv,noheader 2>/dev/null) || [ -z "$gpus" ]; then
    echo "no NVIDIA GPU here: nvidia-smi is absent or lists none" >&2
    exit 2
fi
. ci/setup.sh
if ! python -c 'import torch; raise SystemExit(not torch.cuda.is_available())'; then
    echo "torch $(python -c 'import torch; print(torch.__version__)') sees no GPU: a build without CUDA, or a driver too old for it" >&2
    exit 2
fi

out=$(realpath -m "${BENCH_OUT:-bench-store/gpu}")
export BENCH_OUT=$out
mkdir -p "$out"
echo "$gpus" | tee "$out/gpus.txt"
rows=()
failed=0

step() {  # name, command: its output to the terminal and to a log; a failure does not end the others
    local name=$1 start=$SECONDS outcome=passed
    shift
    echo "== $name"
    "$@" 2>&1 | tee "$out/$name.log" || { outcome=failed; failed=1; }
    rows+=("| $name | $outcome | $((SECONDS - start)) | $name.log |")
}

# shellcheck disable=SC2317  # reached through step
native() {  # generator, dataset: one dataset of the shape that the generator was made for, beside two references
    cat > "$out/native-$1.toml" <<TOML
name = "native-$1"
about = "One dataset of the shape that $1 was made for, on a GPU."
datasets = ["$2"]
generators = ["copycat", "marginal", "$1"]
replicates = 1

[limits]
time_s = 900
memory_mb = 16000
TOML
    bench run --suite "$out/native-$1.toml" --store "$out/store" --gpus all --no-track
}

step tests python -m pytest -m gpu -q --durations=10
step smoke bench run --suite smoke --store "$out/store" --gpus all --no-track
step native-ou native ou "sim-fraud[rows=8000]"
step native-tardiff native tardiff "sim-icu[rows=1500]"
step native-ehr-d3pm native ehr-d3pm "sim-ehr[codes=300,rows=6000]"
step native-healthforge native healthforge "sim-ehr[codes=300,rows=6000]"
step speed python -m pytest tests/benchmarks/test_gpu_speed.py -q -s -n 0 --override-ini addopts=

{
    printf '| step | outcome | seconds | log |\n|---|---|---:|---|\n'
    printf '%s\n' "${rows[@]}"
} | tee "$out/steps.md"
echo "all of it is in $out: steps.md, denoiser.md, denoiser_profiles.md, methods.md, shared.md, boards in store/boards"
exit "$failed"
