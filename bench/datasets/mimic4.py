"""MIMIC-IV (Johnson et al. 2023), as PhysioNet distributes it: patients, admissions, ICD-9 and ICD-10 diagnoses.

ICD-9 codes become every ICD-10 code that the CMS equivalence map gives them. The demo release goes through the same
code.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from bench.datasets.coded import Coded, flat, lawful_codes, visits
from bench.datasets.data import Data, DataError
from bench.datasets.icd import translate
from bench.datasets.release import OLDEST, Kind, agree, belongs, first_known, levels, read, unique

DEMO_PATIENTS = 100
UNKNOWN = ("UNKNOWN", "UNABLE TO OBTAIN", "PATIENT DECLINED TO ANSWER")
TEXT = {
    "gender": "sex",
    "age": "age in years in the anchor year, 90 above 89",
    "admissions": "number of admissions",
    "marital_status": "marital status",
    "race": "race as the hospital writes it",
}


def load_codes(folder: Path, *, level: str = "category") -> Data:
    """Flat: one row per patient, with demographics and ICD-10 categories; target: a date of death is known.

    HealthForge's vector has 1,806 columns, 42 of them demographic. Its preprocessing drops ICD-9 codes without a
    target, turns a missing marital status into DIVORCED and the race of a patient without an admission into the first
    of its list, and its texts tell the sexes the wrong way round. Here what is not known is missing, codes without a
    target are counted, marital status and race are the first that are known, and patients without an admission are
    kept. `split = "time"` puts the latest anchor years into the holdout. Releases differ in size, so that no counts are
    held against yours. The tasks of `mimic3-codes` are here too.

    level: what codes are cut to: "category", "full" (not cut), "ccs" (CCSR) or "chapter".
    """
    coded = _coded(folder)
    patients = coded.patients.drop(columns="expired")
    text = {**TEXT, "died": "date of death known, up to a year after the last discharge"}
    return flat(replace(coded, patients=patients, visits=coded.visits[["subject"]], text=text), level)


def load_visits(folder: Path, *, level: str = "category") -> Data:
    """Longitudinal: one row per admission in order of time, with its ICD-10 diagnoses; target: died in hospital.

    HealthForge has no visits. Codes are those of `mimic4-codes`, by admission; only those admitted are in it.
    """
    coded = _coded(folder)
    patients = coded.patients.drop(columns=["died", "admissions"]).rename(columns={"expired": "died"})
    text = {**TEXT, "age": "age in years on admission", "died": "died in hospital"}
    return visits(replace(coded, patients=patients, text=text), level)


def _coded(folder: Path) -> Coded:
    """Everything both shapes need; patients have `died` (date of death known) and `expired` (in hospital)."""
    people = read(
        folder, "patients",
        {"subject_id": "id", "gender": "text", "anchor_age": "id", "anchor_year": "id", "anchor_year_group": "text",
         "dod": "date"},
    )  # fmt: skip
    unique(people, "subject_id", "patients")
    people = people.set_index("subject_id").sort_index()
    if (people["anchor_age"] < 0).any():
        raise DataError(f"patients: {int((people['anchor_age'] < 0).sum()):,} have a negative anchor_age")
    admissions = read(
        folder, "admissions",
        {"subject_id": "id", "hadm_id": "id", "admittime": "time", "marital_status": "text", "race": "text",
         "hospital_expire_flag": "flag"},
    )  # fmt: skip
    unique(admissions, "hadm_id", "admissions")
    belongs(admissions, "subject_id", people.index, "admissions", "patients")
    admissions = admissions.sort_values(["subject_id", "admittime", "hadm_id"], ignore_index=True)
    anchor = people.loc[admissions["subject_id"]].reset_index(drop=True)
    age = anchor["anchor_age"] + admissions["admittime"].dt.year - anchor["anchor_year"]
    if (age < 0).any():
        raise DataError(f"admissions: {int((age < 0).sum()):,} of {len(age):,} patients are born later than admitted")
    by = admissions.groupby("subject_id")
    patients = pd.DataFrame(
        {
            "gender": levels(people["gender"]),
            "age": people["anchor_age"].clip(upper=OLDEST).astype("Int64"),
            "admissions": by.size().reindex(people.index, fill_value=0).astype("int64"),
            "marital_status": levels(first_known(admissions, "subject_id", "marital_status").reindex(people.index)),
            "race": levels(first_known(admissions, "subject_id", "race", UNKNOWN).reindex(people.index)),
            "died": people["dod"].notna(),
            "expired": by["hospital_expire_flag"].any().reindex(people.index, fill_value=False),
        },
        index=people.index,
    )
    diagnoses, told, facts = _diagnoses(folder, admissions)
    facts = {"patients": len(people), "admissions": len(admissions), **facts}
    if len(people) == DEMO_PATIENTS:
        facts["subset"] = f"the demo release, {DEMO_PATIENTS} patients"
    when = pd.DataFrame({"subject": admissions["subject_id"], "age": age.clip(upper=OLDEST).astype("Int64")})
    if people["anchor_year_group"].isna().any():
        raise DataError("patients: column anchor_year_group has rows without a value")
    order = people["anchor_year_group"].rank(method="dense").astype("float64")
    return Coded(patients, when, diagnoses, 10, "died", {}, facts, order, told)


def _diagnoses(folder: Path, admissions: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int | str]]:
    """Diagnoses as ICD-10 (visit, code), as they are told (and version), and counts of what could not become one."""
    columns: dict[str, Kind] = {"subject_id": "id", "hadm_id": "id", "icd_code": "text", "icd_version": "id"}
    rows = read(folder, "diagnoses_icd", columns)
    belongs(rows, "hadm_id", admissions["hadm_id"], "diagnoses_icd", "admissions")
    agree(rows, "hadm_id", "subject_id", admissions, "diagnoses_icd", "admissions")
    strange = int((~rows["icd_version"].isin([9, 10])).sum())
    if strange:
        raise DataError(f"diagnoses_icd: {strange:,} of {len(rows):,} rows have an icd_version that is not 9 or 10")
    visit = pd.Index(admissions["hadm_id"]).get_indexer(rows["hadm_id"])
    nine, ten = (rows["icd_version"] == 9).to_numpy(), (rows["icd_version"] == 10).to_numpy()
    old, old_strange = lawful_codes(rows["icd_code"][nine], 9, "diagnoses_icd: icd_version 9")
    new, new_strange = lawful_codes(rows["icd_code"][ten], 10, "diagnoses_icd: icd_version 10")
    pairs, lost = translate(old)
    mapped = pd.DataFrame({"visit": visit[nine][pairs["row"]], "code": pairs["code"].astype(object)})
    kept = pd.DataFrame({"visit": visit[ten], "code": new.to_numpy()}).dropna()
    facts: dict[str, int | str] = {
        "diagnoses": len(rows), "codes (ICD-9)": old.nunique(), "codes (ICD-10)": new.nunique(),
        "diagnoses in ICD-9": int(nine.sum()), "ICD-9 diagnoses without an ICD-10 target": int(lost.sum()),
        "ICD-9 codes without an ICD-10 target": len(lost),
        "diagnoses without a code": int(rows["icd_code"].isna().sum()),
        "diagnoses not of their version's form": old_strange + new_strange,
    }  # fmt: skip
    first = pd.DataFrame({"visit": visit[nine], "code": old.to_numpy()}).dropna()
    told = pd.concat([first.assign(version=9), kept.assign(version=10)], ignore_index=True)
    return pd.concat([mapped, kept], ignore_index=True), told, facts
