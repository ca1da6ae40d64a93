"""Values planted in tables and in a release, which nothing else has, and the search for them in files and messages.

Names of columns are no canaries: a TOML of roles names them, and boards and errors show them. What they name is: a
column that a generator makes up from a level tells of the level.
"""

import base64
import gzip
import hashlib
import io
import os
import re
import sqlite3
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

Table = list[dict[str, str]]

# --- canaries ---


@dataclass(frozen=True)
class Canary:
    """A value, as it may be written. words: in any case, anywhere. numbers: how they begin. raw: bytes."""

    name: str
    words: tuple[bytes, ...] = ()
    numbers: tuple[bytes, ...] = ()
    raw: tuple[bytes, ...] = ()


def word(name: str, text: str) -> Canary:
    """A text; only letters and digits, which no escaping changes."""
    assert text.isalnum()
    return Canary(name, words=(text.lower().encode(),))


def number(name: str, x: float) -> Canary:
    """A float by its first six digits, in fixed, scientific or scaled notation, and as it lies in memory and SQLite."""
    return Canary(name, numbers=_written(x), raw=_packed(x, "df"))


def whole(name: str, n: int) -> Canary:
    """An integer: whole, grouped, rounded to six digits or more, as a float, and as it lies in memory and SQLite."""
    texts = {f"{n}", f"{np.float32(n):.0f}", *(f"{round(n, -k)}" for k in range(1, len(str(n)) - 5))}
    texts |= {re.match(r"\d([,_]?\d){5}", text)[0] for text in (f"{n:,}", f"{n:_}")}  # type: ignore[index]
    return Canary(name, numbers=(*_written(n), *(t.encode() for t in sorted(texts))), raw=_packed(n, "dfqi"))


def numbered(name: str, start: int, one: int = 0) -> Canary:
    """Every number that begins so, and one of them as it lies in memory."""
    return Canary(name, numbers=(str(start).encode(),), raw=_packed(one or start, "dq"))


def day(name: str, when: str) -> Canary:
    """A date as people and programs write it; of a time, the second too."""
    at = pd.Timestamp(when)
    forms = ("%Y-%m-%d", "%Y%m%d", "%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%b %d %Y", "%d %b %Y")
    epochs = [str(int(at.timestamp()) * 10**k) for k in (0, 3, 6, 9)]
    return Canary(name, words=tuple(t.lower().encode() for t in (*map(at.strftime, forms), *epochs)))


def _written(x: float) -> tuple[bytes, ...]:
    """How a number begins that is written with six digits or more, rounded or cut off there."""
    (at,) = {int(f"{x:.{k}e}".partition("e")[2]) + 1 for k in (5, 15)}
    texts = set()
    for digits in {f"{x:.{k}e}".replace(".", "")[:6] for k in (5, 15)}:
        texts |= {f"{digits[0]}.{digits[1:]}", f"0.{digits}", *([f"{digits[:at]}.{digits[at:]}"] if at < 6 else [])}
    return tuple(t.encode() for t in sorted(texts))


def _packed(x: float, forms: str) -> tuple[bytes, ...]:
    fits = [form for form in forms if form != "i" or x < 2**31]
    return tuple(struct.pack(order + form, x) for form in fits for order in "<>")


# --- the search ---


def leaks(root: Path, canaries: Sequence[Canary], *, apart: Iterable[Path] = ()) -> list[tuple[str, str]]:
    """(path, name of a canary) for each canary in the name or the content of a file under a folder.

    Archives, databases, tables, pictures' texts and what is compressed or in base64 are opened. apart: folders that are
    left out.
    """
    found = []
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        folders[:] = [f for f in folders if here / f not in apart]
        for path in [here / f for f in (*files, *folders)]:
            shown = str(path.relative_to(root))
            told = seen(shown.encode(), canaries)
            if path.is_symlink():
                told |= seen(os.readlink(path).encode(), canaries)
            elif path.is_file():
                told |= seen(path.read_bytes(), canaries)
            found += [(shown, c.name) for c in canaries if c.name in told]
    return sorted(found)


