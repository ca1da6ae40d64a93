"""The pages that are written from registries: metrics/README.md and bench/datasets/README.md."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module

from bench.datasets import DATASETS, Dataset

METRICS_HEAD = """\
# Metrics

Written by `bench list metrics --markdown` from the rows in metrics/rows.py and the functions they name; not by hand.
n subjects (m in holdout), d columns, l steps, c channels. Every score but guidance and published ones has a standard
error over the holdout. A score is normalised to 0 at its floor (a reference, or chance) and 1 at `copycat`; for privacy
to 0 at `copycat` and 1 at an attack at chance. One whose distance from floor to ceiling is under three standard errors
on a dataset is shown in brackets there and left out of means."""

FAMILIES = {
    "fidelity": "Is synth like holdout, rows that no generator saw?",
    "utility": "What is a downstream model fitted on synth worth on holdout?",
    "privacy": "What does an attack achieve on members beyond what it achieves on people who were never in the data?",
    "guidance": "Do samples drawn for a condition or a text meet it? Shown apart, never in a mean.",
    "control": "What the others are read against.",
    "published": "As published, without control, so that a published number can be confronted with a corrected one\n"
    "on the same samples. Computed where a suite or `--metrics` names them.",
}

DATASETS_HEAD = """\
# Datasets

Written by `bench list datasets --markdown` from the rows in bench/datasets/rows.py and their loaders' docstrings, not
by hand. None of these data come with the package but those it simulates. `bench data list` says which are here,
`bench data check NAME` reads one whole and compares its counts, `bench data fetch NAME` gets those open to all.

Every loader keeps missing values missing, numbers subjects anew, and says in `bench data check` what it left out and
why. Splits are by subject, and nothing is fitted before them. Parsed tables lie in STORE/data, mode 700. Of
credentialed data nothing is ever shown but scores and aggregates of ten subjects or more."""

ACCESSES = {
    "simulated": "Simulated by the package, with a known process behind them",
    "packaged": "Come with a dependency",
    "open": "Open to all",
    "credentialed": "Granted to persons",
}


def metrics() -> str:
    """Every metric as Markdown, from its row and the docstring of its function: what metrics/README.md holds."""
    from metrics import CHANCE, COSTS, METRICS, function

    parts = [METRICS_HEAD]
    for family, about in FAMILIES.items():
        parts.append(f"## {family}\n\n{about}")
        for m in (m for m in METRICS.values() if m.family == family):
            floor = m.floor if m.floor == CHANCE else f"`{m.floor}`"
            better = "" if family in ("control", "published") else f", {'more' if m.up else 'less'} is better"
            facts = [
                f"range {m.low:g} to {m.high:g}{better}",
                f"on {', '.join(m.shapes)}",
                f"0 at {floor} when normalised" if m.ranked else "not ranked",
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


def datasets() -> str:
    """Every dataset as Markdown, from its row and the docstring of its loader: what bench/datasets/README.md holds."""
    parts = [DATASETS_HEAD]
    for access, title in ACCESSES.items():
        parts.append(f"## {title}")
        parts += [_dataset(row) for row in DATASETS.values() if row.access == access]
    return "\n\n".join(parts) + "\n"


def _dataset(row: Dataset) -> str:
    from bench.datasets import open_dataset

    module, _, name = (row.load or row.draw).partition(":")
    text = inspect.cleandoc(getattr(import_module(module), name).__doc__ or "")
    counts = zip(("subjects", "columns", "positives"), row.size, strict=True)
    size = ", ".join(f"{count:,} {what}" for what, count in counts if count) or "not known here"
    known = [f"{what} {count:,}" for what, count in row.expected.items()]
    cuts = ", ".join(f"`{key}`" for key in row.params)
    facts = [
        row.about,
        f"shape {row.shape}; source: {row.source}; licence: {row.licence}",
        f"size: {size}" + (f"; a whole copy has {', '.join(known)}" if known else ""),
        *([f"files: {open_dataset(row.name, None).put()}"] if row.files or row.tables else []),
        *(["`bench data fetch` gets it"] if row.urls else []),
        *([f"by hand: {row.by_hand}"] if row.by_hand else []),
        f"the name may set {cuts}",
    ]
    return "\n\n".join([f"### {row.name}", text, "\n".join(f"* {f}" for f in facts)])


PAGES: Mapping[str, Callable[[], str]] = {"metrics": metrics, "datasets": datasets}
