"""Drawn signals bent to train's marginals: the one thing of a table that can be had exactly, feature by feature.

A number is mapped by quantiles, over the values that no mask hides. A flag, a level or a mask that is drawn as a number
is cut so that its share is train's, at each step of a grid on its own where there are subjects enough to know it.
"""

import numpy as np

from generators.columns import quantile_shares
from generators.diffusion.signals import Signals

ENOUGH = 200  # subjects of whom a flag's share is taken step by step


def learn(signals: Signals, drawn: np.ndarray, real: np.ndarray, *, flags: bool) -> list[np.ndarray]:
    """For each feature the maps (steps or 1, 2, knots) from signals drawn (m, c, l) to real ones (n, c, l).

    flags: whether flags, levels and masks are drawn as numbers, so that their share is a matter of the cut; no maps
    (0, 2, 0) for them where they are drawn as what they are.
    """
    maps = []
    for kind, d, r in zip(signals.kinds, signals.features(drawn), signals.features(real), strict=True):
        if kind != "number" and not flags:
            maps.append(np.zeros((0, 2, 0)))
            continue
        whole = kind == "number" or len(real) < ENOUGH
        pairs = [(d, r)] if whole else list(zip(d.T, r.T, strict=True))
        maps.append(np.stack([quantile_map(a.ravel(), b.ravel()) for a, b in pairs]))
    decided = bend(signals, drawn, maps)
    for f, kind in enumerate(signals.kinds):
        shown, seen = ~signals.gaps(decided, f), ~signals.gaps(real, f)
        if kind == "number" and shown.any() and seen.any():
            maps[f] = quantile_map(signals.features(drawn)[f][shown], signals.features(real)[f][seen])[None]
    return maps


def bend(signals: Signals, x: np.ndarray, maps: list[np.ndarray]) -> np.ndarray:
    """Signals x (n, c, l) under the maps of their features."""
    x = x.copy()
    for feature, knots in zip(signals.features(x), maps, strict=True):  # (n, steps), (steps, 1 or 0; 2, knots)
        if len(knots) == 1:
            feature[:] = mapped(feature, knots[0])
        elif len(knots):
            feature[:] = np.stack([mapped(v, k) for v, k in zip(feature.T, knots, strict=True)], axis=1)
    return x


def quantile_map(drawn: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Knots (2, k) of the increasing map from the distribution of `drawn` to that of `wanted`, both flat."""
    at = quantile_shares(min(len(drawn), len(wanted)))
    source = np.quantile(drawn, at)
    # np.interp wants increasing places: equal ones are told apart by a hair
    return np.stack([source + 1e-6 * np.arange(len(at)), np.quantile(wanted.astype(float), at)])


def mapped(x: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """x under the map of `quantile_map`; beyond its ends, the ends."""
    return np.interp(x, knots[0], knots[1])
