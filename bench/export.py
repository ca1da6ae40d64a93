"""Rows from a fitted cell, as many as one likes, with a card that says what they are and what they leak."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import generators
from bench.cell import Cell, Record
from bench.datasets import open_dataset
from bench.datasets.source import Source
from bench.errors import BenchError, told
from bench.run import can_be_kept, hand_over, settled
from bench.store import Store
from bench.whole import check_stage, reason, write_bytes, write_text
from metrics import METRICS

if TYPE_CHECKING:
    import pandas as pd

FORMATS = (".csv", ".parquet")
SURE = 1.96  # standard errors that a risk must be above its null to be told of
ACCESS = {
    "simulated": "simulated: no real person is behind any row",
    "packaged": "openly licensed",
    "open": "openly licensed; its licence holds for what is made of it as well",
    "credentialed": "credentialed: the terms of its data use agreement may hold for rows drawn from a model of it",
}
OWN_MADE = "a user's own"
OWN = "a dataset of yours: whether rows drawn from a model of it may be shared is for its owner to say"
USE = """\
To try software, pipelines and models on rows of the same form, and to compare generators. Not to draw conclusions about
people: effects, rates and rare combinations are those that a model has learned from one sample of them. The scores say
how near it came; a low risk is what two kinds of attack achieve, and no certificate of privacy."""


def export(key: str, store: Store, data_dir: Path | None, out: Path, *, n: int, seed: int) -> list[Path]:
    """Draw n subjects (0: as many as the cell drew) from a done cell's fit into a CSV or parquet file, and a card.

    key: of a cell, or how the key of just one begins. The draw is another one than the cell's own. Gives the two paths.
    Raises BenchError where there is no such cell, no fit, or no way to write; copycat, whose rows are train's, is
    refused.
    """
    from bench.datasets.law import check_like, subjects
    from bench.datasets.split import split

    if out.suffix not in FORMATS:
        raise BenchError(f"--out {out}: ends in '{out.suffix}', expected {' or '.join(FORMATS)}")
    cell = store.read_cell(_whole(key, store))
    record = store.record(cell.key)
    if record is None or record.status != "done":
        raise BenchError(f"cell {cell.key}: {record.reason if record else 'not run yet'}: only done cells are exported")
    if cell.generator == "copycat":
        raise BenchError(f"cell {cell.key}: copycat hands out the rows of train: they are never exported")
    source = open_dataset(cell.source, data_dir)
    if source.identity != cell.data:
        raise BenchError(f"dataset {cell.dataset}: its files have changed since the cell was run")
    data = store.table(source)
    train = split(data, seed=cell.seed("split"), how=cell.split, positives=source.train_positives).train
    n = n or record.facts["n_synth"]
    made = _loaded(cell, store, source)
    with store.log(cell.key).open("a") as log, redirect_stdout(log), redirect_stderr(log):
        try:
            synth = made.sample(n, seed=cell.seed("export") + seed)
        except Exception as error:
            traceback.print_exc()
            said = told(error, shareable=source.shareable, ours=cell.generator in generators.REGISTRY)
            raise BenchError(f"cell {cell.key}: {': '.join(said)}") from error
    check_like(synth, train, n, static=data.roles.static, what="samples")
    card = out.with_name(f"{out.name}.card.md")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(out, _bytes(synth, out.suffix))
        write_text(card, card_text(cell, record, source, n=len(subjects(synth)), seed=seed))
    except OSError as error:
        raise BenchError(f"{out}: cannot be written: {reason(error)}") from error
    return [out, card]


def _whole(start: str, store: Store) -> str:
    """The key that begins so. Raises BenchError where none or several do."""
    found = store.keys(start)
    if start in found or len(found) == 1:
        return start if start in found else found[0]
    if not found:
        raise BenchError(f"no cell in {store.root} has a key that begins with '{start}': `bench status SUITE --json`")
    some = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
    raise BenchError(f"'{start}' begins the keys of {len(found)} cells: {some}")


def _loaded(cell: Cell, store: Store, source: Source) -> Any:
    """The cell's fitted generator."""
    generator = generators.make(cell.generator, **settled(cell, store), **hand_over(cell.generator, source))
    folder = store.fit(cell.fit_key)
    if not can_be_kept(generator) or not check_stage(folder):
        raise BenchError(
            f"cell {cell.key}: its fit is not stored: the generator has no save and load, or it was removed"
        )
    return generator.load(folder)


def _bytes(table: pd.DataFrame, form: str) -> bytes:
    if form == ".csv":
        return table.to_csv(lineterminator="\n").encode()
    return bytes(table.to_parquet())


def card_text(cell: Cell, record: Record, source: Source, *, n: int, seed: int) -> str:
    """The card as Markdown."""
    row, facts = generators.find(cell.generator), record.facts
    about = [
        f"{n:,} synthetic subjects, drawn anew (seed {seed}) from a fit of replicate {cell.replicate}.",
        "## What made them",
        f"- generator: `{cell.generator}`, version {cell.version} ({row.family}; {row.reference or OWN_MADE})"
        + ("" if facts["native"] else "; **not made for tables of this shape**"),
        f"- dataset: `{cell.dataset}`, {facts['shape']}, {facts['n_train']:,} train subjects of {cell.split} split; "
        f"{ACCESS.get(source.row.access, OWN)}" + (f"; licence: {source.row.licence}" if source.row.licence else ""),
        f"- parameters: `{json.dumps(facts['params'], sort_keys=True)}`" + (" (tuned)" if facts.get("tuned") else ""),
    ]
    off = f"not defined on {facts['shape']}"
    scores = [(k, s) for k, s in record.scores.items() if "/" not in k and s.get("undefined") != off]
    listed = {f: [_line(k, s) for k, s in scores if METRICS[k].family == f] for f in ("fidelity", "utility", "privacy")}
    parts = ["# Card of a synthetic table", *about, "## Privacy", *alarms(record.scores), _table(listed["privacy"])]
    parts += ["## Fidelity and utility", _table([*listed["fidelity"], *listed["utility"]])]
    parts += [f"Of this one replicate, of a draw of {facts['n_synth']:,}; ± is one standard error over the holdout."]
    return "\n\n".join(p for p in [*parts, "## Intended use", USE] if p).replace("\n\n- ", "\n- ") + "\n"


def alarms(scores: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence for each risk that is clearly above none, or one that none is."""
    said = []
    for name, metric in METRICS.items():
        found = scores.get(name, {})
        if metric.family != "privacy" or metric.null is None or "value" not in found:
            continue
        over = (found["value"] - metric.null) * (-1 if metric.up else 1)
        if found["se"] is not None and over > SURE * found["se"] and over > 0:
            said.append(f"**`{name}` is {found['value']:.3f}, above {metric.null:g}**: {metric.about}.")
    return said or ["No attack did clearly better than chance on this replicate."]


def _line(name: str, found: Mapping[str, Any]) -> tuple[str, str]:
    if "value" not in found:
        return name, f"undefined: {found['undefined']}"
    return name, f"{found['value']:.4f}" + ("" if found["se"] is None else f" ± {found['se']:.4f}")


def _table(rows: list[tuple[str, str]]) -> str:
    from tabulate import tabulate

    return tabulate(rows, ["score", "value"], tablefmt="github", disable_numparse=True) if rows else ""
