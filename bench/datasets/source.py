"""A dataset that has been named: where its files are, what identifies it, and how it is read whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bench.datasets.digest import sha256
from bench.datasets.name import Name, Value
from bench.errors import BenchError

if TYPE_CHECKING:  # pandas is loaded when a table is, not when a name is
    import pandas as pd

    from bench.datasets import Dataset
    from bench.datasets.data import Data

GENERIC_CUTS = ("codes", "rows", "target", "train_positives")
# given a key and a function that writes a file, the file: written now, or found as it was written before
Keep = Callable[[str, Callable[[Path], None]], AbstractContextManager[Path]]


@contextmanager
def no_keep(key: str, write: Callable[[Path], None]) -> Iterator[Path]:
    """Writes the file anew, in a folder that only this user can read and that is gone afterwards."""
    with TemporaryDirectory(prefix="bench-") as folder:
        write(Path(folder) / "readings.parquet")
        yield Path(folder) / "readings.parquet"


@dataclass(frozen=True)
class Source:
    """A dataset that has been named: its row, its cuts, and the folder of its files (None where it is absent)."""

    row: Dataset
    name: Name
    folder: Path | None
    toml: Path | None = None
    order: str | None = None

    @property
    def simulated(self) -> bool:
        """True where a known process draws the table afresh."""
        return bool(self.row.draw)

    @property
    def ordered(self) -> bool:
        """True where subjects have a time order."""
        return self.order is not None

    @property
    def train_positives(self) -> int:
        """Positives that a split's train keeps; 0 for all."""
        return int(dict(self.name.cuts).get("train_positives", 0))

    @property
    def shareable(self) -> bool:
        """True where values of the table may be shown: simulated or openly licensed data, not a user's own."""
        return self.row.access in ("simulated", "packaged", "open")

    @property
    def wanted(self) -> tuple[str, ...]:
        """The names of the files and tables it is read from; of sets, only those its cuts ask for."""
        sets = dict(self.name.cuts).get("sets", self.row.params.get("sets"))
        files = [
            f
            for f in self.row.files
            if sets is None or any(f"-{s}." in f or f.endswith(f"_set{s.upper()}") for s in str(sets))
        ]
        return (*files, *self.row.tables)

    @cached_property
    def files(self) -> dict[str, Path]:
        """Where the files it is read from are, or would be, by name."""
        from bench.datasets.release import locate

        if self.folder is None:
            return {}
        find = _resolve(self.row.locate) if self.row.locate else locate
        ending = ".csv" if self.row.tables else ""
        return {name: find(self.folder, name) or self.folder / f"{name}{ending}" for name in self.wanted}

    def absence(self) -> str | None:
        """Why the dataset cannot be read here, or None. A user's own file that is missing is a fault, no absence."""
        if not self.wanted or self.toml:
            return None
        if self.folder is None:
            return f"absent: put {self.put()}"
        lacking = [path.name for path in self.files.values() if not path.exists()]
        if not lacking:
            return None
        packed = " (or .csv.gz)" if self.row.tables else ""
        return f"absent: {self.folder} lacks {', '.join(lacking)}{packed}: put {self.put()}"

    def put(self) -> str:
        """What to put where."""
        if not self.wanted or self.toml:
            return ""
        names = [f"{name}.csv.gz" if name in self.row.tables else name for name in self.wanted]
        return f"{', '.join(names)} into DATA/{self.row.folders[0]}, from {self.row.source}"

    @cached_property
    def identity(self) -> str:
        """A hash of all that decides the table: name with cuts, loader version, and the bytes of its files."""
        from bench.datasets.data import Absent

        reason = self.absence()
        if reason:
            raise Absent(f"dataset {self.name}: {reason}")
        digest = hashlib.sha256(f"{self.name} v{self.row.version}".encode())
        return _with_files(digest, {**self.files, **({"toml": self.toml} if self.toml else {})}, f"dataset {self.name}")

    @cached_property
    def readings_key(self) -> str:
        """What identifies the readings gathered for it: how they are gathered, and the bytes of its files."""
        digest = hashlib.sha256(f"{self.row.readings} v{self.row.version}".encode())
        return _with_files(digest, self.files, f"dataset {self.name}")

    def load(self, keep: Keep = no_keep) -> Data:
        """Read the table whole: cuts applied, duplicates handled as the row says, subjects renumbered, law checked.

        keep: where readings gathered from a large table are kept for the next dataset that needs them.
        Raises Absent, DataError or LawError. Subjects are numbered 0, 1, ... so that no identifier of the source
        enters a table.
        """
        from bench.datasets import data as d
        from bench.datasets import law

        reason = self.absence()
        if reason:
            raise d.Absent(f"dataset {self.name}: {reason}")
        for path in self.files.values():
            if not path.exists():
                raise d.DataError(f"dataset {self.name}: {path} is missing")
        try:
            data = self._read(keep)
        except (d.DataError, law.LawError) as error:
            raise type(error)(f"dataset {self.name}: {error}") from error
        cuts = dict(self.name.cuts)
        if self.row.drop_duplicates:
            data = _unique(data)
        if "target" in cuts:
            data = d.retarget(data, str(cuts["target"]))
        if not self.simulated:
            if "codes" in cuts:
                data = d.cut_codes(data, int(cuts["codes"]))
            if "rows" in cuts:
                data = d.cut_rows(data, int(cuts["rows"]), self.seed)
        data = _renumber(data)
        law.check(data.table, data.roles, what=f"dataset {self.name}")
        return data

    @property
    def seed(self) -> int:
        """The seed of a simulated table and of a cut: a function of what the name says of the table."""
        name = Name(self.name.base, tuple((k, v) for k, v in self.name.cuts if k != "train_positives"))
        return int(hashlib.sha256(str(name).encode()).hexdigest()[:8], 16)

    def redraw(self, n: int, given: Mapping[str, object] | None, seed: int) -> pd.DataFrame:
        """n fresh subjects from the known process that satisfy `given`; only on simulated data.

        Raises BenchError where the condition is so rare that 500 times n draws do not hold n of it.
        """
        import numpy as np
        import pandas as pd

        from bench.datasets.law import longitudinal, per_subject, take

        params = self._params()
        kept: list[pd.DataFrame] = []
        have, tries = 0, 0
        for batch_seed in np.random.SeedSequence(seed).generate_state(500):
            table = _resolve(self.row.draw)(max(n, 1_000) if given else n, seed=int(batch_seed), **params)
            for column, value in (given or {}).items():
                held = per_subject(table, column)
                table = take(table, held.index[(held == value).to_numpy()])
            tries += 1
            who = table.index.get_level_values("subject").unique()[: n - have]
            table = take(table, who)
            codes = {s: have + i for i, s in enumerate(who)}
            number = table.index.get_level_values("subject").map(codes)
            table.index = (
                pd.MultiIndex.from_arrays([number, table.index.get_level_values("time")], names=["subject", "time"])
                if longitudinal(table)
                else pd.Index(number, name="subject")
            )
            kept.append(table)
            have += len(who)
            if have == n:
                return pd.concat(kept)
        raise BenchError(
            f"dataset {self.name}: found {have} of {n} subjects in {tries} draws for {sorted(given or {})}"
        )

    def _params(self) -> dict[str, Value]:
        params = {**self.row.params, **dict(self.name.cuts)}
        return {k: v for k, v in params.items() if k not in ("rows", "draw", "target", "train_positives")}

    def _read(self, keep: Keep) -> Data:
        from bench.datasets.data import Data

        if self.simulated:
            rows = int({**self.row.params, **dict(self.name.cuts)}["rows"])
            params = self._params()
            return Data(_resolve(self.row.draw)(rows, seed=self.seed, **params), _resolve(self.row.roles)(**params))
        if self.toml is not None:
            from bench.datasets.own import load

            return load(self.toml)
        params = {k: v for k, v in self._params().items() if k not in GENERIC_CUTS}
        if not self.row.readings:
            return _resolve(self.row.load)(self.folder, **params)
        with keep(self.readings_key, partial(_resolve(self.row.readings), self.folder)) as readings:
            return _resolve(self.row.load)(self.folder, readings=readings, **params)


