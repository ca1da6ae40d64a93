"""Blocked neighbours and kernel sums over rows of numbers: the one implementation. Memory stays within a block."""

from collections.abc import Iterator

import numpy as np

BLOCK_BYTES = 256 * 2**20


def blocks(n: int, width: int, *, bytes_each: int = 4) -> Iterator[slice]:
    """Slices of n rows so that a block of rows times `width` numbers stays under the memory bound."""
    step = max(1, BLOCK_BYTES // max(1, width * bytes_each))
    for start in range(0, n, step):
        yield slice(start, min(n, start + step))


def squared(a: np.ndarray, b: np.ndarray, b2: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances (n, m) float32 of rows a (n, p) and b (m, p), with b2 = row sums of b squared."""
    out = a @ b.T
    out *= -2
    out += (a * a).sum(axis=1)[:, None]
    out += b2
    return np.maximum(out, 0, out=out)


def nearest(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row of a (n, p) its nearest row of b (m, p): squared distance (n,) float64 and index (n,).

    The search is one matrix product a block; the distance to the row it finds is then computed exactly, so that a copy
    is at distance 0. Rows are centred first, for precision.
    """
    middle = b.mean(axis=0)
    a, b = (a - middle).astype(np.float32), (b - middle).astype(np.float32)
    b2 = (b * b).sum(axis=1)
    index = np.empty(len(a), np.int64)
    distance = np.empty(len(a))
    for rows in blocks(len(a), len(b) + a.shape[1]):
        index[rows] = squared(a[rows], b, b2).argmin(axis=1)
        gap = (a[rows] - b[index[rows]]).astype(np.float64)
        distance[rows] = (gap * gap).sum(axis=1)
    return distance, index


def manhattan(a: np.ndarray, b: np.ndarray, binary: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """City-block distances of rows a (n, p) and b (m, p), block by block: rows of a, distances (rows, m) float32.

    binary (p,): columns that hold 0 and 1 only; over them the distance is one matrix product.
    """
    flags_a, flags_b = a[:, binary].astype(np.float32), b[:, binary].astype(np.float32)
    ones = flags_b.sum(axis=1)
    rest = np.flatnonzero(~binary)
    for rows in blocks(len(a), 3 * len(b)):
        out = squared(flags_a[rows], flags_b, ones)  # |x - y| = (x - y)^2 on 0 and 1
        for j in rest:
            out += np.abs(a[rows, j][:, None] - b[:, j])
        yield rows, out


def kernel_sums(a: np.ndarray, b: np.ndarray, gamma: float, group: np.ndarray, groups: int) -> np.ndarray:
    """Sums of exp(-gamma |a_i - b_j|^2) by group of a and group of b, or of a alone where b is another sample.

    group: the group of each row of a, (n,). Where b is a, gives (groups, groups); else (groups, 1).
    """
    same = a is b
    middle = b.mean(axis=0)
    a, b = (a - middle).astype(np.float32), (b - middle).astype(np.float32)
    b2 = (b * b).sum(axis=1)
    member = np.eye(groups, dtype=np.float32)[group] if same else np.ones((len(b), 1), np.float32)
    out = np.zeros((groups, member.shape[1]))
    for rows in blocks(len(a), len(b)):
        k = squared(a[rows], b, b2)
        k *= -gamma
        np.exp(k, out=k)
        np.add.at(out, group[rows], (k @ member).astype(np.float64))
    return out


def median_distance(a: np.ndarray, *, seed: int, rows: int = 2_000) -> float:
    """The median distance between different rows of a, over a seeded sample of at most `rows`."""
    if len(a) > rows:
        a = a[np.random.default_rng(seed).permutation(len(a))[:rows]]
    d = squared(a, a, (a * a).sum(axis=1))
    return float(np.sqrt(np.median(d[np.triu_indices(len(a), 1)]))) if len(a) > 1 else 0.0
