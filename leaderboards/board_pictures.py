"""Pictures of a board as PNG bytes: family means with their intervals, and critical differences of mean ranks.

The same board gives the same bytes. matplotlib and scikit-posthocs are loaded when one is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from leaderboards.pictures import BLUE, GREEN, GREY, VERMILLION, heading, png
from leaderboards.rank import CLIP, FAMILIES, Board
from leaderboards.standing import FEWEST, Standing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOOKS = dict(zip(FAMILIES, ((BLUE, "o"), (VERMILLION, "^"), (GREEN, "s")), strict=True))
REACH = (CLIP[0] - 0.15, CLIP[1] + 0.15)  # of an axis at most; an interval that goes on ends in an arrow
ROW = 0.27  # inches, of a generator
WIDTH, LINE, PAD, HEAD = 5.5, 0.23, 0.2, 0.5  # inches: the axis of ranks, a line of a diagram, its margin, its heading
MOST_TICKS = 25  # of the axis of ranks
LEAST = 8.0  # inches that a heading needs
CD_AT, ABOVE = 2.3, 4.0  # lines above the axis of ranks: the critical difference, all


def ranking(board: Board, *, title: str, about: str) -> bytes:
    """Family means with 95 % intervals, one panel a family, generators in the board's order; references apart, grey."""
    from matplotlib.figure import Figure

    references = set(board.cells.loc[board.cells["reference"], "generator"])
    above = [g for g in board.order if g not in references]
    below = [g for g in board.order if g in references]
    rows = {g: -float(i) for i, g in enumerate(above)} | {g: -float(len(above) + i) - 0.6 for i, g in enumerate(below)}
    wide = 0.085 * max(map(len, rows), default=0)
    figure = Figure(figsize=(8.2 + wide, 1.75 + ROW * (len(rows) + 1)), layout="constrained")
    panels = figure.subplots(1, len(FAMILIES), sharey=True)
    low, high = _reach(board)
    for panel, family in zip(panels, FAMILIES, strict=True):
        panel.set(xlim=(low, high), ylim=(min(rows.values(), default=0) - 0.7, 0.7))
        for x, name in ((0, "floor"), (1, "ceiling")):
            panel.axvline(x, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
            panel.annotate(name, (x, 1), xycoords=("data", "axes fraction"), xytext=(0, 2), textcoords="offset points",
                           ha="center", va="bottom", fontsize=7.5, color="#555555")  # fmt: skip
        if above and below:
            panel.axhline(-len(above) + 0.2, color="#CCCCCC", linewidth=0.8)
        for name, y in rows.items():
            hollow = bool(board.unranked[name]) and name not in references
            _point(panel, board.families.loc[name, family], y, family, grey=name in references, hollow=hollow)
        panel.set_title(f"{family} →", fontsize=9.5, pad=14)
        panel.set_yticks(list(rows.values()), list(rows))
        panel.tick_params(labelsize=8)
        panel.tick_params(axis="y", length=0)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.grid(axis="y", color="#EEEEEE", linewidth=0.8)
        panel.set_axisbelow(True)
    for label, name in zip(panels[0].get_yticklabels(), rows, strict=True):
        label.set_color("#6B6B6B" if name in references else "black")
        label.set_style("italic" if name in references else "normal")
    said = "more is better; lines are 95 % intervals, with an arrow where one goes on; references in grey, not ranked"
    if any(board.unranked[g] for g in above):
        said += "; hollow: untuned, not ranked"
    figure.supxlabel(said, fontsize=8, color="#444444")
    heading(figure, title, about)
    return png(figure)


def _reach(board: Board) -> tuple[float, float]:
    """Where the axes begin and end: all means and intervals, floor and ceiling, within what is shown at most."""
    found = board.families.loc[:, pd.IndexSlice[:, ["mean", "low", "high"]]].to_numpy(float)
    found = found[~np.isnan(found)]
    low, high = min(found.min(initial=0), 0) - 0.06, max(found.max(initial=1), 1) + 0.06
    return max(low, REACH[0]), min(high, REACH[1])


def _point(panel: Axes, found: pd.Series, y: float, family: str, *, grey: bool, hollow: bool) -> None:
    colour, marker = LOOKS[family]
    colour = GREY if grey else colour
    low, high = panel.get_xlim()
    if pd.isna(found["mean"]):
        panel.text(
            (low + high) / 2,
            y,
            "no mean",
            fontsize=7,
            color="#777777",
            ha="center",
            va="center",
            backgroundcolor="white",
        )
        return
    if not pd.isna(found["low"]):
        panel.plot([max(found["low"], low), min(found["high"], high)], [y, y], color=colour, linewidth=1.6, zorder=2)
        for end, arrow in ((low, "<"), (high, ">")):
            if (found["low"] < low) if arrow == "<" else (found["high"] > high):
                panel.plot(end, y, arrow, color=colour, markersize=5, clip_on=False, zorder=3)
    face = "white" if hollow else colour
    panel.plot(found["mean"], y, marker, color=colour, markerfacecolor=face, markersize=4.5, zorder=4)


def critical(standing: Standing, *, title: str) -> bytes:
    """Mean ranks on a line, best at the left, with Nemenyi's critical difference (Demšar 2006).

    A bar joins generators that cannot be told apart: by signed-rank tests with Holm where there are six datasets, by
    Nemenyi's otherwise. Raises ValueError where there are too few datasets or generators for Friedman's test.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from scikit_posthocs import critical_difference_diagram

    k, g = standing.matrix.shape
    if standing.nemenyi is None or standing.critical is None:
        raise ValueError(f"got {k} datasets and {g} generators; a critical difference needs {FEWEST} of each")
    p, by = standing.wilcoxon, "signed-rank tests with Holm"
    if p is None:
        p, by = standing.nemenyi, "Nemenyi's test"
    names = sorted(standing.generators, key=lambda name: (standing.ranks.loc[name, "mean"], name))
    ranks = standing.ranks.loc[names, "mean"]
    figure = Figure()
    axes = figure.add_axes((0, 0, 1, 1))
    unit = WIDTH / (g - 1)  # inches
    made = critical_difference_diagram(
        ranks, p, ax=axes, text_h_margin=0.15 / unit,
        label_fmt_left="{label}   {rank:.2f} ", label_fmt_right=" {rank:.2f}   {label}",
        label_props={"fontsize": 9}, marker_props={"s": 20}, elbow_props={"color": "#333333", "linewidth": 0.9},
        crossbar_props={"color": BLUE, "linewidth": 3, "marker": "o", "markersize": 5, "solid_capstyle": "round"},
    )  # fmt: skip
    renderer = FigureCanvasAgg(figure).get_renderer()
    reach = [1.0, g + 0.0, 1 + standing.critical]
    for label in made["labels"]:
        x, size = label.get_position()[0], label.get_window_extent(renderer).width / figure.dpi / unit
        reach.append(x - size if label.get_horizontalalignment() == "right" else x + size)
    low, high = min(reach) - PAD / unit, max(reach) + PAD / unit
    lowest = min(label.get_position()[1] for label in made["labels"])
    axes.set(xlim=(low, high), ylim=(lowest - 1, ABOVE), xticks=range(1, g + 1, -(-g // MOST_TICKS)))
    axes.spines["top"].set_bounds(1, g)
    axes.tick_params(labelsize=8)
    axes.errorbar(1 + standing.critical / 2, CD_AT, xerr=standing.critical / 2, color="black", capsize=4, linewidth=1.4)
    axes.text(1, CD_AT + 0.35, f"Nemenyi's critical difference {standing.critical:.2f}", fontsize=8, va="bottom")
    width, height = (high - low) * unit, (ABOVE - lowest + 1) * LINE
    figure.set_size_inches(max(width, LEAST), height + HEAD)
    across = width / max(width, LEAST)
    axes.set_position(((1 - across) / 2, 0, across, height / (height + HEAD)))
    about = f"mean ranks over {k} datasets, 1 the best; dots on one bar: not told apart at 5 % by {by}"
    figure.text(
        0.5, 1 - 0.1 / (height + HEAD), f"{title}\n{about}", fontsize=9.5, linespacing=1.5, ha="center", va="top"
    )
    return png(figure)
