"""The rows of every registry as tables to print, and the check of one dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.datasets import DATASETS, open_dataset

Rows = tuple[list[str], list[tuple[Any, ...]]]


def generator_rows() -> Rows:
    """REGISTRY."""
    from generators import REGISTRY

    heads = ["name", "family", "native shapes", "what it does", "reference"]
    return heads, [(r.name, r.family, ", ".join(r.native), r.about, r.reference) for r in REGISTRY.values()]


def metric_rows() -> Rows:
    """METRICS, and what is measured as cost."""
    from metrics import COSTS, METRICS

    heads = ["name", "family", "better", "range", "0 at", "shapes", "what it is"]
    rows = [
        (
            m.name,
            m.family,
            "more" if m.up else "less",
            f"{m.low:g} to {m.high:g}",
            m.floor or "",
            ", ".join(m.shapes),
            m.about,
        )
        for m in METRICS.values()
    ]
    return heads, rows + [(name, "cost", "less", "", "", "", about) for name, about in COSTS.items()]


def suite_rows() -> Rows:
    """The suites that come with the package."""
    from bench.suite import find_suite, known_suites

    rows = []
    for name in known_suites():
        suite = find_suite(name)
        cells = len(suite.datasets) * len(suite.generators) * suite.replicates
        rows.append((name, len(suite.datasets), len(suite.generators), suite.replicates, cells, suite.about))
    return ["name", "datasets", "generators", "replicates", "cells", "about"], rows


def dataset_rows(data_dir: Path | None) -> Rows:
    """DATASETS, with whether each is here, and what gets one that is not or says how."""
    heads = [
        "name",
        "shape",
        "subjects",
        "columns",
        "positives",
        "access",
        "licence",
        "here",
        "what it is",
        "to get it",
    ]
    rows = []
    for row in DATASETS.values():
        here = open_dataset(row.name, data_dir).absence() is None
        size = (count or "" for count in row.size)  # 0: not known
        get = "" if here else f"bench data fetch {row.name}"
        rows.append((row.name, row.shape, *size, row.access, row.licence, "yes" if here else "no", row.about, get))
    return heads, rows


def space_rows() -> Rows:
    """What each generator is tuned over."""
    from bench.space import space
    from generators import REGISTRY

    rows: list[tuple[Any, ...]] = []
    for name in REGISTRY:
        for p in space(name):
            span = ", ".join(map(str, p["choices"])) or f"{p['low']:g} to {p['high']:g}"
            rows.append((name, p["parameter"], p["kind"], span, "log" if p["log"] else "", str(p["default"])))
    return ["generator", "parameter", "kind", "values", "scale", "default"], rows


REGISTRIES: Mapping[str, Callable[[], Rows]] = {
    "generators": generator_rows,
    "metrics": metric_rows,
    "datasets": lambda: dataset_rows(None),
    "suites": suite_rows,
    "spaces": space_rows,
}


def check_dataset(name: str, data_dir: Path | None, store: Path) -> tuple[list[tuple[str, str, str, str]], bool]:
    """Read a dataset whole and compare what is found with what is known of it. Raises where it cannot be read.

    store: where readings gathered from a table of events are kept, for runs to come; made only where there are such.
    """
    from bench.datasets.digest import sha256
    from bench.datasets.law import per_subject, subjects
    from bench.store import Store

    source = open_dataset(name, data_dir)
    rows: list[tuple[str, str, str, str]] = []
    data = source.load(Store.open(store).readings) if source.row.readings else source.load()
    for file, path in source.files.items():
        known, found = source.row.files.get(file), sha256(path)
        verdict = (
            "ok" if found == known else "unknown" if known is None else "differs from the copy this was written for"
        )
        rows.append((f"sha256 of {path.name}", found[:16], (known or "")[:16], verdict))
    whole = not source.name.cuts
    subset = str(data.facts.get("subset", ""))
    for what, found_count in data.facts.items():
        expected = source.row.expected.get(what) if whole else None
        if what == "subset":
            continue
        differs = expected is not None and found_count != expected
        verdict = "ok" if not differs else f"a subset: {subset}" if subset else "differs"
        rows.append((what, f"{found_count:,}", "" if expected is None else f"{expected:,}", verdict))
    target = per_subject(data.table, data.roles.target)
    if subset:
        rows.append(("part of the whole", subset, "", "a subset"))
    rows.append(("subjects", f"{len(subjects(data.table)):,}", "", "ok"))
    rows.append(("rows of the table", f"{len(data.table):,}", "", "ok"))
    rows.append(("columns", f"{data.table.shape[1]:,}", "", "ok"))
    rows.append((f"positives ({data.roles.target})", f"{int(target.sum()):,} ({target.mean():.2%})", "", "ok"))
    rows.append(("the table law", "kept", "", "ok"))
    return rows, all(row[3] != "differs" for row in rows)
