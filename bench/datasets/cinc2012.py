"""PhysioNet/CinC Challenge 2012: ICU stays of 48 hours, as PhysioNet's tar.gz files hold them (one txt a stay).

Six channels on an hourly grid (urine is summed over the hour, consciousness is its last value, the others are means),
five general descriptors static. -1 and impossible values are missing. Target: in-hospital death.
"""

import io
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from bench.datasets.data import Data, DataError, expect, has_columns
from bench.datasets.law import Roles

HOURS = 48
STAYS = 4_000  # in each set
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
    """The stays of the named sets ("a", "b" or "ab"): 48 rows each."""
    if not sets or not set(sets) <= set("ab"):
        raise DataError(f"sets={sets}: expected a, b or ab")
    parts = [_read(folder / f"set-{s}.tar.gz", folder / f"Outcomes-{s}.txt") for s in sorted(set(sets))]
    table = pd.concat([p[0] for p in parts]).sort_index()
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
    deaths = pd.read_csv(outcomes)
    has_columns(deaths, ["RecordID", "In-hospital_death"], outcomes.name)
    expect(f"{outcomes.name}: stays", len(deaths), STAYS)
    died = deaths.set_index("RecordID")["In-hospital_death"].reindex(stays)
    if not died.isin([0, 1]).all():
        raise DataError(f"{outcomes.name}: not every stay of {archive.name} has an outcome of 0 or 1")

    index = pd.MultiIndex.from_product([stays, range(HOURS)], names=["subject", "time"])
    columns = {name: values.repeat(HOURS).array for name, values in _static(events, stays).items()}
    columns[TARGET] = died.eq(1).repeat(HOURS).array
    table = pd.DataFrame(columns, index=index)
    for name, (parameters, low, high, how, _) in CHANNELS.items():
        table[name] = _channel(events, index, parameters, low, high, how)
    return table, {"stays": len(stays), "rows": len(events), "deaths": int(died.sum())}


def _events(archive: Path) -> pd.DataFrame:
    """All rows of a set in the order of its files: RecordID, hour, Parameter, Value."""
    texts = []
    try:
        with tarfile.open(archive) as files:
            for member in files:
                stream = files.extractfile(member) if member.name.endswith(".txt") else None
                if stream is not None:
                    body = stream.read().decode("ascii").split("\n", 1)[1]
                    stay = Path(member.name).stem
                    texts.append("".join(f"{stay},{line}\n" for line in body.splitlines() if line))
    except (tarfile.TarError, EOFError, OSError, zlib.error, IndexError, UnicodeDecodeError) as error:
        raise DataError(f"{archive.name}: not a whole tar.gz file of stays: truncated?") from error
    names = ["RecordID", "Time", "Parameter", "Value"]
    events = pd.read_csv(io.StringIO("".join(texts)), header=None, names=names, dtype={"Parameter": str, "Time": str})
    if events["Value"].dtype.kind not in "if":
        raise DataError(f"{archive.name}: a value is not a number: a different file")
    events["hour"] = events["Time"].str.slice(0, 2).astype("int64").clip(upper=HOURS - 1)  # 48:00 closes the last hour
    return events


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
