"""Tables: the train, holdout and synth tables a metric sees, with the costly views of them computed once.

Rules that every view keeps (METRICS): encoders, scales and vocabularies come from train alone and are applied to all
tables; columns and subjects are sorted by content first, so that neither the order in which a table arrives nor a
column's name, unit or origin changes anything; a longitudinal table has a flat view (ever-flag and count per code for
visits; the grid, channel by step, for series; statics in both).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from metrics.canonical import canonical, canonical_columns

ROLES = {"target", "static", "codes", "sensitive", "quasi", "describe", "time_unit"}
NAMES = ("train", "holdout", "synth", "minority")


@dataclass(frozen=True)
class Condition:
    """Subjects drawn for a condition: column -> value that each should have.

    truth: subjects of the known process under the condition, where it is known; else real subjects are compared with.
    """

    given: Mapping[str, Any]
    samples: pd.DataFrame
    truth: pd.DataFrame | None = None


@dataclass(frozen=True)
class Prompt:
    """Subjects drawn for one text, and what the text says of them.

    expected: column -> a value to equal, (low, high) to lie between, or a set of levels of which one; or a name that is
    no column -> a set of code columns of which one is enough.
    """

    expected: Mapping[str, Any]
    samples: pd.DataFrame


class Tables:
    """What every metric is handed.

    train (n subjects), holdout (m, never seen by the generator), synth, and minority (synthetic subjects of the
    positive class, for augmentation) obey one law: same columns, dtypes and index names. roles: a mapping with
    `target` and, where there are any, `static`, `codes`, `sensitive`, `quasi`. judges: name -> class, further
    downstream models that read tables themselves: fit(table, *, like, target, static, weight, seed) learns from a
    table, scales and levels from train (`like`), weight (n,) or None; predict(table) gives (n,) probabilities.
    conditions: name -> samples drawn for a condition. prompts: samples drawn for texts. no_...: why something was not
    drawn. shared: keeps what other tables of the same train and holdout need too, by get(name) and put(name, arrays).
    """

    def __init__(
        self,
        train: pd.DataFrame,
        holdout: pd.DataFrame,
        synth: pd.DataFrame,
        *,
        roles: Mapping[str, Any],
        minority: pd.DataFrame | None = None,
        no_minority: str = "no synthetic minority was drawn",
        judges: Mapping[str, Any] | None = None,
        conditions: Mapping[str, Condition] | None = None,
        no_conditions: Mapping[str, str] | None = None,
        prompts: Sequence[Prompt] = (),
        no_prompts: str = "",
        shared: Any = None,
    ) -> None:
        strange = set(roles) - ROLES
        if strange or "target" not in roles:
            raise ValueError(f"roles {sorted(roles)}: expected target and any of {sorted(ROLES - {'target'})}")
        order = canonical_columns(train)
        position = {name: i for i, (name, _) in enumerate(order)}
        codes, sensitive, quasi = (
            tuple(sorted(roles.get(role, ()), key=lambda name: position.get(name, len(position))))
            for role in ("codes", "sensitive", "quasi")
        )
        self.target: str = roles["target"]
        self.static: tuple[str, ...] = tuple(roles.get("static", ()))
        self.codes: tuple[str, ...] = codes
        self.sensitive: tuple[str, ...] = sensitive
        self.quasi: tuple[str, ...] = quasi
        self.judges = dict(judges or {})
        self.conditions = dict(conditions or {})
        self.no_conditions = dict(no_conditions or {})
        self.prompts = tuple(prompts)
        self.no_prompts = no_prompts or "no prompts were answered"
        self.no_minority = no_minority
        self.shared = shared
        given = {"train": train, "holdout": holdout, "synth": synth, "minority": minority}
        self._tables = {name: canonical(t, order, name) for name, t in given.items() if t is not None}
        self.longitudinal = train.index.nlevels == 2
        self.shape = self._shape()
        self._memory: dict[Any, Any] = {}

    def __getitem__(self, name: str) -> pd.DataFrame:
        """The table itself, in canonical order."""
        return self._tables[name]

    def __contains__(self, name: str) -> bool:
        return name in self._tables

    def once(self, key: Any, make: Any) -> Any:
        """The value of make(), computed at the first asking; key names everything it depends on."""
        if key not in self._memory:
            self._memory[key] = make()
        return self._memory[key]

    def once_for_all(self, key: Any, make: Callable[[], tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
        """As `once`, for arrays that follow from train and holdout alone: what `shared` has kept is not made again."""

        def find() -> tuple[np.ndarray, ...]:
            kept = self.shared.get(repr(key)) if self.shared is not None else None
            if kept is not None:
                return kept
            made = make()
            if self.shared is not None:
                self.shared.put(repr(key), made)
            return made

        return self.once(key, find)

    # --- views ---

    def flat(self, name: str) -> pd.DataFrame:
        """One row per subject: the table itself, or a longitudinal table's flat view."""
        return self.once(("flat", name), lambda: self.flatten(self[name]))

    def n(self, name: str) -> int:
        """Subjects of a table."""
        return len(self.flat(name))

    def y(self, name: str) -> np.ndarray:
        """The target (n,) bool."""
        return self.flat(name)[self.target].to_numpy(dtype=bool)

    def matrix(self, name: str, *, without: Sequence[str] = ()) -> np.ndarray:
        """The flat view for distances (n, p) float32: numbers less train's median over its IQR (else sd, else 1),
        categories one-hot / sqrt 2, booleans 0/1, a missing value as an indicator and 0."""
        key = ("matrix", name, tuple(without))
        return self.once(key, lambda: self._scaled.transform(self.flat(name), set(without)))

    @property
    def columns(self) -> list[str]:
        """The column of the flat view that each column of `matrix` belongs to."""
        return self._scaled.names

    def features(self, name: str, *, scaled: bool = False) -> np.ndarray:
        """The judges' view (n, p) float32, without the target: numbers less train's median over its IQR with gaps as
        NaN and categories one-hot, or (scaled) all as in `matrix`.

        Series: per channel mean, sd, min, max, first, last, slope and missing share, and the statics.
        """
        encoder = self._judged_scaled if scaled else self._judged
        return self.once(("features", name, scaled), lambda: encoder.transform(self._summary(name)))

    def raw(self, name: str) -> np.ndarray:
        """The flat view (n, p) float32 with the target: numbers less train's median over its IQR with gaps as NaN,
        categories one-hot."""
        return self.once(("raw", name), lambda: self._plain.transform(self.flat(name)))

    @cached_property
    def flags(self) -> list[str]:
        """Bool columns of the flat view."""
        flat = self.flat("train")
        return [c for c in flat.columns if str(flat[c].dtype) == "bool"]

    @cached_property
    def ever(self) -> list[str]:
        """Columns of the flat view that say whether a subject has a code: the codes, else all bool columns."""
        return [c for c in self.codes if c in self.flat("train").columns] or self.flags

    @cached_property
    def _scaled(self) -> Encoder:
        return Encoder(self.flat("train"), scaled=True)

    @cached_property
    def _plain(self) -> Encoder:
        return Encoder(self.flat("train"), scaled=False)

    @cached_property
    def _judged(self) -> Encoder:
        return Encoder(self._summary("train").drop(columns=self.target), scaled=False)

    @cached_property
    def _judged_scaled(self) -> Encoder:
        return Encoder(self._summary("train").drop(columns=self.target), scaled=True)

    def _summary(self, name: str) -> pd.DataFrame:
        if self.shape != "series":
            return self.flat(name)
        return self.once(("summary", name), lambda: _summaries(self[name], self._varying, self._at_rest, self["train"]))

    @property
    def _at_rest(self) -> list[str]:
        return [c for c in self["train"].columns if c in self.static]

    @property
    def _varying(self) -> list[str]:
        return [c for c in self["train"].columns if c not in self.static]

    def _shape(self) -> str:
        """The shape as metrics mean it: what the columns say, not what the dataset is called."""
        codes = [c for c in self.codes if c in self["train"].columns]
        if self.longitudinal:
            return "visits" if codes else "series"
        return "codes" if codes else "table"

    def flatten(self, table: pd.DataFrame) -> pd.DataFrame:
        """The flat view of any table of train's law, one row per subject in the order they come."""
        if not self.longitudinal:
            return table
        first = table[table.index.get_level_values("time") == 0].droplevel("time")[self._at_rest]
        place = pd.factorize(table.index.get_level_values("subject"))[0]
        parts: dict[str, Any] = {c: first[c].array for c in self._at_rest}
        steps = int(self["train"].index.get_level_values("time").max()) + 1
        step = table.index.get_level_values("time").to_numpy()
        parts["n_steps"] = np.bincount(place)
        for column in self._varying:
            values = table[column]
            if self.shape == "visits" and str(values.dtype) == "bool":
                count = np.bincount(place, weights=values.to_numpy(), minlength=len(first)).astype(np.int64)
                parts[column], parts[f"{column} count"] = count > 0, count
            else:
                parts |= _by_step(column, values, place, step, len(first), steps)
        return pd.DataFrame(parts, index=first.index)


