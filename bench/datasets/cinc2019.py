"""PhysioNet/CinC Challenge 2019, early sepsis: ICU records hour by hour, one psv file a patient, as a landmark task.

The challenge asks for a label every hour and scores its timeliness (its utility score). A generator's table has one
target a patient, so the question here is another one: *of the patients still in their record after `hours` hours and
not labelled by then, who is labelled later?* Every subject has exactly `hours` rows; what comes after is never seen.

Why so. SepsisLabel turns 1 six hours before the onset of sepsis, and records end with the outcome: those of septic
patients at most three hours after onset, nearly all others by hour 60 of the stay. A table of whole records would give
the target away by its length, its last rows and the rows that carry the label. Hence the fixed window, and no `hours`
beyond 48, as hardly anybody without sepsis is left soon after. Patients labelled within the window are left out: their
onset lies in it or at most six hours after it, so that what is asked is sepsis more than six hours ahead. `facts` count
all who are left out.

Hours are those of the record: time 0 is its first row (ICULOS starts above 1 in a third of set A), and an hour that
ICULOS skips is a row of missing values. EtCO2 (never recorded in set A) and 26 laboratory values (most of them missing
in nine hours of ten and more) are left out. Static values are those of the first row.

Sources: https://physionet.org/content/challenge-2019/1.0.0/ (columns, units, codes, label, 20,336 and 20,000 patients;
CC BY 4.0); Reyna et al., Crit Care Med 48(2), 2020. 1,790 and 1,142 septic patients, 790,215 and 761,995 rows, and how
records end, are counts by users of the release.
"""

import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from bench.datasets.data import Data, DataError, expect
from bench.datasets.law import Roles

TARGET = "sepsis"
PATIENTS = {"a": 20_336, "b": 20_000}
LEAST_HOURS, MOST_HOURS = 6, 48
SETS = {"a": "training_setA", "b": "training_setB"}
# where a set may be, first match wins: PhysioNet's folders, alone or mirrored; the archives that the challenge gave out
# at first; and what those unpack to (set A's unpacks to "training")
PLACES = {
    "training_setA": ("training_setA", "training/training_setA", "training", "training_setA.zip"),
    "training_setB": ("training_setB", "training/training_setB", "training_setB.zip"),
}
# channel: lowest and highest possible value, description
CHANNELS = {
    "HR": (10, 300, "heart rate, 1/min"),
    "O2Sat": (20, 100, "oxygen saturation by pulse oximetry, %"),
    "Temp": (25, 45, "temperature, degrees Celsius"),
    "SBP": (20, 300, "systolic blood pressure, mmHg"),
    "MAP": (15, 250, "mean arterial pressure, mmHg"),
    "DBP": (10, 200, "diastolic blood pressure, mmHg"),
    "Resp": (2, 80, "respiratory rate, 1/min"),
}
GENDERS = {0: "female", 1: "male"}
UNITS = ["medical", "surgical"]  # Unit1 (MICU), Unit2 (SICU)
OLDEST = 90  # the source gives 100 for everybody of 90 and more
FURTHEST = 24 * 366  # hours between hospital and unit; more is no admission time
STATIC = ("Age", "Gender", "Unit", "HospAdmTime", TARGET)
WANTED = [*CHANNELS, "Age", "Gender", "Unit1", "Unit2", "HospAdmTime", "ICULOS", "SepsisLabel"]
LONGEST = 24 * 366  # hours in the unit; the source cuts records after two weeks
TOGETHER = 2_000  # files parsed at once: some 13 MB of text