_SEEN: dict[tuple[bytes, tuple[str, ...]], frozenset[str]] = {}  # reports lie in the store and in MLflow's artifacts


def seen(content: bytes, canaries: Sequence[Canary], *, depth: int = 6) -> set[str]:
    """The names of the canaries in some bytes, and in what these hold."""
    key = (hashlib.sha256(content).digest(), tuple(c.name for c in canaries))
    if key not in _SEEN:
        told = _told(content, tuple(canaries))
        for inner in opened(content) if depth else ():
            told |= seen(inner, canaries, depth=depth - 1)
        _SEEN[key] = frozenset(told)
    return set(_SEEN[key])


NUMBER = re.compile(rb"(?<![0-9.])(?=([0-9][0-9.,_]{5,15}))")  # no later digits of another number


def _told(content: bytes, canaries: tuple[Canary, ...]) -> set[str]:
    views = [content.lower(), *([content.replace(b"\0", b"").lower()] if b"\0" in content else [])]
    told = {c.name for c in canaries if any(w in view for w in c.words for view in views)}
    numbers, sizes = _numbers(canaries)
    for start in {match[1] for view in views for match in NUMBER.finditer(view)}:
        told.update(*(numbers.get(start[:size], ()) for size in sizes))
    text = _is_text(content)
    return told | {c.name for c in canaries for r in c.raw if not (text and not _is_text(r)) and r in content}


@cache
def _numbers(canaries: tuple[Canary, ...]) -> tuple[dict[bytes, list[str]], set[int]]:
    """How numbers begin -> names of canaries; and how long these beginnings are."""
    found: dict[bytes, list[str]] = {}
    for canary in canaries:
        for text in canary.numbers:
            found.setdefault(text, []).append(canary.name)
    return found, {len(text) for text in found}


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{16,}(?:\r?\n[A-Za-z0-9+/_-]+)*={0,2}")
MAGIC = (b"\x1f\x8b", b"PK\x03\x04", b"SQLite format 3\0", b"\x89PNG", b"PAR1", b"\x78\x01", b"\x78\x5e", b"\x78\x9c",
         b"\x78\xda")  # fmt: skip


def opened(content: bytes) -> Iterator[bytes]:
    """What some bytes hold: members of an archive, rows of a database, chunks of a picture, what base64 stands for."""
    if content.startswith(b"\x1f\x8b"):
        yield from _tried(lambda: gzip.decompress(content))
    elif content.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            yield "\n".join(archive.namelist()).encode()
            yield from (archive.read(name) for name in archive.namelist())
    elif content.startswith(b"SQLite format 3\0"):
        yield from _rows(content)
    elif content.startswith(b"\x89PNG"):
        yield from _chunks(content)
    elif content.startswith(b"PAR1"):
        yield pd.read_parquet(io.BytesIO(content)).to_csv().encode()
    elif content.startswith(MAGIC):
        yield from _tried(lambda: zlib.decompress(content))
    else:
        yield from _decoded(content)


def _tried(open_: Callable[[], bytes]) -> Iterator[bytes]:
    try:
        yield open_()
    except (OSError, EOFError, zlib.error):
        return


def _rows(content: bytes) -> Iterator[bytes]:
    """Every table of a SQLite file as text, and its blobs."""
    journaled = content[:18] + b"\1\1" + content[20:]  # a copy in memory can have no write-ahead log
    database = sqlite3.connect(":memory:")
    database.deserialize(journaled)
    tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in tables:
        rows = database.execute(f'SELECT * FROM "{table}"').fetchall()
        yield "\n".join(map(str, rows)).encode()
        yield from (cell if isinstance(cell, bytes) else cell.encode() for row in rows for cell in row
                    if isinstance(cell, bytes) or (isinstance(cell, str) and len(cell) > 15))  # fmt: skip
    database.close()


