"""What a result was made with: versions, processor, memory."""

import hashlib
import importlib.metadata as metadata
import os
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

PACKAGES = (
    "synth-health-bench numpy pandas pyarrow scipy scikit-learn xgboost imbalanced-learn torch optuna mlflow".split()
)
ROOMS = ("bench", "generators", "metrics", "leaderboards")


@cache
def code(rooms: tuple[str, ...] = ROOMS) -> str:
    """A digest of the source of rooms."""
    digest = hashlib.sha256()
    for room in rooms:
        for path in sorted((Path(__file__).parent.parent / room).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def environment() -> dict[str, Any]:
    """Versions and hardware; nothing that names the machine or its user."""
    import psutil

    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "gpus": gpus(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def gpus() -> list[str]:
    """Names of the NVIDIA GPUs here."""
    if not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout.split("\n")[:-1] if done.returncode == 0 else []


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"