def load(folder: Path, *, sets: str = "ab", hours: int = 24) -> Data:
    """Patients at risk after `hours` hours: so many rows each, seven vital signs, four static columns and the target.

    Entries of the challenge give a risk every hour, scored by a utility around the onset, on a third hospital that
    nobody has; here it is one question a patient at a landmark, so that no AUROC compares with a score of theirs.
    No generator was published on it as far as we know.

    sets: letters out of "ab". hours: 6 to 48. Static: Age (whole years, 90 for 90 and more), Gender, Unit (missing
    where the source does not say), HospAdmTime (hours). Impossible values are missing; a Unit1 and Unit2 both 1 too.
    Facts: patients, hours (rows) and septic patients of all records read; how many were left out, as labelled by then
    or, if not, as their record is shorter; skipped hours filled in the window; subjects and positives of the table.
    Raises DataError where a set is absent or not whole, a file is no psv of the challenge or ends in mid-row, a patient
    stands twice, ICULOS does not increase, or a label is not 0 or 1. Source: PhysioNet, see the top of this module.
    """
    if not sets or not set(sets) <= set(PATIENTS):
        raise DataError(f"sets={sets}: expected one or more of {', '.join(PATIENTS)}, as in sets=ab")
    if not LEAST_HOURS <= hours <= MOST_HOURS:
        raise DataError(
            f"hours={hours}: expected {LEAST_HOURS} to {MOST_HOURS}: records without sepsis end soon after that"
        )
    facts: dict[str, int | str] = {}
    parts = []
    for s in sorted(set(sets)):
        place, n = locate(folder, SETS[s]), 0
        if place is None:
            raise DataError(f"{SETS[s]} is missing in {folder}: expected a folder of psv files or {SETS[s]}.zip")
        for rows in _records(place):
            part, counts = _landmark(rows, hours, place.name)
            parts.append(part)
            n += counts["patients"]
            facts |= {key: int(facts.get(key, 0)) + count for key, count in counts.items()}
        expect(f"{place.name}: patients", n, PATIENTS[s])
    table = pd.concat(parts).sort_index()
    if table.index.has_duplicates:
        raise DataError(f"sets={sets}: a patient stands in more than one set: one set's files under two names?")
    describe = {name: c[-1] for name, c in CHANNELS.items()} | {
        "Age": "age in years, 90 for 90 and older", "Gender": "sex", "Unit": "kind of intensive care unit",
        "HospAdmTime": "admission to hospital minus admission to the unit, hours",
        TARGET: "becomes septic later in the stay",
    }  # fmt: skip
    roles = Roles(
        TARGET, STATIC, sensitive=(TARGET,), quasi=("Age", "Gender", "Unit"), describe=describe, time_unit="hour"
    )
    return Data(table, roles, facts=facts)


def locate(folder: Path, name: str) -> Path | None:
    """Where a folder has a set ("training_setA" or "training_setB"): a folder of psv files or an archive; or None."""
    for place in PLACES.get(name, ()):
        path = folder / place
        if path.is_file() or (path.is_dir() and any(path.glob("*.psv"))):
            return path
    return None


def _records(place: Path) -> Iterator[pd.DataFrame]:
    """Whole records of a set, TOGETHER patients at a time: subject and the columns wanted, in order of the files."""
    who: list[int] = []
    seen: set[int] = set()
    texts: list[bytes] = []
    header: bytes | None = None
    for name, body in _bodies(place):
        stem = name.removesuffix(".psv").removeprefix("p")
        if not (stem.isascii() and stem.isdigit()):
            raise DataError(f"{place.name}: a file is not named p and a number: expected p000001.psv and so on")
        if int(stem) in seen:
            raise DataError(f"{place.name}: a patient stands twice, expected one file a patient")
        seen.add(int(stem))
        first, _, rest = body.partition(b"\n")
        first, rest = first.rstrip(), rest.rstrip()
        if header is None:
            header = first
        elif first != header:
            raise DataError(f"{place.name}: files differ in their header: one is damaged or of another source")
        if not rest:
            raise DataError(f"{place.name}: a patient's file has no rows: truncated?")
        who.append(int(stem))
        texts.append(rest + b"\n")
        if len(who) == TOGETHER:
            yield _parse(who, texts, header, place.name)
            who, texts = [], []
    if who and header is not None:
        yield _parse(who, texts, header, place.name)


