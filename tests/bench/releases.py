"""Releases of MIMIC-III, MIMIC-IV and eICU in their official layouts, made by hand or drawn: nobody in them ever lived.

`mimic3`, `mimic4` and `eicu` write one into the folder below DATA that a user would choose, and give that folder. With
n it holds n drawn patients, else a few made by hand, each there for a rule. `change` is handed the tables before they
are written (name -> rows, a row being column -> text): it alters a cell, a row or a table.
"""

import csv
import gzip
import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

Table = list[dict[str, str]]
Tables = dict[str, Table]
Change = Callable[[Tables], object]

MIMIC3 = {
    "PATIENTS": "ROW_ID SUBJECT_ID GENDER DOB DOD DOD_HOSP DOD_SSN EXPIRE_FLAG",
    "ADMISSIONS": "ROW_ID SUBJECT_ID HADM_ID ADMITTIME DISCHTIME DEATHTIME ADMISSION_TYPE ADMISSION_LOCATION "
    "DISCHARGE_LOCATION INSURANCE LANGUAGE RELIGION MARITAL_STATUS ETHNICITY EDREGTIME EDOUTTIME DIAGNOSIS "
    "HOSPITAL_EXPIRE_FLAG HAS_CHARTEVENTS_DATA",
    "DIAGNOSES_ICD": "ROW_ID SUBJECT_ID HADM_ID SEQ_NUM ICD9_CODE",
    "ICUSTAYS": "ROW_ID SUBJECT_ID HADM_ID ICUSTAY_ID DBSOURCE FIRST_CAREUNIT LAST_CAREUNIT FIRST_WARDID LAST_WARDID "
    "INTIME OUTTIME LOS",
    "CHARTEVENTS": "ROW_ID SUBJECT_ID HADM_ID ICUSTAY_ID ITEMID CHARTTIME STORETIME CGID VALUE VALUENUM VALUEUOM "
    "WARNING ERROR RESULTSTATUS STOPPED",
}
MIMIC4 = {
    "patients": "subject_id gender anchor_age anchor_year anchor_year_group dod",
    "admissions": "subject_id hadm_id admittime dischtime deathtime admission_type admit_provider_id "
    "admission_location discharge_location insurance language marital_status race edregtime edouttime "
    "hospital_expire_flag",
    "diagnoses_icd": "subject_id hadm_id seq_num icd_code icd_version",
}
EICU = {
    "patient": "patientunitstayid patienthealthsystemstayid gender age ethnicity hospitalid wardid apacheadmissiondx "
    "admissionheight hospitaladmittime24 hospitaladmitoffset hospitaladmitsource hospitaldischargeyear "
    "hospitaldischargetime24 hospitaldischargeoffset hospitaldischargelocation hospitaldischargestatus unittype "
    "unitadmittime24 unitadmitsource unitvisitnumber unitstaytype admissionweight dischargeweight "
    "unitdischargetime24 unitdischargeoffset unitdischargelocation unitdischargestatus uniquepid",
    "diagnosis": "diagnosisid patientunitstayid activeupondischarge diagnosisoffset diagnosisstring icd9code "
    "diagnosispriority",
    "vitalPeriodic": "vitalperiodicid patientunitstayid observationoffset temperature sao2 heartrate respiration cvp "
    "etco2 systemicsystolic systemicdiastolic systemicmean pasystolic padiastolic pamean st1 st2 st3 icp",
}
NUMBERS = ("ROW_ID", "diagnosisid", "vitalperiodicid")
FREE_TEXT = {"DIAGNOSIS": 'SEPSIS, "SEVERE"', "apacheadmissiondx": "Rhythm disturbance (atrial, supraventricular)"}


def mimic3(data: Path, n: int = 0, *, seed: int = 0, packed: bool = True, change: Change | None = None) -> Path:
    """MIMIC-III 1.4."""
    tables = _drawn_mimic3(n, np.random.default_rng(seed)) if n else _by_hand(MIMIC3_BY_HAND)
    return put(data / "mimic-iii-1.4", tables, MIMIC3, change, packed=packed)


