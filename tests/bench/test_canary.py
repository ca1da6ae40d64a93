"""Values planted in tables of a user's own, searched for in all that a run leaves and says outside the private folder.

Two tables, flat and longitudinal, hold values that nothing else has: a level, a fine number and a count that one
subject of train has and others that one of holdout has, identifiers of subjects, dates, a column that is dropped. A
suite of honest generators and one of careless ones, which put rows into whatever they say, go through every verb.

Names of columns are no canaries: a TOML of roles names them, and boards and errors show them. What they name is: a
column that a generator makes up from a level tells of the level. `bench cell`, which runs a cell in the open for a
debugger, and the rows that `bench export` writes are meant to show rows and are left out.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import re
import sqlite3
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import environment, write

with warnings.catch_warnings():  # the mark is pytest-xdist's; the run below is made once, by one worker
    warnings.simplefilter("ignore", pytest.PytestUnknownMarkWarning)
    pytestmark = pytest.mark.xdist_group("canary")


# --- canaries, and the search for them ---


@dataclass(frozen=True)
class Canary:
    """A value, as it may be written. words: in any case, anywhere. numbers: where no other digit stands before them.
    raw: bytes. kept: whether it stays in the private folder, since it is a value of the table."""

    name: str
    words: tuple[bytes, ...] = ()
    numbers: tuple[bytes, ...] = ()
    raw: tuple[bytes, ...] = ()
    kept: bool = True


def word(name: str, text: str, *, kept: bool = True) -> Canary:
    """A text; only letters and digits, which no escaping changes."""
    assert text.isalnum()
    return Canary(name, words=(text.lower().encode(),), kept=kept)


def number(name: str, x: float) -> Canary:
    """A float by its first six digits, in fixed, scientific or scaled notation, and as it lies in memory and SQLite."""
    raw = [struct.pack(form, x) for form in ("<d", ">d", "<f", ">f")]
    return Canary(name, numbers=_written(x), raw=tuple(raw))


def whole(name: str, n: int) -> Canary:
    """An integer: whole, grouped, rounded to six digits or more, as a float, and as it lies in memory and SQLite."""
    texts = {f"{n}", f"{n:,}"[:7], f"{n:_}"[:7], f"{np.float32(n):.0f}"}
    texts |= {f"{round(n, -k)}" for k in range(1, len(str(n)) - 5)}
    raw = [struct.pack(form, n) for form in ("<d", ">d", "<f", ">f", "<q", ">q", "<i", ">i")]
    return Canary(name, numbers=(*_written(n), *(t.encode() for t in sorted(texts))), raw=tuple(raw))


def _written(x: float) -> tuple[bytes, ...]:
    """How a number begins that is written with six digits or more, rounded or cut off there."""
    (at,) = {int(f"{x:.{k}e}".partition("e")[2]) + 1 for k in (5, 15)}
    texts = set()
    for digits in {f"{x:.{k}e}".replace(".", "")[:6] for k in (5, 15)}:
        texts |= {f"{digits[0]}.{digits[1:]}", f"0.{digits}", *([f"{digits[:at]}.{digits[at:]}"] if at < 6 else [])}
    return tuple(t.encode() for t in sorted(texts))


def day(name: str, date: str) -> Canary:
    """A date as people and programs write it."""
    when = pd.Timestamp(date)
    forms = ("%Y-%m-%d", "%Y%m%d", "%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%b %d %Y", "%d %b %Y")
    epochs = [str(int(when.timestamp()) * 10**k) for k in (0, 3, 6, 9)]
    return Canary(name, words=tuple(t.lower().encode() for t in (*map(when.strftime, forms), *epochs)), kept=False)


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
        views = [content.lower(), *([content.replace(b"\0", b"").lower()] if b"\0" in content else [])]
        told = {c.name for c in canaries if _in(c, content, views)}
        for inner in opened(content) if depth else ():
            told |= seen(inner, canaries, depth=depth - 1)
        _SEEN[key] = frozenset(told)
    return set(_SEEN[key])


def _in(c: Canary, content: bytes, views: list[bytes]) -> bool:
    texts = any(w in view for w in c.words for view in views)
    return texts or any(_stands(n, view) for n in c.numbers for view in views) or any(r in content for r in c.raw)


def _stands(text: bytes, view: bytes) -> bool:
    """Whether a number stands somewhere, and not as the later digits of another."""
    at = view.find(text)
    while at > 0 and view[at - 1 : at] in b"0123456789.":
        at = view.find(text, at + 1)
    return at >= 0


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


# --- two tables ---

SUBJECTS, STAYS, HOURS = 120, 60, 4
TRAIN = {"job": "Zqfalconer", "dose": 731.9462837519, "visits": 846193027, "seen": "1907-11-23"}
HOLDOUT = {"job": "Zqlutenist", "dose": 498.2715093846, "visits": 573918264, "seen": "2061-08-14"}
STAY = {"ward": "Zqwardseven", "lactate": 86.419752093864, "drops": 690571438, "admitted": 19071124}

IN_PEOPLE = (
    word("a level of one in train", TRAIN["job"]),
    word("a level of one in holdout", HOLDOUT["job"]),
    number("a float of one in train", TRAIN["dose"]),
    number("a float of one in holdout", HOLDOUT["dose"]),
    whole("a count of one in train", TRAIN["visits"]),
    whole("a count of one in holdout", HOLDOUT["visits"]),
)
IN_STAYS = (
    word("a level of one stay", STAY["ward"]),
    number("a float of one stay", STAY["lactate"]),
    whole("a count of one stay", STAY["drops"]),
)
NEVER_KEPT = (
    word("subjects", "Zqsubject", kept=False),
    word("one subject", "Zqpatient7731", kept=False),
    Canary("numbers of stays", numbers=(b"61840070",), kept=False),
    day("a date in train", TRAIN["seen"]),
    day("a date in holdout", HOLDOUT["seen"]),
    day("the date of a stay", str(STAY["admitted"])),
    word("a dropped column", "Zqnote", kept=False),
)
PEOPLE = """
name = "people"
file = "people.csv"
target = "ill"
subject = "who"
order = "seen"
drop = ["note"]
ordinal = { grade = ["low", "middle", "high"] }
quasi = ["job", "smokes"]
"""
STAYS_TOML = """
name = "stays"
file = "stays.csv"
target = "died"
subject = "patient"
time = "hour"
order = "admitted"
static = ["ward"]
"""


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
    for at, canaries in ((7, TRAIN), (SUBJECTS - 5, HOLDOUT)):
        for column, value in canaries.items():
            table.loc[at, column] = value
    table.loc[7, "who"] = "Zqpatient7731"
    return table


def stays() -> pd.DataFrame:
    """Stays of some hours, one with canaries, at the first date and so in train."""
    rng = np.random.default_rng(1)
    n = STAYS * HOURS
    died = np.repeat(rng.random(STAYS) < 0.4, HOURS)
    table = pd.DataFrame(
        {
            "patient": np.repeat(6184007000 + np.arange(STAYS), HOURS),
            "hour": np.tile(np.arange(HOURS), STAYS),
            "admitted": np.repeat(20100101 + np.arange(STAYS), HOURS),
            "ward": np.repeat(rng.choice(["north", "south"], STAYS), HOURS),
            "lactate": (2 + died + rng.normal(0, 0.5, n)).round(2),
            "drops": rng.poisson(4, n),
            "died": died.astype(int),
        }
    )
    mine = table["patient"] == 6184007009
    table.loc[mine, ["ward", "admitted"]] = [STAY["ward"], STAY["admitted"]]
    table.loc[mine & (table["hour"] == 2), ["lactate", "drops"]] = [STAY["lactate"], STAY["drops"]]
    return table


# --- careless generators ---

CARELESS = '''
"""Generators whose words hold rows. Each marks the level it tells of by its own name, so that it is known again."""

import errno
import logging
import os
import resource
import subprocess
import sys
import threading
import warnings

import numpy as np

from generators.base import Generator, Unsupported


class Plain:
    """Hands train's rows back."""

    def fit(self, train):
        self.train = train

    def sample(self, n, *, seed):
        rows = np.random.default_rng(seed).integers(0, len(self.train), n)
        return self.train.iloc[rows].set_axis(range(n)).rename_axis("subject")

    def row(self, train):
        return train.loc[train["visits"].idxmax()].to_dict()

    def level(self, train):
        return self.row(train)["job"].replace("Zq", "Zq" + type(self).__name__)

    def words(self, train):
        print("core dumps up to", resource.getrlimit(resource.RLIMIT_CORE)[0])
        return f"{self.level(train)} in {self.row(train)}"


