"""MIMIC-III 1.4 (Johnson et al. 2016), as PhysioNet distributes it: patients, admissions, ICD-9 diagnoses, ICU vitals.

The demo release goes through the same code.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from bench.datasets.coded import Coded, flat, lawful_codes, visits
from bench.datasets.data import Data
from bench.datasets.release import ages, agree, belongs, first_known, levels, read, unique
from bench.datasets.vitals import DAY_S, FAHRENHEIT, SAME, Channel, series

PATIENTS, DEMO_PATIENTS = 46_520, 100
UNKNOWN = ("UNKNOWN/NOT SPECIFIED", "UNABLE TO OBTAIN", "PATIENT DECLINED TO ANSWER")
TEXT = {"age": "age in years, 90 above 89", "gender": "sex", "race": "ethnicity as the hospital writes it"}
UNIT = {"unit": "first intensive care unit"}


def _items(numbers: str, unit: tuple[float, float] = SAME) -> dict[str, tuple[float, float]]:
    return dict.fromkeys(numbers.split(), unit)


# items of both bedside systems (CareVue, MetaVision) after MIT-LCP's mimic-code, concept vitals_first_day, whose ranges
# are open (0 to 300 for a heart rate) and wider for temperatures; items read from catheters and devices are left out
CHANNELS = (
    Channel("HR", _items("211 220045"), 1, 300, "heart rate, 1/min"),
    Channel("SBP", _items("51 442 455 6701 220050 220179"), 1, 400, "systolic blood pressure, mmHg"),
    Channel("DBP", _items("8368 8440 8441 8555 220051 220180"), 1, 300, "diastolic blood pressure, mmHg"),
    Channel("MBP", _items("52 443 456 6702 220052 220181 225312"), 1, 300, "mean blood pressure, mmHg"),
    Channel("RR", _items("615 618 220210 224690"), 1, 70, "respiratory rate, 1/min"),
    Channel("Temp", _items("676 223762") | _items("678 223761", FAHRENHEIT), 25, 45, "temperature, degrees Celsius"),
    Channel("SpO2", _items("646 220277"), 1, 100, "oxygen saturation, %"),
)


def load_codes(folder: Path, *, level: str = "category") -> Data:
    """Flat: one row per patient with the ICD-9 diagnoses of all admissions; target: died in hospital.

    EHRDiff (Yuan et al. 2023) takes the codes alone, 46,520 patients by 1,782 columns, 41,868 to train on, and EHR-D3PM
    (Han et al. 2024) follows it. Here the cut is the same (external causes to four characters, others to three); age at
    the first admission, sex and ethnicity stand beside the codes, since they are what an attacker knows. EHR-D3PM
    predicts six diseases that it names without codes: `target=type-2-diabetes` asks for one of them, by the sets in
    bench/datasets/coded.py (also `asthma`, `copd`, `ckd`, `hypertensive-heart-disease`, `osteoarthritis`), and takes
    the columns that define it out of the table.

    level: what codes are cut to: "category", "full" (not cut), "ccs" (single-level groups of CCS) or "chapter".
    """
    return flat(_coded(folder), level)


def load_visits(folder: Path, *, level: str = "category") -> Data:
    """Longitudinal: one row per admission in order of time, with its ICD-9 diagnoses; target: died in hospital.

    The BART generator took 3,000 of these patients by default, with full codes (`level=full`), and its labels were its
    encoder's input. Here all are taken, and age is that at each admission.
    """
    return visits(_coded(folder), level)


def load_mortality(folder: Path, *, readings: Path) -> Data:
    """First 24 hours of the first ICU stay, 7 vitals hourly; target: died in hospital.

    TarDiff (Deng et al. 2025) trains on 20,920 stays, 1,680 of them (8.0 %) ending in death; how they were chosen is
    not published, and readings of all channels were brought to one scale by one distribution, fitted before the split.
    Its model of the real readings reaches an AUROC of .635. Here a stay is a patient's first, of an adult, at least a
    day long, so that no patient is on both sides of a split and all are at risk when the grid ends; an hour without a
    reading is missing.
    """
    return series(_stays(folder), readings, CHANNELS, target="died", step_s=3_600, static={**TEXT, **UNIT})


def load_stay(folder: Path, *, readings: Path) -> Data:
    """First 24 hours of the first ICU stay, 7 vitals hourly; target: the stay lasts more than three days.

    Of TarDiff's 20,920 stays 2,869 (13.7 %) did. Here the length is that from INTIME to OUTTIME, of the stays of
    `mimic3-mortality`.
    """
    return series(_stays(folder), readings, CHANNELS, target="long_stay", step_s=3_600, static={**TEXT, **UNIT})


def readings(folder: Path, to: Path) -> None:
    """The channels' readings in the first day of each patient's first ICU stay, from CHARTEVENTS in one pass.

    Subjects are numbered in order of SUBJECT_ID, sources are items. A row marked as an error or without a number is no
    reading. A row is a stay's by patient and time, since many carry no ICUSTAY_ID.
    """
    import polars as pl

    from bench.datasets.events import as_time, scan, write

    stays = _first_stays(folder)
    begin = stays["intime"].to_numpy("datetime64[ms]")
    begins = pl.LazyFrame({"who": stays["subject_id"].to_numpy(), "subject": stays.index.to_numpy(), "begin": begin})
    sources = [(item, c, *unit) for c, channel in enumerate(CHANNELS) for item, unit in channel.sources.items()]
    items = pl.LazyFrame(sources, ["item", "channel", "factor", "shift"], orient="row")
    rows = scan(folder, "CHARTEVENTS", ("subject_id", "itemid", "charttime", "valuenum", "error"))
    found = (
        rows.filter(
            pl.col("itemid").is_in([item for item, *_ in sources]),
            (pl.col("error").fill_null("") == "") | (pl.col("error").cast(pl.Float64, strict=False) == 0),
        )
        .select(
            who=pl.col("subject_id").cast(pl.Int64, strict=False),
            item=pl.col("itemid"),
            at=as_time("charttime"),
            value=pl.col("valuenum").cast(pl.Float64, strict=False),
        )
        .filter(pl.col("value").is_not_null())
        .join(begins.drop_nulls(), on="who", how="left")
        .filter(pl.col("subject").is_not_null() | pl.col("who").is_null())
        .join(items, on="item")
        .with_columns(
            source=pl.col("item").cast(pl.Int32),
            second=(pl.col("at") - pl.col("begin")).dt.total_seconds(),
            value=pl.col("value") * pl.col("factor") + pl.col("shift"),
        )
    )
    write(found, to, "CHARTEVENTS", within_s=DAY_S)


def _patients(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Patients, and admissions in order of time. Raises DataError where they do not fit together."""
    patients = read(folder, "PATIENTS", {"subject_id": "id", "gender": "text", "dob": "time"})
    unique(patients, "subject_id", "PATIENTS")
    admissions = read(
        folder, "ADMISSIONS",
        {"subject_id": "id", "hadm_id": "id", "admittime": "time", "ethnicity": "text", "hospital_expire_flag": "flag"},
    )  # fmt: skip
    unique(admissions, "hadm_id", "ADMISSIONS")
    belongs(admissions, "subject_id", patients["subject_id"], "ADMISSIONS", "PATIENTS")
    admissions = admissions.sort_values(["subject_id", "admittime", "hadm_id"], ignore_index=True)
    admissions = admissions.merge(patients[["subject_id", "dob"]], on="subject_id", how="left")
    admissions["age"] = ages(admissions.pop("dob"), admissions["admittime"], "ADMISSIONS: patients at ADMITTIME")
    return patients.set_index("subject_id").sort_index(), admissions


