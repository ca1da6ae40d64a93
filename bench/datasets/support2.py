"""SUPPORT2: 9,105 seriously ill adults in five US hospitals, 1989-1994, as UCI (880) or hbiostat.org hand it out.

One row a patient, what was known on day 3 of the study; target: died in hospital (2,360, 25.9 %). LEFT_OUT says which
columns are no inputs and why: outcomes, what accrues until the stay ends, forecasts of the outcome made at the time or
fitted to these very patients, and functions of other columns. Missing values stay missing: neither the fill-in values
that the source suggests nor its imputed column (adlsc) are used. Physiology is rounded to the decimals it was measured
in (the source's 1.19995 is a 1.2 stored short), age down to whole years. A value outside the range in NUMBERS is
missing; 0 for a pulse or pressure (an arrest) stays. Units are the usual American ones: the source names few.

Sources: https://archive.ics.uci.edu/dataset/880/support2 (CC BY 4.0; rows, names, levels); https://hbiostat.org/data
(labels, and its advice to leave aps, sps, surv2m, surv6m, prognoses and dnr out of a model that is to stand on its
own); Knaus et al., Ann Intern Med 122(3), 1995 (the SUPPORT model: fitted to the first 4,301 of these patients). The
number of deaths in hospital: counted by users of the release.
"""

import csv
import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from bench.datasets.data import Data, DataError, expect, has_columns
from bench.datasets.law import Roles

FILES = ("support2.zip", "support2csv.zip", "support2.csv")  # UCI's, hbiostat's, and what is in both
INSIDE = "support2.csv"
PATIENTS = 9_105
TARGET = "hospdead"
IDS = ("id", "")  # how copies head the column of row numbers, where they do
# column: lowest and highest possible value, decimals, description
NUMBERS: dict[str, tuple[float, float, int, str]] = {
    "edu": (0, 40, 0, "education, years"),
    "scoma": (0, 100, 0, "SUPPORT coma score on day 3, from the Glasgow scale (0 awake, 100 worst)"),
    "aps": (0, 300, 0, "APACHE III physiology score on day 3, without the coma part"),
    "meanbp": (0, 300, 0, "mean arterial blood pressure on day 3, mmHg"),
    "wblc": (0, 500, 1, "white blood cells on day 3, thousands per mm3"),
    "hrt": (0, 350, 0, "heart rate on day 3, 1/min"),
    "resp": (0, 120, 0, "respiratory rate on day 3, 1/min"),
    "temp": (25, 45, 1, "temperature on day 3, degrees Celsius"),
    "pafi": (0, 1_000, 1, "PaO2 over FiO2 on day 3, mmHg"),
    "alb": (0, 30, 1, "serum albumin on day 3, g/dl"),
    "bili": (0, 100, 1, "bilirubin on day 3, mg/dl"),
    "crea": (0, 50, 1, "serum creatinine on day 3, mg/dl"),
    "sod": (80, 220, 0, "serum sodium on day 3, mmol/l"),
    "ph": (6, 8.5, 2, "arterial pH on day 3"),
    "glucose": (0, 2_000, 0, "glucose on day 3, mg/dl"),
    "bun": (0, 400, 0, "blood urea nitrogen on day 3, mg/dl"),
    "urine": (0, 20_000, 0, "urine output on day 3, ml"),
    "adlp": (0, 7, 0, "activities of daily living that need help, the patient's answer"),
    "adls": (0, 7, 0, "activities of daily living that need help, a relative's answer"),
}
COUNTS: dict[str, tuple[float, float, str]] = {
    "num.co": (0, 20, "number of comorbidities"),
    "hday": (1, 1_000, "day in hospital at entry into the study"),
}
FLAGS = {"diabetes": "diabetes", "dementia": "dementia"}
LEVELS = {
    "sex": (["female", "male"], False, "sex"),
    "race": (["asian", "black", "hispanic", "other", "white"], False, "race"),
    "income": (["under $11k", "$11-$25k", "$25-$50k", ">$50k"], True, "income a year"),
    "dzgroup": (
        ["ARF/MOSF w/Sepsis", "CHF", "COPD", "Cirrhosis", "Colon Cancer", "Coma", "Lung Cancer", "MOSF w/Malig"],
        False,
        "disease for which the patient entered the study",
    ),
    "ca": (["no", "yes", "metastatic"], True, "cancer"),
}
LEFT_OUT = {
    "death": "an outcome: dead at any time of follow-up; every death in hospital is one",
    "d.time": "an outcome: days of follow-up, which end with a death",
    "sfdm2": "an outcome: disability two months on, with a level for those who died before",
    "slos": "known when the stay ends: its length, ended by the death",
    "charges": "known when the stay ends: they accrue to its last day",
    "totcst": "known when the stay ends: costs accrue to its last day",
    "totmcst": "known when the stay ends: costs accrue to its last day",
    "avtisst": "known later: intensity of treatment averaged over days 3 to 25",
    "dnr": "a foreseen outcome: an order not to resuscitate, often written after day 3",
    "dnrday": "a foreseen outcome, and without an order the length of the stay",
    "prg2m": "a forecast: the physician's, of survival for two months",
    "prg6m": "a forecast: the physician's, of survival for six months",
    "surv2m": "a forecast: the SUPPORT model's, fitted to the survival of half of these patients",
    "surv6m": "a forecast: the SUPPORT model's, fitted to the survival of half of these patients",
    "sps": "a forecast's main part: the SUPPORT model's physiology score, fitted with it",
    "dzclass": "said already: groups of dzgroup",
    "adlsc": "said already: adlp and adls, filled in by a model of the source",
}  # aps stays: its weights are APACHE's, found on other patients, and it is known on day 3


