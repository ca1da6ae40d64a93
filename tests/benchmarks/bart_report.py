"""Measure the report on the first BART generator of records, fix by fix, over seeds and arithmetics.

    python tests/benchmarks/bart_report.py run FILE MODELS NAME [--seeds 0 1] [--statements]
    python tests/benchmarks/bart_report.py table FILE

`run` appends one JSON line a run to FILE; runs that FILE has are not repeated, so that a stopped command resumes.
MODELS is a folder of pretrained networks, one for each seed and arithmetic, made where missing. NAME is the name of the
arithmetic in the tables; the environment chooses the arithmetic (`ci/portable.sh` lists the variables). --statements
leaves out arms that no statement is made of. `table` prints FILE as Markdown.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "generators")]

from pehr import BEYOND, DRAWING, FIXES, codes_of, measure, pretrain, train  # noqa: E402

from bench.datasets import open_dataset  # noqa: E402
from generators import make  # noqa: E402

SEEDS, EPOCHS, RATE = range(5), 5, 1e-3
STATIC = ["age", "sex", "died"]
OURS = "BART over words"
NONE, ALL_FIVE, BOTH, ALL = "none", " ".join(FIXES), " ".join(BEYOND), " ".join((*FIXES, *BEYOND))
TITLES = {ALL_FIVE: "the five", ALL: "all seven"}  # of arms, in tables
MEASURES = {
    "p_visit": "P(`<v>`), as trained",
    "p_reported": "P(`<v>`), as reported",
    "p_end": "P(end)",
    "with_codes": "with codes",
    "fall": "last loss / first",
    "shuffled_ratio": "shuffled / last loss",
    "levels": "last fall / first fall",
}
STATEMENTS = [  # arm, what is said of it, whether it holds of a run
    (NONE, "the loss falls below 0.3 of its first value", lambda r: r["fall"] < 0.3),
    (NONE, "with another subject's text, the loss is over 5 times as high", lambda r: r["shuffled_ratio"] > 5),
    (NONE, "where the report looked, P(`<v>`) is below 0.1", lambda r: r["p_reported"] < 0.1),
    (NONE, "fewer than half of the drawn subjects have a code", lambda r: r["with_codes"] < 0.5),
    (ALL_FIVE, "with another subject's text, the loss is over 2 times as high", lambda r: r["shuffled_ratio"] > 2),
    (ALL_FIVE, "where the report looked, P(`<v>`) is below 0.1", lambda r: r["p_reported"] < 0.1),
    (ALL_FIVE, "fewer than half of the drawn subjects have a code", lambda r: r["with_codes"] < 0.5),
    (BOTH, "P(`<v>`) where training has it is above 0.5", lambda r: r["p_visit"] > 0.5),
    (BOTH, "more than half of the drawn subjects have a code", lambda r: r["with_codes"] > 0.5),
    (BOTH, "with another subject's text, the loss is less than 2 times as high", lambda r: r["shuffled_ratio"] < 2),
    (BOTH, "the loss levels off: its last fall is below 0.25 of its first", lambda r: r["levels"] < 0.25),
    (OURS, "P(`<v>`) where training has it is above 0.1", lambda r: r["p_visit"] > 0.1),
    (OURS, "more than half of the drawn subjects have a code", lambda r: r["with_codes"] > 0.5),
    (OURS, "the loss falls", lambda r: r["fall"] < 1),
]  # fmt: skip


ARMS = [(), *((f,) for f in FIXES), FIXES, *((f,) for f in BEYOND), BEYOND, (*FIXES, *BEYOND)]


def measure_ours(model: Path, table: pd.DataFrame, seed: int) -> dict[str, object]:
    """Train BART over words on the same network, without guards, and return what is measured of it."""
    lines = list[dict[str, float]]()
    generator = make("bart", pretrained=str(model), epochs=EPOCHS, batch=16, least_steps=1, warmup=25, lr=RATE,
                     guards=False)  # fmt: skip
    generator.fit(table, target="died", static=STATIC, seed=seed, log=lambda step, **values: lines.append(values))
    codes = generator.sample(100, seed=seed).drop(columns=STATIC)
    return {
        "p_visit": lines[-1]["p_visit"],
        "with_codes": float(codes.groupby(level="subject").any().any(axis=1).mean()),
        "validation": [line["validation"] for line in lines],
    }


def run(file: Path, models: Path, name: str, seeds: list[int], names: set[str]) -> None:
    """Measure arms under seeds in this process's arithmetic, and append a line each to a file."""
    table = open_dataset("sim-visits[codes=40,rows=500]", None).load().table
    done = {(r["arithmetic"], r["seed"], r["arm"]) for r in read(file)}
    for seed in seeds:
        due = [arm for arm in ARMS if arm_name(arm) in names and (name, seed, arm_name(arm)) not in done]
        ours = OURS in names and (name, seed, OURS) not in done
        if not due and not ours:
            continue
        model = models / f"{name} {seed}"
        if not (model / "config.json").exists():
            pretrain(model, seed=seed)
        results = measured(model, table, due, seed)
        for arm, result in chain(results, [(OURS, measure_ours(model, table, seed))] if ours else []):
            with file.open("a") as out:
                out.write(json.dumps({"arithmetic": name, "seed": seed, "arm": arm, **result}) + "\n")


