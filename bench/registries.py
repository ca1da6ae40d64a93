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


def metric_page() -> str:
    """Every metric as Markdown, from its row and the docstring of its function: what metrics/README.md holds."""
    import inspect

    from metrics import COSTS, METRICS, function

    parts = [PAGE_HEAD]
    for family, about in FAMILIES.items():
        parts.append(f"## {family}\n\n{about}")
        for m in (m for m in METRICS.values() if m.family == family):
            better = "" if family in ("control", "published") else f", {'more' if m.up else 'less'} is better"
            facts = [
                f"range {m.low:g} to {m.high:g}{better}",
                f"on {', '.join(m.shapes)}",
                f"0 at `{m.floor}` when normalised" if m.ranked else "not ranked",
                *([f"no risk at {m.null:g}"] if m.null is not None else []),
                f"cost {m.cost}",
                *([f"proved by {m.proof}"] if m.proof else []),
                *([f"fooled by {m.fooled}"] if m.fooled else []),
            ]
            text = inspect.cleandoc(function(m.name).__doc__ or "")
            parts += [f"### {m.name}", text, "\n".join(f"* {fact}" for fact in [*facts, f"source: {m.reference}"])]
    costs = "\n".join(f"* `{name}`: {about}" for name, about in COSTS.items())
    return (
        "\n\n".join([*parts, f"## cost\n\nMeasured by the harness from outside the cell's process.\n\n{costs}"]) + "\n"
    )


PAGE_HEAD = """\
# Metrics

Written by `bench list metrics --markdown` from the rows in metrics/rows.py and the functions they name; not by hand.
n subjects (m in holdout), d columns, l steps, c channels. Every score but guidance and published ones has a standard
error over the holdout. A score is normalised to 0 at its floor reference and 1 at `copycat`; for privacy to 0 at
`copycat` and 1 at an attack at chance. One whose distance from floor to ceiling is under three standard errors on a
dataset is shown in brackets there and left out of means."""

FAMILIES = {
    "fidelity": "Is synth like holdout, rows that no generator saw?",
    "utility": "What is a downstream model fitted on synth worth on holdout?",
    "privacy": "What does an attack achieve on members beyond what it achieves on people who were never in the data?",
    "guidance": "Do samples drawn for a condition or a text meet it? Shown apart, never in a mean.",
    "control": "What the others are read against.",
    "published": "As published, without control, so that a published number can be confronted with a corrected one\n"
    "on the same samples. Computed where a suite or `--metrics` names them.",
}


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
    """DATASETS, with whether each is here and what to put where."""
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
        "what to put where",
    ]
    rows = []
    for row in DATASETS.values():
        source = open_dataset(row.name, data_dir)
        here = "no" if source.absence() else "yes"
        rows.append((row.name, row.shape, *row.size, row.access, row.licence, here, row.about, source.put()))
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


def check_dataset(name: str, data_dir: Path | None) -> tuple[list[tuple[str, str, str, str]], bool]:
    """Read a dataset whole and compare what is found with what is known of it. Raises where it cannot be read."""
    from bench.datasets.law import per_subject, subjects
    from bench.datasets.source import sha256

    source = open_dataset(name, data_dir)
    rows: list[tuple[str, str, str, str]] = []
    data = source.load()
    for file, path in source.files.items():
        known, found = source.row.files[file], sha256(path)
        verdict = (
            "ok" if found == known else "unknown" if known is None else "differs from the copy this was written for"
        )
        rows.append((f"sha256 of {file}", found[:16], (known or "")[:16], verdict))
    whole = not source.name.cuts
    for what, expected in source.row.expected.items():
        found_count = int(data.facts.get(what, 0))
        if whole and "subset" in data.facts and found_count != expected:
            verdict = f"a subset: {data.facts['subset']}"
        else:
            verdict = "ok" if found_count == expected or not whole else "differs"
        rows.append((what, f"{found_count:,}", f"{expected:,}" if whole else "", verdict))
    if "duplicates" in data.facts:
        rows.append(("duplicate rows left out", f"{int(data.facts['duplicates']):,}", "", "ok"))
    target = per_subject(data.table, data.roles.target)
    rows.append(("subjects", f"{len(subjects(data.table)):,}", "", "ok"))
    rows.append(("rows of the table", f"{len(data.table):,}", "", "ok"))
    rows.append(("columns", f"{data.table.shape[1]:,}", "", "ok"))
    rows.append((f"positives ({data.roles.target})", f"{int(target.sum()):,} ({target.mean():.2%})", "", "ok"))
    rows.append(("the table law", "kept", "", "ok"))
    return rows, all(row[3] != "differs" for row in rows)
