"""Flat real tables in one file each: breast-cancer (scikit-learn's own), creditcard, mammography."""

from pathlib import Path

import numpy as np
import pandas as pd

from bench.datasets.data import Data, DataError, expect, has_columns
from bench.datasets.law import Roles

CREDITCARD_ROWS, CREDITCARD_POSITIVE = 284_807, 492
CREDITCARD_COLUMNS = ["Time", *(f"V{i}" for i in range(1, 29)), "Amount", "Class"]
MAMMOGRAPHY = {
    "area": "area of the object",
    "gray": "average grey level of the object",
    "gradient": "gradient strength along the object's edge",
    "noise": "root mean square noise fluctuation in the object",
    "contrast": "average grey level of the object minus that of its border",
    "shape": "low-order moment of a shape descriptor",
}


def breast_cancer(folder: Path | None = None) -> Data:
    """Wisconsin diagnostic breast cancer: 569 nuclei images, 30 numerics; target: malignant."""
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    table = pd.DataFrame(bunch.data, columns=[str(n) for n in bunch.feature_names])
    table["malignant"] = bunch.target == 0
    table.index = pd.RangeIndex(len(table), name="subject")
    describe = {c: f"{c} of the cell nuclei" for c in table if c != "malignant"} | {
        "malignant": "the tumour is malignant"
    }
    return Data(table, Roles("malignant", sensitive=("malignant",), describe=describe), facts={"rows": len(table)})


def creditcard(folder: Path) -> Data:
    """Card payments of two days in 2013 (ULB): V1..V28 and Amount; Time orders the rows, no column; target: Class.

    OU diffusion (Le 2024) learns the 492 frauds alone, adds 3,000, and gains 2 to 6 of 98 frauds in one split,
    duplicates handled in two ways. Here exact repetitions go before the split and every gain has an
    interval.
    """
    raw = _csv(folder / "creditcard.csv", header=0)
    has_columns(raw, CREDITCARD_COLUMNS, "creditcard.csv")
    if not raw["Class"].isin([0, 1]).all() or raw[CREDITCARD_COLUMNS].isna().any(axis=None):
        raise DataError("creditcard.csv: a row is not complete: truncated?")
    if len(raw) > CREDITCARD_ROWS:
        expect("creditcard.csv: rows", len(raw), CREDITCARD_ROWS)
    table = raw[[c for c in CREDITCARD_COLUMNS if c not in ("Time", "Class")]].astype("float64")
    table["Class"] = raw["Class"] == 1
    table.index = pd.RangeIndex(len(table), name="subject")
    facts: dict[str, int | str] = {
        "rows": len(raw),
        "positives": int(table["Class"].sum()),
    }
    if len(raw) < CREDITCARD_ROWS:
        facts["subset"] = f"{len(raw):,} of {CREDITCARD_ROWS:,} rows"
    describe = {"Amount": "amount in euros", "Class": "fraudulent"}
    roles = Roles("Class", sensitive=("Class",), quasi=("Amount",), describe=describe)
    return Data(table, roles, order=pd.Series(raw["Time"].to_numpy(float), table.index), facts=facts)


def mammography(folder: Path) -> Data:
    """Microcalcifications in mammograms (Woods et al. 1993): six numerics; target: calcification.

    A standard set for SMOTE, 260 of 11,183 positive; 3,334 rows repeat another exactly, which flatters random
    splits. Here they go before the split.
    """
    raw = _csv(folder / "mammography.csv", header=None)
    if raw.shape[1] != 7:
        raise DataError(f"mammography.csv: {raw.shape[1]} columns, expected 7: a different file")
    expect("mammography.csv: rows", len(raw), 11_183)
    labels = raw[6].astype(str).str.strip("' ")
    if not labels.isin(["-1", "1"]).all() or any(raw[c].dtype != np.float64 for c in range(6)):
        raise DataError("mammography.csv: expected six numbers and a class of '-1' or '1' in every row")
    table = raw[list(range(6))].set_axis(list(MAMMOGRAPHY), axis=1)
    table["calcification"] = labels == "1"
    table.index = pd.RangeIndex(len(table), name="subject")
    describe = MAMMOGRAPHY | {"calcification": "the object is a calcification"}
    facts = {"rows": len(table), "positives": int(table["calcification"].sum())}
    return Data(table, Roles("calcification", sensitive=("calcification",), describe=describe), facts=facts)


def _csv(path: Path, header: int | None) -> pd.DataFrame:
    try:
        return pd.read_csv(path, header=header)
    except (ValueError, UnicodeDecodeError) as error:  # ParserError and EmptyDataError are ValueErrors
        raise DataError(f"{path.name}: not a readable csv file: {type(error).__name__}") from error
