"""Stands in for NVIDIA's library on a machine without a GPU: devices and processes as the file named by GPUS says.

Each line of the file is "device pid MiB": a process that says it holds so much of a device's memory.
"""

import os
from pathlib import Path
from types import SimpleNamespace

MIB = 2**20


class NVMLError(Exception):
    pass


def nvmlInit():
    if "GPUS" not in os.environ:
        raise NVMLError("no driver")


def nvmlDeviceGetHandleByUUID(uuid):
    return uuid


def nvmlDeviceGetMemoryInfo(handle):
    return SimpleNamespace(used=sum(p.usedGpuMemory for p in nvmlDeviceGetComputeRunningProcesses(handle)))


def nvmlDeviceGetComputeRunningProcesses(handle):
    path = Path(os.environ["GPUS"])
    rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [
        SimpleNamespace(pid=int(pid), usedGpuMemory=int(mib) * MIB)
        for device, pid, mib in rows
        if device == handle and Path(f"/proc/{pid}").exists()
    ]


def nvmlDeviceGetUtilizationRates(handle):
    return SimpleNamespace(gpu=80)