def mimic4(data: Path, n: int = 0, *, seed: int = 0, packed: bool = True, change: Change | None = None) -> Path:
    """MIMIC-IV 3.1, its tables in hosp/."""
    tables = _drawn_mimic4(n, np.random.default_rng(seed)) if n else _by_hand(MIMIC4_BY_HAND)
    put(data / "mimic-iv-3.1" / "hosp", tables, MIMIC4, change, packed=packed)
    return data / "mimic-iv-3.1"


def eicu(data: Path, n: int = 0, *, seed: int = 0, packed: bool = True, change: Change | None = None) -> Path:
    """eICU 2.0."""
    tables = _drawn_eicu(n, np.random.default_rng(seed)) if n else _by_hand(EICU_BY_HAND)
    return put(data / "eicu-crd-2.0", tables, EICU, change, packed=packed)


def put(folder: Path, tables: Tables, columns: Mapping[str, str], change: Change | None, *, packed: bool) -> Path:
    """Write tables with these columns, empty where a row lacks one; rows are numbered where the layout numbers them."""
    if change:
        change(tables)
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        heads = columns[name].split()
        full = [FREE_TEXT | dict.fromkeys(NUMBERS, str(7_000_000 + i)) | row for i, row in enumerate(rows)]
        text = _quoted(heads, full) if name.isupper() else _plain(heads, full)
        path = folder / f"{name}.csv{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(text.encode(), 1) if packed else text.encode())
    return folder


