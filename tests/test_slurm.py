"""The Slurm script as far as it goes without Slurm: shell checks, dry runs, and a cluster on loopback addresses."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from conftest import ROOT, environment, write

SCRIPT = ROOT / "ci/slurm.sh"
SUITE = """
name = "two"
datasets = ["sim-fraud[rows=600]"]
generators = ["copycat", "marginal"]
metrics = ["ks_gap"]
"""
PROGRAMS = {  # what Slurm has, with all nodes on this machine
    "scontrol": r"printf '%s\n' n1 n2",
    "srun": 'echo "$*" >> "$SRUNS"; while [[ $1 == --* ]]; do shift; done; exec "$@"',
    "getent": 'echo "127.0.0.$((${2#n} + 1)) STREAM $2"',
    "bench": f'exec {sys.executable} -m bench "$@"',
}


@pytest.fixture
def allocation(tmp_path: Path) -> dict[str, str]:
    """The environment of a script in an allocation of two nodes that ends in three hours."""
    for name, body in PROGRAMS.items():
        write(tmp_path / "venv/bin" / name, f"#!/usr/bin/env bash\n{body}\n").chmod(0o755)
    python = Path(sys.executable).parent
    return environment(
        VENV=str(tmp_path / "venv"), PATH=f"{python}{os.pathsep}{os.environ['PATH']}", SRUNS=str(tmp_path / "sruns"),
        SLURM_JOB_ID=str(os.getpid()), SLURM_JOB_NODELIST="n[1-2]", SLURM_CPUS_PER_TASK="1", SLURM_GPUS_ON_NODE="0",
        SLURM_MEM_PER_NODE="4000", SLURM_JOB_END_TIME=str(int(time.time()) + 3 * 3600),
    )  # fmt: skip


def script(folder: Path, env: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", str(SCRIPT), *args], cwd=folder, env=env, capture_output=True, text=True,
                          timeout=200, check=False)  # fmt: skip


def test_the_shell_has_no_complaints() -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed (Debian: apt-get install shellcheck)")
    command = ["shellcheck", "--external-sources", f"--source-path=SCRIPTDIR:{ROOT}"]
    found = [str(p) for p in sorted((ROOT / "ci").glob("*.sh"))]
    done = subprocess.run([*command, *found], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_dry_run_says_what_it_would_run(tmp_path: Path, allocation: dict[str, str]) -> None:
    more = {"SLURM_CPUS_PER_TASK": "16", "SLURM_GPUS_ON_NODE": "4", "PORT": "6379"}
    done = script(tmp_path, allocation | more, "--dry-run", "--suite", "full", "--store", "/a b")
    assert (done.returncode, done.stderr) == (0, "")
    head, worker, wait, run = done.stdout.splitlines()
    for line, node in ((head, "n1"), (worker, "n2")):
        assert line.startswith(f"srun --export=ALL --nodes=1 --ntasks=1 --nodelist={node} --cpus-per-task=16 ")
        assert "--num-cpus=16 --num-gpus=4" in line
        assert f"--memory={4000 * 2**20 * 8 // 10} " in line
    assert "--head --node-ip-address=127.0.0.2 --port=6379 --include-dashboard=false" in head
    assert "--address=127.0.0.2:6379 --node-ip-address=127.0.0.3" in worker
    assert wait == "# wait for 2 nodes, five minutes at most"
    start, seconds, rest = run.partition("--budget ")[0], *run.partition("--budget ")[2].split("s ", 1)
    assert start == "bench run --launcher ray --address 127.0.0.2:6379 "
    assert 3 * 3600 - 660 <= int(seconds) <= 3 * 3600 - 600
    assert rest == "--suite full --store '/a b'"
    assert not (tmp_path / "sruns").exists()


def test_a_dry_run_needs_no_slurm(tmp_path: Path) -> None:
    done = script(tmp_path, environment(), "--dry-run", "--suite", "full")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].endswith("--budget 28200s --suite full")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"SLURM_JOB_ID": ""}, "no allocation: start it with sbatch, or see what it does with --dry-run"),
        ({"VENV": "/nowhere"}, "no bench in /nowhere: set VENV to the environment that has it"),
        ({"SLURM_JOB_END_TIME": "NOW"}, "the allocation ends too soon: "),
    ],
)
def test_what_cannot_be_is_one_line(
    change: dict[str, str], says: str, tmp_path: Path, allocation: dict[str, str]
) -> None:
    soon = {k: str(int(time.time()) + 300) if v == "NOW" else v for k, v in change.items()}
    done = script(tmp_path, allocation | soon, *(["--dry-run"] if soon != change else []))
    assert done.returncode == 2
    assert done.stderr.startswith(f"slurm.sh: {says}")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "sruns").exists()


def test_a_suite_runs_on_a_cluster_that_ends_with_it(tmp_path: Path, allocation: dict[str, str]) -> None:
    pytest.importorskip("ray", reason="no ray here: pip install 'synth-health-bench[ray]'")
    if sys.platform != "linux":
        pytest.skip("needs the loopback addresses 127.0.0.2 and 127.0.0.3")
    write(tmp_path / "two.toml", SUITE)
    done = script(tmp_path, allocation, "--suite", "two.toml", "--no-track")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 nodes have joined" in done.stdout
    assert "2 done" in done.stdout
    assert (tmp_path / "bench-store/boards/two/board.md").exists()
    temp = f"/tmp/bench-ray-{allocation['SLURM_JOB_ID']}"
    assert not Path(temp).exists()
    assert not [p for p in psutil.process_iter(["cmdline"]) if temp in " ".join(p.info["cmdline"] or ())]
    assert len((tmp_path / "sruns").read_text().splitlines()) == 2
