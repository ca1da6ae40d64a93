"""What a loader hands over: a table with its roles, and the two generic cuts."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from bench.datasets.law import Roles, per_subject, subjects, take
from bench.errors import BenchError, unknown


class DataError(BenchError):
    """A dataset's files are not what their source distributes."""


class Absent(BenchError):
    """A dataset's files are not there; the message says what to put where."""


@dataclass(frozen=True)
class Task:
    """A further target of a flat table: who is positive (bool by subject), and the columns that would give it away."""

    positive: pd.Series
    columns: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Data:
    """A loaded dataset.

    order: subject -> position in time, for `split = "time"`; None where the source has no order.
    tasks: further targets by name, which `target=NAME` puts in the target's place.
    facts: what was read, for `bench data check` and the board: counts, and "subset" where files hold a part only.
    """

    table: pd.DataFrame
    roles: Roles
    order: pd.Series | None = None
    facts: Mapping[str, int | str] = field(default_factory=dict)
    tasks: Mapping[str, Task] = field(default_factory=dict)


def expect(what: str, got: int, expected: int) -> None:
    """Raise DataError where a file does not hold what its source distributes."""
    if got != expected:
        raise DataError(f"{what}: found {got:,}, expected {expected:,}: a truncated or different file")


def has_columns(frame: pd.DataFrame, expected: list[str], what: str) -> None:
    """Raise DataError unless the frame has these columns."""
    absent = [c for c in expected if c not in frame.columns]
    if absent:
        raise DataError(f"{what}: lacks column {', '.join(absent[:5])}: a different file")


def retarget(data: Data, name: str) -> Data:
    """A code or a task as the target of a flat table; the former target stays as one more flag.

    A task takes the place of the columns that define it, since they would give it away.
    """
    r = data.roles
    if name in data.tasks:
        task = data.tasks[name]
        table = data.table.drop(columns=list(task.columns))
        table = pd.concat([table, task.positive.loc[table.index].rename(name)], axis=1)
        r = _without(r, set(task.columns))
        roles = replace(r, target=name, sensitive=(*r.sensitive, name), describe={**r.describe, name: task.text})
        return replace(data, table=table, roles=roles)
    if name not in r.codes:
        raise unknown("target", name, [*data.tasks, *r.codes])
    return replace(data, roles=replace(r, target=name, codes=tuple(c for c in r.codes if c != name)))


def _without(r: Roles, gone: set[str]) -> Roles:
    """Roles of a table that has lost some columns."""

    def keep(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(n for n in names if n not in gone)

    return replace(
        r, codes=keep(r.codes), sensitive=keep(r.sensitive), quasi=keep(r.quasi),
        describe={c: t for c, t in r.describe.items() if c not in gone},
    )  # fmt: skip


def cut_codes(data: Data, k: int) -> Data:
    """Keep the k codes that most subjects have (ties by name)."""
    codes = list(data.roles.codes)
    if k > len(codes):
        raise BenchError(f"codes={k}: the dataset has {len(codes)} codes")
    ever = data.table[codes]
    if ever.index.nlevels == 2:
        ever = ever.groupby(level="subject", sort=False).any()
    counts = ever.sum().sort_index().sort_values(ascending=False, kind="stable")
    gone = set(codes) - set(counts.index[:k])
    table = data.table[[c for c in data.table.columns if c not in gone]]
    return replace(data, table=table, roles=_without(data.roles, gone))


def cut_rows(data: Data, n: int, seed: int) -> Data:
    """Keep n subjects, drawn within each class of the target in proportion."""
    from sklearn.model_selection import train_test_split

    who = subjects(data.table).to_numpy()
    if n > len(who):
        raise BenchError(f"rows={n}: the dataset has {len(who):,} subjects")
    if n < len(who):
        target = per_subject(data.table, data.roles.target).to_numpy()
        try:
            kept, _ = train_test_split(np.arange(len(who)), train_size=n, stratify=target, random_state=seed)
        except ValueError as error:
            raise BenchError(f"rows={n}: too few to hold both classes of '{data.roles.target}'") from error
        who = who[np.sort(kept)]
    order = None if data.order is None else data.order.loc[who]
    return replace(data, table=take(data.table, pd.Index(who)), order=order)
