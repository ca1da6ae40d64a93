"""A cell: one generator on one dataset split. Its identity, key, seeds by purpose, and the record it ends in."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

PURPOSES = ("split", "inner", "score", "tune", "fit", "sample", "minority", "guidance", "export")
STATUSES = ("done", "failed", "timeout", "skipped")
APART = ("label", "source", "untuned_of")  # what no key's hash reads
IF_ANY = ("conditions", "prompts", "at_sample")  # what it reads where they are not empty
canonical = json.JSONEncoder(sort_keys=True).encode


@dataclass(frozen=True)
class Cell:
    """Everything that decides one result, but for the code of the metrics (scores carry their own versions).

    dataset: canonical name. source: what to open it by (the name, or the path of a user's TOML). data: identity of the
    table's bytes, "" where it is absent. version: of the generator's code. params: hyperparameters as JSON. samples:
    subjects to draw, 0 for as many as train. tune: how it is tuned as JSON (bench/suite.py), "" for not at all.
    conditions, prompts: what is asked of the fitted generator beside a sample (bench/ask.py), as JSON, "" for nothing.
    at_sample: names of those params that the generator's fit does not read, as a JSON list, "" for none. untuned_of:
    the label of the tuned row that this one, with the same parameters and no tuning, stands beside; "" for none.
    """

    dataset: str
    source: str
    data: str
    split: str
    generator: str
    label: str
    version: str
    params: str
    replicate: int
    samples: int = 0
    threads: int = 1
    tune: str = ""
    conditions: str = ""
    prompts: str = ""
    at_sample: str = ""
    untuned_of: str = ""

    @cached_property
    def key(self) -> str:
        """Readable, and a hash of all that decides the result; a file name.

        >>> Cell("sim-ehr", "sim-ehr", "d1", "random", "ou", "ou", "1", "{}", 0).key.rpartition(".")[0]
        'sim-ehr.ou.r0'
        """
        read = (k for k in self.__dataclass_fields__ if k not in APART)
        return self._file_name(self.label, {k: v for k in read if (v := getattr(self, k)) or k not in IF_ANY})

    @cached_property
    def fit_key(self) -> str:
        """As `key`, of all that decides the fit: cells that differ only in how they sample have the same one.

        A tuned cell's is its own: its parameters come out of its tuning, which samples.

        >>> arm = Cell("sim-ehr", "sim-ehr", "d1", "random", "ou", "few", "1", '{"grid": 9}', 0, at_sample='["grid"]')
        >>> arm.fit_key == Cell("sim-ehr", "sim-ehr", "d1", "random", "ou", "ou", "1", "{}", 0, samples=50).fit_key
        True
        """
        if self.tune:
            return self.key
        names = ("dataset", "data", "split", "generator", "version", "replicate", "threads")
        return self._file_name(self.generator, {k: getattr(self, k) for k in names} | {"params": self._fit_params})

    @property
    def searched(self) -> bool:
        """Whether a study looks for its parameters."""
        return bool(self.tune) and "from" not in json.loads(self.tune)

    @cached_property
    def study(self) -> "Cell":
        """The cell whose key names the study that tunes this one: of this replicate, or of replicate 0 for all."""
        shared = json.loads(self.tune).get("per") == "dataset"
        bare = replace(self, label=self.generator, samples=0, conditions="", prompts="", untuned_of="")
        return replace(bare, replicate=0) if shared else bare

    @property
    def _fit_params(self) -> str:
        """Those of params that the fit reads."""
        if not self.at_sample:
            return self.params
        later = json.loads(self.at_sample)
        return json.dumps({k: v for k, v in json.loads(self.params).items() if k not in later}, sort_keys=True)

    def _file_name(self, name: str, decides: Mapping[str, Any]) -> str:
        digest = hashlib.sha256(canonical(decides).encode()).hexdigest()[:10]
        return f"{_readable(self.dataset).strip('-')}.{_readable(name)}.r{self.replicate}.{digest}"

    def seed(self, purpose: str) -> int:
        """A seed for one purpose.

        "split", "inner" (of tuning) and "score" are the same for every generator, so that they can be paired. All
        others are the same for cells that differ only in how they sample: each has the fit it would have alone, and
        they draw from the same noise, so that what differs between them is what they do with it.
        """
        if purpose not in PURPOSES:
            raise ValueError(f"unknown purpose '{purpose}'; known: {', '.join(PURPOSES)}")
        parts = [self.dataset, str(self.replicate), purpose]
        if purpose not in ("split", "inner", "score"):
            parts += [self.generator, self._fit_params]
        return int(hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8], 16) >> 1

    @classmethod
    def read(cls, saved: Mapping[str, Any]) -> "Cell":
        """A cell from what `asdict` wrote."""
        return cls(**saved)


@cache
def _readable(name: str) -> str:
    """A name as part of a file name."""
    return re.sub(r"[^A-Za-z0-9-]+", "-", name)


@dataclass(frozen=True)
class Fault:
    """Why a cell did not end well: the phase, the exception's class, one line, and whether it came from outside."""

    phase: str
    type: str
    message: str
    outside: bool = False


@dataclass(frozen=True)
class Record:
    """The outcome of a cell. scores: full name -> {"value", "se", "n"} or {"undefined": reason}."""

    cell: Cell
    status: str
    fault: Fault | None = None
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """One line of why it is not done; "" for a done cell."""
        if self.fault is None:
            return ""
        kind = f"{self.fault.type}: " if self.status == "failed" and self.fault.type else ""
        where = f"in {self.fault.phase}: " if self.fault.phase else ""
        return f"{where}{kind}{self.fault.message}"

    @classmethod
    def read(cls, saved: Mapping[str, Any]) -> "Record":
        """A record from what `asdict` wrote."""
        fault = Fault(**saved["fault"]) if saved["fault"] else None
        return cls(Cell.read(saved["cell"]), saved["status"], fault, saved["scores"], saved["facts"])
