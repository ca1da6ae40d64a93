"""Tuned parameters as a file: what a suite's studies found, to be committed and used again (`tune = "from:NAME"`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cell import Cell
from bench.errors import BenchError, unknown

if TYPE_CHECKING:
    from bench.store import Store
    from bench.suite import Suite

FOLDER = Path(__file__).parent.parent / "leaderboards" / "tuned"
FORMAT = 1
WHO = ("dataset", "split", "generator", "version", "params", "replicate")
FOUND = ("per", "mark", "default", "value", "objective", "tuned")


@dataclass(frozen=True)
class Tuned:
    """A file of tuned parameters. studies: one mapping each: what identifies it (WHO, data) and what came of it."""

    name: str
    studies: tuple[Mapping[str, Any], ...]

    @classmethod
    def find(cls, name: str) -> Tuned:
        """By the name of a file in leaderboards/tuned/, or by path. Raises BenchError where there is none, or none of
        ours."""
        if name.endswith(".json") or "/" in name:
            path = Path(name)
        else:
            path = FOLDER / f"{name}.json"
            if not path.exists():
                raise unknown("tuned parameters", name, [p.stem for p in FOLDER.glob("*.json")])
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            found = saved["format"], tuple(saved["studies"])
            for study in found[1]:
                [study[k] for k in (*WHO, "data", *FOUND)]
        except OSError as error:
            raise BenchError(f"tuned parameters {path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise BenchError(f"tuned parameters {path}: not a file that `bench tuned` writes") from error
        if found[0] != FORMAT:
            raise BenchError(f"tuned parameters {path}: format {found[0]}, this version reads {FORMAT}")
        return cls(path.stem, found[1])

    def plan(self, cell: Cell) -> dict[str, Any]:
        """What a cell says of its tuning: the parameters to use, or none with the reason why as a mark."""
        said: dict[str, Any] = {"from": self.name, "params": {}, "mark": "", "per": "replicate"}
        said |= {"default": None, "value": None, "objective": []}
        mine = [s for s in self.studies if all(s[k] == getattr(cell, k) for k in WHO[:3])]
        if not mine:
            return {**said, "mark": f"{self.name} has no such study"}
        for what, wanted in (("version", cell.version), ("params", cell.params), ("data", cell.data)):
            if what == "data" and not wanted:
                continue
            kept = [s for s in mine if s[what] == wanted]
            if not kept:
                other = {"version": f"tuned at version {mine[0]['version']}, this is {cell.version}",
                         "params": "tuned with other parameters set", "data": "tuned on other files"}  # fmt: skip
                return {**said, "mark": other[what]}
            mine = kept
        for study in mine:
            if study["replicate"] == cell.replicate or study["per"] == "dataset":
                return {**said, **{k: study[k] for k in ("per", "mark", "default", "value", "objective")},
                        "params": study["tuned"]}  # fmt: skip
        return {**said, "mark": f"{self.name} has no study of replicate {cell.replicate}"}


def export(suite: Suite, store: Store, data_dir: Path | None, name: str, folder: Path | None) -> tuple[Path, int, int]:
    """Write what a suite's studies found. Gives the file, how many studies are in it, and how many are not done yet.

    Raises BenchError where none is done, or the file cannot be written.
    """
    from bench.suite import cells
    from bench.whole import reason, write_json

    studies, missing = {}, set()
    for cell, _, why_not in cells(suite, data_dir):
        if why_not or not cell.searched:
            continue
        found = store.study_result(cell.study.key)
        if found is None:
            missing.add(cell.study.key)
            continue
        plan = found["plan"]
        studies[cell.study.key] = {
            **{k: getattr(cell.study, k) for k in (*WHO, "data")},
            "tuned": found["params"],
            **{
                k: found[k] for k in ("mark", "best", "default", "value", "spent_s", "n", "draws", "scales", "left_out")
            },
            "trials": found["states"],
            **{k: plan[k] for k in ("per", "objective", "privacy", "sampler", "pruner")},
            "budget": {k: plan[k] for k in ("trials", "time_s", "trial_s")},
            "versions": found["versions"],
        }
    if not studies:
        raise BenchError(f"suite {suite.name}: no study is done: `bench run --suite {suite.name}` runs them")
    path = (folder or FOLDER) / f"{name}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"format": FORMAT, "suite": suite.name, "studies": list(studies.values())})
    except OSError as error:
        raise BenchError(f"{path}: cannot be written: {reason(error)}") from error
    return path, len(studies), len(missing)
