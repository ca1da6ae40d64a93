"""What the terminal shows: tables, a suite's progress, one line for an error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from tabulate import tabulate

from bench.cell import Cell, Record

out = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
err = Console(stderr=True, highlight=False, soft_wrap=True)

COLOURS = {"done": "green", "failed": "red", "timeout": "red", "skipped": "yellow"}


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]], *, as_json: bool = False) -> None:
    """Print a table, or with as_json a list of objects."""
    if as_json:
        print(json.dumps([dict(zip(heads, row, strict=True)) for row in rows], indent=1, ensure_ascii=False))
        return
    cells = [["" if v is None else f"{v:,}" if isinstance(v, int) else str(v) for v in row] for row in rows]
    if not out.is_terminal:  # a pipe or a file gets whole lines
        out.print(tabulate(cells, headers=heads, tablefmt="plain", disable_numparse=True), markup=False)
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for i, head in enumerate(heads):
        short = max([len(row[i]) for row in cells], default=0) <= 28
        shown.add_column(head, overflow="fold", no_wrap=short)
    for row in cells:
        shown.add_row(*map(escape, row))
    out.print(shown)


def warn(text: str) -> None:
    """One line on stderr that does not stop anything."""
    err.print(f"[yellow]bench: warning:[/] {one_line(text)}")


def error(text: str) -> None:
    """The one line of an error."""
    err.print(f"[red]bench: error:[/] {one_line(text)}")


def one_line(text: str) -> str:
    """Text on one line, with nothing in it taken for markup."""
    return escape(" ".join(text.split()))


class Progress:
    """Tells of cells as they end. left_s(): expected seconds until all have, None where that is not known."""

    def __init__(self, total: int, left_s: Callable[[], float | None]) -> None:
        self.total, self.ended, self.left_s = total, 0, left_s

    def report(self, event: str, cell: Cell, record: Record | None, seconds: float) -> None:
        """The `report` of bench.launch.run_cells."""
        if event != "end" or record is None:
            return
        self.ended += 1
        colour = COLOURS[record.status]
        width = len(str(self.total))
        line = (
            f"[{self.ended:>{width}}/{self.total}] {record.status:7} {cell.dataset} · {cell.label} · r{cell.replicate}"
        )
        why = f"  {one_line(record.reason)}" if record.reason else ""
        left_s = self.left_s() if self.ended < self.total else None
        left = f"  (about {duration(left_s)} left)" if left_s else ""
        out.print(f"[{colour}]{one_line(line)}[/]  {seconds:.1f} s{left}{why}")


def duration(seconds: float) -> str:
    """A length of time in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"
