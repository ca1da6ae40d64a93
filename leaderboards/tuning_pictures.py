"""Pictures of tuning studies as PNG bytes, from their trials as plain data; the same data give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from leaderboards.pictures import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, heading, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)  # of replicates
Point = tuple[float, float]


def searches(studies: Mapping[int, Mapping[str, Any]], shares: Mapping[str, float], *, title: str) -> bytes:
    """Studies of one generator, by replicate: history, what matters, the parameters, and value against privacy.

    studies: replicate -> {"trials": rows of number, state, values, params, scores; "best", "plan"}. shares: parameter
    -> how much of the variation of the objective it accounts for.
    """
    from matplotlib.figure import Figure

    first = next(iter(studies.values()))
    plan = first["plan"]
    figure = Figure(figsize=(11.5, 7.6), layout="constrained")
    aims = " and ".join(plan["objective"])
    heading(figure, title, f"{aims}: 0 at the floor and 1 at the ceiling of the inner split; rings: what was taken")
    ((history, matter), (lines, plane)) = figure.subplots(2, 2)
    for colour, (replicate, study) in zip(cycle(COLOURS), studies.items(), strict=False):
        _history(history, study, f"replicate {replicate}", colour)
        _tradeoff(plane, study, colour)
    history.set(xlabel="trial", ylabel=plan["objective"][0])
    history.set_title("history; line: best so far that keeps the bounds; ×: lost, pruned or over a bound", fontsize=9.5)
    history.legend(frameon=False, fontsize=8)
    matter.barh(list(shares)[::-1], list(shares.values())[::-1], color=GREY)
    matter.set_title("share of the variation that a parameter accounts for (fANOVA)", fontsize=9.5)
    matter.set_xlabel("share" if shares else "too few trials with a value")
    _parallel(lines, figure, [t for study in studies.values() for t in study["trials"]], plan["objective"][0])
    _bounded(plane, plan)
    for panel in (history, matter, plane):
        panel.spines[["top", "right"]].set_visible(False)
    for panel in (history, matter, lines, plane):
        panel.tick_params(labelsize=8)
    return png(figure)


def _history(panel: Axes, study: Mapping[str, Any], label: str, colour: str) -> None:
    trials = study["trials"]
    kept = [t for t in trials if t["state"] == "done"]
    off = [t for t in trials if t["state"] != "done"]
    panel.scatter(
        [t["number"] for t in kept], [t["values"][0] for t in kept], s=22, color=colour, alpha=0.7, label=label
    )
    low = min((t["values"][0] for t in trials if t["values"]), default=0.0)
    panel.scatter([t["number"] for t in off], [(t["values"] or [low])[0] for t in off], s=24, color=colour, marker="x")
    if kept:
        best = np.maximum.accumulate([t["values"][0] for t in kept])
        panel.step([t["number"] for t in kept], best, where="post", color=colour, linewidth=1)
    _ring(panel, [(t["number"], t["values"][0]) for t in kept if t["number"] == study["best"]])


def _tradeoff(panel: Axes, study: Mapping[str, Any], colour: str) -> None:
    """Two aims against each other, or the one against the first bound on privacy."""
    plan = study["plan"]
    placed = [(t, at) for t in study["trials"] if (at := _plane(t, plan)) is not None]
    for marker, state in (("o", "done"), ("x", "infeasible")):
        shown = np.array([at for t, at in placed if t["state"] == state], dtype=float).reshape(-1, 2)
        panel.scatter(shown[:, 0], shown[:, 1], s=24, color=colour, marker=marker, alpha=0.8)
    sign = 1 if len(plan["objective"]) > 1 else -1  # of the axis that points up
    front, top = list[Point](), -np.inf
    for x, y in sorted((at for t, at in placed if t["state"] == "done"), reverse=True):
        if sign * y > top:
            front.append((x, y))
            top = sign * y
    panel.step([x for x, _ in front], [y for _, y in front], where="pre", color=colour, linewidth=1)
    _ring(panel, [at for t, at in placed if t["number"] == study["best"]])


def _plane(trial: Mapping[str, Any], plan: Mapping[str, Any]) -> Point | None:
    """Where a trial stands: its two aims, or its aim and its risk."""
    if not trial["values"]:
        return None
    if len(plan["objective"]) > 1:
        return trial["values"][0], trial["values"][1]
    risk = trial["scores"].get(_bound(plan))
    return None if risk is None else (trial["values"][0], risk)


def _bound(plan: Mapping[str, Any]) -> str:
    """The bound on privacy that is drawn: an attack's, where there is one."""
    names = list(plan["privacy"])
    return next((n for n in names if n.startswith("mia")), names[0] if names else "")


def _bounded(panel: Axes, plan: Mapping[str, Any]) -> None:
    """Names of the axes, and the line of the bound."""
    aims, bound = plan["objective"], _bound(plan)
    panel.set_xlabel(aims[0])
    if len(aims) > 1:
        panel.set_ylabel(aims[1])
        panel.set_title("the two aims, and their front", fontsize=9.5)
        return
    panel.set_ylabel(bound or "no bound on privacy")
    panel.set_title("objective against privacy, and the front (right and low is better)", fontsize=9.5)
    if bound:
        panel.axhline(plan["privacy"][bound], color=GREY, linewidth=1, linestyle="--")


def _ring(panel: Axes, at: Sequence[Point]) -> None:
    for x, y in at:
        panel.scatter([x], [y], s=120, facecolors="none", edgecolors="black", linewidths=1.1, zorder=3)


def _parallel(panel: Axes, figure: Figure, trials: Sequence[Mapping[str, Any]], aim: str) -> None:
    """Each trial with a value as a line over its parameters, each by the rank of its value among the trials'."""
    import matplotlib as mpl

    scored = sorted((t for t in trials if t["values"]), key=lambda t: t["values"][0])
    panel.set_title("parameters of the trials with a value, lowest to highest of each", fontsize=9.5)
    if not scored:
        panel.set_axis_off()
        return
    names = list(scored[-1]["params"])
    columns, ticks = [], []
    for name in names:
        found = [t["params"].get(name) for t in scored]
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in found)
        known = sorted(set(found)) if numbers else sorted({str(v) for v in found})
        columns.append([known.index(v if numbers else str(v)) / max(len(known) - 1, 1) for v in found])
        ends = [f"{v:.2g}" if isinstance(v, float) else str(v) for v in (known[0], known[-1])]
        ticks.append(f"{name}\n{' to '.join(dict.fromkeys(ends))}")
    values = [t["values"][0] for t in scored]
    scale = mpl.colors.Normalize(min(values), max(values) if max(values) > min(values) else min(values) + 1)
    colours = mpl.colormaps["cividis"]
    for row, value in zip(np.array(columns).T, values, strict=True):
        panel.plot(range(len(names)), row, color=colours(scale(value)), linewidth=1.1, alpha=0.8)
    panel.set_xticks(range(len(names)), ticks)
    panel.set_yticks([0, 1], ["lowest", "highest"])
    bar = figure.colorbar(mpl.cm.ScalarMappable(scale, colours), ax=panel, pad=0.02)
    bar.set_label(aim, fontsize=8)
    bar.ax.tick_params(labelsize=8)
