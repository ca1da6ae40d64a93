"""Fetching files from a real server that breaks off, stalls, lies and refuses; killed, with a full disk; the verb."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bench.data_verbs import data_app, fetch_source
from bench.datasets import Dataset
from bench.datasets.fetch import FetchError, fetch
from bench.datasets.name import Name
from bench.datasets.source import Source
from bench.errors import BenchError
from conftest import environment, write

BODY = bytes(hashlib.shake_256(b"a file").digest(3_000_000))
SHA = hashlib.sha256(BODY).hexdigest()
QUICK: dict[str, Any] = {"timeout_s": 0.3, "wait_s": 0.01, "tries": 3}
CHILD = "import sys; from pathlib import Path; from bench.datasets.fetch import fetch\n"


class Asked(BaseHTTPRequestHandler):
    """One request: answered by the site's next act, else lawfully."""

    server: "Site"

    def do_GET(self) -> None:
        self.server.asked.append({"path": self.path} | {k.lower(): v for k, v in self.headers.items()})
        (self.server.acts.pop(0) if self.server.acts else lawful)(self)

    def head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class Site(ThreadingHTTPServer):
    """A server of one file, with a script of misdeeds."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.body, self.stamps = BODY, {"ETag": '"v1"'}
        self.acts: list[Callable[[Asked], None]] = []
        self.asked: list[dict[str, str]] = []
        self.over = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/file"

    def ranges(self) -> list[str | None]:
        return [asked.get("range") for asked in self.asked]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is meant."""


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        served.over.set()
        served.shutdown()
        thread.join()


def start_of(asked: Asked) -> int:
    """Where an answer begins: as asked, where If-Range holds."""
    found = re.fullmatch(r"bytes=(\d+)-", asked.headers.get("Range", ""))
    holds = asked.headers.get("If-Range") in (None, *asked.server.stamps.values())
    return int(found[1]) if found and holds else 0