def _chunks(content: bytes) -> Iterator[bytes]:
    """The texts of a PNG: of tEXt, zTXt and iTXt."""
    at = 8
    while at < len(content):
        (size,), kind = struct.unpack(">I", content[at : at + 4]), content[at + 4 : at + 8]
        body, at = content[at + 8 : at + 8 + size], at + size + 12
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"eXIf"):
            yield body
            for start in (i for i in range(len(body)) if body.startswith(MAGIC, i)):
                yield from _tried(lambda start=start, body=body: zlib.decompress(body[start:]))


def _decoded(content: bytes) -> Iterator[bytes]:
    """What stands in base64: short runs together, those that hold something further one by one."""
    plain = []
    for run in BASE64.findall(content):
        text = run.translate(bytes.maketrans(b"-_", b"+/"), b"\r\n=")
        made = base64.b64decode(text + b"=" * (-len(text) % 4)) if len(text) % 4 != 1 else b""
        if made.startswith(MAGIC) or BASE64.fullmatch(made):
            yield made
        else:
            plain.append(made)
    if plain:
        yield b"\n".join(plain)


# --- two tables of a user's ---

SUBJECTS, PATIENTS, HOURS = 120, 40, 4
TRAIN = {"job": "Zqfalconer", "dose": 731.9462837519, "visits": 846193027, "seen": "1907-11-23"}
HOLDOUT = {"job": "Zqlutenist", "dose": 498.2715093846, "visits": 573918264, "seen": "2061-08-14"}
STAY = {"ward": "Zqwardseven", "lactate": 86.419752093864, "drops": 690571438, "admitted": 19071124}

IN_TRAIN = (
    word("a level of one in train", TRAIN["job"]),
    number("a float of one in train", TRAIN["dose"]),
    whole("a count of one in train", TRAIN["visits"]),
)
IN_HOLDOUT = (
    word("a level of one in holdout", HOLDOUT["job"]),
    number("a float of one in holdout", HOLDOUT["dose"]),
    whole("a count of one in holdout", HOLDOUT["visits"]),
)
IN_STAYS = (
    word("a level of one stay", STAY["ward"]),
    number("a float of one stay", STAY["lactate"]),
    whole("a count of one stay", STAY["drops"]),
)
LEFT_OUT = (
    word("subjects", "Zqsubject"),
    word("one subject", "Zqpatient7731"),
    numbered("numbers of stays", 61840070, 6184007009),
    day("a date in train", TRAIN["seen"]),
    day("a date in holdout", HOLDOUT["seen"]),
    day("the date of a stay", str(STAY["admitted"])),
    word("a dropped column", "Zqnote"),
)


def people() -> pd.DataFrame:
    """People with one of train's canaries and one of holdout's; the latest fifth is the holdout."""
    rng = np.random.default_rng(0)
    ill = rng.random(SUBJECTS) < 0.4
    table = pd.DataFrame(
        {
            "who": [f"Zqsubject{i:04}" for i in range(SUBJECTS)],
            "job": rng.choice(["clerk", "nurse", "smith"], SUBJECTS),
            "dose": (5 + 3 * ill + rng.gamma(2, 1, SUBJECTS)).round(3),
            "visits": rng.poisson(6, SUBJECTS),
            "seen": pd.date_range("2001-01-01", periods=SUBJECTS).astype(str),
            "grade": np.where(ill, "high", rng.choice(["low", "middle"], SUBJECTS)),
            "smokes": rng.random(SUBJECTS) < 0.5,
            "note": [f"Zqnote{i}" for i in range(SUBJECTS)],
            "ill": ill.astype(int),
        }
    )
    for at, planted in ((7, {**TRAIN, "who": "Zqpatient7731"}), (SUBJECTS - 5, HOLDOUT)):
        table.loc[at, list(planted)] = list(planted.values())
    return table


