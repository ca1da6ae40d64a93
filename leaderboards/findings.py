"""What a board says, in sentences: each with its interval, and with what cannot be said."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from leaderboards.choices import front, sensitivity
from leaderboards.rank import FAMILIES, Board
from leaderboards.render import KEY, counts
from leaderboards.standing import Standing
from metrics import METRICS

ATTACKS = {"mia_distance_auroc_gap": "distance", "mia_density_auroc_gap": "density"}
GAIN = "boost_f1_score/xgb/100/half/gain"
WEIGHTS = "boost_f1_score/xgb/weighted/half/gain"
MOST = 12  # names in a list


def sentences(board: Board) -> list[str]:
    """The findings of a board, as Markdown."""
    parts = [*_families(board), *_tradeoff(board), *_members(board), *_gains(board), *_blind(board)]
    return [*parts, f"**Ended:** {counts(board)}"]


def _families(board: Board) -> Iterator[str]:
    """Who leads each family, by how much, and who cannot be told from it."""
    for family in FAMILIES:
        standing = Standing(board, family)
        names = standing.generators
        if not names or standing.gaps.iloc[0]:
            yield f"**{family.capitalize()}:** no generator has a mean over all datasets with resolution."
            continue
        first = names[0]
        found = board.families.loc[first, family]
        n = len(standing.datasets)
        said = f"**{family.capitalize()}:** `{first}` has the highest mean, {found['mean']:.2f}{_range(found)}, over "
        said += "one dataset" if n == 1 else f"{n} datasets"
        letters = standing.letters
        if first not in letters:
            yield f"{said}; one replicate a dataset has no paired interval, so that nothing is told apart."
            continue
        alike = [g for g in names[1:] if set(letters.get(g, "")) & set(letters[first])]
        below = [g for g in names[1:] if g in letters and g not in alike]
        if alike:
            said += f"; not to be told apart from it: {_list(alike)}"
        if below:
            one = standing.behind.loc[below[0]]
            said += f"; below it: {_list(below)}, the nearest by {-one['mean']:.2f}"
        yield f"{said}."


def _tradeoff(board: Board) -> Iterator[str]:
    """Who is not dominated, and whether the weights of the families or a single dataset decide."""
    ranked = [g for g in board.order if not board.unranked[g]]
    means = board.families.loc[ranked, [(f, "mean") for f in FAMILIES]].to_numpy(float)
    kept = [g for g, on in zip(ranked, front(means), strict=True) if on]
    if kept:
        yield (
            f"**Trade-off:** {_list(kept)} {'is' if len(kept) == 1 else 'are'} not dominated: no other generator is at "
            "least as good in all three families and better in one."
        )
    found = sensitivity(board)
    if len(found.weightings) > 1:
        shares = ", ".join(f"`{g}` {100 * share:.0f} %" for g, share in list(found.weightings.items())[:MOST])
        yield f"**The weights decide:** of all weightings of the three families in tenths, {shares} have that winner."
    elif found.weightings:
        winner = next(iter(found.weightings))
        yield f"**The weights do not decide:** `{winner}` wins under every weighting of the families."
    fragile = {f: sorted({w for w in changes.values()}) for f, changes in found.left_out.items() if changes}
    if fragile:
        said = "; ".join(f"{f} goes to {_list(who)}" for f, who in fragile.items())
        yield f"**One dataset decides:** where one dataset is left out, {said}."


def _members(board: Board) -> Iterator[str]:
    """Whose train can be told from people who were never in it."""
    ranked = [g for g in board.order if not board.unranked[g]]
    datasets = list(dict.fromkeys(board.frame["dataset"]))
    keys = [(d, g, m) for d in datasets for g in ranked for m in ATTACKS if (d, g, m) in board.means]
    if not keys:
        return
    hit: dict[str, list[tuple[float, str, str]]] = {}
    for dataset, g, metric in keys:
        found = board.summary.loc[(dataset, g, metric)]
        if found["low"] > 0:
            text = f"{found['mean']:.2f}{_range(found)} by the {ATTACKS[metric]} attack on {dataset}"
            hit.setdefault(g, []).append((found["mean"], dataset, text))
    if hit:
        named = [
            f"`{g}` on {len({dataset for _, dataset, _ in found})} of {len(datasets)} datasets, at most {max(found)[2]}"
            for g, found in sorted(hit.items(), key=lambda item: -max(item[1])[0])
        ]
        yield (
            f"**Members are found** by an attack, beyond its interval, in samples of {'; '.join(named)}. "
            "(2·AUROC − 1: 0 is chance, 1 a copy; by chance about "
            f"{0.025 * len(keys):.0f} of {len(keys)} such intervals would lie above 0.)"
        )
    others = [g for g in ranked if g not in hit]
    if others:
        said = f"**Members are not found** by either attack, on any dataset, beyond its interval: {_list(others)}."
        yield f"{said} That is no certificate."


def _gains(board: Board) -> Iterator[str]:
    """Whether drawn positives help a judge more than weights that cost nothing."""
    datasets = [
        d for d in dict.fromkeys(board.frame["dataset"]) if any((d, g, GAIN) in board.means for g in board.order)
    ]
    if not datasets:
        return
    better, beats = [], []
    for dataset in datasets:
        for g in board.order:
            key = (dataset, g, GAIN)
            if board.unranked[g] or key not in board.means:
                continue
            found = board.summary.loc[key]
            if found["low"] > 0:
                better.append(f"`{g}` on {dataset} ({found['mean']:+.3f}{_range(found)})")
            if (dataset, g, WEIGHTS) in board.means and found["mean"] > board.summary.loc[
                (dataset, g, WEIGHTS), "mean"
            ]:
                beats.append((dataset, g))
    asked = sum((d, g, GAIN) in board.means and not board.unranked[g] for d in datasets for g in board.order)
    said = "**Drawn positives** that balance train raise XGBoost's F1 beyond its interval in "
    said += f"{len(better)} of {asked} cases"
    said += f": {'; '.join(better[:MOST])}{' and others' if len(better) > MOST else ''}" if better else ""
    yield f"{said}. The mean gain is above that of class weights, which need no generator, in {len(beats)}."


def _blind(board: Board) -> Iterator[str]:
    """What cannot tell good from bad."""
    scales = board.scales
    if scales.empty:
        yield "**Nothing is normalised:** the references `copycat` and `marginal` or `uniform` are not in this suite."
        return
    blind = scales[~scales["usable"].to_numpy(dtype=bool)].reset_index()
    per = blind["metric"].value_counts()
    n = scales.index.get_level_values("dataset").nunique()
    worst = [f"{KEY.get(m, m)} on {k} of {n}" for m, k in per.items() if METRICS[m].ranked][:MOST]
    yield (
        f"**Without resolution** are {len(blind)} of {len(scales)} pairs of a ranked score and a dataset: floor and "
        f"ceiling are closer than three standard errors, and they are left out of means"
        + (f" ({', '.join(worst)})." if worst else ".")
    )


def _range(found: pd.Series) -> str:
    return "" if pd.isna(found["low"]) else f" ({found['low']:.2f} to {found['high']:.2f})"


def _list(names: list[str]) -> str:
    shown = [f"`{n}`" for n in names[:MOST]]
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(shown) + more
