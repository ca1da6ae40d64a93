"""Files fetched over http and https: resumed where they broke off, checked, and in place only when whole.

What has come of NAME is `.NAME.part` beside it, and whose bytes these are `.NAME.part.json`; both are gone once NAME is
in place. One process at a time fetches a file (flock on the part).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib import request
from urllib.error import HTTPError
from urllib.parse import urlsplit

from bench.errors import BenchError
from bench.whole import reason, sha256

CHUNK = 1 << 20
LONGEST_WAIT_S = 60.0
Report = Callable[[str, int, int | None], None]


class FetchError(BenchError):
    """A file cannot be fetched. The message says why, what is kept, and what to do."""


class _Again(Exception):
    """An attempt broke off and may be repeated, not before `wait_s`."""

    def __init__(self, why: str, wait_s: float = 0.0) -> None:
        super().__init__(why)
        self.wait_s = wait_s


def quiet(name: str, have: int, total: int | None) -> None:
    """The report of a fetch that tells nobody."""


def fetch(
    urls: Mapping[str, str], known: Mapping[str, str | None], folder: Path, *, report: Report = quiet,
    timeout_s: float = 30.0, tries: int = 5, wait_s: float = 1.0,
) -> dict[str, str]:  # fmt: skip
    """Fetch files (name -> URL) into `folder`, made where it is absent. Gives name -> "fetched" or "was there".

    known: name -> sha256, where it is known. A file in place is never written to. report: called with a name, its
    bytes so far, and its bytes in all (None where the server does not say). timeout_s: how long a server may send
    nothing. tries: attempts in a row that may bring nothing new; the wait between them doubles from wait_s.

    Raises FetchError where a name or URL is not lawful, a file in place has another checksum, the server refuses or
    sends other bytes, the disk is full, another process fetches the file, or the tries are used up.
    """
    for name, url in urls.items():
        if not name or Path(name).name != name or name.startswith(".") or "\\" in name:
            raise FetchError(f"file name '{name}' is not a plain name: expected no path and no leading dot")
        if urlsplit(url).scheme not in ("http", "https"):
            raise FetchError(f"{name}: {url} is not an http or https address")
    made = not folder.exists()
    try:
        there = {name for name in urls if _in_place(folder / name, known.get(name))}
        folder.mkdir(parents=True, exist_ok=True)
        for name in (n for n in urls if n not in there):
            _File(name, urls[name], known.get(name), folder, report, timeout_s).fetch(tries, wait_s)
    except OSError as error:
        raise FetchError(
            f"{error.filename or folder}: {reason(error)}; what has come of a file is kept: fetch again to go on"
        ) from error
    finally:
        if made:
            with suppress(OSError):
                folder.rmdir()  # an empty one would pass for a dataset with its files missing
    return {name: "was there" if name in there else "fetched" for name in urls}


def _in_place(path: Path, known: str | None) -> bool:
    """True where a file is in place. Raises FetchError where it is not the known one."""
    if not os.path.lexists(path):
        return False
    found = sha256(path) if known else None
    if found != known:
        raise FetchError(
            f"{path} is another file: found sha256 {str(found)[:16]}, expected {str(known)[:16]}; it is left as it is: "
            "move it away to have it fetched"
        )
    return True


class _Part:
    """What has come of a file: its bytes, their hash, and the origin (url, stamp, total) they are from."""

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self.path, self.stream, self.note = path, stream, path.with_name(f"{path.name}.json")
        self.have, self.hash = 0, hashlib.sha256()
        while chunk := stream.read(CHUNK):
            self._count(chunk)
        self.furthest = self.have
        try:
            self.origin: dict[str, Any] = dict(json.loads(self.note.read_text()))
        except (OSError, ValueError, TypeError):
            self.origin = {}

    def add(self, chunk: bytes) -> None:
        """Append bytes."""
        left = memoryview(chunk)
        while left:  # unbuffered: a write may be short
            written = self.stream.write(left)
            self._count(left[:written])
            left = left[written:]
        self.furthest = max(self.furthest, self.have)

    def anew(self, **origin: Any) -> None:
        """Begin with no bytes, from this origin."""
        self.stream.truncate(0)
        self.have, self.hash, self.origin = 0, hashlib.sha256(), origin
        self.note.write_text(json.dumps(origin))

    def remove(self) -> None:
        """Keep nothing."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def _count(self, chunk: bytes | memoryview) -> None:
        self.hash.update(chunk)
        self.have += len(chunk)


@contextmanager
def _held(path: Path) -> Iterator[_Part]:
    """A part held alone; one without bytes is removed. Raises FetchError where another process holds it."""
    with path.open("a+b", buffering=0) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.path.samestat(os.fstat(stream.fileno()), path.stat())
        except (BlockingIOError, FileNotFoundError):
            ours = False
        if not ours:  # held, or put in place since it was opened
            raise FetchError(f"{path.name[1:-5]}: another process is fetching it into {path.parent}")
        stream.seek(0)
        part = _Part(path, stream)
        try:
            yield part
        finally:
            if not part.have:
                part.remove()


