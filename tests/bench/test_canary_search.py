"""The search for planted values finds them in every form they may hide in, and nothing where there is none."""

import base64
import gzip
import io
import json
import sqlite3
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from canaries import HOLDOUT, IN_HOLDOUT, IN_TRAIN, PLANTED, TRAIN, leaks, people
from conftest import write


def _sqlite(value: object, folder: Path) -> bytes:
    """A database in write-ahead mode whose second table holds a value, compressed where it is bytes."""
    database = sqlite3.connect(folder / "made.db")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE empty (a)")
    database.execute("CREATE TABLE full (a, b)")
    database.executemany("INSERT INTO full VALUES (?, ?)", [(i, "x") for i in range(500)])
    database.execute("INSERT INTO full VALUES (?, ?)", (value, "x"))
    database.commit()
    database.close()
    return (folder / "made.db").read_bytes()


def _png(kind: bytes, body: bytes) -> bytes:
    """A PNG with one chunk of text."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + head + chunk(kind, body) + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")
    )


def _zip(content: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner", content)
    return made.getvalue()


def _npz(**arrays: np.ndarray) -> bytes:
    made = io.BytesIO()
    np.savez_compressed(made, **arrays)
    return made.getvalue()


TEXT = f"one line\n the level {TRAIN['job']}, of one\n".encode() * 3
ONE = f"data:application/gzip;base64,{base64.b64encode(gzip.compress(TEXT)).decode()}"
LEVEL, FLOAT, COUNT = (canary.name for canary in IN_TRAIN)
NUMBER, TIME = "SUBJECT_ID", "the time of a reading"
HIDDEN: dict[str, Callable[[Path], tuple[bytes, str]]] = {
    "text": lambda _: (TEXT, LEVEL),
    "capitals": lambda _: (TEXT.upper(), LEVEL),
    "UTF-16": lambda _: (TEXT.decode().encode("utf-16"), LEVEL),
    "SQLite": lambda f: (_sqlite(TEXT.decode(), f), LEVEL),
    "a float in SQLite": lambda f: (_sqlite(TRAIN["dose"], f), FLOAT),
    "a count in SQLite": lambda f: (_sqlite(TRAIN["visits"], f), COUNT),
    "a blob in SQLite": lambda f: (_sqlite(zlib.compress(TEXT), f), LEVEL),
    "base64 in SQLite": lambda f: (_sqlite(base64.b64encode(TEXT).decode(), f), LEVEL),
    "gzip": lambda _: (gzip.compress(TEXT), LEVEL),
    "zlib": lambda _: (zlib.compress(TEXT), LEVEL),
    "zip": lambda _: (_zip(gzip.compress(TEXT)), LEVEL),
    "base64": lambda _: (b"<p>" + base64.b64encode(TEXT) + b"</p>", LEVEL),
    "base64 in lines": lambda _: (base64.encodebytes(gzip.compress(TEXT + bytes(range(256)))), LEVEL),
    "base64 for URLs": lambda _: (b"?q=" + base64.urlsafe_b64encode(b"\xff\xfe?" + TEXT), LEVEL),
    "gzip in base64 in HTML": lambda _: (f'<script>let x = "{ONE}";</script>'.encode(), LEVEL),
    "HTML in gzip in base64 in JSON": lambda _: (json.dumps({"a": [ONE]}).encode(), LEVEL),
    "PNG's plain text": lambda _: (_png(b"tEXt", b"Title\0" + TEXT), LEVEL),
    "PNG's compressed text": lambda _: (_png(b"zTXt", b"Title\0\0" + zlib.compress(TEXT)), LEVEL),
    "PNG in base64": lambda _: (base64.b64encode(_png(b"zTXt", b"T\0\0" + zlib.compress(TEXT))), LEVEL),
    "parquet": lambda _: (people().to_parquet(), LEVEL),
    "a float in parquet": lambda _: (people()[["dose"]].to_parquet(), FLOAT),
    "npz of texts": lambda _: (_npz(a=people()["job"].to_numpy(str)), LEVEL),
    "npz of floats": lambda _: (_npz(a=people()["dose"].to_numpy()), FLOAT),
    "npz of single floats": lambda _: (_npz(a=people()["dose"].to_numpy("float32")), FLOAT),
    "npz of counts": lambda _: (_npz(a=people()["visits"].to_numpy()), COUNT),
    **{f"{form} of a float": lambda _, form=form: (f"[1.5, {form.format(TRAIN['dose'])}]".encode(), FLOAT)
       for form in ("{!r}", "{:.6g}", "{:.7g}", "{:.3f}", "{:.5e}", "{:E}")},
    "a single float": lambda _: (str(np.float32(TRAIN["dose"])).encode(), FLOAT),
    **{f"{form} of a count": lambda _, form=form: (f"[15, {form.format(TRAIN['visits'])}]".encode(), COUNT)
       for form in ("{!r}", "{:,}", "{:_}", "{:.6g}", "{:.5e}", "{:.1f}")},
    "a day": lambda _: (b"<td>24 Nov 2107</td>", TIME),
    "a time": lambda _: (b'{"at": "2107-11-24T05:47:31Z"}', TIME),
    "milliseconds of a time": lambda _: (b"[4351556851000]", TIME),
    "a number that begins so": lambda _: (b"patient 7319046210023: no date", NUMBER),
    "a number that begins so in parquet": lambda _: (pd.DataFrame({"a": [1, 7319046210023]}).to_parquet(), NUMBER),
    "npz of numbers": lambda _: (_npz(a=np.array([1, 7319046270007])), NUMBER),
    "a rounded count": lambda _: (f"{round(TRAIN['visits'], -3)}".encode(), COUNT),
    "a count as a single float": lambda _: (f"{np.float32(TRAIN['visits']):.1f}".encode(), COUNT),
}  # fmt: skip


@pytest.mark.parametrize("kind", HIDDEN)
def test_the_search_finds_a_value_that_is_hidden(kind: str, tmp_path: Path) -> None:
    content, name = HIDDEN[kind](tmp_path)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / ".hidden").write_bytes(content)
    assert ("deep/er/.hidden", name) in leaks(tmp_path, PLANTED)
    assert leaks(tmp_path / "deep", PLANTED, apart=[tmp_path / "deep" / "er"]) == []


def test_the_search_finds_a_value_in_a_name(tmp_path: Path) -> None:
    (tmp_path / TRAIN["job"]).mkdir()
    (tmp_path / TRAIN["job"] / "a").write_text("")
    (tmp_path / "b").symlink_to(f"/tmp/{HOLDOUT['job']}")
    found = leaks(tmp_path, PLANTED)
    assert found == [(TRAIN["job"], LEVEL), (f"{TRAIN['job']}/a", LEVEL), ("b", IN_HOLDOUT[0].name)]


def test_the_search_tells_a_value_from_others(tmp_path: Path) -> None:
    dose, visits = TRAIN["dose"], TRAIN["visits"]
    near = [dose + 0.01, 10_000 + dose, round(dose, 2), visits + 10_000, 10**12 + visits, round(visits, -4)]
    rows = people()[people()["job"].isin(["clerk", "nurse", "smith"])].drop(columns=["who", "note"])
    write(tmp_path / "near.json", json.dumps(near))
    rows.to_csv(tmp_path / "rows.csv")
    rows.to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "noise").write_bytes(np.random.default_rng(0).bytes(200_000))
    write(tmp_path / "noise.txt", base64.b64encode(np.random.default_rng(1).bytes(200_000)).decode())
    write(tmp_path / "digits.json", json.dumps(np.random.default_rng(2).random(20_000).tolist()))
    assert leaks(tmp_path, PLANTED) == []