def stays() -> pd.DataFrame:
    """Stays of some hours, one with canaries, at the first date and so in train."""
    rng = np.random.default_rng(1)
    n = PATIENTS * HOURS
    died = np.repeat(rng.random(PATIENTS) < 0.4, HOURS)
    table = pd.DataFrame(
        {
            "patient": np.repeat(6184007000 + np.arange(PATIENTS), HOURS),
            "hour": np.tile(np.arange(HOURS), PATIENTS),
            "admitted": np.repeat(20100101 + np.arange(PATIENTS), HOURS),
            "ward": np.repeat(rng.choice(["north", "south"], PATIENTS), HOURS),
            "lactate": (2 + died + rng.normal(0, 0.5, n)).round(2),
            "drops": rng.poisson(4, n),
            "died": died.astype(int),
        }
    )
    mine = table["patient"] == 6184007009
    table.loc[mine, ["ward", "admitted"]] = [STAY["ward"], STAY["admitted"]]
    table.loc[mine & (table["hour"] == 2), ["lactate", "drops"]] = [STAY["lactate"], STAY["drops"]]
    return table


# --- roles of the tables, and files that cannot be read ---

OWN = """
name = "{name}"
file = "{name}.csv"
"""
PEOPLE = """
target = "ill"
subject = "who"
order = "seen"
drop = ["note"]
ordinal = { grade = ["low", "middle", "high"] }
quasi = ["job", "smokes"]
"""
STAYS = """
target = "died"
subject = "patient"
time = "hour"
order = "admitted"
static = ["ward"]
"""


@dataclass(frozen=True)
class Bad:
    """A file with a cell that does not belong there, and what is said of it."""

    content: bytes
    toml: str
    says: str


def _with(table: pd.DataFrame, column: str, *values: object) -> bytes:
    """A table as CSV, values in the place of the first ones of a column."""
    table = table.assign(**{column: table[column].astype(object)})
    table.loc[table.index[: len(values)], column] = list(values)
    return table.to_csv(index=False).encode()


def _bad() -> dict[str, Bad]:
    flat, long, line = people(), stays(), b"Zqcell1,Zqcell2"
    many = pd.concat([flat] * 2, ignore_index=True).assign(who=range(2 * SUBJECTS), dose=np.arange(2 * SUBJECTS) / 7)
    untimed = STAYS.replace('order = "admitted"\nstatic = ["ward"]\n', "")
    return {
        "text-among-numbers": Bad(_with(many, "dose", "Zqcell"), PEOPLE, "column 'dose' has 240 different texts"),
        "subject-twice": Bad(_with(flat, "who", "Zqcell", "Zqcell"), PEOPLE, "names a row twice"),
        "hour-twice": Bad(_with(long, "hour", 0, 0), untimed, "names a row twice"),
        "hour-of-text": Bad(_with(long, "hour", "Zqcell"), untimed, "expected an integer step"),
        "hour-between": Bad(_with(long, "hour", 0, TRAIN["dose"]), untimed, "time has dtype float64"),
        "hour-far": Bad(_with(long, "hour", 0, TRAIN["visits"]), untimed, "do not run 0, 1, 2"),
        "no-such-level": Bad(_with(flat, "grade", "Zqcell"), PEOPLE, "1 values that are not among its levels"),
        "third-class": Bad(_with(flat, "ill", TRAIN["visits"]), PEOPLE, "target column 'ill' is int64, expected bool"),
        "class-of-text": Bad(_with(flat, "ill", "Zqcell"), PEOPLE, "target column 'ill' is category, expected bool"),
        "no-date": Bad(_with(flat, "seen", "Zqcell"), PEOPLE, "neither numbers nor dates"),
        "infinite": Bad(_with(flat, "dose", "inf", TRAIN["dose"]), PEOPLE, "column 'dose' has infinite values"),
        "no-header": Bad(_with(flat, "job", "Zqcell").split(b"\n", 1)[1], PEOPLE, "column 'ill'"),
        "one-field-more": Bad(_with(flat, "job", "Zqcell") + b",".join([line] * 9), PEOPLE, "not a readable csv"),
        "open-quote": Bad(_with(flat, "job", "Zqcell") + b'"' + line + b"\n", PEOPLE, "not a readable csv"),
        "latin": Bad(_with(flat, "job", "Zqcell") + b"Zqcell\xe9," + line, PEOPLE, "not a readable csv"),
    }  # fmt: skip


