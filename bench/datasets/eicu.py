"""eICU Collaborative Research Database 2.0 (Pollard et al. 2018), as PhysioNet distributes it.

The demo release goes through the same code.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from bench.datasets.coded import Coded, flat, lawful_codes
from bench.datasets.data import Data, DataError
from bench.datasets.icd import version_of
from bench.datasets.release import OLDEST, belongs, first_known, levels, read, unique
from bench.datasets.vitals import DAY_S, SAME, Channel, series

STAYS, DEMO_STAYS = 200_859, 2_520
UNKNOWN = ("Other/Unknown", "Unknown", "Other")
TEXT = {"age": "age in years, 90 above 89", "gender": "sex", "race": "ethnicity"}
STATIC = {**TEXT, "unit": "kind of intensive care unit"}
STEP_S, MINUTE_S = 300, 60  # offsets are minutes since the unit was entered: eICU has no dates
CHANNELS = (
    Channel("HR", {"heartrate": SAME}, 1, 300, "heart rate, 1/min"),
    Channel("RR", {"respiration": SAME}, 1, 70, "respiratory rate, 1/min"),
    Channel("SpO2", {"sao2": SAME}, 1, 100, "oxygen saturation, %"),
)
OUTCOMES = {"Expired": True, "Alive": False}


def load_codes(folder: Path, *, level: str = "category") -> Data:
    """Flat: one row per patient with the ICD-9 diagnoses of all unit stays; target: died in hospital.

    None of the systems compared here was published on it: it is what `mimic3-codes` can be checked against in other
    hospitals, with the same cut, levels and tasks.
    """
    stays = _read(folder)
    rows = read(folder, "diagnosis", {"patientunitstayid": "id", "icd9code": "text"})
    belongs(rows, "patientunitstayid", stays["patientunitstayid"], "diagnosis", "patient")
    parts = rows["icd9code"].str.split(",").explode().str.strip()  # "401.9, I10": ICD-9, then the same in ICD-10
    version = parts.map({part: version_of(part) for part in parts.dropna().unique()})
    code, _ = lawful_codes(parts[version == 9], 9, "diagnosis: icd9code")
    code = code.dropna()
    visit = pd.Index(stays["patientunitstayid"]).get_indexer(rows["patientunitstayid"].loc[code.index])
    people = _per_patient(stays)
    facts: dict[str, int | str] = {
        "patients": len(people), "stays": len(stays), "expired": int(stays["died"].eq(True).sum()),
        "diagnoses": len(rows), "codes": code.nunique(), "diagnoses without a code": int(rows["icd9code"].isna().sum()),
        "diagnoses coded in ICD-10 only": len(set(parts.index[version == 10]) - set(code.index)),
        "diagnoses with a code that is neither": int(rows["icd9code"].notna().sum()) - len(
            set(parts.index[version.notna()])
        ),
    }  # fmt: skip
    if len(stays) == DEMO_STAYS:
        facts["subset"] = f"the demo release, {DEMO_STAYS:,} of {STAYS:,} stays"
    return flat(
        Coded(
            people, stays[["subject"]], pd.DataFrame({"visit": visit, "code": code.to_numpy()}), 9, "died",
            {**TEXT, "died": "died in hospital"}, facts,
        ),
        level,
    )  # fmt: skip


def load_mortality(folder: Path, *, readings: Path) -> Data:
    """First 24 hours of the first unit stay, 3 vitals every five minutes; target: died in hospital.

    TarDiff takes 31,065 stays, 3,173 of them (10.2 %) ending in death. Here a stay is a patient's first, as far as eICU
    tells (by year of discharge, hospital stay and visit number), of an adult, at least a day long.
    """
    return series(_first_stays(folder), readings, CHANNELS, target="died", step_s=STEP_S, static=STATIC)


def load_stay(folder: Path, *, readings: Path) -> Data:
    """First 24 hours of the first unit stay, 3 vitals every five minutes; target: it lasts more than three days.

    Of TarDiff's 31,065 stays 13,206 (42.5 %) did.
    """
    return series(_first_stays(folder), readings, CHANNELS, target="long_stay", step_s=STEP_S, static=STATIC)


def readings(folder: Path, to: Path) -> None:
    """The channels' readings in the first day of each patient's first stay, from vitalPeriodic in one pass."""
    import polars as pl

    from bench.datasets.events import scan, write

    stays = _first_stays(folder)
    chosen = pl.LazyFrame({"stay": stays["stay"].to_numpy(), "subject": stays.index.to_numpy()})
    columns = {source: c for c, channel in enumerate(CHANNELS) for source in channel.sources}
    rows = scan(folder, "vitalPeriodic", ("patientunitstayid", "observationoffset", *columns))
    found = (
        rows.select(
            pl.col("observationoffset").cast(pl.Int64, strict=False).mul(MINUTE_S).alias("second"),
            *(pl.col(source).cast(pl.Float64, strict=False) for source in columns),
            stay=pl.col("patientunitstayid").cast(pl.Int64, strict=False),
        )
        .join(chosen, on="stay", how="left")
        .filter(pl.col("subject").is_not_null() | pl.col("stay").is_null())
        .unpivot(list(columns), index=["subject", "second"], variable_name="source", value_name="value")
        .filter(pl.col("value").is_not_null())
        .with_columns(channel=pl.col("source").replace_strict(columns, return_dtype=pl.Int8))
        .with_columns(source=pl.col("channel"), second=pl.when(pl.col("subject").is_not_null()).then(pl.col("second")))
    )
    write(found, to, "vitalPeriodic", within_s=DAY_S)


def _read(folder: Path) -> pd.DataFrame:
    """Unit stays, each patient's together and as far in order of time as eICU tells: by year and visit number.

    `subject` numbers patients, `died` is missing where the discharge status is, `age` is a number of years.
    """
    stays = read(
        folder, "patient",
        {"patientunitstayid": "id", "patienthealthsystemstayid": "id", "uniquepid": "text", "gender": "text",
         "age": "text", "ethnicity": "text", "unittype": "text", "unitvisitnumber": "id",
         "hospitaldischargeyear": "id", "hospitaldischargestatus": "text", "unitdischargeoffset": "id"},
    )  # fmt: skip
    unique(stays, "patientunitstayid", "patient")
    if stays["uniquepid"].isna().any():
        raise DataError(f"patient: {int(stays['uniquepid'].isna().sum()):,} of {len(stays):,} rows have no uniquepid")
    old = stays["age"].fillna("").str.replace(" ", "") == f">{OLDEST - 1}"
    age = pd.to_numeric(stays["age"].mask(old, str(OLDEST)), errors="coerce")
    bad = int((stays["age"].notna() & ~((age >= 0) & (age % 1 == 0))).sum())  # of infinity, the rest is no number
    if bad:
        raise DataError(f'patient: {bad:,} ages are neither whole years nor "> {OLDEST - 1}"')
    stays["age"] = age.clip(upper=OLDEST).astype("Int64")
    stays["died"] = stays["hospitaldischargestatus"].map(OUTCOMES).astype("boolean")
    stays["subject"] = stays["uniquepid"].rank(method="dense").astype("int64") - 1
    by = ["subject", "hospitaldischargeyear", "patienthealthsystemstayid", "unitvisitnumber", "patientunitstayid"]
    return stays.sort_values(by, ignore_index=True)


def _per_patient(stays: pd.DataFrame) -> pd.DataFrame:
    """What is constant of a patient: the first that is known; and whether any stay ended in death in hospital."""
    by = stays.groupby("subject")
    return pd.DataFrame(
        {
            "age": by["age"].first(),
            "gender": levels(first_known(stays, "subject", "gender", UNKNOWN).reindex(by.size().index)),
            "race": levels(first_known(stays, "subject", "ethnicity", UNKNOWN).reindex(by.size().index)),
            "died": stays["died"].fillna(False).astype(bool).groupby(stays["subject"]).any(),
        }
    )


def _first_stays(folder: Path) -> pd.DataFrame:
    """Each patient's first unit stay, as bench/datasets/vitals.py takes them."""
    stays = _read(folder)
    people = _per_patient(stays).drop(columns="died")
    first = stays.drop_duplicates("subject").set_index("subject")
    people["age"] = first["age"]
    people["unit"] = levels(first["unittype"])
    people["died"] = first["died"]
    people["length_s"] = first["unitdischargeoffset"] * MINUTE_S
    people["stay"] = first["patientunitstayid"]
    return people
