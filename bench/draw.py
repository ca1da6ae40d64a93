"""What is drawn of a suite's stored samples, and the two moons: data gathered here, drawn by leaderboards/pictures.py.

The privacy of a picture is decided here: points are subjects only where the data are simulated or openly licensed, else
densities are drawn; copycat's rows are never drawn, since they are train's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.ask import has_minority
from bench.collect import records
from bench.errors import BenchError, unknown
from bench.store import Store
from bench.suite import Suite
from bench.sweep import chosen
from bench.whole import check_stage, read_parquet

if TYPE_CHECKING:
    import numpy as np

    from bench.cell import Cell
    from bench.datasets.source import Source

EMBEDDINGS = ("pca", "umap")
LEAST = 10  # train positives that a picture is drawn of
MOST = 2_000  # points of one group
TOY = "trajectories"
TIMES = (0, 0.05, 0.25, 1, 4)  # of the toy that are shown
Row = tuple[str, str, int, str, str]


def draw(
    suite: Suite, store: Store, data_dir: Path | None, *, datasets: Sequence[str], labels: Sequence[str], embed: str,
    replicate: int,
) -> list[Row]:  # fmt: skip
    """A picture of each (dataset, generator) of a suite: train's minority, the drawn one, and holdout's as the control.

    Gives per cell: dataset, generator, replicate, the picture's path or "", why there is none or "". Raises BenchError
    for an unknown dataset, generator, embedding or replicate.
    """
    if embed not in EMBEDDINGS:
        raise unknown("embedding", embed, EMBEDDINGS)
    if not 0 <= replicate < suite.replicates:
        raise BenchError(f"replicate {replicate}: suite {suite.name} has 0 to {suite.replicates - 1}")
    rows: list[Row] = []
    for cell, source, record in chosen(records(suite, store, data_dir), datasets, labels):
        if cell.replicate != replicate:
            continue
        why = _why_not(cell, store, "" if record is None else record.reason)
        found = "" if why else _picture(cell, source, store, embed)
        path = ""
        if isinstance(found, bytes):
            path = str(store.save_picture(suite.name, f"{cell.key}.{embed}.png", found))
        else:
            why = why or found
        rows.append((cell.dataset, cell.label, cell.replicate, path, why))
    return rows


def draw_studies(suite: Suite, store: Store, data_dir: Path | None) -> None:
    """A picture of the studies of each (dataset, generator) of a suite, drawn again where a study has ended since."""
    from bench.space import importances
    from leaderboards.tuning_pictures import searches

    for cells in grouped(suite, store, data_dir):
        ended = [(c, store.study_result(c.study.key)) for c in cells]
        found = {c.study.replicate: result for c, result in ended if result and result["trials"]}
        paths = [store.study(c.study.key) / "tuned.json" for c, result in ended if result]
        name = tuning_picture(cells[0])
        picture = store.pictures(suite.name) / name
        if not found or (picture.exists() and picture.stat().st_mtime >= max(p.stat().st_mtime for p in paths)):
            continue
        shares = importances(cells[0].generator, [t for result in found.values() for t in result["trials"]])
        title = f"{cells[0].dataset} · {cells[0].label}"
        store.save_picture(suite.name, name, searches(found, shares, title=title))


def grouped(suite: Suite, store: Store, data_dir: Path | None) -> list[list[Cell]]:
    """The cells of a suite that a study tunes, by dataset and generator."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell, _, record in records(suite, store, data_dir):
        if cell.searched and (record is None or record.fault is None or record.fault.phase):
            groups.setdefault((cell.dataset, cell.label), []).append(cell)
    return list(groups.values())


def tuning_picture(cell: Cell) -> str:
    """The file name of the picture of a cell's studies, the same for all replicates."""
    return f"{cell.study.key}.tuning.png"


def draw_trajectories(store: Store, *, seed: int = 0, steps: int = 4_000) -> Path:
    """Two moons on their way into noise and back."""
    from sklearn.datasets import make_moons

    from generators.diffusion.toy import ways
    from leaderboards.pictures import paths

    x, _ = make_moons(2_000, noise=0.06, random_state=seed)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    found = ways(x, seed=seed, steps=steps)
    about = (
        f"Ornstein-Uhlenbeck process; a denoiser fitted to {len(x):,} points in {steps:,} steps; four points followed"
    )
    picture = paths(
        found.times, found.forward, found.reverse, at=TIMES, title="Two moons into noise, and back", about=about
    )
    return store.save_picture(TOY, "two-moons.png", picture)


def _why_not(cell: Cell, store: Store, reason: str) -> str:
    """Why a cell cannot be drawn; "" where it can."""
    if cell.generator == "copycat":
        return "copycat's rows are train's: never drawn"
    folder = store.samples(cell.key)
    if not check_stage(folder):
        return reason or "not run yet"
    about = json.loads((folder / "about.json").read_text())
    return about["no_minority"] if has_minority(folder) else ""


def _picture(cell: Cell, source: Source, store: Store, embed: str) -> bytes | str:
    """The picture of a cell, or why there is none."""
    from bench.datasets.split import split
    from leaderboards import pictures
    from metrics.tables import Tables

    data = store.table(source)
    parts = split(data, seed=cell.seed("split"), how=cell.split, positives=source.train_positives)
    folder = store.samples(cell.key)
    drawn = read_parquet(folder / ("minority.parquet" if has_minority(folder) else "synth.parquet"))
    t = Tables(parts.train, parts.holdout, drawn, roles=asdict(data.roles))
    groups = {name: t.features(name, scaled=True)[t.y(name)] for name in ("train", "synth", "holdout")}
    counts = {name: len(x) for name, x in groups.items()}
    if counts["train"] < LEAST:
        return f"train has fewer than {LEAST} positives"
    groups["synth"] = groups["synth"][:: max(1, counts["synth"] // counts["train"])]  # about as many as train's
    points, axes = embedded({k: x[:: -(-len(x) // MOST)] if source.shareable else x for k, x in groups.items()}, embed)
    title = f"{cell.dataset} · {cell.label} · replicate {cell.replicate}"
    numbers = ", ".join(f"{name} {k:,}" for name, k in counts.items())
    draw_ = pictures.scatter if source.shareable else pictures.density
    return draw_(points, title=title, about=f"{data.roles.target}: {numbers} positive subjects", axes=axes)


def embedded(groups: dict[str, np.ndarray], embed: str) -> tuple[dict[str, np.ndarray], tuple[str, str]]:
    """Points (n, 2) of each group, embedded by what "train" (n, p) alone teaches, and the names of the axes."""
    import numpy as np

    if embed == "pca":
        from sklearn.decomposition import PCA

        model: Any = PCA(2, svd_solver="full").fit(groups["train"].astype(float))
        share = model.explained_variance_ratio_
        axes = (f"component 1 ({share[0]:.0%} of train's variance)", f"component 2 ({share[1]:.0%})")
    else:
        model = _umap(len(groups["train"])).fit(groups["train"])
        axes = ("UMAP 1", "UMAP 2")
    return {name: np.asarray(model.transform(x), float) for name, x in groups.items()}, axes


def _umap(n: int) -> Any:
    try:
        from umap import UMAP
    except ImportError as error:
        raise BenchError("embedding umap: needs umap-learn: pip install 'synth-health-bench[umap]'") from error
    return UMAP(n_neighbors=min(15, n - 1), random_state=0, n_jobs=1)
