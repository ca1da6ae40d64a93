"""PhysioNet/CinC Challenge 2012: ICU stays of 48 hours, as PhysioNet's tar.gz files hold them (one txt a stay).

Six channels on an hourly grid (urine is summed over the hour, consciousness is its last value, the others are means),
five general descriptors static. -1 and impossible values are missing. Target: in-hospital death.

Three sets of 4,000 stays, all laid out alike; 554, 568 and 585 of them end in death. Sets a and b are the default:
boards are made of these. Set c, the challenge's hidden test set, was published after it. A time of 48:00 closes the
last hour; anything later, like a record that stands twice, is no file of the source and refused.
Sources: https://physionet.org/content/challenge-2012/1.0.0/ (layout, units, codes); the deaths of set c: counted by
users of the release (1,707 over the three sets).
"""

import io
import re
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from bench.datasets.data import Data, DataError, expect, has_columns
from bench.datasets.law import Roles

HOURS = 48
SETS = "abc"
STAYS = 4_000  # in each set
HEADER = b"Time,Parameter,Value"
CLOSE = "48:00"
TARGET = "died"
# channel: parameters in order of preference, lowest and highest possible value, how an hour is summed up, description
CHANNELS = {
    "HR": (("HR",), 10, 300, "mean", "heart rate, 1/min"),
    "SBP": (("SysABP", "NISysABP"), 20, 300, "mean", "systolic blood pressure (invasive, else cuff), mmHg"),
    "Temp": (("Temp",), 25, 45, "mean", "temperature, degrees Celsius"),
    "RespRate": (("RespRate",), 2, 80, "mean", "respiratory rate, 1/min"),
    "GCS": (("GCS",), 3, 15, "last", "Glasgow coma scale"),
    "Urine": (("Urine",), 0, 5_000, "sum", "urine output, ml in the hour"),
}
GENDERS = {0: "female", 1: "male"}
UNITS = {1: "coronary", 2: "cardiac surgery", 3: "medical", 4: "surgical"}
DESCRIPTORS = ["RecordID", "Age", "Gender", "Height", "ICUType", "Weight"]
STATIC = ("Age", "Gender", "ICUType", "Height", "Weight", TARGET)


def load(folder: Path, *, sets: str = "ab") -> Data:
    """The stays of the named sets (letters out of "abc"): 48 hourly rows a stay, six channels, six static columns.

    The challenge predicts death from 37 series and tests on set c; EHRDiff flattens stays to 115 numbers. Here an
    hourly grid of six channels keeps its gaps, and set a and b are the default, since c came later.

    folder: holds set-X.tar.gz and Outcomes-X.txt of each set named. Raises DataError where a file is truncated,
    damaged or of another layout, or a record stands twice. Source: PhysioNet, see the top of this module.
    """
    if not sets or not set(sets) <= set(SETS):
        raise DataError(f"sets={sets}: expected one or more of {', '.join(SETS)}, as in sets=ab")
    parts = [_read(folder / f"set-{s}.tar.gz", folder / f"Outcomes-{s}.txt") for s in sorted(set(sets))]
    table = pd.concat([p[0] for p in parts]).sort_index()
    twice = len(table) // HOURS - table.index.get_level_values("subject").nunique()
    if twice:
        raise DataError(f"sets={sets}: {twice:,} records stand in more than one set: one set's file under two names?")
    describe = {name: c[-1] for name, c in CHANNELS.items()} | {
        "Age": "age in years", "Gender": "sex", "ICUType": "kind of intensive care unit", "Height": "height, cm",
        "Weight": "weight on admission, kg", TARGET: "died in hospital",
    }  # fmt: skip
    roles = Roles(
        TARGET, STATIC, sensitive=(TARGET,), quasi=("Age", "Gender", "ICUType"), describe=describe, time_unit="hour"
    )
    facts = {key: sum(p[1][key] for p in parts) for key in parts[0][1]}
    return Data(table, roles, facts=facts)


def _read(archive: Path, outcomes: Path) -> tuple[pd.DataFrame, dict[str, int]]:
    """One set: its table and its counts."""
    events = _events(archive)
    stays = np.sort(events["RecordID"].unique())
    expect(f"{archive.name}: stays", len(stays), STAYS)
    died = _outcomes(outcomes).reindex(stays)
    if not died.isin([0, 1]).all():
        raise DataError(f"{outcomes.name}: not every stay of {archive.name} has an outcome of 0 or 1")

    index = pd.MultiIndex.from_product([stays, range(HOURS)], names=["subject", "time"])
    columns = {name: values.repeat(HOURS).array for name, values in _static(events, stays).items()}
    columns[TARGET] = died.eq(1).repeat(HOURS).array
    table = pd.DataFrame(columns, index=index)
    for name, (parameters, low, high, how, _) in CHANNELS.items():
        table[name] = _channel(events, index, parameters, low, high, how)
    return table, {"stays": len(stays), "rows": len(events), "deaths": int(died.sum())}


