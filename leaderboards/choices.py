"""Who is best for whom: the front over several aims, and whether weights or single datasets decide who wins."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from leaderboards.rank import FAMILIES, Board
from leaderboards.standing import DIGITS, Standing

STEP = 10  # weights of the families go by one tenth


def front(values: np.ndarray) -> np.ndarray:
    """Which rows of values (g, a), more is better, no other row dominates: at least as good in all, better in one.

    A row with NaN is not on the front and dominates none.

    >>> front(np.array([[1.0, 0.0], [0.5, 0.5], [0.4, 0.5], [2.0, np.nan]]))
    array([ True,  True, False, False])
    """
    whole = ~np.isnan(values).any(axis=1)
    x = values[whole]
    dominated = ((x[:, None] >= x[None]).all(axis=-1) & (x[:, None] > x[None]).any(axis=-1)).any(axis=0)
    out = whole.copy()
    out[whole] = ~dominated
    return out


@dataclass(frozen=True)
class Sensitivity:
    """Who wins under other choices. weightings: generator -> share of all weightings of the families that it wins.
    left_out: family -> {dataset: who wins without it, where that is another than with it}, of families with at least
    two datasets and a winner."""

    weightings: dict[str, float]
    left_out: dict[str, dict[str, str]]


def sensitivity(board: Board) -> Sensitivity:
    """Winners for all 66 weightings of the three families by tenths, and without each dataset in turn.

    Weightings are of ranked generators that have all three family means, ties sharing; most wins first. Without a
    dataset a generator that has its only gap there can win.
    """
    standings = [Standing(board, family) for family in FAMILIES]
    means = family_means(standings).dropna().sort_index()
    steps = [(i, j, STEP - i - j) for i in range(STEP + 1) for j in range(STEP + 1 - i)]
    wins: dict[str, float] = {}
    if len(means):
        total = (np.array(steps) / STEP @ means.to_numpy().T).round(DIGITS)  # (66, g)
        best = total == total.max(axis=1, keepdims=True)
        share = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
        wins = {g: s for g, s in sorted(zip(means.index, share.tolist(), strict=True), key=lambda w: -w[1]) if s > 0}
    left_out = {}
    for one in standings:
        if len(one.datasets) > 1 and one.generators and not one.gaps.iloc[0]:
            left_out[one.family] = {d: w for d in one.datasets if (w := _without(one, d)) != one.generators[0]}
    return Sensitivity(wins, left_out)


def family_means(standings: list[Standing]) -> pd.DataFrame:
    """Mean over datasets by generator and family, NaN where there is a gap or no dataset."""
    return pd.concat([s.matrix.mean(skipna=False).rename(s.family) for s in standings], axis=1).round(DIGITS)


def _without(standing: Standing, dataset: str) -> str:
    """The generator of the highest mean over the other datasets; of equals the one that is first with all."""
    return str(standing.matrix.drop(index=dataset).mean(skipna=False).round(DIGITS).idxmax())
