"""What tests of releases share: their names, and a dataset read and held to the law."""

from pathlib import Path

import pandas as pd

from bench.datasets import DATASETS, open_dataset
from bench.datasets.data import Data
from bench.datasets.law import faults

CREDENTIALED = [name for name, row in DATASETS.items() if row.access == "credentialed"]
SERIES = [name for name in CREDENTIALED if DATASETS[name].readings]
FLAT = ["mimic3-codes", "mimic4-codes", "eicu-codes"]
VITALS = ["HR", "SBP", "DBP", "MBP", "RR", "Temp", "SpO2"]


def load(name: str, data: Path) -> Data:
    """A dataset, which keeps the law; read once where several tests look at it."""
    loaded = open_dataset(name, data).load()
    assert faults(loaded.table, loaded.roles) == []
    return loaded


def held(table: pd.DataFrame, codes: tuple[str, ...]) -> list[str]:
    """The codes of each row, as text."""
    return [" ".join(c for c, have in zip(codes, row, strict=True) if have) for row in table[list(codes)].to_numpy()]


def texts(column: pd.Series) -> list[str]:
    return ["" if pd.isna(value) else str(value) for value in column]
