"""Downstream models as guides: fitted on one half of train, with the mean gradient G of the other half (TarDiff).

A fit keeps guides of both architectures, and each class's own mean gradient: which architecture guides, and which
guidance set, is a matter of sampling, since the G of a set is the mean of its classes' by their shares.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from generators.diffusion import influence, timesnet
from generators.training import build, device, weights_of, with_weights

FEWEST = 8  # subjects of each class in each half of train
MEASURED = 500  # subjects of train on whom sizes are taken
LARGEST = 10.0  # a subject's J in the unit "typical", in typical ones
NETS = ("timesnet", "conv")
WAYS = ("influence", "random", "label")
SETS = ("all", "minority", "majority", "balanced")


@dataclass
class Guide:
    """A downstream model with its G. number: which of a fit's guides it is."""

    net: nn.Module
    g: influence.Weights
    number: int

    def to(self, at: torch.device) -> "Guide":
        """The same on a device."""
        return Guide(self.net.to(at), {k: v.to(at) for k, v in self.g.items()}, self.number)

    def direction(self, way: str, x: Tensor, y: Tensor) -> Tensor:
        """Where a way of WAYS moves signals x (b, c, l) of classes y (b,): (b, c, l)."""
        if way == "label":
            return influence.label_gradient(self.net, x, y)
        return influence.influence(self.net, self.g if way == "influence" else self.random, x, y)

    @cached_property
    def random(self) -> influence.Weights:
        """A G in a random direction, as long as the true one, weight by weight."""
        dice = torch.Generator().manual_seed(self.number)
        out = {}
        for name, g in self.g.items():
            other = torch.randn(g.shape, generator=dice).to(g)
            out[name] = other * g.norm() / other.norm()
        return out


def fit_guides(x: np.ndarray, y: np.ndarray, *, share: float, seed: int) -> dict[str, list[dict[str, Any]]]:
    """Two guides of each of NETS for signals x (n, c, l), classes y (n,), as plain arrays; none where a class is small.

    share: of each class of the half that a model has not seen, how much is its guidance set.
    """
    rng, at = np.random.default_rng(seed), device()
    part = halves(y, rng)
    if min(np.bincount(2 * y + part, minlength=4)) < FEWEST:
        return {}
    waves = timesnet.main_frequencies(x)
    found: dict[str, list[dict[str, Any]]] = {net: [] for net in NETS}
    for half in (0, 1):
        inside = np.flatnonzero(part == half)
        outside = [rng.permutation(np.flatnonzero((part != half) & (y == label))) for label in (0, 1)]
        for net, guides in found.items():
            untrained = partial(timesnet.classifier, net, x.shape[1], x.shape[2], waves)
            model = build(untrained, seed=seed + half)
            model = timesnet.fit_classifier(model, x[inside], y[inside], seed=seed + half).to(at)
            slopes = {}
            for label, rows in enumerate(outside):
                chosen = rows[: max(1, round(share * len(rows)))]
                g = influence.mean_gradient(
                    model, torch.from_numpy(x[chosen]).to(at), torch.from_numpy(y[chosen]).to(at)
                )
                slopes[str(label)] = {k: v.cpu().numpy() for k, v in g.items()}
            guides.append({"net": weights_of(model), "slopes": slopes})
    return found


def load_guides(
    saved: Mapping[str, Any], *, net: str, which: str, rate: float, c: int, length: int, frequencies: Sequence[int]
) -> list[Guide]:  # fmt: skip
    """Guides of one of NETS from what `fit_guides` gave. which: one of SETS; rate: of positives in train."""
    found, p = [], positives(which, rate)
    for number, one in enumerate(saved.get(net, ())):
        model = with_weights(timesnet.classifier(net, c, length, frequencies), one["net"])
        slopes = one["slopes"]
        g = {k: torch.from_numpy(((1 - p) * v + p * slopes["1"][k]).astype(np.float32)) for k, v in slopes["0"].items()}
        found.append(Guide(model, g, number))
    return found


def positives(which: str, rate: float) -> float:
    """The share of positives in a guidance set of SETS, `rate` being train's: each class counts by its mean gradient.

    >>> [positives(which, 0.1) for which in SETS]
    [0.1, 1.0, 0.0, 0.5]
    """
    return {"all": rate, "minority": float(rate < 0.5), "majority": float(rate >= 0.5), "balanced": 0.5}[which]


def halves(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """0 or 1 (n,): two halves at random, of each class."""
    part = np.zeros(len(y), int)
    for label in np.unique(y):
        part[rng.permutation(np.flatnonzero(y == label))[::2]] = 1
    return part


def directions(guides: Sequence[Guide], way: str, x: Tensor, y: Tensor) -> Tensor:
    """Where signals x (b, c, l) of classes y (b,) are moved (b, c, l); the guides take turns over the subjects."""
    j = torch.zeros_like(x)
    for i, guide in enumerate(guides):
        j[i :: len(guides)] = guide.direction(way, x[i :: len(guides)], y[i :: len(guides)])
    return j


def typical(guides: Sequence[Guide], way: str, x: np.ndarray, y: np.ndarray, *, seed: int) -> float:
    """The median size of what a way moves subjects by, over some of train's."""
    rows, at = np.random.default_rng(seed).permutation(len(x))[:MEASURED], device()
    some, label = torch.from_numpy(x[rows]).to(at), torch.from_numpy(y[rows]).to(at)
    return float(sizes(directions([g.to(at) for g in guides], way, some, label)).median())


def scaled(j: Tensor, unit: str, usual: float) -> Tensor:
    """j (b, c, l) in a unit: "relative", each subject's of size 1; "typical", in sizes `usual`, at most LARGEST."""
    if unit == "relative":
        return j / sizes(j)
    return j / torch.maximum(sizes(j) / LARGEST, torch.full_like(sizes(j), usual))


def sizes(j: Tensor) -> Tensor:
    """The root mean square (b, 1, 1) of each subject's signal."""
    return j.square().mean(dim=(1, 2), keepdim=True).sqrt().clamp(min=1e-20)