def measured(
    model: Path, table: pd.DataFrame, due: list[tuple[str, ...]], seed: int
) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield every arm's name with its measures; arms that differ in drawing alone share a network."""
    recipes = {arm: frozenset(arm) - DRAWING for arm in due}
    for recipe in dict.fromkeys(recipes.values()):
        trained = train(model, table, set(recipe), epochs=EPOCHS, lr=RATE, seed=seed)
        for arm in (a for a in due if recipes[a] == recipe):
            yield arm_name(arm), measure(trained, codes_of(table), set(arm), seed=seed)


def arm_name(fixes: tuple[str, ...]) -> str:
    """Return the name of an arm in the file and in the tables."""
    return " ".join(fixes) or NONE


def read(file: Path) -> list[dict]:
    """Return a file's runs with the ratios of their losses."""
    runs = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    for r in runs:
        losses = r["validation"]
        falls = -np.diff(losses)
        r["fall"] = losses[-1] / losses[0]
        if "shuffled" in r:
            r["shuffled_ratio"] = r["shuffled"] / losses[-1]
            r["levels"] = falls[-1] / falls[0]
    return runs


def markdown(runs: list[dict]) -> str:
    """Return two tables: median (least to most) of every arm's measures, and how many runs each statement holds of."""
    names = list(dict.fromkeys(r["arithmetic"] for r in runs))
    out = [f"| fixes | arithmetic | runs | {' | '.join(MEASURES.values())} |", "|---" * (3 + len(MEASURES)) + "|"]
    for arm in dict.fromkeys(r["arm"] for r in runs):
        for name in names:
            some = [r for r in runs if (r["arm"], r["arithmetic"]) == (arm, name)]
            cells = [spread([r[m] for r in some if m in r]) for m in MEASURES]
            if some:
                out.append(f"| {TITLES.get(arm, arm)} | {name} | {len(some)} | {' | '.join(cells)} |")
    out += ["", f"| fixes | statement | {' | '.join(names)} |", "|---" * (2 + len(names)) + "|"]
    for arm, statement, holds in STATEMENTS:
        of = [[holds(r) for r in runs if (r["arm"], r["arithmetic"]) == (arm, name)] for name in names]
        out.append(f"| {TITLES.get(arm, arm)} | {statement} | {' | '.join(f'{sum(o)} of {len(o)}' for o in of)} |")
    return "\n".join(out)


def spread(values: list[float]) -> str:
    """Return the median of values and their range as text."""
    return f"{np.median(values):.2f} ({min(values):.2f} to {max(values):.2f})" if values else ""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    table_verb, run_verb = verbs.add_parser("table"), verbs.add_parser("run")
    for verb in (table_verb, run_verb):
        verb.add_argument("file", type=Path)
    run_verb.add_argument("models", type=Path)
    run_verb.add_argument("name")
    run_verb.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    run_verb.add_argument("--statements", action="store_true")
    args = parser.parse_args()
    if args.verb == "table":
        print(markdown(read(args.file)))
    else:
        every = {arm_name(arm) for arm in ARMS} | {OURS}
        chosen = {arm for arm, *_ in STATEMENTS} if args.statements else every
        run(args.file, args.models, args.name, args.seeds, chosen)
