"""Files and folders written whole or not at all, and checked when they are read.

A stage is a folder written under a temporary name and renamed; its stage.json holds the SHA-256 of each file. A file is
replaced by renaming.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from bench.errors import BenchError

if TYPE_CHECKING:
    import pandas as pd


class StoreError(BenchError):
    """The store cannot be read or written."""


class Damaged(StoreError):
    """A stored file is not what was written."""


@contextmanager
def stage(folder: Path) -> Iterator[Path]:
    """A folder to write into that becomes `folder` when the block ends well, and is gone when it does not."""
    with _new(folder) as new:
        yield new
        hashes = {p.name: sha256(p) for p in sorted(new.iterdir())}
        write_json(new / "stage.json", hashes)


def take_over(folder: Path, files: Mapping[str, bytes]) -> None:
    """A stage that was made elsewhere, by its files' names. Raises Damaged where a file is not what was written."""
    with _new(folder) as new:
        for name, content in files.items():
            (new / name).write_bytes(content)
        check_stage(new)


@contextmanager
def _new(folder: Path) -> Iterator[Path]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = folder.parent / f".{folder.name}.{uuid4().hex[:8]}.part"
    _sweep(folder)
    try:
        new.mkdir(mode=0o700)
        yield new
        if folder.exists():
            shutil.rmtree(folder)
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def check_stage(folder: Path) -> bool:
    """True for a whole stage, False for one that is not there. Raises Damaged where a file is not what was written."""
    if not folder.exists():
        return False
    try:
        hashes = json.loads((folder / "stage.json").read_text())
        bad = [name for name, digest in hashes.items() if sha256(folder / name) != digest]
    except (OSError, ValueError):
        bad = ["stage.json"]
    if bad:
        raise Damaged(f"{folder / bad[0]} is damaged: remove {folder} (or use --retry failed) to have it made again")
    return True


def read_parquet(path: Path) -> pd.DataFrame:
    """A stored table. Raises Damaged where it cannot be read."""
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise Damaged(f"{path} is damaged: {type(error).__name__}") from error


def write_text(path: Path, text: str) -> None:
    """Replace a text file in one step."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file in one step."""
    new = path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
    try:
        new.write_bytes(content)
        try:
            os.replace(new, path)
        except FileNotFoundError:  # taken for what a killed process left (`Store.tidy`)
            new.write_bytes(content)
            os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file in one step."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def reason(error: BaseException) -> str:
    """The short reason of an OSError, else its class."""
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else type(error).__name__


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises Damaged where it cannot be read."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Damaged(f"{path} is damaged: remove it to have it made again") from error


def _sweep(folder: Path) -> None:
    """Remove what killed processes left of this stage; its owner holds the lock, so nobody else is writing it."""
    for old in folder.parent.glob(f".{folder.name}.*.part"):
        shutil.rmtree(old, ignore_errors=True)


def sha256(path: Path) -> str:
    """A digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
