"""What tests of loaders share: names of releases, a dataset read and held to the law, one refused in one line."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from bench.datasets import DATASETS, open_dataset
from bench.datasets.data import Data, DataError
from bench.datasets.law import faults

CREDENTIALED = [name for name, row in DATASETS.items() if row.access == "credentialed"]
SERIES = [name for name in CREDENTIALED if DATASETS[name].readings]
FLAT = ["mimic3-codes", "mimic4-codes", "eicu-codes"]
SECRETS = ("77.125", "7700", "zebra")  # a value, record numbers and a text out of rows: no message may hold them
VITALS = ["HR", "SBP", "DBP", "MBP", "RR", "Temp", "SpO2"]


@cache
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


def refused(load: Callable[[], Data], says: str) -> None:
    """Loading must fail with one line that says so and holds no value of a row."""
    with pytest.raises(DataError) as error:
        load()
    text = str(error.value)
    assert says in text
    assert "\n" not in text
    assert not [secret for secret in SECRETS if secret in text]
