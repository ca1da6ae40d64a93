"""Patients with coded diagnoses, from any source, as a flat table or as visits; and targets made of sets of codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from bench.datasets.data import Data, DataError, Task
from bench.datasets.icd import SHAPES, category, normalise, to_icd10
from bench.datasets.icd_groups import group
from bench.datasets.icd_names import describe, group_names
from bench.datasets.law import Roles

LEVELS = ("category", "full", "ccs", "chapter")
NO_CAUSE = r"E(03[1-9]|0[4-9]|[1-7])"  # external causes are E000 to E030 and E800 to E999: these are of ICD-10
MIXED = 0.01  # a file with more codes of another form than this is of another coding
# EHR-D3PM's six diseases (Han et al. 2024), which it names without codes: the sets are ours, whole categories but for
# type 2 diabetes, which ICD-9 tells by the fifth digit of 250 (0 or 2). COPD is that of the CMS Chronic Conditions
# Warehouse, with bronchiectasis; its other sets are wider (any diabetes, any hypertension, any disease of the kidneys).
# 493.2, asthma with COPD, is asthma in ICD-9; ICD-10 has it under J44.
# name: text, ICD-9 pattern, ICD-10 pattern
TASKS = {
    "type-2-diabetes": ("type 2 diabetes", r"250.[02]", r"E11"),
    "asthma": ("asthma", r"493", r"J45"),
    "copd": ("chronic obstructive pulmonary disease", r"49[01246]", r"J4[0-47]"),
    "ckd": ("chronic kidney disease", r"585", r"N18"),
    "hypertensive-heart-disease": ("hypertensive heart disease", r"40[24]", r"I1[13]"),
    "osteoarthritis": ("osteoarthritis", r"715", r"M1[5-9]"),
}


@dataclass(frozen=True)
class Coded:
    """Patients, their visits and the codes of each visit.

    patients: indexed by subject, sorted, with the static columns and the target (bool). visits: one row each, sorted by
    subject and time: column `subject`, and columns that change from visit to visit. diagnoses: `visit` (position in
    visits) and `code` (normalised, of ICD version `version`). told: the same as the source has them, with their
    `version`; None where that is diagnoses. text: column -> description.
    """

    patients: pd.DataFrame
    visits: pd.DataFrame
    diagnoses: pd.DataFrame
    version: int
    target: str
    text: Mapping[str, str]
    facts: Mapping[str, int | str] = field(default_factory=dict)
    order: pd.Series | None = None
    told: pd.DataFrame | None = None


def lawful_codes(codes: pd.Series, version: int, what: str) -> tuple[pd.Series, int]:
    """Codes normalised, missing where they are not of the version's form; and how many are not.

    Raises DataError where that is more than one in a hundred: a file of another coding.
    """
    known = {code: normalise(code, version) for code in codes.dropna().unique()}
    shaped = pd.Series(known, dtype=object)
    if len(shaped):
        shaped = shaped[shaped.str.fullmatch(SHAPES[version].pattern)]
        shaped = shaped[~shaped.str.match(NO_CAUSE)] if version == 9 else shaped
    found = codes.map(shaped)
    strange = int((codes.notna() & found.isna()).sum())
    if strange > MIXED * len(codes):
        raise DataError(f"{what}: {strange:,} of {len(codes):,} codes are not ICD-{version}: another coding?")
    return found, strange


def flat(coded: Coded, level: str) -> Data:
    """One row per patient: who they are, the target, and every code of any visit."""
    row = coded.patients.index.get_indexer(coded.visits["subject"])[coded.diagnoses["visit"]]
    pairs = pd.DataFrame({"row": row, "code": coded.diagnoses["code"].to_numpy()}).drop_duplicates()
    flags, of, lost = _flags(pairs, len(coded.patients), coded.version, level)
    flags.index = coded.patients.index
    table = pd.concat([coded.patients, flags], axis=1)
    table.index.name = "subject"
    roles = _roles(coded, flags, level, static=())
    facts = {**coded.facts, "columns of codes": flags.shape[1], "diagnoses without a group": lost}
    return Data(table, roles, coded.order, facts, _tasks(coded, of))


def visits(coded: Coded, level: str) -> Data:
    """One row per visit in order of time: what stays the same, what changes, and the codes of the visit."""
    pairs = coded.diagnoses.rename(columns={"visit": "row"}).drop_duplicates()
    flags, _, lost = _flags(pairs, len(coded.visits), coded.version, level)
    who = coded.visits["subject"]
    changing = coded.visits.drop(columns="subject")
    constant = coded.patients.drop(columns=[c for c in changing if c in coded.patients]).loc[who]
    table = pd.concat([constant.reset_index(drop=True), changing, flags], axis=1)
    table.index = pd.MultiIndex.from_arrays([who, who.groupby(who).cumcount()], names=["subject", "time"])
    facts = {**coded.facts, "columns of codes": flags.shape[1], "diagnoses without a group": lost}
    order = None if coded.order is None else coded.order.loc[who.unique()]
    return Data(table, _roles(coded, flags, level, static=tuple(constant)), order, facts)


def _flags(pairs: pd.DataFrame, n: int, version: int, level: str) -> tuple[pd.DataFrame, pd.Series, int]:
    """Bool columns (n rows), one per key of the level, sorted; code -> column; and pairs whose code has no key."""
    if level not in LEVELS:
        raise DataError(f"level={level}: expected one of {', '.join(LEVELS)}")
    of = pd.Series({code: _key(code, version, level) for code in pairs["code"].unique()}, dtype=object)
    names = sorted(of.dropna().unique())
    if not names:
        raise DataError(f"no diagnosis has a code of ICD-{version} that has a {level}")
    place = of.map({name: i for i, name in enumerate(names)})
    at = pairs["code"].map(place).to_numpy(float)
    known = ~np.isnan(at)
    flags = np.zeros((n, len(names)), bool)
    flags[pairs["row"].to_numpy()[known], at[known].astype(int)] = True
    return pd.DataFrame(flags, columns=names), of, int((~known).sum())


def _key(code: str, version: int, level: str) -> str | None:
    if level == "full":
        return code
    if level == "category":
        return category(code, version)
    key = group(code, version, level)
    return None if key is None else f"{level} {key}"


def _roles(coded: Coded, flags: pd.DataFrame, level: str, *, static: tuple[str, ...]) -> Roles:
    codes = tuple(flags.columns)
    if level == "category":
        text = describe(codes, coded.version)
    else:
        text = {} if level == "full" else {f"{level} {k}": v for k, v in group_names(coded.version, level).items()}
    text = {c: text[c] for c in codes if c in text} | dict(coded.text)
    quasi = tuple(c for c in coded.patients if c != coded.target)
    return Roles(
        coded.target, static, codes, (*codes, coded.target), quasi, describe=text,
        time_unit="visit" if static else None,
    )  # fmt: skip


def _tasks(coded: Coded, of: pd.Series) -> dict[str, Task]:
    """TASKS of a flat table. Who is positive is told by the codes of the source, before they are mapped.

    What gives a task away are all columns that hold a code of a category in which a code of its is, or to which one is
    mapped. of: code -> column.
    """
    told = coded.diagnoses.assign(version=coded.version) if coded.told is None else coded.told
    row = coded.patients.index.get_indexer(coded.visits["subject"])[told["visit"]]
    categories = pd.Series({code: category(code, coded.version) for code in of.index}, dtype=object)
    found = {}
    for name, (text, nine, ten) in TASKS.items():
        held = pd.Series(False, told.index)
        near: set[str] = set()
        for version, pattern in ((9, nine), (10, ten)):
            codes = pd.Series(told.loc[told["version"] == version, "code"].unique(), dtype=object)
            codes = codes[codes.str.match(pattern)]
            held |= (told["version"] == version) & told["code"].isin(codes)
            mapped = [codes] if version == coded.version else [to_icd10(code) for code in codes]
            near |= {category(code, coded.version) for group in mapped for code in group}
        positive = np.zeros(len(coded.patients), bool)
        positive[row[held]] = True
        columns = of[categories.isin(near)].dropna().unique()
        found[name] = Task(pd.Series(positive, coded.patients.index), tuple(sorted(columns)), text)
    return found
