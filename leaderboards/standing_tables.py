"""How sure a board's order is, as Markdown: who cannot be told apart, who is dominated, what would change the winner.

Families stand apart: nothing here is a mean over them but the weightings, which are said to be such.
"""

import pandas as pd
from tabulate import tabulate

from leaderboards.choices import family_means, front, sensitivity
from leaderboards.rank import FAMILIES, Board
from leaderboards.standing import FEWEST, FEWEST_SIGNED, LEVEL, Standing
from leaderboards.words import fixed, many

MOST_PAIRS = 12  # that are named one by one
HEADS = ["generator", "group", "less the best", "mean rank", "Elo", "win rate"]
ALIGN = ("left", "left", "right", "right", "right", "right")
ABOUT = """\
Generators that share a letter cannot be told apart by a t test paired by replicate, at 5 % with Holm over all pairs of
the family. "Less the best" is the difference to the first in the family mean, paired by replicate; ± is the half-width
of its own 95 % interval, not corrected for the number of pairs. Both speak of further splits of these datasets. Mean
rank, Elo (1000 is the mean of the generators here, 400 points are odds of 10 to 1) and win rate (against all others)
speak of further datasets; a failure ranks last and loses. Their 95 % intervals, in brackets, resample datasets; they
are shown from 6 datasets on, for they are too narrow where those are few: in simulation they held the truth in about
67 % of cases at 3 datasets, 84 % at 6, 88 % at 10 and 94 % at 30."""


def section(board: Board) -> list[str]:
    """The section's parts, or none with fewer than two ranked generators or no family that has a usable score."""
    standings = [s for s in (Standing(board, family) for family in FAMILIES) if s.datasets]
    if not standings or len(standings[0].generators) < 2:
        return []
    parts = [ABOUT, _front(standings)]
    for standing in standings:
        parts += [f"### {standing.family.capitalize()}", _table(standing), _notes(standing), _tests(standing)]
    return [part for part in [*parts, *_sensitivity(board)] if part]


def _front(standings: list[Standing]) -> str:
    names = [s.family for s in standings]
    means = family_means(standings).sort_index()
    best = means.index[front(means.to_numpy())]
    if len(names) < 2 or not len(best):
        return ""
    left = means.index[means.isna().any(axis=1)]
    lacking = f" Not compared, for want of a mean: {_names(left)}." if len(left) else ""
    return f"Not dominated over {_and(names)} (no other is as good in all and better in one): {_names(best)}.{lacking}"


def _table(standing: Standing) -> str:
    behind, ranks, ratings = standing.behind, standing.ranks, standing.elo
    rates = standing.win_rates.mean(axis=1)
    shown = len(standing.datasets) >= FEWEST_SIGNED
    rows = []
    for name in standing.generators:
        first = name == standing.generators[0] and not standing.gaps[name]
        rows.append([
            name,
            standing.letters.get(name, "–"),
            "best" if first else _difference(behind.loc[name]),
            _ranged(ranks.loc[name], 2, shown),
            _ranged(ratings.loc[name], 0, shown),
            f"{100 * rates[name]:.0f} %",
        ])  # fmt: skip
    return tabulate(rows, HEADS, tablefmt="github", disable_numparse=True, colalign=ALIGN)


def _notes(standing: Standing) -> str:
    """Why there are no letters, where there are none."""
    whole = [g for g in standing.generators if not standing.gaps[g]]
    lettered = set(standing.letters)
    said = []
    if len(whole) > 1 and standing.scores.shape[2] == 1:
        said.append("One replicate: no paired interval, so no groups.")
    elif len(whole) > 1 and not lettered >= set(whole):
        once = [g for g in whole if standing.shared[g]]
        if once:
            said.append(f"Tuned once for several replicates, so without a paired interval: {_names(once)}.")
        if len(once) < len(set(whole) - lettered):
            said.append("No paired interval where a dataset has one replicate that a pair shares.")
    gaps = [g for g in standing.generators if standing.gaps[g]]
    if gaps:
        said.append(f"A gap on some dataset, so neither group nor difference: {_names(gaps)}.")
    return " ".join(said)


def _tests(standing: Standing) -> str:
    """Friedman, Nemenyi and signed ranks in a line, or why there are none."""
    k, g = standing.matrix.shape
    pairs = g * (g - 1) // 2
    if standing.friedman is None:
        return f"{many(k, 'dataset')}, {many(g, 'generator')}: too few for tests over datasets ({_needs()})."
    statistic, p = standing.friedman
    said = [f"Over {k} datasets: Friedman χ² {fixed(statistic, 2)}, {_p(p)}."]
    if standing.nemenyi is not None:
        apart = _apart(standing, standing.nemenyi)
        said.append(
            f"Nemenyi's critical difference of mean ranks {fixed(standing.critical or 0.0, 2)}: {_told(apart, pairs)}."
        )
    if standing.wilcoxon is None:
        said.append(f"Signed-rank tests need {FEWEST_SIGNED} datasets.")
    elif pairs * 2 / 2**k >= LEVEL:
        said.append(
            f"Signed-rank tests with Holm can tell none of {many(pairs, 'pair')} apart: {k} datasets allow no p under "
            f"{2 / 2**k:.2g}, too large after the correction."
        )
    else:
        said.append(f"Signed-rank tests with Holm: {_told(_apart(standing, standing.wilcoxon), pairs)}.")
    if standing.gaps.any():
        said.append("In these tests a gap counts as a score of −1.")
    return " ".join(said)


def _needs() -> str:
    return f"Friedman and Nemenyi need {FEWEST} of each, signed ranks {FEWEST_SIGNED} datasets"


def _apart(standing: Standing, p: pd.DataFrame) -> list[tuple[str, str]]:
    """Pairs that a test tells apart, the one of the better mean rank first."""
    names = sorted(standing.generators, key=lambda name: (standing.ranks.loc[name, "mean"], name))
    return [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if p.loc[a, b] < LEVEL]


def _told(apart: list[tuple[str, str]], pairs: int) -> str:
    named = f" ({', '.join(f'`{a}` over `{b}`' for a, b in apart)})" if 0 < len(apart) <= MOST_PAIRS else ""
    return f"{len(apart)} of {many(pairs, 'pair')} told apart{named}"


def _sensitivity(board: Board) -> list[str]:
    found = sensitivity(board)
    said = []
    if found.weightings:
        shares = ", ".join(f"`{name}` {100 * share:.0f} %" for name, share in found.weightings.items())
        said.append(f"Best under weightings of fidelity, utility and privacy by tenths, share of all 66: {shares}.")
    lines = []
    for family, changed in found.left_out.items():
        without = ", ".join(f"`{name}` without {dataset}" for dataset, name in changed.items())
        lines.append(f"{family} {without or 'the same whichever is left out'}")
    if lines:
        said.append(f"Best with one dataset left out: {'; '.join(lines)}.")
    return ["### What would change the winner", *said] if said else []


def _difference(row: pd.Series) -> str:
    if pd.isna(row["mean"]):
        return "–"
    half = "" if pd.isna(row["low"]) else f" ±{row['mean'] - row['low']:.3f}"
    return f"{fixed(row['mean'], 3)}{half}"


def _ranged(row: pd.Series, places: int, shown: bool) -> str:
    """The first of a row's values, with low and high where they are shown."""
    value, low, high = (fixed(v, places) for v in row)
    return f"{value} ({low} to {high})" if shown else value


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _names(names: list[str] | pd.Index) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _and(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
