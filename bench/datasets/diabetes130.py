"""Diabetes 130-US hospitals, 1999-2008 (UCI 296): 101,766 encounters of 71,518 patients, as UCI's zip holds them.

Diagnoses are cut to ICD-9 categories (the file has lost leading zeros: they are put back), drugs are flags (any dose
statement but "No"), '?' and 'Unknown/Invalid' are missing. Target: any readmission within 30 days.
"""

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from bench.datasets.data import Data, DataError, expect, has_columns
from bench.datasets.icd import category9
from bench.datasets.icd_names import describe
from bench.datasets.law import Roles

FILE = "dataset_diabetes.zip"
TARGET = "readmitted_30d"
DIAGNOSES = ["diag_1", "diag_2", "diag_3"]
FIRST_DRUG, LAST_DRUG = "metformin", "metformin-pioglitazone"
AGES = [f"[{a}-{a + 10})" for a in range(0, 100, 10)]
RACES = ["AfricanAmerican", "Asian", "Caucasian", "Hispanic", "Other"]
QUASI = ("age", "gender", "race")


def load(folder: Path) -> Data:
    """Flat: one row per patient, codes and drugs united over encounters, age of the first encounter.

    Most papers take an encounter for a subject, so that random splits share patients. Here a patient is one, and
    codes are categories. The target grows with the number of encounters: much of what predicts it is how often
    somebody came.
    """
    encounters, codes, drugs = _read(folder)
    by = encounters["subject"].to_numpy()
    first = encounters.groupby("subject", sort=True)[list(QUASI)].first()
    ever = pd.concat([codes, drugs], axis=1).groupby(by, sort=True).any()
    target = encounters.groupby("subject", sort=True)[TARGET].any()
    table = pd.concat([first, target, ever], axis=1)
    table.index = pd.Index(table.index, name="subject")
    return Data(table, _roles(codes, drugs, static=()), facts=_facts(encounters, codes))


def load_visits(folder: Path) -> Data:
    """Longitudinal: one row per encounter by its number; race, gender and target constant, age per encounter.

    The patients, codes and target of `diabetes130`.
    """
    encounters, codes, drugs = _read(folder)
    front = encounters[[*QUASI, TARGET]].copy()
    front[TARGET] = encounters.groupby("subject")[TARGET].transform("any")
    for column in ("race", "gender"):  # a patient's first known value: a few change between encounters
        front[column] = encounters.groupby("subject")[column].transform("first")
    table = pd.concat([front, codes, drugs], axis=1)
    time = encounters.groupby("subject").cumcount()
    table.index = pd.MultiIndex.from_arrays([encounters["subject"], time], names=["subject", "time"])
    static = ("gender", "race", TARGET)
    return Data(table, _roles(codes, drugs, static=static, time_unit="visit"), facts=_facts(encounters, codes))


def _read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Encounters sorted by patient and encounter number, with their code flags and drug flags (same rows)."""
    raw = _csv(folder / FILE)
    expect(f"{FILE}: encounters", len(raw), 101_766)
    for column in ("patient_nbr", "encounter_id"):
        raw[column] = raw[column].astype("int64")
    raw = raw.sort_values(["patient_nbr", "encounter_id"]).reset_index(drop=True)
    encounters = pd.DataFrame(
        {
            "subject": raw["patient_nbr"],
            "age": pd.Categorical(raw["age"], AGES, ordered=True),
            "gender": pd.Categorical(raw["gender"].where(raw["gender"] != "Unknown/Invalid"), ["Female", "Male"]),
            "race": pd.Categorical(raw["race"].where(raw["race"] != "?"), RACES),
            TARGET: raw["readmitted"] == "<30",
        }
    )
    drugs = raw.loc[:, FIRST_DRUG:LAST_DRUG].ne("No").rename(columns=lambda c: f"drug {c}")
    return encounters, _flags(raw[DIAGNOSES]), drugs


def _csv(path: Path) -> pd.DataFrame:
    try:
        with zipfile.ZipFile(path) as archive:
            inside = [n for n in archive.namelist() if n.endswith("diabetic_data.csv")]
            if not inside:
                raise DataError(f"{path.name}: holds no diabetic_data.csv: a different file")
            with archive.open(inside[0]) as stream:
                raw = pd.read_csv(stream, dtype=str, keep_default_na=False)
    except (zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{path.name}: not a whole zip file: truncated?") from error
    wanted = ["encounter_id", "patient_nbr", "race", "gender", "age", "readmitted", FIRST_DRUG, LAST_DRUG, *DIAGNOSES]
    has_columns(raw, wanted, path.name)
    return raw


def _flags(diagnoses: pd.DataFrame) -> pd.DataFrame:
    """Bool columns, one per ICD-9 category, in order of the category."""
    cuts = {code: category9(code) for code in pd.unique(diagnoses.to_numpy().ravel()) if code != "?"}
    names = sorted(set(cuts.values()))
    place = {name: i for i, name in enumerate(names)}
    flags = np.zeros((len(diagnoses), len(names)), bool)
    for column in diagnoses:
        at = diagnoses[column].map({code: place[cut] for code, cut in cuts.items()})
        rows = at.notna().to_numpy()
        flags[rows, at[rows].to_numpy().astype(int)] = True
    return pd.DataFrame(flags, columns=names)


def _roles(codes: pd.DataFrame, drugs: pd.DataFrame, *, static: tuple[str, ...], time_unit: str | None = None) -> Roles:
    text = describe(codes.columns, 9) | {d: f"was given {d.removeprefix('drug ')}" for d in drugs}
    text |= {"age": "age group", "gender": "sex", "race": "race", TARGET: "readmitted within 30 days"}
    flags = (*codes.columns, *drugs.columns)
    return Roles(TARGET, static, flags, (*flags, TARGET), QUASI, describe=text, time_unit=time_unit)


def _facts(encounters: pd.DataFrame, codes: pd.DataFrame) -> dict[str, int | str]:
    return {
        "encounters": len(encounters),
        "patients": encounters["subject"].nunique(),
        "diagnosis_codes": codes.shape[1],
    }
