#!/usr/bin/env bash
#SBATCH --job-name=bench
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=1
#SBATCH --mem=64G
#SBATCH --time=08:00:00
#SBATCH --no-kill
#SBATCH --signal=B:TERM@120
#SBATCH --open-mode=append
#
# Run a suite on a Slurm allocation: starts a Ray cluster on its nodes, runs `bench run` on that, ends both.
#
#     sbatch [options of sbatch] ci/slurm.sh --suite full [further options of bench run]
#     bash ci/slurm.sh --dry-run --suite full      # prints what it would run; runs nothing
#
# The exit code is that of `bench run`; 3 says that the time was up: the same command goes on from there. Environment:
#     VENV           the environment with `bench` and `ray`; .venv of the folder that sbatch is called in
#     BENCH_STORE, BENCH_DATA      folders on a file system that all nodes share; what is made there is for you alone
#     SPARE_S        seconds of the allocation that are left for the board at the end; 600
#     PORT           of the cluster's head; one made of the job's number
set -euo pipefail
umask 077

dry=
[ "${1:-}" = --dry-run ] && dry=1 && shift

die() {
    echo "slurm.sh: $*" >&2
    exit 2
}

show() { # a command as it would be typed
    local word line=
    for word; do
        case $word in
            *[\ \;\"\$]*) line+=" '$word'" ;;
            *) line+=" $word" ;;
        esac
    done
    echo "${line# }"
}

if [ -n "$dry" ]; then
    : "${SLURM_JOB_ID:=0}" "${SLURM_CPUS_ON_NODE:=16}" "${SLURM_JOB_END_TIME:=$(($(date +%s) + 8 * 3600))}"
fi
[ -n "${SLURM_JOB_ID:-}" ] || die "no allocation: start it with sbatch, or see what it does with --dry-run"

venv=${VENV:-${SLURM_SUBMIT_DIR:-$PWD}/.venv}
[ -n "$dry" ] || [ -x "$venv/bin/bench" ] || die "no bench in $venv: set VENV to the environment that has it"
export PATH="$venv/bin:$PATH"
cpus=${SLURM_CPUS_PER_TASK:-$SLURM_CPUS_ON_NODE}
gpus=${SLURM_GPUS_ON_NODE:-0}
port=${PORT:-$((20000 + SLURM_JOB_ID % 10000))}
temp=/tmp/bench-ray-$SLURM_JOB_ID # short: sockets lie in it
if [ -n "${SLURM_JOB_NODELIST:-}" ]; then
    mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
else
    nodes=(node1 node2)
fi
[ ${#nodes[@]} -gt 0 ] || die "no nodes in $SLURM_JOB_NODELIST"

export RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_TOKEN # anyone who can reach the port and has no token is refused

# The address of a node that the others reach it by; some nodes take their own name for a loopback address.
address_of() {
    local found
    found=$(getent ahostsv4 "$1" | awk 'NR == 1 { print $1 }') || true
    case $found in
        "" | 127.0.0.1 | 127.0.1.1)
            if [ -n "$dry" ]; then found=ADDRESS-OF-$1; else
                found=$(srun --overlap --nodes=1 --ntasks=1 --nodelist="$1" hostname -I | awk '{ print $1 }')
            fi ;;
    esac
    echo "$found"
}

# Ray on one node, until it is told to end; what it keeps there goes with it.
# shellcheck disable=SC2016  # expanded on the node
on_node='temp=$1; shift; trap : TERM; ray start "$@" --temp-dir="$temp" & wait; kill $! 2>/dev/null; wait; rm -rf "$temp"'
start_ray() { # NODE, then options of ray start
    local node=$1
    shift
    local command=(srun --export=ALL --nodes=1 --ntasks=1 --nodelist="$node" --cpus-per-task="$cpus"
        bash -c "$on_node" ray "$temp" "$@" "${resources[@]}")
    if [ -n "$dry" ]; then
        show "${command[@]}" '&'
    else
        "${command[@]}" &
        steps+=($!)
    fi
}

resources=(--num-cpus="$cpus" --num-gpus="$gpus" --disable-usage-stats --block)
if [ -n "${SLURM_MEM_PER_NODE:-}" ]; then # MiB; Ray would take all of the machine for its own
    resources+=(--memory=$((SLURM_MEM_PER_NODE * 1048576 * 8 / 10))
        --object-store-memory=$((SLURM_MEM_PER_NODE * 1048576 / 10)))
fi
steps=()
running=
# shellcheck disable=SC2317,SC2329  # called by the trap
end() {
    trap - EXIT TERM INT
    [ -z "$running" ] || kill "$running" 2>/dev/null || true
    [ ${#steps[@]} = 0 ] || kill "${steps[@]}" 2>/dev/null || true
    wait
}
trap end EXIT
trap 'exit 143' TERM INT

head=$(address_of "${nodes[0]}")
start_ray "${nodes[0]}" --head --node-ip-address="$head" --port="$port" --include-dashboard=false
if [ -z "$dry" ]; then
    for ((i = 0; i < 120; i++)); do
        (exec 3<>"/dev/tcp/$head/$port") 2>/dev/null && break
        kill -0 "${steps[0]}" 2>/dev/null || die "Ray ended on ${nodes[0]}"
        sleep 1
    done
    ((i < 120)) || die "Ray does not answer on $head:$port after two minutes"
fi
for node in "${nodes[@]:1}"; do
    start_ray "$node" --address="$head:$port" --node-ip-address="$(address_of "$node")"
done

joined='
import sys, time, ray
address, wanted = sys.argv[1], int(sys.argv[2])
ray.init(address=address, log_to_driver=False, logging_level="error")
end = time.monotonic() + 300
while (there := sum(node["Alive"] for node in ray.nodes())) < wanted and time.monotonic() < end:
    time.sleep(1)
print(f"slurm.sh: {there} of {wanted} nodes have joined", flush=True)
'
if [ -n "$dry" ]; then
    echo "# wait for ${#nodes[@]} nodes, five minutes at most"
else
    python -c "$joined" "$head:$port" "${#nodes[@]}" || die "no Ray cluster on $head:$port"
fi

ends=${SLURM_JOB_END_TIME:-$(date -d "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%e)" +%s)}
left=$((ends - $(date +%s) - ${SPARE_S:-600}))
((left > 0)) || die "the allocation ends too soon: $((left + ${SPARE_S:-600})) s are left, ${SPARE_S:-600} s are kept for the end"
command=(bench run --launcher ray --address "$head:$port" --budget "${left}s" "$@")
if [ -n "$dry" ]; then
    show "${command[@]}"
    exit
fi
"${command[@]}" &
running=$!
code=0
wait "$running" || code=$?
running=
[ "$code" != 3 ] || echo "slurm.sh: the time was up before all had run: the same command goes on from here"
exit "$code"
