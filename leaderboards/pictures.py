"""Pictures as PNG bytes from plain arrays; the same arrays give the same bytes. matplotlib is loaded when one is drawn.

Colours are those of Okabe and Ito (2008, Color Universal Design), which colour-blind readers can tell apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEWEST = 10  # subjects of a cell that is shown
CELLS = (4, 30)  # across a density: at least and at most
PER_CELL = 20  # subjects of the first group that a cell of a density is made for
REACH = 3.0  # standard deviations of the first group that a density goes to
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
COLOURS = {"train": BLUE, "synth": VERMILLION, "holdout": GREEN}
MARKERS = {"train": "o", "synth": "^", "holdout": "s"}
PATHS = (VERMILLION, GREEN, PURPLE, ORANGE)
PLANE = 3.6  # how far the plane of a diffusion is shown
GREY = "#8C8C8C"
DPI = 150


def scatter(groups: Mapping[str, np.ndarray], *, title: str, about: str, axes: Sequence[str]) -> bytes:
    """Points of "train" (n, 2) under each of the other groups (m, 2), one panel each, on the same equal axes.

    Rows are subjects: for simulated and openly licensed data alone. axes: the names of the two.
    """
    others = [name for name in groups if name != "train"]
    figure, panels = _panels(len(others), title, about)
    low, high = _square(np.concatenate(list(groups.values())))
    size = np.clip(4_000 / len(groups["train"]), 5, 26)
    for panel, name in zip(panels, others, strict=True):
        for which in ("train", name):
            x = groups[which]
            panel.scatter(
                x[:, 0], x[:, 1], s=size, marker=MARKERS[which], c=COLOURS[which], alpha=0.55, linewidths=0,
                label=f"{which}, {len(x):,} shown",
            )  # fmt: skip
        _frame(panel, low, high, axes, f"train and {name}")
    handles = {label: h for panel in panels for h, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    legend = figure.legend(
        list(handles.values()), list(handles), loc="outside lower center", ncols=3, frameon=False, fontsize=9
    )
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
    return png(figure)


def density(groups: Mapping[str, np.ndarray], *, title: str, about: str, axes: Sequence[str]) -> bytes:
    """How the points (n, 2) of each group are spread, as shares in square cells, one panel each, "train" first.

    Cells of fewer than ten subjects are left blank. The cells follow from the moments and the number of train's points,
    never from an extreme one.
    """
    edges = grid(groups["train"])
    shares = {name: shown(x, edges) / max(len(x), 1) for name, x in groups.items()}
    top = max(float(np.nanmax(s, initial=0)) for s in shares.values()) or 1.0
    figure, panels = _panels(len(groups), title, f"{about}; cells of fewer than {FEWEST} subjects are left blank")
    for panel, (name, share) in zip(panels, shares.items(), strict=True):
        panel.set_facecolor("#EDEDED")
        mesh = panel.pcolormesh(*edges, np.ma.masked_invalid(share.T), cmap="cividis", vmin=0, vmax=top)
        _frame(panel, *((e[0] for e in edges), (e[-1] for e in edges)), axes, f"{name} ({len(groups[name]):,})")
    bar = figure.colorbar(mesh, ax=panels, shrink=0.8, pad=0.015)
    bar.set_label("share of subjects", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return png(figure)


def grid(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges of the square cells of a density, along both axes, from points (n, 2)."""
    center, reach = x.mean(axis=0), REACH * float(x.std(axis=0).max() or 1.0)
    k = int(np.clip(round(np.sqrt(len(x) / PER_CELL)), *CELLS))
    across, up = (np.linspace(c - reach, c + reach, k + 1) for c in center)
    return across, up


def shown(x: np.ndarray, edges: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Subjects (n, 2) by cell, NaN where there are fewer than ten."""
    counts = np.histogram2d(x[:, 0], x[:, 1], bins=list(edges))[0]
    return np.where(counts < FEWEST, np.nan, counts)


def paths(
    times: np.ndarray, forward: np.ndarray, reverse: np.ndarray, *, at: Sequence[float], title: str, about: str
) -> bytes:
    """Small multiples of a diffusion in the plane: noising above, its reverse below, one column for each time of `at`.

    forward, reverse (k, n, 2): the points at each of `times` (k,), rising. Four points are followed: their lines are
    the way since the column before. A point beyond 3.6 standard deviations of the noise is not shown.
    """
    from matplotlib.figure import Figure

    picked = np.unique([np.abs(times - t).argmin() for t in at])
    figure = Figure(figsize=(2.15 * len(picked) + 0.5, 5.3), layout="constrained")
    panels = np.atleast_2d(figure.subplots(2, len(picked), sharex=True, sharey=True))
    followed = len(PATHS)
    for row, (x, label) in enumerate(
        [(forward, "forward: noise is added →"), (reverse, "← reverse: drawn from noise")]
    ):
        since = [0, *picked[:-1]] if row == 0 else [*picked[1:], picked[-1]]
        for panel, k, other in zip(panels[row], picked, since, strict=True):
            panel.scatter(*x[k, followed:].T, s=5, c=GREY if row == 0 else BLUE, alpha=0.45, linewidths=0)
            way = x[min(k, other) : max(k, other) + 1]
            for i, colour in enumerate(PATHS):
                panel.plot(*way[:, i].T, color=colour, linewidth=0.7, alpha=0.8)
                panel.scatter(*x[k, i], s=28, color=colour, edgecolors="white", linewidths=0.7, zorder=3)
            panel.set(xlim=(-PLANE, PLANE), ylim=(-PLANE, PLANE), aspect="equal", xticks=[], yticks=[])
            if row == 0:
                panel.set_title(f"t = {times[k]:.2f}", fontsize=9)
        panels[row, 0].set_ylabel(label, fontsize=9)
    heading(figure, title, about)
    return png(figure)


def _panels(k: int, title: str, about: str) -> tuple[Figure, list[Axes]]:
    """A figure with k square panels side by side, under its heading."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(0.6 + 3.7 * k, 5.0), layout="constrained")
    heading(figure, title, about)
    return figure, list(np.atleast_1d(figure.subplots(1, k, sharex=True, sharey=True)))


def heading(figure: Figure, title: str, about: str) -> None:
    """The title of a figure, and a line of what it shows."""
    figure.suptitle(f"{title}\n{about}", fontsize=10, linespacing=1.5)


def _frame(panel: Axes, low: Any, high: Any, axes: Sequence[str], title: str) -> None:
    (left, bottom), (right, top) = low, high
    panel.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xlabel=axes[0])
    panel.set_title(title, fontsize=9.5)
    if panel.get_subplotspec().is_first_col():  # type: ignore[union-attr]
        panel.set_ylabel(axes[1])
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)


def _square(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the square that holds all points (n, 2), with a margin."""
    middle, half = (x.max(axis=0) + x.min(axis=0)) / 2, float((x.max(axis=0) - x.min(axis=0)).max()) / 2 or 1.0
    return middle - 1.05 * half, middle + 1.05 * half


def png(figure: Figure) -> bytes:
    """The figure as PNG, without the date and the version that would make its bytes differ."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    out = BytesIO()
    figure.savefig(out, format="png", dpi=DPI, metadata={"Software": None})
    return out.getvalue()