def lawful(asked: Asked, keep: float = 1.0, **more: object) -> None:
    """As RFC 9110 has it; keep: the share of the promised bytes that is sent."""
    body, start = asked.server.body, start_of(asked)
    headers: dict[str, object] = {**asked.server.stamps, **more}
    if start >= len(body):
        return asked.head(416, Content_Range=f"bytes */{len(body)}")
    if start:
        headers["Content_Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
    asked.head(206 if start else 200, Content_Length=len(body) - start, **headers)
    asked.wfile.write(body[start : start + int(keep * (len(body) - start))])


def breaks_off(asked: Asked) -> None:
    lawful(asked, keep=0.5)


def stalls(asked: Asked) -> None:
    lawful(asked, keep=0.5)
    asked.wfile.flush()
    asked.server.over.wait(20)


def silent(asked: Asked) -> None:
    asked.server.over.wait(20)


def ignores_ranges(asked: Asked) -> None:
    del asked.headers["Range"]
    lawful(asked)


def begins_elsewhere(asked: Asked) -> None:
    asked.head(206, Content_Range=f"bytes 5-{len(BODY) - 1}/{len(BODY)}", Content_Length=len(BODY) - 5)
    asked.wfile.write(BODY[5:])


def answers(status: int, text: bytes = b"", **headers: object) -> Callable[[Asked], None]:
    def act(asked: Asked) -> None:
        asked.head(status, Content_Length=len(text), **headers)
        asked.wfile.write(text)

    return act


def chunked(asked: Asked, end: bytes = b"0\r\n\r\n") -> None:
    asked.protocol_version = "HTTP/1.1"
    asked.head(200, Transfer_Encoding="chunked")
    for i in range(0, len(BODY), 1_000_000):
        asked.wfile.write(b"%x\r\n" % 1_000_000 + BODY[i : i + 1_000_000] + b"\r\n")
    asked.wfile.write(end)
    asked.close_connection = True


def endless(asked: Asked) -> None:
    asked.head(200)
    asked.wfile.write(BODY)


def get(site: Site, folder: Path, known: str | None = SHA, **more: Any) -> dict[str, str]:
    return fetch({"a.bin": site.url}, {"a.bin": known}, folder, **{**QUICK, **more})


def fails(site: Site, folder: Path, known: str | None = SHA, **more: Any) -> str:
    """The one line of a fetch that fails."""
    with pytest.raises(FetchError) as error:
        get(site, folder, known, **more)
    assert "\n" not in str(error.value)
    return str(error.value)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def half_come(site: Site, folder: Path, known: str | None = SHA) -> int:
    """Leave a part behind: its size."""
    site.acts = [breaks_off, answers(404)]
    fails(site, folder, known)
    assert names(folder) == [".a.bin.part", ".a.bin.part.json"]
    site.asked.clear()
    return (folder / ".a.bin.part").stat().st_size


# --- what comes is whole ---


@pytest.mark.parametrize("known", [SHA, None])
def test_a_file_comes_whole_and_once(site: Site, tmp_path: Path, known: str | None) -> None:
    folder, told = tmp_path / "data" / "set", []
    assert get(site, folder, known, report=lambda *call: told.append(call)) == {"a.bin": "fetched"}
    assert names(folder) == ["a.bin"]
    assert (folder / "a.bin").read_bytes() == BODY
    assert get(site, folder, known) == {"a.bin": "was there"}
    assert site.ranges() == [None]
    have = [bytes_so_far for _, bytes_so_far, _ in told]
    assert have == sorted(have)
    assert told[0] == ("a.bin", 0, len(BODY))
    assert told[-1] == ("a.bin", len(BODY), len(BODY))


def test_several_files_and_only_those_missing(site: Site, tmp_path: Path) -> None:
    (tmp_path / "b.bin").write_bytes(b"mine")
    done = fetch({"a.bin": site.url, "b.bin": site.url}, {"a.bin": SHA}, tmp_path, **QUICK)
    assert done == {"a.bin": "fetched", "b.bin": "was there"}
    assert (tmp_path / "b.bin").read_bytes() == b"mine"


def test_a_file_of_no_bytes_comes_too(site: Site, tmp_path: Path) -> None:
    site.body = b""
    site.acts = [answers(200)]
    get(site, tmp_path, None)
    assert names(tmp_path) == ["a.bin"]


def test_a_redirect_is_followed_with_its_range(site: Site, tmp_path: Path) -> None:
    half = half_come(site, tmp_path)
    site.acts = [answers(302, Location="/elsewhere")]
    get(site, tmp_path)
    assert [asked["path"] for asked in site.asked] == ["/file", "/elsewhere"]
    assert site.ranges() == [f"bytes={half}-"] * 2


def test_only_the_web_is_asked(site: Site, tmp_path: Path) -> None:
    site.acts = [answers(302, Location="ftp://127.0.0.1/a.bin")] * 3
    assert "unknown url type: ftp" in fails(site, tmp_path)
    for url in ("file:///etc/hostname", "ftp://127.0.0.1/a.bin", "/etc/hostname"):
        with pytest.raises(FetchError, match="is not an http or https address"):
            fetch({"a.bin": url}, {}, tmp_path)


@pytest.mark.parametrize("name", ["../a.bin", "a/b.bin", "/a.bin", "", ".", "..", ".a.bin", "a\\b"])
def test_files_land_in_the_folder_only(site: Site, tmp_path: Path, name: str) -> None:
    with pytest.raises(FetchError, match="is not a plain name"):
        fetch({name: site.url}, {}, tmp_path / "in")
    assert names(tmp_path) == []
    assert site.asked == []


# --- going on where it broke off ---


@pytest.mark.parametrize("known", [SHA, None])
def test_a_broken_connection_is_gone_on_with(site: Site, tmp_path: Path, known: str | None) -> None:
    told: list[int] = []
    site.acts = [breaks_off, breaks_off, breaks_off, breaks_off]  # more than the tries: each brought something
    get(site, tmp_path, known, report=lambda name, have, total: told.append(have))
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert site.ranges() == [None] + [f"bytes={n}-" for n in (1_500_000, 2_250_000, 2_625_000, 2_812_500)]
    assert [asked.get("if-range") for asked in site.asked] == [None] + ['"v1"'] * 4
    assert told == sorted(told)


def test_a_stall_is_gone_on_with(site: Site, tmp_path: Path) -> None:
    site.acts = [stalls, silent]
    get(site, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert site.ranges() == [None, "bytes=1500000-", "bytes=1500000-"]


def test_a_stall_for_ever_is_an_error_and_the_next_fetch_goes_on(site: Site, tmp_path: Path) -> None:
    site.acts = [stalls, silent, silent, silent]
    said = fails(site, tmp_path)
    assert f"a.bin: {site.url}: no byte in 0.3 s, 3 times; 1,500,000 bytes are kept: fetch again to go on" in said
    assert f"put a.bin into {tmp_path} by hand" in said
    get(site, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert site.ranges()[-1] == "bytes=1500000-"
    assert names(tmp_path) == ["a.bin"]


def test_a_killed_fetch_is_gone_on_with_and_two_at_once_are_not_let(site: Site, tmp_path: Path) -> None:
    site.acts = [stalls]
    code = f"{CHILD}fetch({{'a.bin': sys.argv[1]}}, {{}}, Path(sys.argv[2]))"
    child = subprocess.Popen([sys.executable, "-c", code, site.url, str(tmp_path)], env=environment())
    part = tmp_path / ".a.bin.part"
    deadline = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size == 1_500_000):
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.01)
    assert fails(site, tmp_path) == f"a.bin: another process is fetching it into {tmp_path}"
    child.send_signal(signal.SIGKILL)
    child.wait(timeout=20)
    get(site, tmp_path, None)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert site.ranges() == [None, "bytes=1500000-"]
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("known", [SHA, None])
def test_a_part_that_is_all_there_is_not_fetched_again(site: Site, tmp_path: Path, known: str | None) -> None:
    half_come(site, tmp_path, known)
    (tmp_path / ".a.bin.part").write_bytes(BODY)
    get(site, tmp_path, known)
    assert site.ranges() == ([] if known else ["bytes=3000000-"])
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("known", [SHA, None])
def test_a_part_that_is_too_long_is_begun_anew(site: Site, tmp_path: Path, known: str | None) -> None:
    half_come(site, tmp_path, known)
    (tmp_path / ".a.bin.part").write_bytes(BODY + b"!")
    get(site, tmp_path, known)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert site.ranges() == ["bytes=3000001-", None]


@pytest.mark.parametrize(("act", "requests"), [(ignores_ranges, 1), (begins_elsewhere, 2)])
def test_a_server_bad_at_ranges_is_begun_anew(
    site: Site, tmp_path: Path, act: Callable[[Asked], None], requests: int
) -> None:
    half = half_come(site, tmp_path)
    site.acts = [act]
    get(site, tmp_path, tries=1)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert site.ranges() == [f"bytes={half}-", None][:requests]


@pytest.mark.parametrize("heeded", [True, False], ids=["If-Range heeded", "If-Range ignored"])
def test_a_file_changed_meanwhile_is_begun_anew(site: Site, tmp_path: Path, heeded: bool) -> None:
    half = half_come(site, tmp_path, None)
    site.body, site.stamps = BODY[::-1], {"ETag": '"v2"'}

    def ignores_if_range(asked: Asked) -> None:
        del asked.headers["If-Range"]
        lawful(asked)

    site.acts = [] if heeded else [ignores_if_range]
    get(site, tmp_path, None)
    assert (tmp_path / "a.bin").read_bytes() == BODY[::-1]
    assert site.ranges() == ([f"bytes={half}-"] if heeded else [f"bytes={half}-", None])


def test_a_weak_tag_gives_way_to_the_time_of_change(site: Site, tmp_path: Path) -> None:
    site.stamps = {"ETag": 'W/"v1"', "Last-Modified": formatdate(0, usegmt=True)}
    half_come(site, tmp_path, None)
    get(site, tmp_path, None)
    assert site.asked[0]["if-range"] == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert (tmp_path / "a.bin").read_bytes() == BODY


@pytest.mark.parametrize(("known", "resumed"), [(SHA, True), (None, False)])
def test_bytes_that_nothing_vouches_for_are_not_joined(
    site: Site, tmp_path: Path, known: str | None, resumed: bool
) -> None:
    site.stamps = {}
    site.acts = [breaks_off]
    get(site, tmp_path, known)
    assert site.ranges() == [None, "bytes=1500000-" if resumed else None]
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_a_part_of_another_address_or_of_none_is_begun_anew(site: Site, tmp_path: Path) -> None:
    half_come(site, tmp_path)
    (tmp_path / ".a.bin.part.json").write_text(json.dumps({"url": "http://127.0.0.1/other", "stamp": '"v1"'}))
    site.acts = [answers(404)]
    fails(site, tmp_path)
    half_come(site, tmp_path)
    (tmp_path / ".a.bin.part.json").write_text('{"ur')  # killed while writing it
    get(site, tmp_path)
    assert site.ranges() == [None]


# --- what is not whole, or not ours to have ---


@pytest.mark.parametrize("end", [b"0\r\n\r\n", b""], ids=["whole", "cut off"])
def test_chunks_without_a_length(site: Site, tmp_path: Path, end: bytes) -> None:
    site.acts = [lambda asked: chunked(asked, end)]
    told: list[tuple[int, int | None]] = []
    get(site, tmp_path, None, report=lambda name, have, total: told.append((have, total)))
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert told[0] == (0, None)
    assert told[-1] == (len(BODY), len(BODY))
    assert len(site.asked) == (1 if end else 2)


def test_no_length_and_no_checksum_cannot_be_told_whole(site: Site, tmp_path: Path) -> None:
    site.acts = [endless, endless]
    assert "does not say how long the file is" in fails(site, tmp_path, None)
    get(site, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_wrong_bytes_are_not_kept(site: Site, tmp_path: Path) -> None:
    said = fails(site, tmp_path / "in", "0" * 64)
    assert f"found sha256 {SHA[:16]}, expected {'0' * 16}; nothing was kept" in said
    assert names(tmp_path) == []
    assert len(site.asked) == 1


def test_a_file_in_place_is_never_written_to(site: Site, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"mine")
    said = fails(site, tmp_path)
    found = hashlib.sha256(b"mine").hexdigest()[:16]
    assert f"{tmp_path / 'a.bin'} is another file: found sha256 {found}, expected {SHA[:16]}" in said
    assert (tmp_path / "a.bin").read_bytes() == b"mine"
    assert site.asked == []


def test_a_file_put_there_meanwhile_is_never_written_to(site: Site, tmp_path: Path) -> None:
    def puts(asked: Asked) -> None:
        (tmp_path / "a.bin").write_bytes(b"mine")
        lawful(asked)

    site.acts = [puts]
    assert "has come there meanwhile" in fails(site, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == b"mine"


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_taken_at_once(site: Site, tmp_path: Path, status: int) -> None:
    site.acts = [answers(status, b"<html>no</html>", Content_Type="text/html")]
    said = fails(site, tmp_path / "in")
    assert said == f"a.bin: {site.url} answered {status}; else put a.bin into {tmp_path / 'in'} by hand"
    assert len(site.asked) == 1
    assert names(tmp_path) == []


@pytest.mark.parametrize("content", ["text/html", "text/html; charset=utf-8"])
def test_a_login_page_is_not_data(site: Site, tmp_path: Path, content: str) -> None:
    site.acts = [answers(200, b"<html>who are you?</html>", Content_Type=content)]
    assert "answered with a web page (a login?), not with data" in fails(site, tmp_path / "in", None)
    assert names(tmp_path) == []


def test_a_server_at_fault_is_asked_again(site: Site, tmp_path: Path) -> None:
    site.acts = [answers(500), answers(503, Retry_After=formatdate(0, usegmt=True))]
    get(site, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    site.acts = [answers(500), answers(502), answers(503)]
    assert "answered 503, 3 times; nothing has come" in fails(site, tmp_path / "in")
    assert names(tmp_path) == ["a.bin"]


def test_a_server_that_asks_to_wait_is_waited_for(site: Site, tmp_path: Path) -> None:
    site.acts = [answers(429, Retry_After=1)]
    begun = time.monotonic()
    get(site, tmp_path)
    assert time.monotonic() - begun >= 1.0


def test_nobody_there(tmp_path: Path) -> None:
    with Site() as gone:
        pass
    assert "Connection refused, 3 times; nothing has come" in fails(gone, tmp_path / "in")
    assert names(tmp_path) == []


# --- the disk ---


def test_room_is_asked_for_first(site: Site, tmp_path: Path) -> None:
    site.acts = [lambda asked: asked.head(200, Content_Length=10**15)]
    assert "1,000,000,000,000,000 bytes are to come" in fails(site, tmp_path / "in")
    assert names(tmp_path) == []


def test_a_write_that_fails_keeps_what_has_come(site: Site, tmp_path: Path) -> None:
    code = (
        f"{CHILD}import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
        "try: fetch({'a.bin': sys.argv[1]}, {}, Path(sys.argv[2]))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code, site.url, str(tmp_path)], env=environment(), text=True,
                          capture_output=True, check=True, timeout=60)  # fmt: skip
    assert done.stdout.startswith(f"FetchError {tmp_path}: File too large; what has come of a file is kept")
    get(site, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert site.ranges() == [None, "bytes=1000000-"]


def test_a_folder_that_cannot_be_made(site: Site, tmp_path: Path) -> None:
    assert "File exists" in fails(site, write(tmp_path / "file", "text"))
    assert "Not a directory" in fails(site, tmp_path / "file" / "in")


# --- the verb ---


def source(site: Site, *, urls: tuple[str, ...] = ("a.bin",), by_hand: str = "") -> Source:
    row = Dataset(
        "tried", "table", "open", "none", "nowhere", "a dataset of these tests", folders=("tried",),
        files={"a.bin": SHA, "b.bin": None}, urls=dict.fromkeys(urls, site.url), by_hand=by_hand,
    )  # fmt: skip
    return Source(row, Name("tried"), None)


def test_the_verb_fetches_and_says_so(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "not" / "yet"
    for outcome in ("fetched", "was there"):
        fetch_source(source(site, urls=("a.bin", "b.bin")), data)
        said = capsys.readouterr()
        assert [line.split(maxsplit=1)[0] for line in said.out.splitlines()[1:3]] == ["a.bin", "b.bin"]
        assert said.out.count(outcome) == said.out.count("3,000,000") == 2
        assert f"in {data / 'tried'}" in said.out
        assert ("a.bin: 3.0 of 3.0 MB" in said.err) == (outcome == "fetched")
    assert names(data / "tried") == ["a.bin", "b.bin"]


def test_the_verb_draws_bars_on_a_terminal(site: Site, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from bench.data_verbs import _told\n"
        "from bench.datasets.fetch import fetch\n"
        "with _told() as report: fetch({'a.bin': sys.argv[1]}, {}, Path(sys.argv[2]), report=report)"
    )
    done = subprocess.run([sys.executable, "-c", code, site.url, str(tmp_path)], text=True, capture_output=True,
                          env=environment(FORCE_COLOR="1", TERM="xterm"), check=True, timeout=60)  # fmt: skip
    assert re.search(r"a\.bin.*━.*3\.0/3\.0 MB", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", done.stderr))
    assert done.stdout == ""


def test_the_verb_says_what_to_do_by_hand(site: Site, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"tried cannot be fetched by the harness: ask the hospital"):
        fetch_source(source(site, urls=(), by_hand="ask the hospital"), tmp_path)
    with pytest.raises(BenchError, match=r"b\.bin of dataset tried .*: ask the hospital"):
        fetch_source(source(site, by_hand="ask the hospital"), tmp_path)
    assert names(tmp_path / "tried") == ["a.bin"]
    with pytest.raises(BenchError, match="give --data DIR or set BENCH_DATA"):
        fetch_source(source(site), None)


@pytest.mark.parametrize("name", ["sim-ehr", "breast-cancer[rows=100]"])
def test_the_verb_has_nothing_to_fetch(name: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(data_app, ["fetch", name, "--data", str(tmp_path / "data")])
    assert done.exit_code == 0
    assert "nothing to fetch: it comes with the package" in done.output
    assert os.listdir(tmp_path) == []