class Encoder:
    """Columns of a flat table as features; levels, scales, medians and gaps are train's.

    A number is centred and divided in float64 and cast to float32 last: far from zero, float32 has no digits left for
    what tells subjects apart.
    """

    def __init__(self, train: pd.DataFrame, *, scaled: bool) -> None:
        self.scaled = scaled
        self.columns = [(str(c), *self._read(train[c])) for c in train.columns]

    def _read(self, values: pd.Series) -> tuple[str, Any]:
        if isinstance(values.dtype, pd.CategoricalDtype):
            return "category", list(values.cat.categories)
        if str(values.dtype) == "bool":
            return "bool", None
        x = values.dropna().to_numpy(dtype=float)
        if len(x) == 0:
            return "number", (0.0, 1.0)
        return "number", scale(x)

    @property
    def names(self) -> list[str]:
        """The column that each feature belongs to."""
        widths = {"bool": 1, "number": 2 if self.scaled else 1}
        return [name for name, kind, facts in self.columns for _ in range(widths.get(kind) or len(facts) + 1)]

    def transform(self, table: pd.DataFrame, without: set[str] = frozenset()) -> np.ndarray:  # type: ignore[assignment]
        """A flat table (n rows) as features (n, p) float32."""
        parts = [
            self._encode(table[name], kind, facts) for name, kind, facts in self.columns if name not in without
        ]  # fmt: skip
        return np.concatenate([np.zeros((len(table), 0), np.float32), *parts], axis=1)

    def _encode(self, values: pd.Series, kind: str, facts: Any) -> np.ndarray:
        if kind == "bool":
            return values.to_numpy(dtype=np.float32)[:, None]
        if kind == "category":
            out = np.zeros((len(values), len(facts) + 1), np.float32)  # the last place is the gap
            codes = pd.Index(facts).get_indexer(values.astype("object"))
            out[np.arange(len(values)), codes] = np.sqrt(0.5) if self.scaled else 1.0
            return out
        middle, size = facts
        x = (values.to_numpy(dtype=float, na_value=np.nan) - middle) / size
        if not self.scaled:
            return x.astype(np.float32)[:, None]
        gone = np.isnan(x)
        return np.column_stack([np.where(gone, 0.0, x), gone]).astype(np.float32)


