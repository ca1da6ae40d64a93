"""What a report may show of real people: nothing of fewer than ten."""

import numpy as np
import pandas as pd

from bench.views import _correlation
from metrics.tables import Tables


def table(n: int, known: int, seed: int) -> pd.DataFrame:
    """n subjects; `lactate` is known of the first few, `crp` of the others alone."""
    rng = np.random.default_rng(seed)
    found = pd.DataFrame(rng.normal(50, 10, (n, 4)), columns=["hr", "age", "lactate", "crp"])
    found.loc[known:, "lactate"] = np.nan
    found.loc[: known - 1, "crp"] = np.nan
    found["died"] = rng.random(n) < 0.5
    found.index = pd.RangeIndex(n, name="subject")
    return found


def test_a_column_that_few_have_a_value_of_is_not_correlated() -> None:
    parts = [table(60, 9, seed) for seed in range(3)]
    assert _correlation(Tables(*parts, roles={"target": "died"}), 10)["names"] == ["age", "crp", "died", "hr"]


def test_columns_that_few_have_both_of_have_no_correlation() -> None:
    parts = [table(60, 30, seed) for seed in range(3)]
    found = _correlation(Tables(*parts, roles={"target": "died"}), 10)
    difference = pd.DataFrame(found["difference"], found["names"], found["names"])
    assert np.isnan(difference.loc["lactate", "crp"])
    assert difference.drop(columns="crp").loc["lactate"].notna().all()