def load(folder: Path) -> Data:
    """Flat, mixed: 9,105 patients by 30 columns: numbers with units in their description, flags, levels, the target.

    Papers on survival take 14 covariates, complete cases and the time to death (Katzman et al. 2018); public
    classifiers often keep what accrues until the stay ends. Here it is death in hospital from what was known on day
    3.

    folder: holds one of FILES. Levels of income and ca are ordered. Facts: rows, positives. Raises DataError where the
    file is absent, not whole or of another layout, a patient stands twice, or a cell is not of its column's kind.
    Source: UCI 880, see the top of this module.
    """
    raw, what = _read(folder)
    columns: dict[str, pd.Series] = {"age": np.floor(_numbers(raw, "age", what, 0, 120)).astype("Int64")}
    for name in ("sex", "race", "income", "dzgroup"):
        columns[name] = _levels(raw, name, what)
    for name, (low, high, _) in COUNTS.items():
        values = _numbers(raw, name, what, low, high)
        if (values != np.floor(values))[values.notna()].any():
            raise DataError(f"{what}: column {name} holds numbers that are not whole")
        columns[name] = values.astype("Int64")
    for name in FLAGS:
        columns[name] = _flag(raw, name, what)
    columns["ca"] = _levels(raw, "ca", what)
    for name, (low, high, decimals, _) in NUMBERS.items():
        columns[name] = _numbers(raw, name, what, low, high).round(decimals)
    columns[TARGET] = _flag(raw, TARGET, what)
    table = pd.DataFrame(columns)
    table.index = pd.RangeIndex(len(table), name="subject")
    describe = {"age": "age in years", **FLAGS, TARGET: "died in hospital"}
    describe |= {name: rule[-1] for rules in (NUMBERS, COUNTS, LEVELS) for name, rule in rules.items()}
    roles = Roles(TARGET, sensitive=(TARGET,), quasi=("age", "sex", "race"), describe=describe)
    return Data(table, roles, facts={"rows": len(table), "positives": int(table[TARGET].sum())})


def locate(folder: Path, name: str = FILES[0]) -> Path | None:
    """Where a folder has the data: the first of FILES that is there, whichever of them is asked for, or None."""
    return next((folder / f for f in FILES if (folder / f).is_file()), None) if name in FILES else None


def _read(folder: Path) -> tuple[pd.DataFrame, str]:
    """The file as text, missing where empty, and its name."""
    path = locate(folder)
    if path is None:
        raise DataError(f"expected one of {', '.join(FILES)} in {folder}: found none")
    body = path.read_bytes() if path.suffix == ".csv" else _unpacked(path)
    try:
        lines = [line for line in csv.reader(io.StringIO(body.decode("utf-8-sig"))) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path.name}: not a csv file in UTF-8: damaged or different") from error
    names, rows = lines[0] if lines else [], lines[1:]
    has_columns(pd.DataFrame(columns=names), ["age", *LEVELS, *COUNTS, *FLAGS, *NUMBERS, TARGET], path.name)
    width = len(names) + any(
        len(row) > len(names) for row in rows
    )  # hbiostat's rows begin with a number that has no name
    odd = sum(len(row) != width for row in rows)
    if odd:
        raise DataError(f"{path.name}: {odd:,} rows have more or fewer cells than the others: truncated or damaged")
    columns = names if width == len(names) else ["", *names]
    if len(set(columns)) < len(columns):
        raise DataError(f"{path.name}: names a column twice: a different file")
    expect(f"{path.name}: patients", len(rows), PATIENTS)
    raw = pd.DataFrame(rows, columns=columns, dtype=object)
    for name in IDS:
        twice = int(raw[name].duplicated().sum()) if name in raw else 0
        if twice:
            raise DataError(f"{path.name}: {twice:,} rows repeat a patient that stands there already")
    return raw.mask(raw.isin(["", "NA"])), path.name


def _unpacked(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            inside = [n for n in archive.namelist() if n.rsplit("/", 1)[-1] == INSIDE and not n.startswith("__MACOSX/")]
            if not inside:
                raise DataError(f"{path.name}: holds no {INSIDE}: a different file")
            return archive.read(inside[0])
    except (zipfile.BadZipFile, EOFError, RuntimeError, zlib.error) as error:  # RuntimeError: encrypted
        raise DataError(f"{path.name}: not a whole zip file: truncated?") from error


def _numbers(raw: pd.DataFrame, name: str, what: str, low: float, high: float) -> pd.Series:
    """A column as float64, missing where empty or out of range."""
    values = pd.to_numeric(raw[name], errors="coerce").astype("float64")
    odd = int((values.isna() & raw[name].notna()).sum())
    if odd:
        raise DataError(f"{what}: column {name}: {odd:,} of {len(raw):,} cells are not numbers")
    return values.where(values.between(low, high))


def _flag(raw: pd.DataFrame, name: str, what: str) -> pd.Series:
    values = pd.to_numeric(raw[name], errors="coerce")
    odd = int((~values.isin([0, 1])).sum())
    if odd:
        raise DataError(f"{what}: column {name}: {odd:,} of {len(raw):,} cells are not 0 or 1: truncated or different?")
    return values == 1


def _levels(raw: pd.DataFrame, name: str, what: str) -> pd.Series:
    levels, ordered, _ = LEVELS[name]
    text = raw[name].str.strip()
    odd = int((~text.isin(levels) & text.notna()).sum())
    if odd:
        raise DataError(f"{what}: column {name}: {odd:,} of {len(raw):,} cells are none of {', '.join(levels)}")
    return pd.Series(pd.Categorical(text, levels, ordered=ordered), raw.index)
