"""Guidance: do samples drawn for a condition, or for a text, meet it, and are they otherwise like such people?

The compared people are the known process's under the condition where there is one, else those of train and holdout who
satisfy it. Suffix: the condition's name. No standard errors: what varies is the draw, not the holdout.
"""

from collections.abc import Callable, Mapping, Set
from typing import Any

import numpy as np
import pandas as pd

from metrics import Score, Undefined, pairs
from metrics.tables import Condition, Encoder, Tables

FEWEST = 20
FEWEST_FOR_CMD = 500


def rate(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """Share of the subjects drawn for a condition who satisfy it."""
    return _each(t, lambda c: Score(float(_satisfied(c.samples, c.given).mean()), None, len(_subjects(c.samples))))


def prevalence(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """Mean over the other flags of |log odds among the drawn − among the compared|, counts + ½."""

    def value(c: Condition) -> Score | Undefined:
        drawn, compared = t.flatten(c.samples), _compared(t, c)
        flags = [f for f in t.flags if f not in c.given]
        if not flags:
            return Undefined("no flags beside the condition")
        if len(compared) < FEWEST:
            return Undefined(f"{len(compared)} real subjects satisfy the condition, fewer than {FEWEST}")
        odds = []
        for table in (drawn, compared):
            k = table[flags].to_numpy(dtype=bool).sum(axis=0)
            odds.append(np.log((k + 0.5) / (len(table) - k + 0.5)))
        return Score(float(np.abs(odds[0] - odds[1]).mean()), None, len(compared))

    return _each(t, value)


def cmd(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """cmd_distance of the other columns, drawn against compared, where 500 or more satisfy the condition."""

    def value(c: Condition) -> Score | Undefined:
        drawn, compared = t.flatten(c.samples), _compared(t, c)
        if min(len(compared), len(drawn)) < FEWEST_FOR_CMD:
            return Undefined(f"{min(len(compared), len(drawn))} subjects to compare, fewer than {FEWEST_FOR_CMD}")
        encoder = Encoder(t.flat("train"), scaled=True)
        held, synth, train = (encoder.transform(x, set(c.given)) for x in (compared, drawn, t.flat("train")))
        varies = held.std(axis=0) > 1e-6
        if varies.sum() < 2:
            return Undefined("fewer than two columns vary")
        found = pairs.compare(held[:, varies], synth[:, varies], train[:, varies], seed=seed)
        return Score(float(found["mean"][0]), None, len(compared))

    return _each(t, value)


def prompt_accuracy(t: Tables, *, seed: int) -> Score | Undefined:
    """Mean over prompts of the mean share of its expectations that its samples meet."""
    if not t.prompts:
        return Undefined(t.no_prompts)
    own = [_met(p.samples, p.expected) for p in t.prompts]
    return Score(float(np.mean(own)), None, len(own))


def prompt_gain(t: Tables, *, seed: int) -> Score | Undefined:
    """That accuracy minus the mean share of its expectations that the samples of the other prompts meet."""
    if len(t.prompts) < 2:
        return Undefined(t.no_prompts if not t.prompts else "one prompt: nothing to compare it with")
    own = [_met(p.samples, p.expected) for p in t.prompts]
    others = [np.mean([_met(o.samples, p.expected) for o in t.prompts if o is not p]) for p in t.prompts]
    return Score(float(np.mean(own) - np.mean(others)), None, len(own))


def _each(t: Tables, value: Callable[[Condition], Score | Undefined]) -> dict[str, Score | Undefined]:
    lacking: dict[str, Score | Undefined] = {name: Undefined(reason) for name, reason in t.no_conditions.items()}
    if not t.conditions and not lacking:
        return {"": Undefined("nothing was drawn for a condition")}
    return {name: value(condition) for name, condition in t.conditions.items()} | lacking


def _compared(t: Tables, c: Condition) -> pd.DataFrame:
    """The flat view of the people a condition's samples should be like."""
    if c.truth is not None:
        return t.flatten(c.truth)
    real = pd.concat([t.flat("train"), t.flat("holdout")], ignore_index=True)
    return real[_satisfied(real, c.given)]


def _subjects(table: pd.DataFrame) -> pd.DataFrame:
    """One row per subject: a longitudinal table's first rows, enough for columns constant in a subject."""
    return table if table.index.nlevels == 1 else table[table.index.get_level_values("time") == 0]


def _satisfied(table: pd.DataFrame, given: Mapping[str, Any]) -> np.ndarray:
    first = _subjects(table)
    held = np.ones(len(first), bool)
    for column, value in given.items():
        held &= (first[column] == value).to_numpy(dtype=bool)
    return held


def _met(samples: pd.DataFrame, expected: Mapping[str, Any]) -> float:
    """Mean share of expectations met by these subjects."""
    first, met = _subjects(samples), []
    for name, value in expected.items():
        if isinstance(value, Set) and name in samples.columns:
            met.append(first[name].isin(value).to_numpy(dtype=bool))
        elif isinstance(value, Set):
            known = [c for c in value if c in samples.columns]
            whose = samples[known].any(axis=1).groupby(level="subject", sort=False).any()
            met.append(whose.to_numpy(dtype=bool))
        elif isinstance(value, tuple):
            x = first[name].to_numpy(dtype=float, na_value=np.nan)
            met.append((x >= value[0]) & (x <= value[1]))
        else:
            met.append((first[name] == value).to_numpy(dtype=bool))
    return float(np.mean(met))