def scale(x: np.ndarray) -> tuple[float, float]:
    """Median, and IQR (else standard deviation, else 1), of values without gaps."""
    low, middle, high = np.quantile(x, [0.25, 0.5, 0.75])
    return float(middle), float(high - low) or float((x - middle).std()) or 1.0


def _by_step(
    column: str, values: pd.Series, place: np.ndarray, step: np.ndarray, n: int, steps: int
) -> dict[str, pd.Series]:
    """A varying column as one column per step; a step a subject does not have is missing (False for a flag)."""
    inside = step < steps
    at = (place[inside], step[inside])
    if isinstance(values.dtype, pd.CategoricalDtype):
        codes = np.full((n, steps), -1)
        codes[at] = values.cat.codes.to_numpy()[inside]
        wide = [pd.Categorical.from_codes(codes[:, t], dtype=values.dtype) for t in range(steps)]
    elif str(values.dtype) == "bool":
        flags = np.zeros((n, steps), bool)
        flags[at] = values.to_numpy()[inside]
        wide = [flags[:, t] for t in range(steps)]
    else:
        grid = np.full((n, steps), np.nan)
        grid[at] = values.to_numpy(dtype=float, na_value=np.nan)[inside]
        wide = [grid[:, t] for t in range(steps)]
    return {f"{column} @{t:03d}": w for t, w in enumerate(wide)}


def _summaries(table: pd.DataFrame, varying: list[str], static: list[str], train: pd.DataFrame) -> pd.DataFrame:
    """Per subject: statics, and eight summaries of each channel less train's median (a category by its code; gaps are
    left out)."""
    first = table[table.index.get_level_values("time") == 0].droplevel("time")[static]
    place = pd.factorize(table.index.get_level_values("subject"))[0]
    time = table.index.get_level_values("time").to_numpy().astype(float)
    parts: dict[str, Any] = {c: first[c].array for c in static}
    parts["n_steps"] = np.bincount(place)
    for column in varying:
        values = table[column]
        x = (
            values.cat.codes.where(values.notna()) if isinstance(values.dtype, pd.CategoricalDtype) else values
        ).to_numpy(dtype=float, na_value=np.nan)
        if train[column].dtype.kind in "iuf" and train[column].notna().any():
            x = x - float(train[column].median())
        group = pd.Series(x).groupby(place)
        parts |= {
            f"{column} {how}": group.agg(how).to_numpy() for how in ("mean", "std", "min", "max", "first", "last")
        }
        seen = ~np.isnan(x)
        t = np.where(seen, time, np.nan)
        mean_t = pd.Series(t).groupby(place).transform("mean").to_numpy()
        mean_x = group.transform("mean").to_numpy()
        across = pd.Series((t - mean_t) * (x - mean_x)).groupby(place).sum().to_numpy()
        within = pd.Series((t - mean_t) ** 2).groupby(place).sum().to_numpy()
        parts[f"{column} slope"] = np.divide(across, within, out=np.full(len(first), np.nan), where=within > 0)
        parts[f"{column} missing"] = 1 - pd.Series(seen).groupby(place).mean().to_numpy()
    return pd.DataFrame(parts, index=first.index)
