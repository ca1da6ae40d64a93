"""DATASETS: every registered dataset as one row."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.datasets.name import Value

SHAPES = ("codes", "table", "series", "visits")


@dataclass(frozen=True)
class Dataset:
    """One row of DATASETS.

    shape: the native shape of the table. access: "simulated", "packaged" (comes with a dependency), "open", or
    "credentialed": granted to persons, so that nothing of it is ever shown.
    load: "module:function" of a loader. readings: that of what gathers readings from a table too large for memory.
    draw, roles: those of a simulator.
    params: what its name may set, with defaults (0: no cut; target "": its own, else a code takes its place;
    train_positives: how many positives a split's train keeps; draw: which of a simulator's independent draws).
    folders: where its files may be, first match wins.
    files: file -> sha256 known (None where it is not). tables: those of a release (bench/datasets/release.py). urls:
    file -> where it can be fetched. by_hand: what to do where it cannot. expected: facts that a whole copy has. order:
    the source's column that orders subjects in time, where there is one. size: subjects, columns and positives of the
    uncut table, duplicates included; zeros where that is not known.
    """

    name: str
    shape: str
    access: str
    licence: str
    source: str
    about: str
    load: str = ""
    readings: str = ""
    draw: str = ""
    roles: str = ""
    params: Mapping[str, Value] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    files: Mapping[str, str | None] = field(default_factory=dict)
    tables: tuple[str, ...] = ()
    locate: str = ""
    urls: Mapping[str, str] = field(default_factory=dict)
    by_hand: str = ""
    expected: Mapping[str, int] = field(default_factory=dict)
    drop_duplicates: bool = False
    order: str | None = None
    size: tuple[int, int, int] = (0, 0, 0)
    version: int = 1


_SPLIT: dict[str, Value] = {"train_positives": 0}
_DRAWN: dict[str, Value] = {"draw": 0, **_SPLIT}
_CUTS: dict[str, Value] = {"codes": 0, "rows": 0, **_SPLIT}
_TARGETED: dict[str, Value] = {**_CUTS, "target": ""}
_UCI = "https://archive.ics.uci.edu/dataset/296"
_DIABETES_FILES = {"dataset_diabetes.zip": "3a17a3b55b6dd4a1926703185c0ad8e2ed30bc8e2f9b927cdd1000b733d1de8e"}
_DIABETES_URLS = {
    "dataset_diabetes.zip": "https://archive.ics.uci.edu/ml/machine-learning-databases/00296/dataset_diabetes.zip"
}
_DIABETES_COUNTS = {"encounters": 101_766, "patients": 71_518, "diagnosis_codes": 881}
_ROWS_ONLY: dict[str, Value] = {"rows": 0, **_SPLIT}
_CODED: dict[str, Value] = {**_TARGETED, "level": "category"}
_CODED_VISITS: dict[str, Value] = {**_CUTS, "level": "category"}
_PHYSIONET = "PhysioNet Credentialed 1.5.0"
_MIMIC3 = "https://physionet.org/content/mimiciii/1.4/"
_MIMIC4 = "https://physionet.org/content/mimiciv/"
_EICU = "https://physionet.org/content/eicu-crd/2.0/"
_MIMIC3_FOLDERS = ("mimic-iii-1.4", "mimiciii", "mimic3", "mimic-iii-demo-1.4")
_MIMIC4_FOLDERS = ("mimic-iv-3.1", "mimic-iv-2.2", "mimiciv", "mimic4", "mimic-iv-demo-2.2")
_EICU_FOLDERS = ("eicu-crd-2.0", "eicu-crd", "eicu", "eicu-demo-2.0.1")
_MIMIC3_COUNTS = {"patients": 46_520, "admissions": 58_976, "diagnoses": 651_047}


def _request(page: str, folder: str, demo: str) -> str:
    """How a credentialed release is come by."""
    return (
        "granted to persons, not fetched: become a credentialed user of PhysioNet (with CITI's course 'Data or "
        f"Specimens Only Research'), sign the data use agreement on {page}, download the files there, and put them as "
        f"they are into DATA/{folder}; to try the way without, the open demo release goes into DATA/{demo}"
    )


_MIMIC3_REQUEST = _request(_MIMIC3, _MIMIC3_FOLDERS[0], _MIMIC3_FOLDERS[-1])
_MIMIC4_REQUEST = _request(_MIMIC4, f"{_MIMIC4_FOLDERS[0]} (hosp/ within it)", _MIMIC4_FOLDERS[-1])
_EICU_REQUEST = _request(_EICU, _EICU_FOLDERS[0], _EICU_FOLDERS[-1])

_ROWS = (
    Dataset(
        "sim-ehr", "codes", "simulated", "Apache-2.0", "bench/datasets/sim_codes.py",
        "people with ICD-10 categories: latent clusters, age and sex effects, pairs; target 8 %",
        draw="bench.datasets.sim_codes:draw", roles="bench.datasets.sim_codes:roles",
        params={"rows": 5_000, "codes": 200, "target": "", **_DRAWN},
        size=(5_000, 203, 406),
        version=2,  # names of categories
    ),
    Dataset(
        "sim-visits", "visits", "simulated", "Apache-2.0", "bench/datasets/sim_codes.py",
        "the same people over 1 to 8 visits, codes persisting and progressing",
        draw="bench.datasets.sim_codes:draw_visits", roles="bench.datasets.sim_codes:roles_visits",
        params={"rows": 5_000, "codes": 200, **_DRAWN},
        size=(5_000, 203, 389),
        version=2,  # names of categories
    ),
    Dataset(
        "sim-icu", "series", "simulated", "Apache-2.0", "bench/datasets/sim_icu.py",
        "ICU stays: 7 vitals over 24 hours, driven by severity, with missing values; mortality 10 %",
        draw="bench.datasets.sim_icu:draw", roles="bench.datasets.sim_icu:roles", params={"rows": 4_000, **_DRAWN},
        size=(4_000, 11, 451),
    ),
    Dataset(
        "sim-fraud", "table", "simulated", "Apache-2.0", "bench/datasets/sim_fraud.py",
        "card payments: 28 correlated features, amount, channel; 1 % fraud in three clusters",
        draw="bench.datasets.sim_fraud:draw", roles="bench.datasets.sim_fraud:roles", params={"rows": 20_000, **_DRAWN},
        size=(20_000, 31, 182),
    ),
    Dataset(
        "breast-cancer", "table", "packaged", "CC BY 4.0", "scikit-learn (UCI 17)",
        "569 tumours, 30 numerics of their nuclei; target: malignant",
        load="bench.datasets.flat:breast_cancer", params={"rows": 0, **_SPLIT}, expected={"rows": 569},
        size=(569, 31, 212),
    ),
    Dataset(
        "diabetes130", "codes", "open", "CC BY 4.0", _UCI,
        "patients of 130 US hospitals: ICD-9 categories and drugs; target: readmitted within 30 days",
        load="bench.datasets.diabetes130:load", params=_TARGETED, folders=("diabetes130",), files=_DIABETES_FILES,
        urls=_DIABETES_URLS, expected=_DIABETES_COUNTS,
        size=(71_518, 908, 8_834),
        version=2,  # names of categories
    ),
    Dataset(
        "diabetes130-visits", "visits", "open", "CC BY 4.0", _UCI,
        "the same patients, one row per encounter",
        load="bench.datasets.diabetes130:load_visits", params=_CUTS, folders=("diabetes130",), files=_DIABETES_FILES,
        urls=_DIABETES_URLS, expected=_DIABETES_COUNTS,
        size=(71_518, 908, 8_834),
        version=2,  # names of categories
    ),
    Dataset(
        "cinc2012", "series", "open", "ODC-BY", "https://physionet.org/content/challenge-2012/",
        "ICU stays of 48 hours, six channels hourly; `sets=abc` is all of it; target: died in hospital",
        load="bench.datasets.cinc2012:load", params={"sets": "ab", "rows": 0, **_SPLIT}, folders=("cinc2012",),
        files={
            "set-a.tar.gz": "dacc1b8337d968d4c79a05ad8ac87d5c7d9382e5a1d08d9d62935a041c2fde17",
            "set-b.tar.gz": "2d11c26f28df94b8dbc3747dcdbf327a2c618345551a3cf48926f373b9b552be",
            "set-c.tar.gz": None,
            "Outcomes-a.txt": "2613ea60ccda29f87571a7d6b09ad130858a8ccd66325bd073365925026883c2",
            "Outcomes-b.txt": "1305f29734da374a809483229a99f33a9230aa8d4fa74b1a2d6ad788136423d5",
            "Outcomes-c.txt": None,
        },
        urls={
            f: f"https://physionet.org/files/challenge-2012/1.0.0/{f}"
            for s in "abc"
            for f in (f"set-{s}.tar.gz", f"Outcomes-{s}.txt")
        },
        expected={"stays": 8_000, "rows": 3_520_515, "deaths": 1_122},
        size=(8_000, 12, 1_122),
    ),
    Dataset(
        "creditcard", "table", "open", "ODbL / DbCL", "https://www.kaggle.com/datasets/mlg-ulb/creditcardfraud",
        "card payments, V1..V28 and Amount; target: Class (fraud)",
        load="bench.datasets.flat:creditcard", params={"rows": 0, **_SPLIT},
        folders=("creditcard", "creditcard-subset"), files={"creditcard.csv": None},
        by_hand="Kaggle asks for an account: log in, download it from "
        "https://www.kaggle.com/datasets/mlg-ulb/creditcardfraud and put creditcard.csv into DATA/creditcard",
        expected={"rows": 284_807, "positives": 492}, drop_duplicates=True, order="Time",
        size=(284_807, 30, 492),
    ),
    Dataset(
        "mammography", "table", "open", "free for research", "Woods et al. 1993 (OpenML 310)",
        "objects in mammograms, six numerics; target: calcification",
        load="bench.datasets.flat:mammography", params={"rows": 0, **_SPLIT}, folders=("mammography",),
        files={"mammography.csv": "7d3dea3f075f30bbdbb8980e7725684059b4fe3d0f850fadd0f635f6993d8730"},
        urls={"mammography.csv": "https://raw.githubusercontent.com/jbrownlee/Datasets/master/mammography.csv"},
        expected={"rows": 11_183, "positives": 260}, drop_duplicates=True,
        size=(11_183, 7, 260),
    ),
    Dataset(
        "cinc2019", "series", "open", "CC BY 4.0", "https://physionet.org/content/challenge-2019/1.0.0/",
        "first day of ICU records without sepsis so far: 7 vital signs hourly; target: sepsis later in the stay",
        load="bench.datasets.cinc2019:load", params={"sets": "ab", "hours": 24, **_ROWS_ONLY}, folders=("cinc2019",),
        files={"training_setA": None, "training_setB": None}, locate="bench.datasets.cinc2019:locate",
        by_hand="40,336 small files, of which there is no archive: wget -r -N -c -np -nH --cut-dirs=3 -P DATA/cinc2019 "
        "https://physionet.org/files/challenge-2019/1.0.0/training/ gets them; training_setA.zip and training_setB.zip "
        "of earlier years go into DATA/cinc2019 as they are",
        expected={"patients": 40_336, "hours": 1_552_210, "septic": 2_932},
    ),
    Dataset(
        "support2", "table", "open", "CC BY 4.0", "https://archive.ics.uci.edu/dataset/880/support2",
        "seriously ill adults of five US hospitals, what was known on day 3; target: died in hospital",
        load="bench.datasets.support2:load", params=_ROWS_ONLY, folders=("support2",),
        files={"support2.zip": None}, locate="bench.datasets.support2:locate",
        urls={"support2.zip": "https://archive.ics.uci.edu/static/public/880/support2.zip"},
        expected={"rows": 9_105, "positives": 2_360}, size=(9_105, 30, 2_360),
    ),
    Dataset(
        "mimic3-codes", "codes", "credentialed", _PHYSIONET, _MIMIC3,
        "patients of a hospital in Boston: all ICD-9 diagnoses, cut to categories; target: died in hospital",
        load="bench.datasets.mimic3:load_codes", params=_CODED, folders=_MIMIC3_FOLDERS,
        tables=("PATIENTS", "ADMISSIONS", "DIAGNOSES_ICD"), by_hand=_MIMIC3_REQUEST,
        expected={**_MIMIC3_COUNTS, "columns of codes": 1_782}, size=(46_520, 1_786, 0),
    ),
    Dataset(
        "mimic3-visits", "visits", "credentialed", _PHYSIONET, _MIMIC3,
        "the same patients, one row per admission",
        load="bench.datasets.mimic3:load_visits", params=_CODED_VISITS, folders=_MIMIC3_FOLDERS,
        tables=("PATIENTS", "ADMISSIONS", "DIAGNOSES_ICD"), by_hand=_MIMIC3_REQUEST,
        expected=_MIMIC3_COUNTS, size=(46_520, 1_786, 0),
    ),
    Dataset(
        "mimic3-mortality", "series", "credentialed", _PHYSIONET, _MIMIC3,
        "first day of the first ICU stay: 7 vitals hourly; target: died in hospital",
        load="bench.datasets.mimic3:load_mortality", readings="bench.datasets.mimic3:readings", params=_ROWS_ONLY,
        folders=_MIMIC3_FOLDERS, tables=("PATIENTS", "ADMISSIONS", "ICUSTAYS", "CHARTEVENTS"), by_hand=_MIMIC3_REQUEST,
    ),
    Dataset(
        "mimic3-stay", "series", "credentialed", _PHYSIONET, _MIMIC3,
        "the same; target: more than three days in the unit",
        load="bench.datasets.mimic3:load_stay", readings="bench.datasets.mimic3:readings", params=_ROWS_ONLY,
        folders=_MIMIC3_FOLDERS, tables=("PATIENTS", "ADMISSIONS", "ICUSTAYS", "CHARTEVENTS"), by_hand=_MIMIC3_REQUEST,
    ),
    Dataset(
        "mimic4-codes", "codes", "credentialed", _PHYSIONET, _MIMIC4,
        "patients of the same hospital, later: sex, age, admissions, status, race, ICD-10 categories; target: died",
        load="bench.datasets.mimic4:load_codes", params=_CODED, folders=_MIMIC4_FOLDERS,
        tables=("patients", "admissions", "diagnoses_icd"), by_hand=_MIMIC4_REQUEST, order="anchor_year_group",
    ),
    Dataset(
        "mimic4-visits", "visits", "credentialed", _PHYSIONET, _MIMIC4,
        "those admitted, one row per admission; target: died in hospital",
        load="bench.datasets.mimic4:load_visits", params=_CODED_VISITS, folders=_MIMIC4_FOLDERS,
        tables=("patients", "admissions", "diagnoses_icd"), by_hand=_MIMIC4_REQUEST, order="anchor_year_group",
    ),
    Dataset(
        "eicu-codes", "codes", "credentialed", _PHYSIONET, _EICU,
        "ICU patients of 208 hospitals in the US: ICD-9 categories; target: died in hospital",
        load="bench.datasets.eicu:load_codes", params=_CODED, folders=_EICU_FOLDERS,
        tables=("patient", "diagnosis"), by_hand=_EICU_REQUEST, expected={"stays": 200_859, "patients": 139_367},
        size=(139_367, 0, 0),
    ),
    Dataset(
        "eicu-mortality", "series", "credentialed", _PHYSIONET, _EICU,
        "first day of the first unit stay: 3 vitals every five minutes; target: died in hospital",
        load="bench.datasets.eicu:load_mortality", readings="bench.datasets.eicu:readings", params=_ROWS_ONLY,
        folders=_EICU_FOLDERS, tables=("patient", "vitalPeriodic"), by_hand=_EICU_REQUEST,
    ),
    Dataset(
        "eicu-stay", "series", "credentialed", _PHYSIONET, _EICU,
        "the same; target: more than three days in the unit",
        load="bench.datasets.eicu:load_stay", readings="bench.datasets.eicu:readings", params=_ROWS_ONLY,
        folders=_EICU_FOLDERS, tables=("patient", "vitalPeriodic"), by_hand=_EICU_REQUEST,
    ),
)  # fmt: skip

DATASETS: Mapping[str, Dataset] = {row.name: row for row in _ROWS}