def _bodies(place: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every psv file of a folder or an archive, in order of the name."""
    if place.is_dir():
        for path in sorted(place.glob("*.psv")):
            yield path.name, path.read_bytes()
        return
    try:
        with zipfile.ZipFile(place) as archive:
            members = [m for m in archive.namelist() if m.endswith(".psv") and not m.startswith("__MACOSX/")]
            for member in sorted(members, key=lambda m: m.rsplit("/", 1)[-1]):
                yield member.rsplit("/", 1)[-1], archive.read(member)
    except (zipfile.BadZipFile, EOFError, RuntimeError, zlib.error) as error:  # RuntimeError: encrypted
        raise DataError(f"{place.name}: not a whole zip file: truncated?") from error


def _parse(who: list[int], texts: list[bytes], header: bytes, what: str) -> pd.DataFrame:
    """Rows of whole files, numbers checked for being numbers and rows for being whole."""
    names = header.decode("ascii", errors="replace").split("|")
    absent = [c for c in WANTED if c not in names]
    if absent:
        raise DataError(f"{what}: lacks column {', '.join(absent[:5])}: a different file, or not separated by |")
    body, lines = b"".join(texts), [text.count(b"\n") for text in texts]
    odd = DataError(f"{what}: a row is not {len(names)} numbers separated by |: damaged or truncated")
    if not body.isascii() or body.count(b"|") > (len(names) - 1) * sum(lines):
        raise odd
    try:
        rows = pd.read_csv(
            io.BytesIO(body), sep="|", header=None, names=names, usecols=WANTED, dtype="float64", skip_blank_lines=False
        )
    except ValueError:  # ParserError is one; what it says may quote a cell
        raise odd from None
    if len(rows) != sum(lines) or not rows["SepsisLabel"].isin([0, 1]).all():  # the last column: missing in a cut row
        raise odd
    rows.insert(0, "subject", np.repeat(who, lines))
    return rows


def _landmark(rows: pd.DataFrame, hours: int, what: str) -> tuple[pd.DataFrame, dict[str, int]]:
    """The patients at risk among whole records, on the grid, and the counts of all of them."""
    start = rows["subject"].to_numpy() != rows["subject"].shift().to_numpy()
    icu = rows["ICULOS"].to_numpy()
    if not np.isin(icu, range(LONGEST)).all() or (np.diff(icu)[~start[1:]] < 1).any():
        raise DataError(f"{what}: ICULOS does not count hours upwards within every record: damaged or different")
    first = np.flatnonzero(start)
    hour = (icu - np.repeat(icu[first], np.diff([*first, len(rows)]))).astype("int64")
    labelled = rows["SepsisLabel"].to_numpy() == 1
    by = pd.DataFrame(
        {"last": hour, "septic": labelled, "early": labelled & (hour < hours)}, rows["subject"].to_numpy()
    ).groupby(level=0, sort=True)
    known = by.agg({"last": "max", "septic": "any", "early": "any"})
    early = known["early"]
    short = (known["last"] + 1 < hours) & ~early
    kept = known.index[~short & ~early]

    window = rows[(hour < hours) & rows["subject"].isin(kept).to_numpy()]
    index = pd.MultiIndex.from_product([kept, range(hours)], names=["subject", "time"])
    at = np.searchsorted(kept, window["subject"]) * hours + hour[window.index]
    columns = {name: values.repeat(hours).array for name, values in _static(rows.iloc[first], kept).items()}
    columns[TARGET] = known.loc[kept, "septic"].repeat(hours).array
    for name, (low, high, _) in CHANNELS.items():
        grid = np.full(len(index), np.nan)
        grid[at] = window[name].where(window[name].between(low, high))
        columns[name] = grid
    counts = {
        "patients": len(known), "hours": len(rows), "septic": int(known["septic"].sum()),
        "left out: labelled": int(early.sum()), "left out: short": int(short.sum()),
        "hours filled": len(index) - len(window), "subjects": len(kept),
        "positives": int(known.loc[kept, "septic"].sum()),
    }  # fmt: skip
    return pd.DataFrame(columns, index=index), counts


def _static(firsts: pd.DataFrame, kept: pd.Index) -> dict[str, pd.Series]:
    """The static columns of each patient kept, from first rows."""
    top = firsts.set_index("subject").loc[kept]
    medical, surgical = top["Unit1"].eq(1), top["Unit2"].eq(1)
    unit = np.select([medical & ~surgical, surgical & ~medical], [0, 1], -1)
    age = np.floor(top["Age"].where(top["Age"].between(0, 120))).clip(upper=OLDEST)
    return {
        "Age": age.astype("Int64"),
        "Gender": pd.Series(pd.Categorical(top["Gender"].map(GENDERS), list(GENDERS.values())), kept),
        "Unit": pd.Series(pd.Categorical.from_codes(unit, UNITS), kept),
        "HospAdmTime": top["HospAdmTime"].where(top["HospAdmTime"].abs() <= FURTHEST),
    }