def _coded(folder: Path) -> Coded:
    patients, admissions = _patients(folder)
    diagnoses = read(folder, "DIAGNOSES_ICD", {"subject_id": "id", "hadm_id": "id", "icd9_code": "text"})
    belongs(diagnoses, "hadm_id", admissions["hadm_id"], "DIAGNOSES_ICD", "ADMISSIONS")
    agree(diagnoses, "hadm_id", "subject_id", admissions, "DIAGNOSES_ICD", "ADMISSIONS")
    code, strange = lawful_codes(diagnoses["icd9_code"], 9, "DIAGNOSES_ICD")
    visit = pd.Index(admissions["hadm_id"]).get_indexer(diagnoses["hadm_id"])
    by = admissions.groupby("subject_id")
    people = pd.DataFrame(
        {
            "age": by["age"].first().reindex(patients.index),
            "gender": levels(patients["gender"]),
            "race": levels(first_known(admissions, "subject_id", "ethnicity", UNKNOWN).reindex(patients.index)),
            "died": by["hospital_expire_flag"].any().reindex(patients.index, fill_value=False),
        },
        index=patients.index,
    )
    facts: dict[str, int | str] = {
        "patients": len(patients), "admissions": len(admissions), "diagnoses": len(diagnoses),
        "codes": code.nunique(), "diagnoses without a code": int(diagnoses["icd9_code"].isna().sum()),
        "diagnoses not of ICD-9's form": strange,
    }  # fmt: skip
    if len(patients) == DEMO_PATIENTS:
        facts["subset"] = f"the demo release, {DEMO_PATIENTS} of {PATIENTS:,} patients"
    return Coded(
        people, admissions[["subject_id", "age"]].rename(columns={"subject_id": "subject"}),
        pd.DataFrame({"visit": visit, "code": code}).dropna(), 9, "died",
        {**TEXT, "died": "died in hospital"}, facts,
    )  # fmt: skip


def _first_stays(folder: Path) -> pd.DataFrame:
    """Each patient's first ICU stay, numbered in order of SUBJECT_ID."""
    stays = read(
        folder, "ICUSTAYS",
        {"subject_id": "id", "hadm_id": "id", "icustay_id": "id", "intime": "time", "outtime": "time",
         "first_careunit": "text"},
    )  # fmt: skip
    unique(stays, "icustay_id", "ICUSTAYS")
    stays = stays.sort_values(["subject_id", "intime", "icustay_id"]).drop_duplicates("subject_id")
    return stays.reset_index(drop=True)


def _stays(folder: Path) -> pd.DataFrame:
    """First stays as bench/datasets/vitals.py takes them."""
    patients, admissions = _patients(folder)
    stays = _first_stays(folder)
    belongs(stays, "hadm_id", admissions["hadm_id"], "ICUSTAYS", "ADMISSIONS")
    agree(stays, "hadm_id", "subject_id", admissions, "ICUSTAYS", "ADMISSIONS")
    of = admissions.set_index("hadm_id").loc[stays["hadm_id"]]
    who = patients.loc[stays["subject_id"]]
    race = first_known(admissions, "subject_id", "ethnicity", UNKNOWN).reindex(stays["subject_id"])
    return pd.DataFrame(
        {
            "age": ages(who["dob"].reset_index(drop=True), stays["intime"], "ICUSTAYS: patients at INTIME").array,
            "gender": levels(who["gender"]),
            "race": levels(race),
            "unit": levels(stays["first_careunit"]),
            "died": of["hospital_expire_flag"].astype("boolean").array,
            "length_s": (stays["outtime"] - stays["intime"]).dt.total_seconds().array,
        },
        index=stays.index.rename("subject"),
    )