BAD = _bad()
ZONES = Bad(  # two time zones in a column
    _with(people().assign(seen=lambda t: t["seen"] + "T08:00Z"), "seen", f"{TRAIN['seen']}T08:00+05:00"), PEOPLE, ""
)

# --- a release of MIMIC-III ---

NUMBERS = {"SUBJECT_ID": 73190462, "HADM_ID": 55820917, "ICUSTAY_ID": 92640381}  # how each number begins
MINE = {"ETHNICITY": "Zqethnos", "HR": 97.318264079513, "end": 70007}  # of one patient; end: of the numbers
BORN, ADMITTED, READ = "2051-03-17", "2107-11-23 08:15:09", "2107-11-24 05:47:31"

IN_RELEASE = (word("an ethnicity", MINE["ETHNICITY"]), number("a heart rate", MINE["HR"]))
NOT_READ = (
    *(numbered(name, start, int(f"{start}{MINE['end']}")) for name, start in NUMBERS.items()),
    day("a date of birth", BORN),
    day("a time of admission", ADMITTED),
    day("the time of a reading", READ),
    word("a text of a reading", "Zqvalue"),
    word("a text of an admission", "Zqdiagnosis"),
    word("a code of no coding", "Zqcode"),
)
CELL = word("a cell of a bad file", "Zqcell")
NEVER_KEPT = (*LEFT_OUT, *NOT_READ)
PLANTED = (*IN_TRAIN, *IN_HOLDOUT, *IN_STAYS, *IN_RELEASE, *NEVER_KEPT, CELL)


def plant(tables: dict[str, Table]) -> None:
    """Put canaries into a drawn release: one patient has most of them; numbers begin anew in all tables."""
    admissions = pd.DataFrame(tables["ADMISSIONS"])["SUBJECT_ID"].value_counts()
    alone = next(p for p in tables["PATIENTS"] if admissions[p["SUBJECT_ID"]] == 1 and p["DOB"] > "2000")
    mine = {name: [r for r in rows if r["SUBJECT_ID"] == alone["SUBJECT_ID"]] for name, rows in tables.items()}
    (visit,) = mine["ADMISSIONS"]
    later = pd.Timestamp(ADMITTED) - pd.Timestamp(visit["ADMITTIME"])
    for rows in mine.values():
        for row in rows:
            for column in row.keys() & {"ADMITTIME", "INTIME", "OUTTIME", "CHARTTIME"}:
                row[column] = str(pd.Timestamp(row[column]) + later)
    alone["DOB"] = f"{BORN} 00:00:00"
    visit |= {"ETHNICITY": MINE["ETHNICITY"], "DIAGNOSIS": "Zqdiagnosis, of one"}
    mine["DIAGNOSES_ICD"][-1]["ICD9_CODE"] = "Zqcode"
    rate = {"ITEMID": "220045", "VALUE": "Zqvalue", "VALUENUM": str(MINE["HR"]), "CHARTTIME": READ}
    others = [r for r in mine["CHARTEVENTS"] if r["ITEMID"] == rate["ITEMID"]]  # a mean of several is another number
    tables["CHARTEVENTS"] = [r for r in tables["CHARTEVENTS"] if r not in others] + [{**others[0], **rate}]
    who = alone["SUBJECT_ID"]
    for row in (row for rows in tables.values() for row in rows):
        ends = dict.fromkeys(NUMBERS, MINE["end"]) if row["SUBJECT_ID"] == who else row
        row |= {name: f"{start}{ends[name]}" for name, start in NUMBERS.items() if name in row}