def _outcomes(path: Path) -> pd.Series:
    """In-hospital death of each record, 0 or 1 where it is as it should be."""
    try:
        outcomes = pd.read_csv(path)
    except ValueError as error:  # ParserError, EmptyDataError and UnicodeDecodeError are ValueErrors
        raise DataError(f"{path.name}: not a readable csv file: truncated or different?") from error
    has_columns(outcomes, ["RecordID", "In-hospital_death"], path.name)
    expect(f"{path.name}: stays", len(outcomes), STAYS)
    twice = int(outcomes["RecordID"].duplicated().sum())
    if twice:
        raise DataError(f"{path.name}: {twice:,} rows repeat a record that stands there already")
    return outcomes.set_index("RecordID")["In-hospital_death"]


def _events(archive: Path) -> pd.DataFrame:
    """All rows of a set in the order of its files: RecordID, Time, Parameter, Value, hour.

    Raises DataError where the archive or a stay's file in it is not what the source distributes.
    """
    texts = []
    seen: set[str] = set()
    try:
        with tarfile.open(archive) as files:
            for member in files:
                stream = files.extractfile(member) if member.name.endswith(".txt") else None
                if stream is not None:
                    stay = Path(member.name).stem
                    texts.append(_lines(stay, stream.read(), archive.name))
                    if stay in seen:
                        raise DataError(f"{archive.name}: a record stands twice, expected one file a stay")
                    seen.add(stay)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{archive.name}: not a whole tar.gz file of stays: truncated?") from error
    if not texts:
        raise DataError(f"{archive.name}: holds no stay's .txt file: a different archive")
    names = ["RecordID", "Time", "Parameter", "Value"]
    try:
        events = pd.read_csv(
            io.StringIO("".join(texts)), header=None, names=names, dtype={"Parameter": str, "Time": str}
        )
    except ValueError as error:  # ParserError is a ValueError
        raise DataError(f"{archive.name}: a row has more than a time, a parameter and a value") from error
    if events["Value"].dtype.kind not in "if":
        raise DataError(f"{archive.name}: a value is not a number: a different file")
    events["hour"] = _hours(events["Time"], archive.name)
    short = int(events[["Time", "Parameter", "Value"]].isna().any(axis=1).sum())
    if short:
        raise DataError(f"{archive.name}: {short:,} rows lack a time, a parameter or a value: truncated?")
    return events


def _lines(stay: str, body: bytes, archive: str) -> str:
    """A stay's file without its header, its record number before every row."""
    if not (stay.isascii() and stay.isdigit()):
        raise DataError(f"{archive}: a file in it is not named by a record number: a different archive")
    header, _, rows = body.partition(b"\n")
    if header.rstrip() != HEADER:
        raise DataError(f"{archive}: a stay's file does not begin with {HEADER.decode()}: a different file")
    if not rows.isascii():
        raise DataError(f"{archive}: a stay's file holds bytes that are not ASCII: damaged?")
    return "".join(f"{stay},{line}\n" for line in rows.decode("ascii").splitlines() if line)


def _hours(times: pd.Series, archive: str) -> pd.Series:
    """The hour, 0 to 47, of times HH:MM since admission; 48:00 closes the last one."""
    known = times.dropna().unique()
    wrong = [text for text in known if not re.fullmatch(r"\d\d:[0-5]\d", text) or text > CLOSE]
    if wrong:
        raise DataError(f"{archive}: {int(times.isin(wrong).sum()):,} rows have a time that is not HH:MM up to {CLOSE}")
    return times.map({text: min(int(text[:2]), HOURS - 1) for text in known})


def _static(events: pd.DataFrame, stays: np.ndarray) -> dict[str, pd.Series]:
    """The general descriptors of each stay; its first weight is the one on admission."""
    top = events[events["Parameter"].isin(DESCRIPTORS)]
    top = top.drop_duplicates(["RecordID", "Parameter"]).pivot(index="RecordID", columns="Parameter", values="Value")
    top = top.reindex(stays)

    def between(name: str, low: float, high: float) -> pd.Series:
        return top[name].where(top[name].between(low, high))

    return {
        "Age": between("Age", 0, 120).astype("Int64"),
        "Gender": pd.Series(pd.Categorical(top["Gender"].map(GENDERS), list(GENDERS.values())), stays),
        "ICUType": pd.Series(pd.Categorical(top["ICUType"].map(UNITS), list(UNITS.values())), stays),
        "Height": between("Height", 100, 250),
        "Weight": between("Weight", 20, 350),
    }


def _channel(
    events: pd.DataFrame, index: pd.MultiIndex, parameters: tuple[str, ...], low: float, high: float, how: str
) -> np.ndarray:
    """One channel on the grid; a later parameter fills the hours an earlier one leaves empty."""
    values = pd.Series(np.nan, index)
    for parameter in parameters:
        rows = events[(events["Parameter"] == parameter) & events["Value"].between(low, high)]
        hourly = rows.groupby(["RecordID", "hour"])["Value"].agg(how)
        values = values.fillna(hourly.rename_axis(["subject", "time"]).reindex(index))
    return values.to_numpy()
