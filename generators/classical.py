"""Latent classes: a mixture of products, fitted by EM; no network, no gradient.

p(x) = Σ_z w_z Π_j p(x_j | z): features are independent within a class (Lazarsfeld and Henry 1968, Latent Structure
Analysis), Bernoulli for a flag, categorical for a category, Gaussian for a number's normal score. EM: Dempster, Laird
and Rubin 1977, doi:10.1111/j.2517-6161.1977.tb01600.x. Given some columns, the others follow their exact posterior.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy.special import ndtri

from generators.base import Generator, Log, StopFit, Unsupported, quiet, reject
from generators.columns import Column
from generators.encode import Feature, Matrix

CANDIDATES = (1, 2, 5, 10, 20, 50, 100, 200)
PATIENCE = 2  # candidates in a row without gain before the choice ends
HELD, MOST_HELD = 0.2, 5_000  # subjects that judge the choice: share of train, and at most
FIRST = 10.0  # subjects like train's average beside the one that a class begins with
LAST = 0.3  # share of the prior in the last M step: pulling classes together weakens what joins columns
EVERY = 10  # iterations between two reports
BLOCK = 8_192  # subjects at once
LEAST_VARIANCE = 1e-3  # of a normal score within a class
LEAST_LOG = -60.0  # in the place of log 0

Report = Callable[[float, float], None]


class Mixture(Generator):
    """Mixture of products over the matrix view; the target is a feature like any other.

    classes: how many; 0 takes the best of 1, 2, 5, ..., 200 by log-likelihood of held-out subjects. prior: a class
    has prior / variance subjects like train's average beside its own, more for a rare flag than for a common one, so
    that nothing seen in train is impossible. iterations, tolerance: the most EM steps, and the relative gain in
    log-likelihood below which they end. cover: share of subjects whose whole length fits the grid of a longitudinal
    table.
    """

    def __init__(
        self, classes: int = 0, prior: float = 1.0, iterations: int = 100, tolerance: float = 1e-4,
        cover: float = 0.995,
    ) -> None:  # fmt: skip
        self.classes = classes
        self.prior = prior
        self.iterations = iterations
        self.tolerance = tolerance
        self.cover = cover

    @classmethod
    def suggest(cls, trial: Any) -> dict[str, Any]:
        """How many classes, and how much they are alike."""
        return {
            "classes": trial.suggest_categorical("classes", [0, 10, 20, 50, 100, 200]),
            "prior": trial.suggest_float("prior", 0.1, 10.0, log=True),
        }

    def fit(
        self, train: pd.DataFrame, *, target: str | None = None, static: Sequence[str] = (),
        describe: Mapping[str, str] | None = None, seed: int, log: Log = quiet,
    ) -> Self:  # fmt: skip
        """Choose the number of classes on an inner split, then fit that many to all of train."""
        rng = np.random.default_rng(seed)
        self.view_ = Matrix.fit(train, static=static, scale="quantile", cover=self.cover)
        design = Design(self.view_)
        x = design.statistics(self.view_.transform(train), rng)
        average = x.mean(axis=0, dtype=np.float64)
        steps = count(1)

        def report(loss: float, validation: float) -> None:
            log(next(steps), loss=loss, validation=validation)

        stopped = False
        self.choice_, self.held_out_ = self.classes, dict[str, float]()
        if self.classes == 0:
            held, inner = np.split(rng.permutation(len(x)), [min(int(len(x) * HELD), MOST_HELD)])
            stopped = self._choose(design, x[inner], x[held], average, rng, report)
        if not stopped:
            self._take(self._climb(design, x, None, self.choice_, average, rng, report)[0])
        return self

    def _choose(
        self, design: Design, inner: np.ndarray, held: np.ndarray, average: np.ndarray, rng: np.random.Generator,
        report: Report,
    ) -> bool:  # fmt: skip
        """Take the best candidate, fitted to the inner rows; True where `log` asked to stop."""
        stale = 0
        for k in CANDIDATES:
            if k > len(inner):
                break
            found, stopped = self._climb(design, inner, held, k, average, rng, report)
            score = design.expect(held, found)[0]
            if score > max(self.held_out_.values(), default=-np.inf):
                self.choice_, stale = k, 0
                self._take(found)
            else:
                stale += 1
            self.held_out_[str(k)] = score
            if stopped or stale == PATIENCE:
                return stopped
        return False

    def _climb(
        self, design: Design, x: np.ndarray, held: np.ndarray | None, k: int, average: np.ndarray,
        rng: np.random.Generator, report: Report,
    ) -> tuple[Classes, bool]:  # fmt: skip
        """EM from k random subjects; True where `log` asked to stop. Where nothing is held back to be judged on, the
        last M step pulls less."""
        now = design.maximise(x[rng.permutation(len(x))[:k]] + FIRST * average, average, self.prior)
        before = -np.inf
        for i in range(1, self.iterations + 1):
            found, sums = design.expect(x, now)
            now = design.maximise(sums, average, self.prior)
            last = i == self.iterations or found - before < self.tolerance * abs(found)
            if last or i % EVERY == 0:
                try:
                    report(-found, -(found if held is None else design.expect(held, now)[0]))
                except StopFit:
                    return now, True
            if last:
                break
            before = found
        if held is None:
            now = design.maximise(design.expect(x, now)[1], average, LAST * self.prior)
        return now, False

    def _take(self, classes: Classes) -> None:
        self.weights_, self.survival_ = classes.weights, classes.survival
        self.mean_, self.variance_ = classes.mean, classes.variance

    def sample(self, n: int, *, given: Mapping[str, object] | None = None, seed: int) -> pd.DataFrame:
        """n subjects. Given flags or categories of a subject, the rest follow their exact posterior; other columns by
        rejection. Unsupported where a condition has no probability under the model."""
        self._needs_fit("weights_")
        fixed, rest = list[tuple[Feature, np.ndarray]](), dict[str, object]()
        for name, value in (given or {}).items():
            column = self._column(name)
            if column is None:
                rest[name] = value
            else:
                feature = next(f for f in self.view_.features if f.column == name)
                fixed.append((feature, _hot(column, value)))
        if rest:
            return reject(lambda k, s: self._draw(k, fixed, s), n, rest, seed=seed)
        return self._draw(n, fixed, seed)

    def _column(self, name: str) -> Column | None:
        """The flag or category of a subject that goes by this name; None for what only rejection can meet."""
        layout = self.view_.series.layout
        if name not in layout.order:
            raise Unsupported(f"a condition on '{name}', which train does not have")
        return next((c for c in layout.static if c.name == name and c.kind != "number"), None)

    def _draw(self, n: int, fixed: Sequence[tuple[Feature, np.ndarray]], seed: int) -> pd.DataFrame:
        """n subjects by p(z | fixed) ∝ w_z Π p(fixed | z), then p(x | z)."""
        rng = np.random.default_rng(seed)
        classes = Classes(self.weights_, self.survival_, self.mean_, self.variance_)
        chance = classes.weights.copy()
        for f, hot in fixed:
            theta = classes.mean[:, f.start : f.stop]
            chance *= theta @ hot if f.kind == "onehot" else np.abs(1 - hot - theta)[:, 0]
        if chance.sum() == 0:
            raise Unsupported(f"no chance of {', '.join(f.column for f, _ in fixed)} as asked: train never has it")
        z = np.searchsorted(np.cumsum(chance), rng.random(n) * chance.sum(), side="right")
        z = np.minimum(z, np.flatnonzero(chance)[-1])  # the product may round up to the sum
        x = Design(self.view_).draw(classes, z, rng)
        for f, hot in fixed:
            x[:, f.start : f.stop] = hot
        return self.view_.inverse(x)


@dataclass(frozen=True)
class Classes:
    """A mixture of K products.

    weights (K,). survival (K, m): chance that step t exists, where lengths differ; else (K, 1) ones. mean (K, p): of a
    flag or a level its chance, of a number its mean. variance (K, q): of the numbers.
    """

    weights: np.ndarray
    survival: np.ndarray
    mean: np.ndarray
    variance: np.ndarray


class Design:
    """Where the features of a matrix x (n, p) are, and their law as an exponential family: log p(x | z) = T(x) η_z.

    T(x) (n, m + p + q) = [m masks | x | squares of the q numbers]. Mask t says that a subject has step t; mask 0 is 1.
    A feature is observed where its mask is on and, for a number with gaps, its missing flag is off; its x is 0
    elsewhere. So an E step is one matrix product and an M step another. The masks hold the length too, as a category.
    """

    def __init__(self, view: Matrix) -> None:
        features, layout = view.features, view.series.layout
        varying = layout.steps > 0 and not layout.same_length
        front = sum(c.width for c in view.series.static)
        self.p = features[-1].stop
        self.length = front if varying else -1  # column of the length
        self.masks = layout.steps if varying else 1
        each = max(sum(c.width for c in layout.varying), 1)
        self.mask = np.maximum((np.arange(self.p) - front - 1) // each, 0) * varying  # (p,)
        self.binary = np.array([f.start for f in features if f.kind == "binary"], int)
        self.groups = [(f.start, f.stop) for f in features if f.kind == "onehot"]
        numbers = [f for f in features if f.kind == "number" and f.start != self.length]
        self.number = np.array([f.start for f in numbers], int)  # (q,)
        self.column = np.array([f.column for f in numbers], object)
        named = {f.start: f.column for f in features if f.kind == "binary"}
        self.gaps = np.array([named.get(f.start + 1) == f.column for f in numbers], bool)  # (q,)

    def statistics(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """T (n, m + p + q) float32. Equal values of a number are spread at random over the ranks they share, so that a
        number with few values is a Gaussian cut into intervals and not a row of spikes."""
        x = x.copy()
        length = np.round(x[:, self.length] * self.masks) if self.masks > 1 else np.ones(len(x))
        masks = np.arange(self.masks) < length[:, None]
        seen = masks[:, self.mask[self.number]]
        seen[:, self.gaps] &= x[:, self.number[self.gaps] + 1] < 0.5
        for name in dict.fromkeys(self.column):
            place = np.ix_(np.arange(len(x)), self.number[self.column == name])
            values, there = x[place], seen[:, self.column == name]
            order = np.lexsort((rng.random(there.sum()), values[there]))
            rank = np.empty(len(order))
            rank[order] = np.arange(len(order))
            values[there] = ndtri((rank + 0.5) / len(order))
            x[place] = values
        return np.concatenate([masks.astype(np.float32), x, x[:, self.number] ** 2], axis=1)

    def expect(self, stats: np.ndarray, classes: Classes) -> tuple[float, np.ndarray]:
        """Mean log-likelihood of T (n, m + p + q), and each class's expected sum of T (K, m + p + q)."""
        natural = self._natural(classes).astype(np.float32).T
        total, sums = 0.0, np.zeros(natural.T.shape)
        for start in range(0, len(stats), BLOCK):
            part = stats[start : start + BLOCK]
            r = part @ natural  # log w_z p(x | z), then p(z | x)
            top = r.max(axis=1, keepdims=True)
            r -= top
            np.exp(r, out=r)
            mass = r.sum(axis=1, keepdims=True)
            total += float((np.log(mass) + top).sum(dtype=np.float64))
            r /= mass
            sums += r.T @ part
        return total / max(len(stats), 1), sums

    def maximise(self, sums: np.ndarray, average: np.ndarray, prior: float) -> Classes:
        """The classes with these sums of T (K, m + p + q). average (m + p + q,): train's, that the prior pulls to.

        A flag of chance c has prior / (c (1 − c)) subjects of the average in each class: about as many events whether
        it is common or rare. A category counts as two such levels, a number as an even flag.
        """
        m, number = self.masks, self.number
        usual = average[m : m + self.p] / self._seen(average[None])[0]  # (p,)
        spread = np.full(self.p, 0.25)
        spread[self.binary] = usual[self.binary] * (1 - usual[self.binary])
        for low, high in self.groups:
            spread[low:high] = (1 - (usual[low:high] ** 2).sum()) / 2
        alike = prior / np.maximum(spread, 1e-9)
        seen = self._seen(sums) + alike  # (K, p)
        mean = (sums[:, m : m + self.p] + alike * usual) / seen
        certain = self.binary[usual[self.binary] == 1]
        mean[:, certain] = 1  # and not nearly: a condition on its absence has no chance at all
        square = average[m + self.p :] / self._seen(average[None])[0, number]
        variance = (sums[:, m + self.p :] + alike[number] * square) / seen[:, number] - mean[:, number] ** 2
        survival = (sums[:, :m] + 4 * prior * average[:m]) / (sums[:, :1] + 4 * prior)
        return Classes(sums[:, 0] / sums[:, 0].sum(), survival, mean, np.maximum(variance, LEAST_VARIANCE))

    def _seen(self, sums: np.ndarray) -> np.ndarray:
        """Subjects whose features are observed (K, p)."""
        seen = sums[:, self.mask]
        gaps = self.number[self.gaps]
        seen[:, gaps] -= sums[:, self.masks + gaps + 1]
        return np.maximum(seen, 1e-9)

    def draw(self, classes: Classes, z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Matrix rows (n, p) of subjects of classes z (n,)."""
        x = np.zeros((len(z), self.p), np.float32)
        mean, deviation = classes.mean.astype(np.float32), np.sqrt(classes.variance).astype(np.float32)
        for start in range(0, len(z), BLOCK):
            part = slice(start, start + BLOCK)
            at = z[part]
            x[part, self.binary] = rng.random((len(at), len(self.binary)), np.float32) < mean[at][:, self.binary]
            x[part, self.number] = mean[at][:, self.number]
            x[part, self.number] += deviation[at] * rng.standard_normal(deviation[at].shape, np.float32)
            for low, high in self.groups:
                upto = np.cumsum(classes.mean[:, low:high], axis=1)[at]
                level = (rng.random(len(at))[:, None] * upto[:, -1:] >= upto).sum(axis=1)
                x[np.arange(start, start + len(at)), low + level] = 1
            if self.masks > 1:
                x[part, self.length] = (rng.random(len(at))[:, None] < classes.survival[at]).sum(axis=1) / self.masks
        return x

    def _natural(self, classes: Classes) -> np.ndarray:
        """η (K, m + p + q), log w_z included."""
        mean, variance, number = classes.mean, classes.variance, self.number
        slope = np.zeros_like(mean)
        offset = np.zeros_like(mean)  # of an observed feature
        for low, high in self.groups:
            slope[:, low:high] = _log(mean[:, low:high])
        offset[:, self.binary] = _log(1 - mean[:, self.binary])
        slope[:, self.binary] = _log(mean[:, self.binary]) - offset[:, self.binary]
        slope[:, number] = mean[:, number] / variance
        offset[:, number] = -0.5 * (mean[:, number] ** 2 / variance + np.log(2 * np.pi * variance))
        gaps = number[self.gaps]
        slope[:, gaps + 1] -= offset[:, gaps]
        ends = _log(-np.diff(classes.survival, axis=1, append=0))  # log chance of each length
        masks = np.diff(ends, axis=1, prepend=0)
        for t in range(self.masks):
            masks[:, t] += offset[:, self.mask == t].sum(axis=1)
        masks[:, 0] += _log(classes.weights)
        return np.concatenate([masks, slope, -0.5 / variance], axis=1)


def _hot(column: Column, value: object) -> np.ndarray:
    """A value as the features of its flag or category. Unsupported where train does not know it."""
    levels = [True] if column.kind == "bool" else list(column.levels)
    if value not in (levels if column.kind == "category" else (True, False)):
        raise Unsupported(f"a condition on '{column.name}': train knows no value {value!r}")
    return np.array([level == value for level in levels] + [False] * (column.width - len(levels)), np.float32)


def _log(p: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(p, np.exp(LEAST_LOG)))
