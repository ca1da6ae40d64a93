"""Downstream models as guides: fitted on one half of train, with the mean gradient G of the other half (TarDiff)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from generators.diffusion import influence, timesnet
from generators.training import build, weights_of, with_weights

FEWEST = 8  # subjects of each class in each half of train
MEASURED = 1_000  # subjects of train on whom sizes are taken
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
        return influence.influence(self.net, self.g if way == "influence" else self._random(), x, y)

    def _random(self) -> influence.Weights:
        """A G in a random direction, as long as the true one, weight by weight."""
        dice = torch.Generator().manual_seed(self.number)
        out = {}
        for name, g in self.g.items():
            other = torch.randn(g.shape, generator=dice).to(g)
            out[name] = other * g.norm() / other.norm()
        return out


def fit_guides(
    x: np.ndarray, y: np.ndarray, *, net: str, which: str, share: float, seed: int
) -> list[dict[str, Any]]:  # fmt: skip
    """Two guides for signals x (n, c, l), classes y (n,), as plain arrays; none where a class is too small.

    net: one of NETS. which, share: the guidance set in the half that the model has not seen.
    """
    rng = np.random.default_rng(seed)
    part = halves(y, rng)
    if min(np.bincount(2 * y + part, minlength=4)) < FEWEST:
        return []
    found, waves = [], timesnet.main_frequencies(x)
    for half in (0, 1):
        inside, outside = np.flatnonzero(part == half), np.flatnonzero(part != half)
        model = build(lambda: timesnet.classifier(net, x.shape[1], x.shape[2], waves), seed=seed + half)
        model = timesnet.fit_classifier(model, x[inside], y[inside], seed=seed + half)
        chosen = guidance_set(outside, y, which=which, share=share, rng=rng)
        g = influence.mean_gradient(model, torch.from_numpy(x[chosen]), torch.from_numpy(y[chosen]))
        found.append({"net": weights_of(model), "g": {k: v.numpy() for k, v in g.items()}})
    return found


def load_guides(
    saved: Sequence[Mapping[str, Any]], *, net: str, c: int, length: int, frequencies: Sequence[int]
) -> list[Guide]:
    """Guides from what `fit_guides` gave."""
    found = []
    for number, one in enumerate(saved):
        model = with_weights(timesnet.classifier(net, c, length, frequencies), one["net"])
        found.append(Guide(model, {k: torch.from_numpy(np.array(v)) for k, v in one["g"].items()}, number))
    return found


def halves(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """0 or 1 (n,): two halves at random, of each class."""
    part = np.zeros(len(y), int)
    for label in np.unique(y):
        part[rng.permutation(np.flatnonzero(y == label))[::2]] = 1
    return part


def guidance_set(
    rows: np.ndarray, y: np.ndarray, *, which: str, share: float, rng: np.random.Generator
) -> np.ndarray:  # fmt: skip
    """The guidance set among these rows of train, of classes y (n,): one of SETS, and a share of it at random."""
    rows = rng.permutation(rows)
    rare = int(2 * y.sum() < len(y))
    small, large = rows[y[rows] == rare], rows[y[rows] != rare]
    chosen = {"all": rows, "minority": small, "majority": large, "balanced": np.r_[small, large[: len(small)]]}[which]
    return rng.permutation(chosen)[: max(1, round(share * len(chosen)))]


def directions(guides: Sequence[Guide], way: str, x: Tensor, y: Tensor) -> Tensor:
    """Where signals x (b, c, l) of classes y (b,) are moved (b, c, l); the guides take turns over the subjects."""
    j = torch.zeros_like(x)
    for i, guide in enumerate(guides):
        j[i :: len(guides)] = guide.direction(way, x[i :: len(guides)], y[i :: len(guides)])
    return j


def typical(guides: Sequence[Guide], way: str, x: np.ndarray, y: np.ndarray, *, seed: int) -> float:
    """The median size of what a way moves subjects by, over some of train's."""
    rows = np.random.default_rng(seed).permutation(len(x))[:MEASURED]
    return float(sizes(directions(guides, way, torch.from_numpy(x[rows]), torch.from_numpy(y[rows]))).median())


def scaled(j: Tensor, unit: str, usual: float) -> Tensor:
    """j (b, c, l) in a unit: "relative", each subject's of size 1; "typical", in sizes `usual`, at most LARGEST."""
    if unit == "relative":
        return j / sizes(j)
    return j / torch.maximum(sizes(j) / LARGEST, torch.full_like(sizes(j), usual))


def sizes(j: Tensor) -> Tensor:
    """The root mean square (b, 1, 1) of each subject's signal."""
    return j.square().mean(dim=(1, 2), keepdim=True).sqrt().clamp(min=1e-20)