def rows(text: str) -> Table:
    """Rows of a table written as lines of cells between bars, the first of them the names of the columns."""
    lines = [[cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def find(table: Table, **cells: str) -> dict[str, str]:
    """The first row that has these cells."""
    return next(row for row in table if all(row[k] == v for k, v in cells.items()))


def _plain(heads: list[str], table: Table) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([heads, *([row.get(head, "") for head in heads] for row in table)])
    return out.getvalue()


def _quoted(heads: list[str], table: Table) -> str:
    """As MIMIC-III 1.4 has it: names and texts in quotes, numbers and times bare."""

    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if any(c.isalpha() or c in '",' for c in text) else text

    lines = [",".join(cell(row.get(head, "")) for head in heads) for row in table]
    return "\n".join([",".join(f'"{head}"' for head in heads), *lines, ""])


def _by_hand(tables: Mapping[str, str]) -> Tables:
    return {name: rows(text) for name, text in tables.items()}


# --- by hand ---

# 10001: two admissions, later one first in the file; the day before a birthday. 10002: over 89. 10003: newborn. 10004:
# no diagnosis, a stay of a second under a day. 10005: dies in a second admission; both bedside systems. 10006: no
# reading in the first day. 10007: dies; a stay of three days and a minute in which New York's clocks go forward.
MIMIC3_BY_HAND = {
    "PATIENTS": """
        SUBJECT_ID | GENDER | DOB
        10007 | F | 2101-01-01 00:00:00
        10001 | F | 2100-06-15 00:00:00
        10002 | M | 1860-03-02 00:00:00
        10003 | F | 2150-05-05 00:00:00
        10004 | M | 2110-01-01 00:00:00
        10005 | M | 2080-07-07 00:00:00
        10006 | F | 2090-02-28 00:00:00""",
    "ADMISSIONS": """
        SUBJECT_ID | HADM_ID | ADMITTIME | ETHNICITY | HOSPITAL_EXPIRE_FLAG
        10001 | 120002 | 2160-06-14 10:00:00 | WHITE | 0
        10001 | 120001 | 2158-06-15 08:00:00 | UNKNOWN/NOT SPECIFIED | 0
        10002 | 120003 | 2160-03-02 23:59:00 | ASIAN | 0
        10003 | 120004 | 2150-05-05 14:00:00 | BLACK/AFRICAN AMERICAN | 0
        10004 | 120005 | 2150-02-02 09:00:00 | UNABLE TO OBTAIN | 0
        10005 | 120007 | 2131-01-01 00:00:00 | WHITE | 1
        10005 | 120006 | 2130-01-01 00:00:00 | PATIENT DECLINED TO ANSWER | 0
        10006 | 120008 | 2150-08-01 12:00:00 | ASIAN | 0
        10007 | 120009 | 2132-03-08 11:00:00 | WHITE | 1""",
    "DIAGNOSES_ICD": """
        SUBJECT_ID | HADM_ID | SEQ_NUM | ICD9_CODE
        10001 | 120002 | 1 | 25000
        10001 | 120002 | 2 | E8788
        10001 | 120002 | 3 | 25000
        10001 | 120001 | 1 | 4280
        10002 | 120003 | 1 | 40301
        10002 | 120003 | 2 | V4581
        10003 | 120004 | 1 | V3000
        10003 | 120004 | 2 |
        10005 | 120006 | 1 | 25002
        10005 | 120007 | 1 | 0389
        10006 | 120008 | 1 | 4280
        10007 | 120009 | 1 | 49390""",
    "ICUSTAYS": """
        SUBJECT_ID | HADM_ID | ICUSTAY_ID | DBSOURCE | FIRST_CAREUNIT | INTIME | OUTTIME
        10001 | 120002 | 230002 | carevue | SICU | 2160-06-14 12:00:00 | 2160-06-20 12:00:00
        10001 | 120001 | 230001 | carevue | MICU | 2158-06-15 09:30:00 | 2158-06-18 09:30:00
        10002 | 120003 | 230003 | carevue | CCU | 2160-03-03 00:10:00 |
        10003 | 120004 | 230004 | carevue | NICU | 2150-05-05 15:00:00 | 2150-05-12 15:00:00
        10004 | 120005 | 230005 | metavision | MICU | 2150-02-02 10:00:00 | 2150-02-03 09:59:59
        10005 | 120006 | 230006 | both | CSRU | 2130-01-01 00:00:00 | 2130-01-02 00:00:00
        10006 | 120008 | 230007 | metavision | MICU | 2150-08-01 13:00:00 | 2150-08-04 13:00:00
        10007 | 120009 | 230008 | metavision | MICU | 2132-03-08 12:00:00 | 2132-03-11 12:01:00""",
    "CHARTEVENTS": """
        SUBJECT_ID | HADM_ID | ICUSTAY_ID | ITEMID | CHARTTIME | VALUE | VALUENUM | VALUEUOM | ERROR
        10001 | 120001 | 230001 | 211 | 2158-06-15 09:29:59 | 200 | 200 | BPM |
        10001 | 120001 | 230001 | 211 | 2158-06-15 09:30:00 | 80 | 80 | BPM |
        10001 | 120001 | 230001 | 211 | 2158-06-15 10:00:00 | 90 | 90 | BPM |
        10001 | 120001 | 230001 | 211 | 2158-06-15 10:00:00 | 90 | 90 | BPM |
        10001 | 120001 | 230001 | 211 | 2158-06-15 10:30:00 | 0 | 0 | BPM |
        10001 | 120001 | 230001 | 211 | 2158-06-15 11:30:00 | 72 | 72 | BPM |
        10001 | 120001 | 230001 | 220045 | 2158-06-15 12:40:00 | 150 | 150 | bpm | 1
        10001 | 120001 | 230001 | 220045 | 2158-06-15 12:41:00 | 77 | 77 | bpm | 0
        10001 | 120001 | 230001 | 211 | 2158-06-15 13:40:00 | Unable, moving | | BPM |
        10001 | 120001 | 230001 | 211 | 2158-06-16 09:29:59 | 70 | 70 | BPM |
        10001 | 120001 | 230001 | 211 | 2158-06-16 09:30:00 | 150 | 150 | BPM |
        10001 | 120001 | 230001 | 678 | 2158-06-15 09:45:00 | 98.6 | 98.6 | Deg. F |
        10001 | 120001 | 230001 | 676 | 2158-06-15 10:45:00 | 98.6 | 98.6 | Deg. C |
        10001 | 120001 | 230001 | 676 | 2158-06-15 11:45:00 | 38.5 | 38.5 | Deg. C |
        10001 | 120001 | 230001 | 223761 | 2158-06-15 12:45:00 | 104 | 104 | ?F | 0
        10001 | 120001 | 230001 | 223762 | 2158-06-15 13:45:00 | 36.5 | 36.5 | ?C | 0
        10001 | 120001 | 230001 | 51 | 2158-06-15 10:00:00 | 120 | 120 | mmHg |
        10001 | 120001 | 230001 | 455 | 2158-06-15 10:20:00 | 110 | 110 | mmHg |
        10001 | 120001 | 230001 | 8368 | 2158-06-15 10:00:00 | 60 | 60 | mmHg |
        10001 | 120001 | 230001 | 52 | 2158-06-15 10:00:00 | 80 | 80 | mmHg |
        10001 | 120001 | | 618 | 2158-06-15 09:50:00 | 16 | 16 | BPM |
        10001 | 120001 | 230001 | 646 | 2158-06-15 09:50:00 | 101 | 101 | % |
        10001 | 120001 | 230001 | 646 | 2158-06-15 09:55:00 | 97 | 97 | % |
        10001 | 120001 | 230001 | 198 | 2158-06-15 09:50:00 | 15 | 15 | points |
        10001 | 120002 | 230002 | 211 | 2160-06-14 12:10:00 | 140 | 140 | BPM |
        10003 | 120004 | 230004 | 211 | 2150-05-05 15:30:00 | 160 | 160 | BPM |
        10004 | 120005 | 230005 | 220045 | 2150-02-02 11:00:00 | 61 | 61 | bpm | 0
        10005 | 120006 | 230006 | 211 | 2130-01-01 00:10:00 | 100 | 100 | BPM |
        10005 | 120006 | 230006 | 220045 | 2130-01-01 00:50:00 | 110 | 110 | bpm | 0
        10005 | 120006 | 230006 | 220050 | 2130-01-01 05:59:59 | 130 | 130 | mmHg | 0
        10005 | 120006 | 230006 | 220045 | 2130-01-01 23:00:00 | 90 | 90 | bpm | 0
        10006 | 120008 | 230007 | 220045 | 2150-08-01 12:59:59 | 71 | 71 | bpm | 0
        10006 | 120008 | 230007 | 220045 | 2150-08-02 13:00:00 | 72 | 72 | bpm | 0
        10007 | 120009 | 230008 | 220045 | 2132-03-09 01:59:00 | 101 | 101 | bpm | 0
        10007 | 120009 | 230008 | 220045 | 2132-03-09 02:30:00 | 102 | 102 | bpm | 0
        10007 | 120009 | 230008 | 220045 | 2132-03-09 03:30:00 | 103 | 103 | bpm | 0
        10007 | 120009 | 230008 | 220045 | 2132-03-09 11:59:59 | 104 | 104 | bpm | 0
        10007 | 120009 | 230008 | 220045 | 2132-03-09 12:00:00 | 105 | 105 | bpm | 0""",
}

# 10000001: two admissions, later one first in the file. 10000002: over 89; dies in hospital. 10000003: no admission.
# 10000004: dies after discharge.
MIMIC4_BY_HAND = {
    "patients": """
        subject_id | gender | anchor_age | anchor_year | anchor_year_group | dod
        10000004 | M | 17 | 2160 | 2008 - 2010 | 2161-01-01
        10000001 | F | 52 | 2150 | 2011 - 2013 |
        10000002 | M | 91 | 2150 | 2014 - 2016 | 2152-03-01
        10000003 | F | 30 | 2140 | 2017 - 2019 |""",
    "admissions": """
        subject_id | hadm_id | admittime | marital_status | race | hospital_expire_flag
        10000001 | 20000002 | 2152-07-01 10:00:00 | MARRIED | WHITE | 0
        10000001 | 20000001 | 2149-12-31 23:00:00 | | UNKNOWN | 0
        10000002 | 20000003 | 2152-02-20 08:00:00 | WIDOWED | UNABLE TO OBTAIN | 1
        10000004 | 20000004 | 2160-05-05 05:05:00 | SINGLE | ASIAN | 0""",
    "diagnoses_icd": """
        subject_id | hadm_id | seq_num | icd_code | icd_version
        10000001 | 20000002 | 1 | E1165 | 10
        10000001 | 20000002 | 2 | I10 | 10
        10000001 | 20000001 | 1 | 25000 | 9
        10000001 | 20000001 | 2 | 0730 | 9
        10000001 | 20000001 | 3 | 25000 | 9
        10000002 | 20000003 | 1 | V6441 | 9
        10000002 | 20000003 | 2 | J45909 | 10
        10000004 | 20000004 | 1 | 4019 | 9""",
}

# 002-1001: over 89, three stays, the first last in the file. 003-2002: dies. 004-3003: minor. 005-4004: a minute under
# a day. 006-5005: outcome not known. 007-6006: no reading in the first day. 008-7007: age not known. 009-8008: a day.
EICU_BY_HAND = {
    "patient": """
        patientunitstayid | patienthealthsystemstayid | uniquepid | gender | age | ethnicity | unittype | \
        unitvisitnumber | hospitaldischargeyear | hospitaldischargestatus | unitdischargeoffset
        241003 | 190001 | 002-1001 | Female | > 89 | Caucasian | SICU | 1 | 2015 | Alive | 9000
        241001 | 190002 | 002-1001 | Female | > 89 | Other/Unknown | MICU | 2 | 2014 | Alive | 9000
        241002 | 190002 | 002-1001 | Female | > 89 | | CTICU | 1 | 2014 | Alive | 4320
        241004 | 190003 | 003-2002 | Male | 45 | Asian | MICU | 1 | 2014 | Expired | 4321
        241005 | 190004 | 004-3003 | Male | 17 | Asian | MICU | 1 | 2014 | Alive | 5000
        241006 | 190005 | 005-4004 | Unknown | 50 | Other/Unknown | MICU | 1 | 2014 | Alive | 1439
        241007 | 190006 | 006-5005 | Female | 51 | Caucasian | MICU | 1 | 2015 | | 5000
        241008 | 190007 | 007-6006 | Female | 52 | Caucasian | MICU | 1 | 2015 | Alive | 5000
        241009 | 190008 | 008-7007 | Male | | Caucasian | MICU | 1 | 2015 | Alive | 5000
        241010 | 190009 | 009-8008 | Male | 18 | Hispanic | MICU | 1 | 2015 | Alive | 1440""",
    "diagnosis": """
        patientunitstayid | diagnosisstring | icd9code
        241002 | cardiovascular|401.9, I10
        241001 | endocrine|250.02, E11.9
        241003 | endocrine|250.02, E11.9
        241004 | cardiovascular|I50.9, 428.0
        241004 | cardiovascular|I10
        241004 | pulmonary|
        241005 | pulmonary|493.90, J45.909
        241010 | general|V58.61, Z79.01
        241010 | external|E980.2""",
    "vitalPeriodic": """
        patientunitstayid | observationoffset | sao2 | heartrate | respiration
        241002 | -5 | 95 | 200 | 20
        241002 | 0 | 97 | 80 |
        241002 | 4 | | 90 | 18
        241002 | 4 | | 90 | 18
        241002 | 5 | | 70 |
        241002 | 7 | 101 | | 16
        241002 | 1439 | 96 | 60 | 0
        241002 | 1440 | 94 | 61 | 14
        241001 | 0 | 88 | 120 | 30
        241004 | 12 | 90 | 110 | 24
        241004 | 13 | 92 | 112 |
        241005 | 0 | 99 | 99 | 19
        241006 | 0 | 99 | 98 | 19
        241007 | 0 | 99 | 97 | 19
        241008 | -1 | 99 | 96 | 19
        241008 | 1440 | 99 | 95 | 19
        241009 | 0 | 99 | 94 | 19
        241010 | 719 | | 301 | 12""",
}


# --- drawn ---

NINE = "25000 25002 4019 4280 42731 5849 0389 486 49390 496 5859 40291 71590 E8788 V4581 2724 41401 51881 99591 2851"
TEN = "E119 I10 I509 I4891 N179 A419 J189 J45909 J449 N189 I110 M179 Y838 Z951 E785 I2510 J9601 D62 K219 F329"
SECONDS = {"hour": 3_600, "day": 86_400}


def _time(second: float) -> str:
    return str(pd.Timestamp("2100-01-01") + pd.Timedelta(int(second), "s"))


def _codes(rng: np.random.Generator, text: str, died: bool) -> list[str]:
    """Codes of one admission, at least one; those who die have more of the later half."""
    names = text.split()
    chance = np.linspace(0.35, 0.05, len(names)) + (0.15 if died else 0) * (np.arange(len(names)) % 2)
    return [c for c, have in zip(names, rng.random(len(names)) < chance, strict=True) if have] or names[:1]


def _vitals(rng: np.random.Generator, died: bool) -> dict[str, float]:
    """HR, SBP, DBP, MBP, RR, Temp (Fahrenheit), SpO2."""
    sick = 10 * died
    hr, sbp, dbp = rng.normal(85 + 2 * sick, 12), rng.normal(120 - 2 * sick, 12), rng.normal(65 - sick, 8)
    return {"HR": hr, "SBP": sbp, "DBP": dbp, "MBP": (sbp + 2 * dbp) / 3, "RR": rng.normal(18 + sick / 2, 3),
            "Temp": rng.normal(98.6, 0.8), "SpO2": min(100.0, rng.normal(97 - sick / 5, 1.5))}  # fmt: skip


def _drawn_mimic3(n: int, rng: np.random.Generator) -> Tables:
    tables: Tables = {name: [] for name in MIMIC3}
    items = {"HR": 220045, "SBP": 220179, "DBP": 220180, "MBP": 220181, "RR": 220210, "Temp": 223761, "SpO2": 220277}
    for i, subject in enumerate(rng.choice(89_000, n, replace=False) + 10_000):
        dies, age = i % 4 == 0, int(rng.integers(20, 89))
        begin = float(rng.integers(0, 90 * 365)) * SECONDS["day"] + float(rng.integers(0, 80_000))
        born = pd.Timestamp(_time(begin)) - pd.DateOffset(years=300 if i % 17 == 5 else age, days=40)
        who = {"SUBJECT_ID": str(subject)}
        tables["PATIENTS"].append({**who, "GENDER": "FM"[i % 2], "DOB": str(born.normalize())})
        visits = int(rng.integers(1, 4))
        for v in range(visits):
            hadm = {**who, "HADM_ID": str(100_000 + 10 * i + v)}
            died = dies and v == visits - 1
            race = ("WHITE", "BLACK/AFRICAN AMERICAN", "ASIAN", "UNKNOWN/NOT SPECIFIED")[int(rng.integers(4))]
            at = begin + v * 200 * SECONDS["day"]
            tables["ADMISSIONS"].append(
                {**hadm, "ADMITTIME": _time(at), "ETHNICITY": race, "HOSPITAL_EXPIRE_FLAG": str(int(died))}
            )
            tables["DIAGNOSES_ICD"] += [
                {**hadm, "SEQ_NUM": str(k + 1), "ICD9_CODE": c} for k, c in enumerate(_codes(rng, NINE, died))
            ]
        begin += (visits - 1) * 200 * SECONDS["day"] + SECONDS["hour"]  # one stay each, in the last admission
        stay = {**hadm, "ICUSTAY_ID": str(200_000 + i)}
        length = float(rng.integers(1, 7)) * SECONDS["day"] + 60
        unit = ("MICU", "SICU", "CCU")[i % 3]
        tables["ICUSTAYS"].append(
            {**stay, "DBSOURCE": "metavision", "FIRST_CAREUNIT": unit, "INTIME": _time(begin),
             "OUTTIME": _time(begin + length)}
        )  # fmt: skip
        for hour in range(24):
            for name, value in _vitals(rng, dies).items():
                if rng.random() < 0.8:
                    at = _time(begin + hour * SECONDS["hour"] + float(rng.integers(0, 3_600)))
                    tables["CHARTEVENTS"].append(
                        {**stay, "ITEMID": str(items[name]), "CHARTTIME": at, "VALUE": f"{value:.3f}",
                         "VALUENUM": f"{value:.3f}", "ERROR": "0"}
                    )  # fmt: skip
    return tables


def _drawn_mimic4(n: int, rng: np.random.Generator) -> Tables:
    tables: Tables = {name: [] for name in MIMIC4}
    for i, subject in enumerate(rng.choice(9_000_000, n, replace=False) + 10_000_000):
        dies, year, age = i % 4 == 0, int(rng.integers(2110, 2190)), int(rng.integers(18, 92))
        who = {"subject_id": str(subject)}
        tables["patients"].append(
            {**who, "gender": "FM"[i % 2], "anchor_age": str(age), "anchor_year": str(year),
             "anchor_year_group": ("2008 - 2010", "2011 - 2013", "2014 - 2016")[i % 3],
             "dod": f"{year + 3}-06-07" if dies else ""}
        )  # fmt: skip
        visits = int(rng.integers(1, 4))
        for v in range(visits):
            hadm = {**who, "hadm_id": str(20_000_000 + 10 * i + v)}
            died = dies and v == visits - 1
            tables["admissions"].append(
                {**hadm, "admittime": f"{year + v}-06-{int(rng.integers(10, 28))} 10:00:00",
                 "marital_status": ("MARRIED", "SINGLE", "")[int(rng.integers(3))],
                 "race": ("WHITE", "ASIAN", "UNKNOWN")[int(rng.integers(3))], "hospital_expire_flag": str(int(died))}
            )  # fmt: skip
            nine = v == 0
            tables["diagnoses_icd"] += [
                {**hadm, "seq_num": str(k + 1), "icd_code": c, "icd_version": "9" if nine else "10"}
                for k, c in enumerate(_codes(rng, NINE if nine else TEN, died))
            ]
    return tables


def _drawn_eicu(n: int, rng: np.random.Generator) -> Tables:
    tables: Tables = {name: [] for name in EICU}
    dotted = [f"{c[:4]}.{c[4:]}" if c[0] == "E" else f"{c[:3]}.{c[3:]}".rstrip(".") for c in NINE.split()]
    for i, number in enumerate(rng.choice(89_000, n, replace=False) + 10_000):
        died = i % 4 == 0
        stay = {"patientunitstayid": str(3_000_000 + i)}
        tables["patient"].append(
            {**stay, "patienthealthsystemstayid": str(600_000 + i), "uniquepid": f"027-{number}",
             "gender": ("Female", "Male")[i % 2], "age": "> 89" if i % 17 == 5 else str(int(rng.integers(20, 89))),
             "ethnicity": ("Caucasian", "Asian", "Other/Unknown")[int(rng.integers(3))],
             "unittype": ("MICU", "SICU", "Med-Surg ICU")[i % 3], "unitvisitnumber": "1",
             "hospitaldischargeyear": "2014", "hospitaldischargestatus": "Expired" if died else "Alive",
             "unitdischargeoffset": str(int(rng.integers(1_440, 9_000)))}
        )  # fmt: skip
        tables["diagnosis"] += [{**stay, "icd9code": f"{c}, I10"} for c in _codes(rng, " ".join(dotted), died)]
        for offset in range(int(rng.integers(0, 5)), 1_440, 5):
            v = _vitals(rng, died)
            tables["vitalPeriodic"].append(
                {**stay, "observationoffset": str(offset), "sao2": f"{v['SpO2']:.0f}", "heartrate": f"{v['HR']:.0f}",
                 "respiration": f"{v['RR']:.0f}" if rng.random() < 0.8 else ""}
            )  # fmt: skip
    return tables