def _with_files(digest: hashlib._Hash, files: Mapping[str, Path], what: str) -> str:
    """A hash, begun with what else decides something, over the names and bytes of files."""
    from bench.datasets.data import DataError

    for name, path in files.items():
        if not path.exists():
            raise DataError(f"{what}: {path} is missing")
        digest.update(name.encode() + sha256(path).encode())
    return digest.hexdigest()[:16]


def _resolve(path: str) -> Callable:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def _unique(data: Data) -> Data:
    """Without exact repetitions of a row; flat tables only."""
    table = data.table[~data.table.duplicated()]
    order = None if data.order is None else data.order.loc[table.index]
    return replace(data, table=table, order=order, facts={**data.facts, "duplicates": len(data.table) - len(table)})


def _renumber(data: Data) -> Data:
    import pandas as pd

    from bench.datasets.law import longitudinal

    number, who = pd.factorize(data.table.index.get_level_values("subject"), sort=True)
    table = data.table.copy(deep=False)
    if longitudinal(table):
        table.index = pd.MultiIndex.from_arrays(
            [number, table.index.get_level_values("time")], names=["subject", "time"]
        )
    else:
        table.index = pd.Index(number, name="subject")
    order = data.order
    if order is not None:
        order = pd.Series(order.loc[who].to_numpy(), pd.RangeIndex(len(who)))
    return replace(data, table=table.sort_index(), order=order)
