"""The GPUs of this machine: which cells share one, and what they take of it, sampled from outside by NVML.

Memory a cell needs is what its like took before, or is estimated as what it takes on a CPU with the context of a
process added. Without the extra `gpu` nothing is sampled, and a device takes one cell at a time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.errors import BenchError, unknown

MIB = 2**20
SHARE = 0.95  # of a device's memory that cells are planned into
CONTEXT_MB = 600.0  # of a process that uses a device
MARGIN = 1.1  # over what a cell was seen to take: it is looked at now and then only
NONE = ("", "none")


@dataclass(frozen=True)
class Device:
    """A GPU. id: its index. uuid: what pins a process to it. memory_mb: all of its memory."""

    id: str
    uuid: str
    name: str
    memory_mb: float


def devices(asked: str) -> list[Device]:
    """The GPUs that were asked for: "all" that are visible here, "none", or indices ("0,1"); BenchError on others."""
    if asked in NONE:
        return []
    here = {d.id: d for d in _visible()}
    if asked == "all":
        return list(here.values())
    wanted = [part.strip() for part in asked.split(",") if part.strip()]
    for one in wanted:
        if one not in here:
            raise unknown("GPU", one, here)
    if len(set(wanted)) < len(wanted):
        raise BenchError(f"--gpus {asked}: one stands twice")
    return [here[one] for one in wanted]


def _visible() -> list[Device]:
    """The devices that this process may use."""
    found = _found()
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return found
    names = [part.strip() for part in allowed.split(",") if part.strip()]
    by = {d.id: d for d in found} | {d.uuid: d for d in found}
    return [by[name] for name in names if name in by]


def _found() -> list[Device]:
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    if done.returncode:
        return []
    rows = [[x.strip() for x in line.split(",")] for line in done.stdout.splitlines() if line.strip()]
    return [Device(i, uuid, name, float(total)) for i, uuid, name, total in rows]


def gpu_estimate(memory_mb: float | None) -> float | None:
    """Memory of a GPU that a cell takes which takes so much of a CPU's, MiB; None where that is not known."""
    return None if memory_mb is None else memory_mb + CONTEXT_MB


def peak_mb(phases: Mapping[str, Mapping[str, float]]) -> float | None:
    """The most that a cell's phases took of a GPU, MiB, with a margin; None where that was not seen."""
    seen = [p["gpu_memory_mb"] for p in phases.values() if "gpu_memory_mb" in p]
    return MARGIN * max(seen) if seen else None


class Meter:
    """What devices and the processes on them take; silent where NVML is absent."""

    def __init__(self) -> None:
        self.nvml: Any = None
        self.handles: dict[str, Any] = {}
        try:
            import pynvml

            pynvml.nvmlInit()
            self.nvml = pynvml
        except Exception:  # the extra is not installed, or there is no driver
            return

    def used_mb(self, device: Device, pids: Iterable[int] = ()) -> float | None:
        """Memory of a device in use, by these processes where some are named; None where that cannot be known."""
        if self.nvml is None:
            return None
        try:
            if not (wanted := set(pids)):
                return self.nvml.nvmlDeviceGetMemoryInfo(self._handle(device)).used / MIB
            seen = self.nvml.nvmlDeviceGetComputeRunningProcesses(self._handle(device))
            mine = [p.usedGpuMemory for p in seen if p.pid in wanted]
            return sum(mine) / MIB if mine and None not in mine else None
        except self.nvml.NVMLError:
            return None

    def busy_percent(self, device: Device) -> float | None:
        """Share of the last moment in which a kernel ran on a device; None where that cannot be known."""
        if self.nvml is None:
            return None
        try:
            return float(self.nvml.nvmlDeviceGetUtilizationRates(self._handle(device)).gpu)
        except self.nvml.NVMLError:
            return None

    def _handle(self, device: Device) -> Any:
        if device.id not in self.handles:
            self.handles[device.id] = self.nvml.nvmlDeviceGetHandleByUUID(device.uuid)
        return self.handles[device.id]


class Sharing:
    """Which running cells are on which device. One whose need is not known (None), or is estimated at more than a
    device has, has a device to itself."""

    def __init__(self, devices: list[Device], meter: Meter) -> None:
        self.devices, self.meter = devices, meter
        self.held: dict[str, dict[str, float]] = {d.id: {} for d in devices}  # device -> cell -> MiB

    def too_large(self, need_mb: float | None) -> str:
        """Why a cell that needs so much at least fits on no device; "" where it may."""
        largest = max(self.devices, key=lambda d: d.memory_mb)
        if need_mb is None or need_mb <= SHARE * largest.memory_mb:
            return ""
        return (
            f"it needs {need_mb:,.0f} MiB of GPU memory at least, the largest device ({largest.name}) has "
            f"{largest.memory_mb:,.0f} MiB; --gpus none runs it without"
        )

    def place(self, need_mb: float | None) -> Device | None:
        """The device with the most room that takes a cell now; None where none does."""
        room = {d.id: self._room(d) for d in self.devices}
        found = [d for d in self.devices if self._takes(d, need_mb, room[d.id])]
        return max(found, key=lambda d: room[d.id], default=None)

    def take(self, device: Device, key: str, need_mb: float | None) -> None:
        """A cell is on a device from now on."""
        self.held[device.id][key] = device.memory_mb if need_mb is None else need_mb

    def give_back(self, device: Device, key: str, still_mb: float | None = 0.0) -> None:
        """A cell has done its work on a device, and keeps so much of it until it ends; None: not known, all it had."""
        if still_mb is not None:
            self.held[device.id][key] = still_mb
        if still_mb == 0.0:
            del self.held[device.id][key]

    def _takes(self, device: Device, need_mb: float | None, room: float) -> bool:
        if need_mb is None or need_mb > SHARE * device.memory_mb or self.meter.nvml is None:
            return not self.held[device.id]
        return need_mb <= room

    def _room(self, device: Device) -> float:
        """Memory that neither cells of ours have been given nor others use, MiB."""
        ours = sum(self.held[device.id].values())
        used = 0.0 if self.held[device.id] else self.meter.used_mb(device) or 0.0
        return SHARE * device.memory_mb - max(ours, used)
