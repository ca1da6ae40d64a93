"""The SHA-256 of data files, remembered while they stay as they are: hashing CHARTEVENTS takes a minute."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

LARGE = 1 << 28  # bytes from which a hash is remembered beyond this process
_hashed: dict[str, str] = {}
_memo: list[Path] = []  # the file of hashes, once a store is open


def remember_in(path: Path) -> None:
    """Keep hashes of what is large in this file, for other processes and later runs."""
    _memo[:] = [path]


def sha256(path: Path) -> str:
    """The SHA-256 of a file, or of a folder's files with their names, as it was found before where nothing changed."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    stats = [p.stat() for p in files]
    marks = [f"{p} {s.st_size} {s.st_mtime_ns} {s.st_ino}" for p, s in zip(files, stats, strict=True)]
    key = f"{path.absolute()} {hashlib.sha256(json.dumps(marks).encode()).hexdigest()}"
    large = sum(s.st_size for s in stats) >= LARGE
    if key not in _hashed and large:
        _hashed.update(_kept())
    if key not in _hashed:
        _hashed[key] = _of_folder(path, files) if path.is_dir() else _of_file(path)
        if large:
            _keep(key)
    return _hashed[key]


def _of_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _of_folder(path: Path, files: list[Path]) -> str:
    names = [[str(p.relative_to(path)), _of_file(p)] for p in files]
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()


def _kept() -> dict[str, str]:
    try:
        kept = json.loads(_memo[0].read_text()) if _memo else {}
    except (OSError, ValueError):  # none yet, or torn: hashed anew
        return {}
    return kept if isinstance(kept, dict) else {}


def _keep(key: str) -> None:
    if not _memo or not _memo[0].parent.is_dir():
        return
    new = _memo[0].with_name(f".{_memo[0].name}.{os.getpid()}.part")
    new.write_text(json.dumps({**_kept(), key: _hashed[key]}))
    new.replace(_memo[0])
