"""What MLflow should hold of a suite: its runs as plain data, made from the store. bench/track.py brings them there.

A parent run per (dataset, generator) has means and intervals; its child runs, one per replicate, have parameters,
headline scores, timings, environment and the record as an artifact; one run has the boards. Runs carry the headline
metrics only, and all scores as an artifact: MLflow's pages slow down with many columns.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cell import Cell, Record
from bench.collect import frame, records, spent
from bench.datasets.source import Source
from bench.report import FILE as REPORT
from bench.report import current
from bench.store import Store
from bench.suite import Suite
from leaderboards.rank import FAMILIES, Board
from leaderboards.render import KEY

if TYPE_CHECKING:
    import pandas as pd

RANKING = "ranking.json"
NAMEABLE = re.compile(r"[^\w .-]")  # what the name of a metric may not hold
STATUS = {"done": "FINISHED", "failed": "FAILED", "timeout": "KILLED", "skipped": "KILLED"}
Member = tuple[Cell, Source, Record]


@dataclass(frozen=True)
class Run:
    """One MLflow run. id: how it is known again. texts: artifact -> content. parent: the id of its parent run.

    pictures: names of the suite's pictures that are artifacts -> SHA-256.
    """

    id: str
    name: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)
    status: str = "FINISHED"
    seconds: float = 0.0
    parent: str | None = None

    @property
    def digest(self) -> str:
        """A hash of all of it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


def runs(suite: Suite, store: Store, data_dir: Path | None, boards: Mapping[str, Path]) -> list[Run]:
    """Every run of a suite that MLflow should hold, parents before their children."""
    found: list[Member] = [(c, s, r) for c, s, r in records(suite, store, data_dir) if r is not None]
    board = Board(frame(found, suite.metric_names))
    groups: dict[tuple[str, str], list[Member]] = {}
    for member in found:
        groups.setdefault((member[0].dataset, member[0].label), []).append(member)
    out = []
    for members in groups.values():
        parent = _parent(board, members, suite, store)
        out += [parent, *(_child(cell, record, parent, store) for cell, _, record in members)]
    return [*out, _board(board, suite, store, boards)]


def _parent(board: Board, members: list[Member], suite: Suite, store: Store) -> Run:
    cell, source, _ = members[0]
    rows = board.by_name[cell.dataset]
    rows = rows[rows["generator"] == cell.label]
    metrics: dict[str, float] = {}
    for metric in KEY:
        key = (cell.dataset, cell.label, metric)
        if key in board.means:
            score = board.summary.loc[key]
            bounds = {f"{metric}.low": score["low"], f"{metric}.high": score["high"]}
            metrics |= {metric: score["mean"], **{k: v for k, v in bounds.items() if isfinite(v)}}
    here = board.by_dataset
    for one in here[(here["dataset"] == cell.dataset) & (here["generator"] == cell.label)].to_dict("records"):
        bounds = {"": "mean", ".low": "low", ".high": "high"}
        metrics |= {f"{one['family']}{end}": one[k] for end, k in bounds.items() if isfinite(one[k])}
    off = [r.status for _, _, r in members if r.status != "done"]
    tags = {
        "kind": "mean over replicates",
        "dataset": cell.dataset,
        "generator": cell.label,
        "shape": source.row.shape,
        "native": str(bool(rows["native"].all())),
        "reference": str(bool(rows["reference"].all())),
        "status": off[0] if off else "done",
        "replicates": str(len(members)),
    }
    columns = ["replicate", "metric", "value", "se", "undefined", "status", "reason"]
    studies = {c.study.replicate: s for c, _, _ in members if c.searched and (s := store.study_result(c.study.key))}
    tags |= {f"tuned.r{r}": _best(s) for r, s in studies.items()}
    pictures = {name: digest for c, _, _ in members for name, digest in store.pictured(suite.name, c.key).items()}
    pictures |= {k: v for c, _, _ in members if c.searched for k, v in store.pictured(suite.name, c.study.key).items()}
    return Run(
        id=f"{cell.dataset}/{cell.label}",
        name=f"{cell.dataset} · {cell.label}",
        tags=tags,
        metrics=metrics,
        params={"dataset": cell.dataset, "generator": cell.label},
        texts={
            "scores.csv": rows[columns].to_csv(index=False, lineterminator="\n"),
            **({"tuning/trials.csv": _trials(studies).to_csv(index=False, lineterminator="\n")} if studies else {}),
        },
        pictures=pictures,
        status=STATUS[tags["status"]],
        seconds=sum(_seconds(store, c) for c, _, _ in members),
    )