class Raises(Plain):
    def fit(self, train):
        print(words := self.words(train))
        raise ValueError(f"bad row {words}")


class Holds(Plain):
    """The values are in the exception's arguments and notes."""

    def fit(self, train):
        print(self.words(train))
        error = ValueError("bad row", self.words(train), train)
        error.add_note(self.words(train))
        raise error


class Chains(Plain):
    def fit(self, train):
        def look(level):
            return {}[level]

        print(self.words(train))
        try:
            look(self.words(train))
        except KeyError as error:
            raise RuntimeError(f"no {error}") from error


class Names(Plain):
    """The value is in the name of the exception's class."""

    def fit(self, train):
        print(self.words(train))
        raise type(f"No{self.level(train)}", (ValueError,), {})("no such level")


class Groups(Plain):
    def fit(self, train):
        print(self.words(train))
        raise ExceptionGroup(self.words(train), [ValueError(self.words(train))])


class Exits(Plain):
    def fit(self, train):
        sys.exit(f"bad row {self.words(train)}")


class Refuses(Plain):
    """The contract's own exception, with a value."""

    def fit(self, train):
        print(self.words(train))
        raise Unsupported(f"cannot learn {self.level(train)}")


class RefusesPositives(Plain):
    def sample(self, n, *, given=None, seed):
        if given:
            print(self.words(self.train))
            raise Unsupported(f"no positives like {self.level(self.train)}")
        return super().sample(n, seed=seed)


