"""GPUs without one: which are found, which cells share one, and what is stored, against stand-ins for NVIDIA's own."""

import json
import os
import sys
from pathlib import Path

import pytest

from bench.devices import CONTEXT_MB, Device, Meter, Sharing, devices, gpu_estimate
from bench.errors import BenchError
from conftest import ROOT, TESTS, write

STAND_INS = TESTS / "stand_ins"
SMALL, LARGE = Device("0", "GPU-small", "small", 10_000), Device("1", "GPU-large", "large", 20_000)
SUITE = """
name = "gpus"
datasets = ["sim-fraud[rows=400]"]
generators = ["copycat", { name = "fakes:OnGPU", params = { takes = 3000 } }]
metrics = ["ks_gap"]
replicates = 6
"""


@pytest.fixture
def two(monkeypatch) -> None:
    """A machine whose nvidia-smi tells of two devices."""
    monkeypatch.setenv("PATH", f"{STAND_INS}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def metered(tmp_path: Path, monkeypatch) -> Path:
    """NVML's stand-in, and the file that says who holds what."""
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.syspath_prepend(str(STAND_INS))
    monkeypatch.setenv("GPUS", str(tmp_path / "gpus"))
    return tmp_path / "gpus"


def ids(found: list[Device]) -> list[str]:
    return [d.id for d in found]


def test_those_that_are_asked_for(two) -> None:
    assert devices("all") == [
        Device("0", "GPU-aaaa", "Stand-in 10", 10_000),
        Device("1", "GPU-bbbb", "Stand-in 10", 10_000),
    ]
    assert ids(devices("1")) == ["1"]
    assert ids(devices("1, 0")) == ["1", "0"]
    assert devices("none") == devices("") == []
    with pytest.raises(BenchError, match="unknown GPU '2': known: 0, 1"):
        devices("0,2")
    with pytest.raises(BenchError, match="--gpus 0,0: one stands twice"):
        devices("0,0")


@pytest.mark.parametrize(("allowed", "seen"), [("1", ["1"]), ("GPU-bbbb,GPU-aaaa", ["1", "0"]), ("", []), ("7", [])])
def test_those_that_a_batch_system_allows(allowed: str, seen: list[str], two, monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    assert ids(devices("all")) == seen


def test_a_machine_without_any(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert devices("all") == []
    with pytest.raises(BenchError, match="unknown GPU '0': known: none"):
        devices("0")


def test_a_driver_that_fails_is_none(monkeypatch, tmp_path: Path) -> None:
    write(tmp_path / "nvidia-smi", "#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert devices("all") == []


def test_cells_are_packed_by_what_they_need(metered: Path) -> None:
    sharing = Sharing([SMALL, LARGE], Meter())
    assert sharing.place(8_000) == LARGE  # where there is most room
    sharing.take(LARGE, "a", 8_000)
    assert sharing.place(9_400) == LARGE
    sharing.take(LARGE, "b", 9_400)
    assert sharing.place(9_400) == SMALL
    assert sharing.place(1_700) == SMALL  # a share of the other is left free
    sharing.take(SMALL, "c", 9_400)
    assert sharing.place(1_000) == LARGE
    sharing.take(LARGE, "d", 1_000)
    assert sharing.place(1_000) is None
    sharing.give_back(LARGE, "b")
    assert sharing.place(1_000) == LARGE


def test_a_cell_that_only_scores_keeps_what_it_still_holds(metered: Path) -> None:
    sharing = Sharing([SMALL], Meter())
    sharing.take(SMALL, "a", 9_000)
    assert sharing.place(5_000) is None
    sharing.give_back(SMALL, "a", 2_000)
    assert sharing.place(5_000) == SMALL
    assert sharing.place(8_000) is None
    sharing.give_back(SMALL, "a")
    assert sharing.place(8_000) == SMALL


def test_a_cell_of_unknown_need_has_a_device_to_itself(metered: Path) -> None:
    sharing = Sharing([SMALL, LARGE], Meter())
    sharing.take(LARGE, "a", 100)
    assert sharing.place(None) == SMALL
    sharing.take(SMALL, "b", None)
    assert sharing.place(None) is None
    assert sharing.place(100) == LARGE


def test_an_estimate_of_more_than_a_device_has_gives_it_a_device_to_itself(metered: Path) -> None:
    sharing = Sharing([SMALL], Meter())
    assert sharing.place(50_000) == SMALL
    sharing.take(SMALL, "a", 100)
    assert sharing.place(50_000) is None


def test_memory_that_others_use_is_not_given_out(metered: Path) -> None:
    write(metered, f"GPU-small {os.getpid()} 6000\n")
    assert Sharing([SMALL], Meter()).place(4_000) is None
    assert Sharing([SMALL], Meter()).place(3_000) == SMALL


def test_without_a_meter_a_device_takes_one_cell(monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.syspath_prepend(str(STAND_INS))
    monkeypatch.delenv("GPUS", raising=False)
    meter = Meter()
    sharing = Sharing([SMALL], meter)
    assert meter.used_mb(SMALL) is meter.busy_percent(SMALL) is None
    sharing.take(SMALL, "a", 10)
    assert sharing.place(10) is None


def test_a_cell_that_fits_on_none_is_told_so(metered: Path) -> None:
    sharing = Sharing([SMALL, LARGE], Meter())
    assert sharing.too_large(None) == sharing.too_large(19_000) == ""
    assert sharing.too_large(19_001) == (
        "it needs 19,001 MiB of GPU memory at least, the largest device (large) has 20,000 MiB; --gpus none runs it "
        "without"
    )


def test_what_a_network_takes_of_a_gpu_is_estimated_from_what_it_takes_of_a_cpu() -> None:
    assert gpu_estimate(None) is None
    assert gpu_estimate(500.0) == 500.0 + CONTEXT_MB


def test_a_suite_on_two_devices(bench, tmp_path: Path) -> None:
    """The first cells have a device each; what they took lets two of their like share one, and no third."""
    write(tmp_path / "gpus.toml", SUITE)
    seen = tmp_path / "seen"
    done = bench(
        "run", "--suite", "gpus.toml", "--no-track", "--workers", "8", GPUS=str(seen),
        PATH=f"{STAND_INS}{os.pathsep}{os.environ['PATH']}",
        PYTHONPATH=os.pathsep.join(map(str, (ROOT, TESTS, STAND_INS))),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 at a time, 1 thread each, on 2 GPUs" in done.stdout
    rows = [line.split() for line in seen.read_text().splitlines()]
    assert {device for device, *_ in rows} == {"GPU-aaaa", "GPU-bbbb"}
    assert len(rows) == 6
    beside = [int(line) for line in (tmp_path / "seen.beside").read_text().split()]
    assert max(beside) == 2
    costs = {p.parent.name: json.loads(p.read_text()) for p in tmp_path.glob("bench-store/cells/*/cost.json")}
    for key, cost in costs.items():
        if "copycat" in key:
            assert "gpu" not in cost
            assert "gpu_memory_mb" not in cost["phases"]["fit"]
        else:
            assert cost["gpu"] == "Stand-in 10"
            assert cost["phases"]["fit"]["gpu_memory_mb"] == 3_000
            assert cost["phases"]["fit"]["gpu_percent"] == 80
