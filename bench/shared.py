"""What all cells of one split have in common, kept: arrays that follow from train and holdout alone.

Judges fitted on train, and the controls beside augmentation, are the same whatever the generator; each is fitted by the
first cell that asks. A folder belongs to one split and one state of the code, so that nothing stale is ever read.
"""

from __future__ import annotations

import hashlib
import importlib.metadata as metadata
import json
import os
from functools import cache
from pathlib import Path
from uuid import uuid4

import numpy as np

from bench import machine
from bench.cell import Cell

LIBRARIES = ("numpy", "pandas", "scikit-learn", "xgboost", "torch")
ROOMS = ("metrics", "generators")  # whose code decides what is kept


class Shared:
    """Arrays by name in a folder, one file a name; what cannot be read is made again by whoever asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, name: str) -> tuple[np.ndarray, ...] | None:
        """The arrays kept under a name, None where there are none that can be read."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            kept = load(self._path(name).read_bytes())
        except (OSError, SafetensorError):
            return None
        return tuple(kept[str(i)] for i in range(len(kept)))

    def put(self, name: str, arrays: tuple[np.ndarray, ...]) -> None:
        """Keep arrays under a name, in one step. Raises OSError where the disk is full."""
        from safetensors.numpy import save

        self.folder.mkdir(parents=True, exist_ok=True)
        new = self.folder / f".{uuid4().hex[:8]}.part"
        try:
            new.write_bytes(save({str(i): np.asarray(a, order="C") for i, a in enumerate(arrays)}))
            os.replace(new, self._path(name))
        finally:
            new.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:20]}.safetensors"


def split_key(cell: Cell) -> str:
    """A name for the split of a cell and for the code that reads it; a file name."""
    decides = [cell.dataset, cell.data, cell.split, cell.replicate, cell.threads, code()]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:20]


@cache
def code() -> str:
    """A digest of the code and the libraries that kept arrays depend on."""
    versions = "".join(metadata.version(name) for name in LIBRARIES)
    return hashlib.sha256(f"{machine.code(ROOMS)}{versions}".encode()).hexdigest()
