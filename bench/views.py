"""What a report shows of a cell's samples beside train and holdout, as plain aggregates: the last place that sees rows.

The privacy of a report is decided here. A view holds counts, means and densities; on real data, what fewer than ten
subjects share is left out (None). Points that are subjects, and single drawn series, are in it for simulated and
openly licensed data only. Copycat's rows are train's: of them there are only the curves of judges and attacks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cell import Cell
from bench.datasets.source import Source
from bench.store import Store
from bench.whole import check_stage, read_parquet
from generators import REGISTRY

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from bench.datasets.data import Data
    from metrics.tables import Tables

VERSION = 3  # of what a view holds; raised when that changes, so that stored ones are made again
FEWEST = 10  # subjects of a cell that is shown
MOST = 5_000  # subjects of a table that attacks and embeddings look at
POINTS = 400  # of a scatter
WIDEST = 30  # columns of a correlation map
COLUMNS = 12  # whose marginals are drawn
BINS = (8, 24)
PER_BIN = 10
REACH = 3.0  # standard deviations of train that a histogram goes to
CURVE = 60  # points of a curve
DRAWN = 3  # series shown one by one
SHUFFLES = 200  # of members and others, for the band of attacks at chance
STEP = re.compile(r"^  step (\d+) (.*)$")


def view(cell: Cell, source: Source, store: Store, suite: str) -> dict[str, Any]:
    """The view of a done cell, {} where its samples are gone; kept beside the suite's boards until they change."""
    folder = store.samples(cell.key)
    if not check_stage(folder):
        return {}
    mark = f"{VERSION} {(folder / 'stage.json').read_text()}"
    kept = store.kept_view(suite, cell.key)
    if kept is not None and kept["mark"] == mark:
        return kept["view"]
    made = _made(cell, source, store, folder)
    store.keep_view(suite, cell.key, {"mark": mark, "view": made})
    return made


def _made(cell: Cell, source: Source, store: Store, folder: Path) -> dict[str, Any]:
    from bench.datasets.split import split
    from metrics.tables import Tables

    data = store.table(source)
    parts = split(data, seed=cell.seed("split"), how=cell.split, positives=source.train_positives)
    seed, fewest = cell.seed("score"), 0 if source.simulated else FEWEST
    synth = read_parquet(folder / "synth.parquet")
    minority = folder / "minority.parquet"
    t = Tables(
        *(_few(table, seed) for table in (parts.train, parts.holdout, synth)), roles=asdict(data.roles),
        minority=read_parquet(minority) if minority.exists() else None,
    )  # fmt: skip
    out: dict[str, Any] = {
        "n": {name: t.n(name) for name in ("train", "holdout", "synth")},
        "precision_recall": _precision_recall(t, seed, fewest),
        "roc": _roc(t, seed),
        "training": _training(cell, source, store),
    }
    if cell.generator == "copycat":
        return plain(out)
    out |= {
        "prevalence": _prevalence(t, fewest),
        "correlation": _correlation(t, fewest),
        "marginals": list(_marginals(t, fewest)),
        "series": list(_series(t, data, fewest, shareable=source.shareable)),
        "embedding": _embedding(t, fewest, shareable=source.shareable),
    }
    return plain(out)