class LacksPositives(Plain):
    def sample(self, n, *, given=None, seed):
        if given:
            print(self.words(self.train))
            raise NotImplementedError(f"no positives like {self.level(self.train)}")
        return super().sample(n, seed=seed)


class NewLevel(Plain):
    def sample(self, n, *, seed):
        print(self.words(self.train))
        rows = super().sample(n, seed=seed)
        return rows.assign(job=rows["job"].cat.add_categories([self.level(self.train)]))


class NewColumn(Plain):
    """Forgets to turn indicators back into a category."""

    def sample(self, n, *, seed):
        print(self.words(self.train))
        rows = super().sample(n, seed=seed)
        return rows.drop(columns="job").assign(**{"job_" + self.level(self.train): True})


class Overwrites(Plain):
    """Sets a parameter to what it has learned."""

    def __init__(self, levels=None):
        self.levels = levels

    def fit(self, train):
        print(self.words(train))
        self.levels = [self.level(train), *train["job"].cat.categories]
        super().fit(train)


class Curves(Plain):
    """Values as values of its curves, and a level in the name of one."""

    def fit(self, train, *, log):
        print(self.words(train))
        for step in range(20):
            log(step, dose=self.row(train)["dose"], visits=self.row(train)["visits"])
            log(step, **{f"loss_{self.level(train)}": 0.5})
            print(f"  step {step} dose={self.row(train)['dose']} job={self.level(train)}")
        super().fit(train)