@dataclass(frozen=True)
class _File:
    """One file to fetch."""

    name: str
    url: str
    known: str | None
    folder: Path
    report: Report
    timeout_s: float

    def fetch(self, tries: int, wait_s: float) -> None:
        """Attempts until it is in place. Raises FetchError."""
        with _held(self.folder / f".{self.name}.part") as part:
            failed = 0
            while not (self.known and part.hash.hexdigest() == self.known):
                furthest = part.furthest
                try:
                    self._attempt(part)
                    break
                except _Again as again:
                    failed = 0 if part.furthest > furthest else failed + 1
                    if failed >= tries:
                        kept = (
                            f"{part.have:,} bytes are kept: fetch again to go on" if part.have else "nothing has come"
                        )
                        raise self._error(f": {again}, {failed} times; {kept}") from again
                    time.sleep(min(max(wait_s * 2 ** max(failed - 1, 0), again.wait_s), LONGEST_WAIT_S))
            self._finish(part)

    def _attempt(self, part: _Part) -> None:
        """Ask for what is missing and take it. Raises _Again where it breaks off."""
        stamp = part.origin.get("stamp")
        if part.have and (part.origin.get("url") != self.url or not (stamp or self.known)):
            part.anew()  # nothing says that more bytes would be of the same file
        asked = {"User-Agent": "synth-health-bench"}
        if part.have:
            asked |= {"Range": f"bytes={part.have}-"} | ({"If-Range": stamp} if stamp else {})
        with self._open(asked) as answer:
            begin, end, total = _span(answer)
            fits = begin == part.have > 0 and _same(answer, total, part.origin)
            if answer.status == 416 and fits and not self.known:
                return  # all has come
            if answer.status == 200 or (answer.status == 206 and fits):
                return self._take(part, answer, end, total)
            if not part.have or answer.status not in (206, 416):
                self._refused(answer)
        part.anew()
        self._attempt(part)

    def _open(self, headers: dict[str, str]) -> Any:
        """The answer, whatever its status. Raises _Again where there is none."""
        opener = request.OpenerDirector()  # that of build_opener opens ftp: too
        for handler in (
            request.ProxyHandler, request.UnknownHandler, request.HTTPHandler, request.HTTPSHandler,
            request.HTTPDefaultErrorHandler, request.HTTPRedirectHandler, request.HTTPErrorProcessor,
        ):  # fmt: skip
            opener.add_handler(handler())
        try:
            return opener.open(request.Request(self.url, headers=headers), timeout=self.timeout_s)
        except HTTPError as error:
            return error
        except (OSError, HTTPException) as error:
            raise self._again(error) from error

    def _take(self, part: _Part, answer: Any, end: int | None, total: int | None) -> None:
        """Append an answer's bytes, up to `end` where it is known."""
        if answer.headers.get_content_type() == "text/html" and Path(self.name).suffix not in (".html", ".htm"):
            raise self._error(" answered with a web page (a login?), not with data")
        if end is None and not answer.chunked and not self.known:
            raise self._error(" does not say how long the file is, nor is a checksum known that shows it whole")
        if answer.status == 200:
            part.anew(url=self.url, stamp=_stamp(answer.headers), total=total)
        missing, free = (total or 0) - part.have, shutil.disk_usage(self.folder).free
        if missing > free:
            raise FetchError(f"{self.name}: {missing:,} bytes are to come, {self.folder} has {free:,} bytes free")
        self.report(self.name, part.have, total)
        while end is None or part.have < end:
            try:
                chunk = answer.read1(min(CHUNK, CHUNK if end is None else end - part.have))
            except (OSError, HTTPException) as error:
                raise self._again(error) from error
            if not chunk:
                break
            part.add(chunk)
            self.report(self.name, part.have, total)
        if total is not None and part.have < total:
            raise _Again(f"broke off at {part.have:,} of {total:,} bytes")

    def _finish(self, part: _Part) -> None:
        """Check the bytes and put the file in place."""
        found = part.hash.hexdigest()
        if self.known and found != self.known:
            part.remove()
            raise self._error(f" sent another file: found sha256 {found[:16]}, expected {self.known[:16]}; "
                              "nothing was kept")  # fmt: skip
        os.fsync(part.stream.fileno())
        if os.path.lexists(self.folder / self.name):
            raise FetchError(f"{self.folder / self.name} has come there meanwhile; it was left as it is")
        part.path.rename(self.folder / self.name)
        part.note.unlink(missing_ok=True)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self.report(self.name, part.have, part.have)

    def _refused(self, answer: Any) -> None:
        """Raise what an answer without data means: _Again where it may pass."""
        if answer.status >= 500 or answer.status in (408, 425, 429):
            raise _Again(f"answered {answer.status}", _asked_to_wait(answer.headers.get("Retry-After", "")))
        raise self._error(f" answered {answer.status}")

    def _again(self, error: Exception) -> _Again:
        cause = getattr(error, "reason", error)
        if isinstance(cause, TimeoutError):
            return _Again(f"no byte in {self.timeout_s:g} s")
        return _Again(getattr(cause, "strerror", None) or str(cause) or type(cause).__name__)

    def _error(self, what: str) -> FetchError:
        return FetchError(f"{self.name}: {self.url}{what}; else put {self.name} into {self.folder} by hand")


def _span(answer: Any) -> tuple[int | None, int | None, int | None]:
    """Where an answer's bytes begin and end, and how many there are in all."""
    if answer.status == 200:
        return 0, answer.length, answer.length
    match = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", answer.headers.get("Content-Range", "").strip())
    if not match:
        return None, None, None
    total = None if match[3] == "*" else int(match[3])
    return (total, total, total) if match[1] is None else (int(match[1]), int(match[2]) + 1, total)


def _same(answer: Any, total: int | None, origin: Mapping[str, Any]) -> bool:
    """Whether an answer is of the file that a part is of, as far as it says."""
    pairs = ((_stamp(answer.headers), origin.get("stamp")), (total, origin.get("total")))
    return all(new is None or old is None or new == old for new, old in pairs)


def _stamp(headers: Any) -> str | None:
    """What names a version of a file in If-Range: a strong ETag, else the time of its last change."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified")


def _asked_to_wait(text: str) -> float:
    """Seconds that a Retry-After asks for: a number or a date."""
    if text.strip().isdecimal():
        return float(text)
    try:
        return parsedate_to_datetime(text).timestamp() - time.time()
    except (TypeError, ValueError):
        return 0.0