def _board(board: Board, suite: Suite, store: Store, boards: Mapping[str, Path]) -> Run:
    """The run of the boards: family means as metrics, the ranking as a table that the pages show, the report."""
    texts = {name: path.read_text(encoding="utf-8") for name, path in boards.items()}
    page = current(suite, store, texts.get("scores.json", ""))
    metrics, rows = {}, []
    for g in board.order:
        row: list[Any] = [g, bool(board.unranked[g])]
        for family in FAMILIES:
            found = board.families.loc[g, family]
            row += [_finite(found[k]) for k in ("mean", "low", "high")]
            if isfinite(found["mean"]):
                metrics[f"{family}/{NAMEABLE.sub('-', g)}"] = float(found["mean"])
        rows.append(row)
    columns = ["generator", "unranked", *(f"{f} {k}" for f in FAMILIES for k in ("mean", "low", "high"))]
    texts[RANKING] = json.dumps({"columns": columns, "data": rows}, ensure_ascii=False)
    texts |= {REPORT: page} if page else {}
    tags = {"kind": "board", "mlflow.loggedArtifacts": json.dumps([{"path": RANKING, "type": "table"}])}
    pictures = store.pictured(suite.name, "board") if page else {}
    return Run("board", f"board · {suite.name}", tags, metrics, texts=texts, pictures=pictures)


def _finite(value: float) -> float | None:
    return float(value) if isfinite(value) else None


def _best(study: Mapping[str, Any]) -> str:
    """What a study took, in words."""
    if study["mark"]:
        return f"defaults: {study['mark']}"
    return f"trial {study['best']} of {len(study['trials'])}: {json.dumps(study['params'], sort_keys=True)}"


def _trials(studies: Mapping[int, Mapping[str, Any]]) -> pd.DataFrame:
    """All trials of the studies of a dataset and generator, one row each; studies: by replicate."""
    import pandas as pd

    rows = [
        {
            "replicate": replicate,
            **{k: trial[k] for k in ("number", "state")},
            "best": trial["number"] == study["best"],
            **dict(zip(study["plan"]["objective"], trial["values"] or (), strict=False)),
            **{f"param.{k}": v for k, v in trial["params"].items()},
            **trial["scores"],
            **{k: trial[k] for k in ("seconds", "why")},
        }
        for replicate, study in studies.items()
        for trial in study["trials"]
    ]
    return pd.DataFrame(rows)


def _child(cell: Cell, record: Record, parent: Run, store: Store) -> Run:
    phases, shared = spent(cell, store)
    machine = (store.note(cell.key, "cost") or {}).get("machine", {})
    metrics = {k: v["value"] for k, v in record.scores.items() if k in KEY and "value" in v}
    metrics |= {f"{name}_s": phase["seconds"] for name, phase in phases.items()}
    if phases:
        metrics["peak_memory_mb"] = max(phase["peak_memory_mb"] for phase in phases.values())
    study = store.study_result(cell.study.key) if cell.searched else None
    if study:
        metrics |= {f"inner_{k}": sum(study[k]) / len(study[k]) for k in ("default", "value") if study[k]}
    about = {"replicate": cell.replicate, "split": cell.split, "threads": cell.threads}
    about |= {f"param.{k}": v for k, v in record.facts.get("params", json.loads(cell.params)).items()}
    environment = {k: v for k, v in machine.items() if k != "packages"} | machine.get("packages", {})
    kept = {k: v for k, v in parent.tags.items() if k not in ("kind", "status", "replicates")}
    return Run(
        id=cell.key,
        name=f"{parent.name} · replicate {cell.replicate}",
        tags={
            **kept,
            "kind": "replicate",
            "status": record.status,
            "reason": record.reason,
            "fit_shared": str(shared),
            **({"best_trial": _best(study)} if study else {}),
            **{f"env.{k}": str(v) for k, v in environment.items()},
        },
        metrics=metrics,
        params={**parent.params, **{k: str(v) for k, v in about.items()}},
        texts={"record.json": json.dumps(asdict(record), indent=1, sort_keys=True)},
        status=STATUS[record.status],
        seconds=_seconds(store, cell),
        parent=parent.id,
    )


def _seconds(store: Store, cell: Cell) -> float:
    """What a cell takes, over all its phases, a shared fit among them."""
    return sum(p["seconds"] for p in spent(cell, store)[0].values())
