"""Nearest subjects, shared by all metrics that ask for them: each search is done once per Tables and seed.

Parts of the tables over which is searched, all as rows of the distance matrix: `members` (train) and `others` (holdout)
are k subjects each, the smaller table whole and a seeded sample of the other; `attacked` is both, members first;
`reference` is a random third of the others, `synth` all of synth, and (table, size) a seeded sample of a table.
"""

import numpy as np

from metrics import pairwise
from metrics.tables import NAMES, Tables

K = 5
Part = str | tuple[str, int]


def count(t: Tables) -> int:
    """k, the number of members and of others."""
    return min(t.n("train"), t.n("holdout"))


def picked(t: Tables, name: str, size: int, seed: int) -> np.ndarray:
    """Row numbers of a seeded sample of a table, in order; all of them where it has no more.

    Each table has a sample of its own: tables are sorted by content, so that the same row numbers of two tables would
    be alike.
    """
    rng = np.random.default_rng([seed, size, NAMES.index(name)])
    return np.sort(rng.permutation(t.n(name))[:size])


def rows(t: Tables, part: Part, seed: int) -> np.ndarray:
    """The rows of a part (n, p)."""
    k = count(t)
    if part == "synth":
        return t.matrix("synth")
    if part == "members":
        part = ("train", k)
    if part == "others":
        part = ("holdout", k)
    if part == "reference":
        return rows(t, "others", seed)[~_kept(k, seed)]
    if part == "attacked":
        return np.concatenate([rows(t, "members", seed), rows(t, "others", seed)])
    if isinstance(part, str):
        raise ValueError(f"unknown part '{part}'")
    name, size = part
    return t.matrix(name)[picked(t, name, size, seed)]


def kept(t: Tables, seed: int) -> np.ndarray:
    """Which of the attacked (2k,) the density attack is tried on: all but a third, which is the reference's place."""
    k = count(t)
    return np.tile(_kept(k, seed), 2)


def _kept(k: int, seed: int) -> np.ndarray:
    """Two thirds of k places, at random."""
    return np.random.default_rng([seed, 3]).permutation(k) >= k // 3


def found(t: Tables, a: Part, b: Part, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """From part a to its K nearest rows of part b, nearest first: squared distances and indices (n, at most K).

    Where a is b, no row is its own neighbour.
    """

    def make() -> tuple[np.ndarray, np.ndarray]:
        return pairwise.neighbours(rows(t, a, seed), rows(t, b, seed), K, same=a == b)

    return t.once(("near", a, b, seed), make)


def nearest(t: Tables, a: Part, b: Part, seed: int, *, out: np.ndarray) -> np.ndarray:
    """Squared distance from each row of part a to its nearest row of part b (n,).

    out: rows of part b that are left out (m,) bool; where all K nearest are out, the K-th stands for the next one.
    """
    distance, index = found(t, a, b, seed)
    first = np.argmax(~out[index], axis=1)
    first[out[index].all(axis=1)] = distance.shape[1] - 1
    return distance[np.arange(len(distance)), first]