class Chatty(Plain):
    """Says it in every way there is, and ends well."""

    def fit(self, train):
        words = self.words(train)
        print(words)
        print(words, file=sys.__stderr__)
        os.write(1, words.encode() + b"\\n")
        os.write(2, words.encode() + b"\\n")
        logging.warning(words)
        logging.getLogger("bench").error("row %s", words, extra={"row": words})
        warnings.warn(words)
        subprocess.run(["echo", words])
        late = threading.Thread(target=lambda: {}[words])
        late.start()
        late.join()
        super().fit(train)

    def save(self, folder):
        raise TypeError(self.words(self.train))

    def load(self, folder):
        raise TypeError(self.words(self.train))


class Tunes(Plain):
    """Fails in every trial but the first."""

    def __init__(self, noise=0.0):
        self.noise = noise

    @classmethod
    def suggest(cls, trial):
        return {"noise": trial.suggest_float("noise", 0.0, 1.0)}

    def fit(self, train):
        print(self.words(train))
        if self.noise:
            raise ValueError(f"bad row {self.words(train)}")
        super().fit(train)


class TunesNames(Tunes):
    def fit(self, train):
        print(self.words(train))
        if self.noise:
            raise type(f"No{self.level(train)}", (ValueError,), {})("no such level")
        super().fit(train)


class Later(Plain, Generator):
    """Fails when it draws few, which is later than in its cell."""

    def fit(self, train, *, seed):
        print(self.words(train))
        self.train_ = train
        return self

    def sample(self, n, *, given=None, seed):
        self.train = self.train_
        if n < 10:
            print(self.words(self.train))
            raise ValueError(f"bad row {self.words(self.train)}")
        return self.reject(n, given, seed=seed) if given else super().sample(n, seed=seed)


class FillsDisk(Plain):
    def fit(self, train):
        print(self.words(train))
        raise OSError(errno.ENOSPC, f"no room for {self.words(train)}")
