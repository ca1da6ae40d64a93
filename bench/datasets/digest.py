"""The SHA-256 of a data file, remembered while the file stays as it is: hashing CHARTEVENTS takes a minute."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

LARGE = 1 << 28  # bytes from which a hash is remembered beyond this process
_hashed: dict[str, str] = {}
_memo: list[Path] = []  # the file of hashes, once a store is open


def remember_in(path: Path) -> None:
    """Keep hashes of large files in this file, for other processes and later runs."""
    _memo[:] = [path]


def sha256(path: Path) -> str:
    """The SHA-256 of a file; of one whose size, time and inode have not changed, as it was found before."""
    stat = path.stat()
    key = f"{path.absolute()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"
    if key not in _hashed and stat.st_size >= LARGE:
        _hashed.update(_kept())
    if key not in _hashed:
        with path.open("rb") as stream:
            _hashed[key] = hashlib.file_digest(stream, "sha256").hexdigest()
        if stat.st_size >= LARGE:
            _keep(key)
    return _hashed[key]


def _kept() -> dict[str, str]:
    try:
        return json.loads(_memo[0].read_text()) if _memo else {}
    except (OSError, ValueError):  # none yet, or half written: hashed anew
        return {}


def _keep(key: str) -> None:
    if not _memo or not _memo[0].parent.is_dir():
        return
    new = _memo[0].with_name(f".{_memo[0].name}.{os.getpid()}.part")
    new.write_text(json.dumps({**_kept(), key: _hashed[key]}))
    new.replace(_memo[0])
