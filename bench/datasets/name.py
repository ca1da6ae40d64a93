"""A dataset's name: `base` or `base[key=value,...]`, where the keys cut it or set a simulator's size."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from bench.errors import BenchError, unknown

Value = int | str


@dataclass(frozen=True)
class Name:
    """A parsed name. `str(name)` is its one canonical spelling: keys sorted, defaults left out.

    >>> str(parse("diabetes130[rows=10000, codes=300]", {"codes": 0, "rows": 0}))
    'diabetes130[codes=300,rows=10000]'
    >>> parse("diabetes130", {"codes": 0, "rows": 0}).slug
    'diabetes130'
    """

    base: str
    cuts: tuple[tuple[str, Value], ...] = ()

    def __str__(self) -> str:
        inner = ",".join(f"{k}={v}" for k, v in self.cuts)
        return f"{self.base}[{inner}]" if inner else self.base

    @property
    def slug(self) -> str:
        """The name as part of a file name."""
        return re.sub(r"[^A-Za-z0-9.-]+", "-", str(self).replace("=", "")).strip("-")


def base(text: str) -> str:
    """The part of a name before its cuts."""
    return text.split("[", 1)[0].strip()


def parse(text: str, params: Mapping[str, Value]) -> Name:
    """Read a name whose keys are those of `params` (name -> default). Raises BenchError on anything else."""
    match = re.fullmatch(r"\s*([^\[\]]+?)\s*(?:\[([^\[\]]*)\])?\s*", text)
    if not match:
        raise BenchError(f"dataset name '{text}' is not of the form name or name[key=value,...]")
    cuts: dict[str, Value] = {}
    for part in filter(None, (p.strip() for p in (match[2] or "").split(","))):
        key, equals, value = (s.strip() for s in part.partition("="))
        if not equals or not value:
            raise BenchError(f"dataset name '{text}': '{part}' is not of the form key=value")
        if key not in params:
            raise unknown(f"cut of dataset '{match[1]}'", key, params)
        if key in cuts:
            raise BenchError(f"dataset name '{text}': {key} stands twice")
        cuts[key] = _value(text, key, value, params[key])
    kept = {k: v for k, v in cuts.items() if v != params[k]}
    return Name(match[1], tuple(sorted(kept.items())))


def _value(text: str, key: str, value: str, default: Value) -> Value:
    if isinstance(default, str):
        return value
    if not re.fullmatch(r"[1-9][0-9_]*", value):
        raise BenchError(f"dataset name '{text}': {key}={value} is not a positive whole number")
    return int(value)