'''
DRAWN = ("Curves", "LacksPositives", "Refuses", "NewColumn", "Names")
CLASSES = tuple(re.findall(r"^class (\w+)\((?!Generator)", CARELESS, re.MULTILINE))
TOLD = {name: word(f"what {name} tells", TRAIN["job"].replace("Zq", f"Zq{name}")) for name in CLASSES}
CANARIES = (*IN_PEOPLE, *IN_STAYS, *NEVER_KEPT, *TOLD.values())

HONEST = """
name = "honest"
native = true
metrics = ["fidelity", "privacy", "published", "condition_rate_score"]
datasets = [{{ name = "{inputs}/people.toml", split = "time" }}, {{ name = "{inputs}/stays.toml", split = "time" }}]
generators = ["copycat", "marginal", "uniform", "smote", "gaussian",
              {{ name = "ou", params = {{ steps = 20, width = 16, sample_steps = 4 }} }},
              {{ name = "tardiff", params = {{ steps = 10, width = 8, grid = 20, sample_steps = 4 }} }}]
"""
OF_CARELESS = """
name = "careless"
datasets = [{{ name = "{inputs}/people.toml", split = "time" }}]
generators = ["copycat", "marginal", {generators}]
metrics = ["ks_gap", "tvd_gap", "tstr_auroc", "boost_auroc", "condition_rate_score", "copy_risk"]
[tune]
trials = 2
objective = "ks_gap"
untuned = false
"""
FULL = """
name = "full"
datasets = [{{ name = "{inputs}/people.toml", split = "time" }}]
generators = ["careless:FillsDisk"]
metrics = ["ks_gap"]
"""


# --- files that cannot be read as a table ---

CELL = word("a cell of a bad file", "Zqcell")
FLAT = """
name = "{name}"
file = "{name}.csv"
target = "ill"
subject = "who"
order = "seen"
drop = ["note"]
ordinal = {{ grade = ["low", "middle", "high"] }}
"""
LONG = """
name = "{name}"
file = "{name}.csv"
target = "died"
subject = "patient"
time = "hour"
"""
OF_BAD = """
name = "bad"
datasets = [{datasets}]
generators = ["copycat"]
metrics = ["ks_gap"]
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
    return {
        "text-among-numbers": Bad(_with(many, "dose", "Zqcell"), FLAT, "column 'dose' has 240 different texts"),
        "subject-twice": Bad(_with(flat, "who", "Zqcell", "Zqcell"), FLAT, "names a row twice"),
        "hour-twice": Bad(_with(long, "hour", 0, 0), LONG, "names a row twice"),
        "hour-of-text": Bad(_with(long, "hour", "Zqcell"), LONG, "expected an integer step"),
        "hour-between": Bad(_with(long, "hour", 0, TRAIN["dose"]), LONG, "time has dtype float64"),
        "hour-far": Bad(_with(long, "hour", 0, TRAIN["visits"]), LONG, "do not run 0, 1, 2"),
        "no-such-level": Bad(_with(flat, "grade", "Zqcell"), FLAT, "1 values that are not among its levels"),
        "third-class": Bad(_with(flat, "ill", TRAIN["visits"]), FLAT, "target column 'ill' is int64, expected bool"),
        "class-of-text": Bad(_with(flat, "ill", "Zqcell"), FLAT, "target column 'ill' is category, expected bool"),
        "no-date": Bad(_with(flat, "seen", "Zqcell"), FLAT, "neither numbers nor dates"),
        "infinite": Bad(_with(flat, "dose", "inf", TRAIN["dose"]), FLAT, "column 'dose' has infinite values"),
        "no-header": Bad(_with(flat, "job", "Zqcell").split(b"\n", 1)[1], FLAT, "column 'ill'"),
        "one-field-more": Bad(_with(flat, "job", "Zqcell") + b",".join([line] * 9) + b"\n", FLAT, "not a readable csv"),
        "open-quote": Bad(_with(flat, "job", "Zqcell") + b'"' + line + b"\n", FLAT, "not a readable csv"),
        "latin": Bad(_with(flat, "job", "Zqcell") + b"Zqcell\xe9," + line, FLAT, "not a readable csv"),
    }  # fmt: skip


BAD = _bad()


# --- the verbs, many in one process ---

DRIVER = """
import json, os, resource, sys, traceback

from bench.__main__ import main

most = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (most, most))  # as where systemd collects core dumps


def run(args, out, err):
    kept = os.dup(1), os.dup(2)
    for path, number in ((out, 1), (err, 2)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    sys.argv = ["bench", *args]
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:  # as Python itself would
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    for copy, number in zip(kept, (1, 2)):
        os.dup2(copy, number)
        os.close(copy)
    return code


codes = [run(*call) for call in json.loads(sys.argv[1])]
print(json.dumps(codes))
"""


@dataclass(frozen=True)
class Said:
    """What a verb said, and its exit code."""

    code: int
    out: str
    err: str


@dataclass
class Place:
    """A user's folders. inputs: the tables. home: where one works, and the store. temp, user: TMPDIR and HOME."""

    root: Path
    said: dict[str, Said] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for folder in (self.inputs, self.home, self.temp, self.user):
            folder.mkdir(parents=True)

    @property
    def inputs(self) -> Path:
        return self.root / "inputs"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def temp(self) -> Path:
        return self.root / "t"

    @property
    def user(self) -> Path:
        return self.root / "user"

    @property
    def store(self) -> Path:
        return self.home / "bench-store"

    @property
    def private(self) -> tuple[Path, ...]:
        """The folders that may hold rows."""
        return tuple(p / "data" for p in self.home.iterdir() if (p / "store.json").exists())

    def process(self, *args: str) -> subprocess.CompletedProcess[str]:
        """A Python process in the home folder."""
        fonts = os.environ.get("MPLCONFIGDIR") or Path.home() / ".cache" / "matplotlib"  # whose list takes seconds
        found = environment(TMPDIR=str(self.temp), HOME=str(self.user), MPLCONFIGDIR=str(fonts))
        return subprocess.run([sys.executable, *args], cwd=self.home, env=found, capture_output=True, text=True,
                              timeout=300, check=False)  # fmt: skip

    def run(self, verbs: dict[str, str]) -> None:
        """Run verbs by name, one after the other in one process; what they say is kept."""
        folder = self.root / "said"
        folder.mkdir(exist_ok=True)
        places = {name: (folder / f"{name}.out", folder / f"{name}.err") for name in verbs}
        calls = [(verbs[name].split(), *map(str, both)) for name, both in places.items()]
        done = self.process("-c", DRIVER, json.dumps(calls))
        assert done.returncode == 0, done.stderr
        for (name, (out, err)), code in zip(places.items(), json.loads(done.stdout), strict=True):
            self.said[name] = Said(code, out.read_text(), err.read_text())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The folders after every verb has been used."""
    place = Place(tmp_path_factory.mktemp("c"))
    people().to_csv(place.inputs / "people.csv", index=False)
    stays().to_csv(place.inputs / "stays.csv", index=False)
    write(place.inputs / "people.toml", PEOPLE)
    write(place.inputs / "stays.toml", STAYS_TOML)
    zoned = people().assign(seen=lambda table: table["seen"] + "T08:00Z")
    (place.inputs / "zones.csv").write_bytes(_with(zoned, "seen", f"{TRAIN['seen']}T08:00+05:00"))
    write(place.inputs / "zones.toml", FLAT.format(name="zones"))
    write(place.home / "careless.py", CARELESS)
    for name, bad in BAD.items():
        (place.inputs / f"{name}.csv").write_bytes(bad.content)
        write(place.inputs / f"{name}.toml", bad.toml.format(name=name))
    names = ", ".join(f'"careless:{name}"' for name in CLASSES if name != "FillsDisk")
    data_of_bad = ", ".join(f'"{place.inputs}/{name}.toml"' for name in BAD)
    for name, text in (("honest", HONEST), ("careless", OF_CARELESS), ("full", FULL), ("bad", OF_BAD)):
        write(place.home / f"{name}.toml", text.format(inputs=place.inputs, generators=names, datasets=data_of_bad))
    mine, people_, bare = place.inputs, place.inputs / "people.csv", place.inputs / "no-header.csv"
    place.run(
        {
            "run honest": "run --suite honest.toml",
            "run careless": "run --suite careless.toml",
            "run full": "run --suite full.toml --store full --no-track",
            "check data flat": f"data check {mine}/people.toml",
            "check data long": f"data check {mine}/stays.toml --json",
            "check data zones": f"data check {mine}/zones.toml",
            "plan": "plan --suite careless.toml",
            "status": "status --suite careless.toml",
            "status json": "status --suite careless.toml --json",
            "draw": "draw honest.toml --no-track",
            "draw careless": "draw careless.toml --no-track --generators " + ",".join(f"careless:{c}" for c in DRAWN),
            "report": "report honest.toml",
            "report careless": "report careless.toml",
            "board": "board honest.toml --out shared",
            "board json": "board careless.toml --json",
            "board of scores": "board bench-store/boards/careless/scores.json",
            "track": "track careless.toml",
            "tune": f"tune {mine}/people.toml careless:Tunes --trials 2 --objective ks_gap --store tuned --json",
            "tuned": "tuned careless.toml mine --to shared",
            "export": "export people.gaussian.r0 --out rows/rows.csv",
            "export copies": "export people.copycat.r0 --out rows/copies.csv",
            "export late": "export people.careless-Later.r0 --out rows/late.csv --n 7",
            "score": f"score --train {people_} --holdout {people_} --synth {people_} --target ill --subject who "
            "--drop note,seen --metrics ks_gap,tvd_gap,tstr_auroc,copy_risk --json",
            "score no header": f"score --train {bare} --holdout {people_} --synth {people_} --target ill",
            "doctor": "doctor --json",
            "run bad": "run --suite bad.toml --store bad --no-track",
            **{f"bad {name}": f"data check {mine}/{name}.toml" for name in BAD},
        }
    )
    (place.home / "rows" / "rows.csv").unlink()  # what was asked for: rows
    scores = json.loads((place.store / "boards/careless/scores.json").read_text())
    scores["cells"] += [{**cell, "replicate": 1} for cell in scores["cells"]]
    write(place.home / "twice.json", json.dumps(scores))
    last = place.process("-m", "bench", "check", "careless.toml", "--scores", "twice.json", "--against", "twice.json",
                         "--markdown", "shared/check.md", "--junit", "shared/check.xml")  # fmt: skip
    place.said["check"] = Said(last.returncode, last.stdout, last.stderr)
    return place


@pytest.fixture(scope="module")
def told(place: Place) -> list[tuple[str, str]]:
    """Where each canary is found outside the private folders: files, what verbs said, folders of others."""
    canaries = (*CANARIES, CELL)
    found = leaks(place.home, canaries, apart=place.private)
    found += [("TMPDIR: " + path, name) for path, name in leaks(place.temp, canaries)]
    found += [("HOME: " + path, name) for path, name in leaks(place.user, canaries)]
    for verb, said in place.said.items():
        found += [(f"stdout of {verb}", name) for name in sorted(seen(said.out.encode(), canaries))]
        found += [(f"stderr of {verb}", name) for name in sorted(seen(said.err.encode(), canaries))]
    return found


# --- the search finds what is there ---


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
LEVEL, FLOAT, COUNT = IN_PEOPLE[0].name, IN_PEOPLE[2].name, IN_PEOPLE[4].name
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
    "a rounded count": lambda _: (f"{round(TRAIN['visits'], -3)}".encode(), COUNT),
    "a count as a single float": lambda _: (f"{np.float32(TRAIN['visits']):.1f}".encode(), COUNT),
}  # fmt: skip


@pytest.mark.parametrize("kind", HIDDEN)
def test_the_search_finds_a_value_that_is_hidden(kind: str, tmp_path: Path) -> None:
    content, name = HIDDEN[kind](tmp_path)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / ".hidden").write_bytes(content)
    assert ("deep/er/.hidden", name) in leaks(tmp_path, CANARIES)
    assert leaks(tmp_path / "deep", CANARIES, apart=[tmp_path / "deep" / "er"]) == []


def test_the_search_finds_a_value_in_a_name(tmp_path: Path) -> None:
    (tmp_path / TRAIN["job"]).mkdir()
    (tmp_path / TRAIN["job"] / "a").write_text("")
    (tmp_path / "b").symlink_to(f"/tmp/{HOLDOUT['job']}")
    found = leaks(tmp_path, CANARIES)
    assert found == [(TRAIN["job"], LEVEL), (f"{TRAIN['job']}/a", LEVEL), ("b", IN_PEOPLE[1].name)]


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
    assert leaks(tmp_path, CANARIES) == []


# --- the run had them ---


def test_what_may_hold_rows_holds_the_canaries(place: Place) -> None:
    data = place.store / "data"
    everywhere = {name for _, name in leaks(data, CANARIES)}
    assert everywhere >= {c.name for c in (*IN_PEOPLE, *IN_STAYS)}
    copies = next((data / "samples").glob("people.copycat*"))
    assert {name for _, name in leaks(copies, IN_PEOPLE)} == {c.name for c in IN_PEOPLE if "train" in c.name}
    of_stay = next((data / "samples").glob("stays.copycat*"))
    assert {name for _, name in leaks(of_stay, IN_STAYS)} == {c.name for c in IN_STAYS}


@pytest.mark.parametrize("name", CLASSES)
def test_each_careless_generator_told_its_private_log(name: str, place: Place) -> None:
    stores = (place.store, place.home / "full")
    (log,) = (log for store in stores for log in store.glob(f"data/logs/*.careless-{name}.r0.*"))
    assert {TOLD[name].name, *(c.name for c in IN_PEOPLE if "train" in c.name)} <= seen(log.read_bytes(), CANARIES)
    assert log.stat().st_mode & 0o077 == 0


def test_everything_there_is_to_search_was_written(place: Place) -> None:
    public = [p.relative_to(place.store) for p in place.store.rglob("*")
              if p.is_file() and "data" not in p.relative_to(place.store).parts]  # fmt: skip
    for pattern in (
        "mlflow.db", "mlflow-artifacts/*/*/artifacts/report.html", "mlflow-artifacts/*/*/artifacts/record.json",
        "mlflow-artifacts/*/*/artifacts/tuning/trials.csv", "mlflow-artifacts/*/*/artifacts/pictures/*.png",
        "boards/*/board.md", "boards/*/board.csv", "boards/*/board.json", "boards/*/scores.json", "boards/*/cost.md",
        "boards/*/report.html", "boards/*/pictures/*.png", "boards/*/views/*.json", "cells/*/record.json",
        "cells/*/scores.json", "cells/*/cost.json", "studies/*/study.journal", "studies/*/tuned.json",
    ):  # fmt: skip
        assert any(p.match(pattern) for p in public), pattern
    assert not {"honest", "careless"} ^ {p.name for p in (place.store / "boards").iterdir()}
    shared = {p.name for p in (place.home / "shared").iterdir()}
    assert shared >= {"board.md", "board.png", "scores.json", "mine.json", "check.md", "check.xml"}
    assert [p.name for p in (place.home / "rows").iterdir()] == ["rows.csv.card.md"]
    journal = next((place.store / "studies").glob("*Tunes.*/study.journal")).read_text()
    assert "ValueError" in journal


def test_verbs_end_as_they_should(place: Place) -> None:
    fails = {"run careless": 1, "run full": 2, "run bad": 1, "export copies": 2, "export late": 2}
    fails |= {"score no header": 2}
    verbs = {verb: said for verb, said in place.said.items() if not verb.startswith("bad ")}
    fails |= {"check data zones": verbs["check data zones"].code}  # dates in two time zones: read, or one clear line
    assert {verb: said.code for verb, said in verbs.items()} == {verb: fails.get(verb, 0) for verb in verbs}
    for verb, said in verbs.items():
        assert "Traceback" not in said.out + said.err, verb
        assert said.err.count("\n") == (said.code == 2), verb


# --- nothing of them is told ---


@pytest.mark.parametrize("canary", [*CANARIES, CELL], ids=lambda c: c.name)
def test_nothing_outside_tells(canary: Canary, told: list[tuple[str, str]]) -> None:
    assert [where for where, name in told if name == canary.name] == []


def test_identifiers_dates_and_dropped_columns_are_not_even_kept(place: Place) -> None:
    assert leaks(place.store / "data", NEVER_KEPT) == []


def test_what_may_hold_rows_is_ones_own(place: Place) -> None:
    assert len(place.private) == 4
    for folder in place.private:
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_process_with_rows_dumps_no_core(place: Place) -> None:
    said = [line for folder in place.private for log in folder.glob("logs/*.log")
            for line in log.read_text(errors="replace").splitlines() if line.startswith("core dumps")]  # fmt: skip
    assert len(said) > len(CLASSES)
    assert set(said) == {"core dumps up to 0"}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_line_without_its_cells(name: str, place: Place) -> None:
    said = place.said[f"bad {name}"]
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert BAD[name].says in said.err
    assert CELL.name not in seen(said.err.encode(), [CELL])
    (record,) = (json.loads(p.read_text()) for p in (place.home / "bad" / "cells").glob(f"{name}.*/record.json"))
    assert (record["status"], record["fault"]["phase"]) == ("failed", "load")