def _few(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """At most MOST subjects of a table, drawn at random."""
    import numpy as np

    from bench.datasets.law import subjects, take

    who = subjects(table)
    if len(who) <= MOST:
        return table
    return take(table, who[np.sort(np.random.default_rng([seed, MOST]).permutation(len(who))[:MOST])])


# --- one column ---


def _prevalence(t: Tables, fewest: int) -> dict[str, Any]:
    """Share of subjects with each code, most common first."""
    ever = {name: t.flat(name)[t.ever] for name in ("holdout", "synth")} if t.ever else {}
    if not ever:
        return {}
    counts = {name: table.sum() for name, table in ever.items()}
    order = counts["holdout"].sort_index().sort_values(ascending=False, kind="stable").index
    n = len(ever["holdout"])
    shown = [c for c in order if counts["holdout"][c] >= max(fewest, 1) and not 0 < n - counts["holdout"][c] < fewest]
    out: dict[str, Any] = {"names": shown, "left_out": len(order) - len(shown)}
    for name, table in ever.items():
        found = counts[name][shown]
        out[name] = [count / len(table) if count >= fewest else None for count in found]
    return out


def _marginals(t: Tables, fewest: int) -> Iterator[dict[str, Any]]:
    """Shares of subjects (of steps, where a column varies) by bins that follow from train's moments, or by levels."""
    import numpy as np

    frames = {name: t[name] for name in ("train", "holdout", "synth")}
    names = [c for c in sorted(frames["train"].columns) if frames["train"][c].dtype != bool and c != t.target][:COLUMNS]
    for column in names:
        values = {name: _once(table[column], column in t.static) for name, table in frames.items()}
        at: Any
        if values["train"].dtype.kind in "iuf":
            values = {name: v.dropna().astype(float) for name, v in values.items()}
            if not all(map(len, values.values())):
                continue
            middle, reach = values["train"].mean(), REACH * (values["train"].std() or 1.0)
            k = int(np.clip(len(values["holdout"].index.unique(0)) // PER_BIN, *BINS))
            edges = np.linspace(middle - reach, middle + reach, k + 1)
            kind, at = "number", list((edges[1:] + edges[:-1]) / 2)
            places = {name: np.searchsorted(edges, v.to_numpy(), side="right") - 1 for name, v in values.items()}
        else:
            kind, at = "level", [str(level) for level in values["train"].cat.categories]
            places = {name: v.cat.codes.to_numpy() for name, v in values.items()}
        shares = {name: _shares(places[name], values[name].index, len(at), fewest) for name in ("holdout", "synth")}
        if kind == "level":  # the name of a level that few have would be theirs
            kept = [i for i, share in enumerate(shares["holdout"]) if share is not None]
            at, shares = [at[i] for i in kept], {name: [found[i] for i in kept] for name, found in shares.items()}
        if not at:
            continue
        yield {"name": column, "kind": kind, "at": at, **shares}


def _once(values: pd.Series, static: bool) -> pd.Series:
    """A column that is constant per subject, once for each; another as it is."""
    return values[values.index.get_level_values("time") == 0] if static and values.index.nlevels == 2 else values


def _shares(places: np.ndarray, index: pd.Index, k: int, fewest: int) -> list[float | None]:
    """Share of rows at each of k places; None where fewer than so many subjects are.

    Where so few rows are left over that their number could be told from the rest, the smallest place goes too.
    """
    import numpy as np

    inside = (places >= 0) & (places < k)
    rows = np.bincount(places[inside], minlength=k)
    who = np.unique(np.stack([places[inside], index.get_level_values(0).to_numpy()[inside]]), axis=1)
    subjects = np.bincount(who[0].astype(int), minlength=k)
    kept = subjects >= fewest
    if kept.any() and 0 < len(places) - rows[kept].sum() < fewest:
        kept[np.flatnonzero(kept)[np.argmin(rows[kept])]] = False
    return [count / len(places) if shown else None for count, shown in zip(rows, kept, strict=True)]


def _series(t: Tables, data: Data, fewest: int, *, shareable: bool) -> Iterator[dict[str, Any]]:
    """Mean and standard deviation of each channel by step, and a few drawn series."""
    if t.shape != "series":
        return
    train = t["train"]
    varying = [c for c in sorted(train.columns) if c not in data.roles.static and train[c].dtype.kind in "iuf"]
    for column in varying:
        out: dict[str, Any] = {"name": column}
        for name in ("holdout", "synth"):
            grouped = t[name][column].groupby(level="time")
            found = grouped.agg(["mean", "std", "count"])
            found.loc[found["count"] < max(fewest, 2), ["mean", "std"]] = float("nan")
            out["time"] = list(found.index)
            out[name] = {"mean": found["mean"].to_numpy(), "sd": found["std"].to_numpy()}
        if shareable:
            wide = t["synth"][column].unstack("time").iloc[:DRAWN]
            out["drawn"] = wide.to_numpy(float)
        yield out


# --- several columns ---


def _correlation(t: Tables, fewest: int) -> dict[str, Any]:
    """Pearson correlations of synth less those of holdout: of numbers, and of the flags that vary most in train.

    Missing where holdout has too few rows with both.
    """
    import numpy as np

    tables = {name: _numbers(t, name) for name in ("train", "holdout", "synth")}
    steady = [c for c in tables["train"] if tables["holdout"][c].std() == 0]
    having = tables["holdout"].fillna(0).ne(0).groupby(level="subject").any().sum()
    rare = list(having.index[having < fewest])
    spread = tables["train"].std().drop([*steady, *rare], errors="ignore")
    flags = spread[[c for c in spread.index if c in t.ever]].sort_values(ascending=False, kind="stable").index
    numbers = [c for c in spread.index if c.removesuffix(" count") not in flags]
    chosen = {*[*numbers, *flags][:WIDEST]}
    names = [c for c in spread.index if c in chosen]
    if len(names) < 2:
        return {}
    with np.errstate(invalid="ignore", divide="ignore"):
        found = {k: tables[k][names].corr(min_periods=fewest).to_numpy() for k in ("holdout", "synth")}
    return {"names": names, "difference": np.nan_to_num(found["synth"]) - found["holdout"]}


def _numbers(t: Tables, name: str) -> pd.DataFrame:
    """Flags and numbers of a table, by subject; of a series by subject and step."""
    table = t[name] if t.shape == "series" else t.flat(name)
    return table[[c for c in sorted(table.columns) if table[c].dtype.kind in "biuf"]].astype(float)


def _embedding(t: Tables, fewest: int, *, shareable: bool) -> dict[str, Any]:
    """Holdout and synth on the first two principal components of train: points where they may be shown, else shares of
    subjects in square cells."""
    import numpy as np

    from bench.draw import embedded
    from leaderboards.pictures import grid, shown

    groups = {name: t.features(name, scaled=True) for name in ("train", "holdout", "synth")}
    if groups["train"].shape[1] < 2:
        return {}
    points, axes = embedded(groups, "pca")
    out: dict[str, Any] = {"axes": axes}
    out["moments"] = {k: {"mean": points[k].mean(axis=0), "sd": points[k].std(axis=0)} for k in ("holdout", "synth")}
    if shareable:
        return out | {"points": {k: np.round(points[k][:POINTS], 3) for k in ("holdout", "synth")}}
    across, up = grid(points["train"])
    cells = {k: shown(points[k], (across, up)) / len(points[k]) for k in ("holdout", "synth")}
    return out | {"cells": cells, "edges": [across, up]}


# --- judges and attacks ---


def _precision_recall(t: Tables, seed: int, fewest: int) -> dict[str, Any]:
    """Precision by recall on holdout of XGBoost fitted on train, and on train with drawn positives until balance."""
    import numpy as np
    from sklearn.metrics import precision_recall_curve

    from metrics import judges

    y, truth = t.y("train"), t.y("holdout")
    if "minority" not in t or not y.any() or truth.sum() < max(fewest, 1):
        return {}
    x, more = t.features("train"), t.features("minority")[: max(len(y) - 2 * int(y.sum()), 0)]
    sets = {
        "train": (x, y),
        "added": (np.concatenate([x, more]), np.concatenate([y, np.ones(len(more), bool)])),
    }
    at = np.linspace(0, 1, CURVE)
    out: dict[str, Any] = {"recall": at, "prevalence": truth.mean()}
    for name, (features, label) in sets.items():
        said = judges.probability(judges.JUDGES["xgb"][0], features, label, t.features("holdout"), seed=seed)
        precision, recall, _ = precision_recall_curve(truth, said)
        out[name] = np.interp(at, recall[::-1], precision[::-1])
    return out


def _roc(t: Tables, seed: int) -> dict[str, Any]:
    """True-positive rate of both membership attacks by false-positive rate, and the band that chance gives."""
    import numpy as np

    from metrics import near, privacy

    if near.count(t) < 2 * privacy.FEWEST:
        return {}
    at = np.linspace(0, 1, CURVE)
    out: dict[str, Any] = {"fpr": at}
    for name, score in privacy.attack_scores(t, seed=seed).items():
        k = len(score) // 2
        out[name] = _rates(score, np.arange(2 * k) < k, at)
        if name == "distance":
            rng = np.random.default_rng([seed, SHUFFLES])
            null = [_rates(score, rng.permutation(2 * k) < k, at) for _ in range(SHUFFLES)]
            out["low"], out["high"] = np.quantile(null, [0.025, 0.975], axis=0)
    return out


def _rates(score: np.ndarray, member: np.ndarray, at: np.ndarray) -> np.ndarray:
    """True-positive rates at the false-positive rates `at`."""
    import numpy as np
    from sklearn.metrics import roc_curve

    fpr, tpr, _ = roc_curve(member, score)
    return np.interp(at, fpr, tpr)


# --- the log ---


def _training(cell: Cell, source: Source, store: Store) -> dict[str, list[list[float]]]:
    """The curves of a fit; numbered where their names are a user's own and may be made of values."""
    found = training(store.log(cell.key))
    if source.shareable or cell.generator in REGISTRY:
        return found
    return {f"curve {i}": curve for i, curve in enumerate(found.values(), 1)}


def training(log: Path) -> dict[str, list[list[float]]]:
    """What a fit logged by step: name -> [steps, values], at most CURVE of them, evenly; {} where there is no log."""
    found: dict[str, list[list[float]]] = {}
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    for line in lines:
        step = STEP.match(line)
        for word in step[2].split() if step else ():
            name, _, value = word.partition("=")
            try:
                number = float(value)
            except ValueError:
                continue
            steps, values = found.setdefault(name, [[], []])
            steps.append(float(step[1]) if step else 0.0)
            values.append(number)
    return {name: [part[:: max(1, len(part) // CURVE)] for part in both] for name, both in found.items()}


def plain(value: Any) -> Any:
    """Nested mappings, sequences and arrays as JSON can hold them: numbers to four digits, None for what is not one."""
    import numpy as np

    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.4g}") if np.isfinite(value) else None
    return value
