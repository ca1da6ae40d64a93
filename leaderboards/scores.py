"""A frame of records as one JSON file, from which boards are rendered again and which regression checks compare with.

One line per cell, so that a change of it can be read in a diff. Numbers have eight significant digits: boards are
rendered from what the file holds, not from what was computed, and are the same bytes wherever that is done.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from leaderboards import COLUMNS

FORMAT = 1
DIGITS = 8
SCORE = ("metric", "value", "se", "undefined")
CELL = tuple(c for c in COLUMNS if c not in SCORE)
NUMBERS = ("value", "se", "n_train", "n_holdout")


class ScoresError(ValueError):
    """A file of scores that cannot be read; the message names the file and what is wrong with it."""


def to_text(frame: pd.DataFrame, **about: Any) -> str:
    """The file's text. frame: see leaderboards/__init__.py. about: further facts, such as suite and title."""
    head = {"format": FORMAT, **about}
    lines = ",\n".join(json.dumps(cell, ensure_ascii=False) for cell in _cells(frame))
    return f'{json.dumps(head, ensure_ascii=False)[:-1]}, "cells": [\n{lines}\n]}}\n'


def from_text(text: str, name: str = "scores") -> tuple[pd.DataFrame, dict[str, Any]]:
    """The frame and the further facts. Raises ScoresError where the text is not of this format; name: the file's."""
    try:
        saved = json.loads(text)
        if not isinstance(saved, dict) or "cells" not in saved:
            raise ScoresError(f"{name}: not a file of scores: no 'cells' in it")
        if saved.get("format") != FORMAT:
            raise ScoresError(f"{name}: format {saved.get('format')}, this version reads {FORMAT}")
        rows = [row for cell in saved["cells"] for row in _rows(cell)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ScoresError):
            raise
        raise ScoresError(f"{name}: not a file of scores that `bench board` writes") from error
    frame = pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(NUMBERS, float))
    return frame, {k: v for k, v in saved.items() if k not in ("cells", "format")}


def read(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The frame and the further facts of a file. Raises ScoresError."""
    try:
        return from_text(path.read_text(encoding="utf-8"), path.name)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not text in UTF-8"
        raise ScoresError(f"{path}: {why}") from error


def _cells(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A mapping per cell, in the order of the frame, with its scores by metric: [value, se], or why it is undefined."""
    cells: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in frame.to_dict("records"):
        key = (row["dataset"], row["generator"], row["replicate"])
        if key not in cells:
            cells[key] = {k: _plain(row[k]) for k in CELL} | {"scores": {}}
        if row["metric"]:
            known = pd.notna(row["value"])
            value = [_plain(row["value"]), _plain(row["se"])] if known else row["undefined"]
            cells[key]["scores"][row["metric"]] = value
    return list(cells.values())


def _rows(cell: Mapping[str, Any]) -> list[dict[str, Any]]:
    common = {k: cell[k] for k in CELL}
    if not cell["scores"]:
        return [{**common, "metric": "", "value": None, "se": None, "undefined": ""}]
    rows = []
    for metric, found in cell["scores"].items():
        value, se, why = (None, None, found) if isinstance(found, str) else (*found, "")
        rows.append({**common, "metric": metric, "value": value, "se": se, "undefined": why})
    return rows


def _plain(value: Any) -> Any:
    """A value as JSON can hold it, numbers to eight significant digits."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):  # numpy's
        value = value.item()
    if isinstance(value, float):
        if pd.isna(value):
            return None
        return int(value) if value.is_integer() and abs(value) < 1e15 else float(f"{value:.{DIGITS}g}")
    return value
