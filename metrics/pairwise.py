"""Blocked neighbours and kernel sums over rows of numbers: the one implementation. Memory stays within a block."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

BLOCK_BYTES = 256 * 2**20
DECIMALS = 6  # of squared distances: rows are float32, so that what lies beyond is noise and would break ties
FEW_NEIGHBOURS = 16  # up to so many, as many passes for the least are quicker than a partial sort
CENTRE_ROWS = 1_000  # rows that give the origin of a search, at most
NOISE = 2e-6  # of a squared distance from a product of float32, per unit of the rows' own squared length


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
    """For each row of a (n, p) its nearest row of b (m, p): squared distance (n,) float64 and index (n,)."""
    distance, index = neighbours(a, b, 1)
    return distance[:, 0], index[:, 0]


def neighbours(a: np.ndarray, b: np.ndarray, k: int, *, same: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """For each row of a (n, p) its k nearest rows of b (m, p), nearest first: squared distances (n, k), indices (n, k).

    same: a is b, and no row is its own neighbour. k is lowered where b has fewer rows. The search is one matrix product
    a block of centred rows, on the GPU where there is one. The distances to the rows it finds are then computed in
    float64 from the rows as they are, which are the same in every table, and rounded to DECIMALS: a copy is at distance
    0, and equal distances tie whatever they are measured from.
    """
    k = min(k, len(b) - same)
    if k < 1:
        raise ValueError(f"{len(b)} rows hold no neighbour")
    search = _search_gpu if gpu() else _search
    index = np.empty((len(a), k), np.int64)
    distance = np.empty((len(a), k))
    for rows, found in search(*_centred(a, b), k, same):
        exact = np.empty(found.shape)
        for j in range(found.shape[1]):
            gap = a[rows].astype(np.float64) - b[found[:, j]]
            exact[:, j] = (gap * gap).sum(axis=1).round(DECIMALS)
        order = np.argsort(exact, axis=1, kind="stable")
        index[rows] = np.take_along_axis(found, order, axis=1)
        distance[rows] = np.take_along_axis(exact, order, axis=1)
    return distance, index


def tied(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Find all nearest rows of b (m, p), block by block: rows of a (n, p), which of b are nearest to each (rows, m).

    Distances within the float noise of the least one count as equal to it.
    """
    a, b = _centred(a, b)
    b2 = (b * b).sum(axis=1)
    for rows in blocks(len(a), 2 * len(b) + a.shape[1]):
        d = squared(a[rows], b, b2)
        least = d.min(axis=1, keepdims=True)
        noise = NOISE * (1 + (a[rows] * a[rows]).sum(axis=1, keepdims=True))
        yield rows, d <= least + noise


def _centred(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows less the medians of some rows of b, so that products of float32 lose fewer digits.

    Not its means: one wild row would move all the others far from zero.
    """
    middle = np.median(b[:: -(-len(b) // CENTRE_ROWS)], axis=0)
    return (a - middle).astype(np.float32), (b - middle).astype(np.float32)


def _search(a: np.ndarray, b: np.ndarray, k: int, same: bool) -> Iterator[tuple[slice, np.ndarray]]:
    """Block by block: rows of a, the indices of their k nearest rows of b in no order."""
    b2 = (b * b).sum(axis=1)
    for rows in blocks(len(a), 2 * len(b) + a.shape[1]):
        d = squared(a[rows], b, b2)
        if same:
            d[np.arange(rows.stop - rows.start), np.arange(rows.start, rows.stop)] = np.inf
        yield rows, _smallest(d, k)


def _smallest(d: np.ndarray, k: int) -> np.ndarray:
    """The columns (n, k) of the k smallest values of each row of d (n, m), which is changed."""
    if k >= d.shape[1]:
        return np.tile(np.arange(d.shape[1]), (len(d), 1))
    if k > FEW_NEIGHBOURS:
        return np.argpartition(d, k - 1, axis=1)[:, :k]
    found = np.empty((len(d), k), np.int64)
    for j in range(k):
        found[:, j] = d.argmin(axis=1)
        d[np.arange(len(d)), found[:, j]] = np.inf
    return found


@cache
def gpu() -> bool:
    """True where an NVIDIA GPU can be used; torch is imported only where its driver is there."""
    if not Path("/proc/driver/nvidia/version").exists():
        return False
    import torch

    return torch.cuda.is_available()


def _search_gpu(a: np.ndarray, b: np.ndarray, k: int, same: bool) -> Iterator[tuple[slice, np.ndarray]]:
    """As `_search`, on the GPU in float32 (no TF32)."""
    import torch

    there = torch.from_numpy(b).cuda()
    b2 = (there * there).sum(dim=1)
    for rows in blocks(len(a), 2 * len(b) + a.shape[1]):
        part = torch.from_numpy(a[rows]).cuda()
        d = torch.addmm(b2.expand(len(part), -1), part, there.T, alpha=-2)
        if same:
            at = torch.arange(len(part), device=d.device)
            d[at, at + rows.start] = torch.inf
        yield rows, d.topk(k, dim=1, largest=False).indices.cpu().numpy()


def cross(x: np.ndarray) -> np.ndarray:
    """x transposed times x, (p, p) float64; through a sparse product where x (n, p) is mostly zeros."""
    filled = np.count_nonzero(x)
    if filled < 0.1 * x.size:
        from scipy.sparse import csr_array

        thin = csr_array(x.astype(np.float64))
        return (thin.T @ thin).toarray()
    return x.T.astype(np.float64) @ x.astype(np.float64)


def manhattan(a: np.ndarray, b: np.ndarray, height: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """City-block distances of rows a (n, p) and b (m, p), block by block: rows of a, distances (rows, m) float32.

    height (p,): of a column that holds 0 and one other value only, that value; 0 for all others. Over such columns the
    distance is one matrix product: |x - y| = (x - y)² / height.
    """
    two = height > 0
    flags_a, flags_b = ((x[:, two] / np.sqrt(height[two])).astype(np.float32) for x in (a, b))
    ones = (flags_b * flags_b).sum(axis=1)
    rest = np.flatnonzero(~two)
    for rows in blocks(len(a), 3 * len(b)):
        out = squared(flags_a[rows], flags_b, ones)
        for j in rest:
            out += np.abs(a[rows, j][:, None] - b[:, j])
        yield rows, out


def kernel_sums(a: np.ndarray, b: np.ndarray, gamma: float, group: np.ndarray, groups: int) -> np.ndarray:
    """Sums of exp(-gamma |a_i - b_j|^2) by group of a and group of b, or of a alone where b is another sample.

    group: the group of each row of a, (n,). Where b is a, gives (groups, groups); else (groups, 1).
    """
    same = a is b
    a, b = _centred(a, b)
    member = np.eye(groups, dtype=np.float32)[group] if same else np.ones((len(b), 1), np.float32)
    out = np.zeros((groups, member.shape[1]))
    for rows, sums in (_kernel_gpu if gpu() else _kernel)(a, b, gamma, member):
        np.add.at(out, group[rows], sums.astype(np.float64))
    return out


def _kernel(a: np.ndarray, b: np.ndarray, gamma: float, member: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Block by block: rows of a, their kernel sums over each group of b (rows, groups)."""
    b2 = (b * b).sum(axis=1)
    for rows in blocks(len(a), len(b)):
        k = squared(a[rows], b, b2)
        k *= -gamma
        np.exp(k, out=k)
        yield rows, k @ member


def _kernel_gpu(a: np.ndarray, b: np.ndarray, gamma: float, member: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """As `_kernel`, on the GPU in float32 (no TF32)."""
    import torch

    there, groups = torch.from_numpy(b).cuda(), torch.from_numpy(member).cuda()
    b2 = (there * there).sum(dim=1)
    for rows in blocks(len(a), len(b)):
        part = torch.from_numpy(a[rows]).cuda()
        d = torch.addmm(b2.expand(len(part), -1), part, there.T, alpha=-2) + (part * part).sum(dim=1, keepdim=True)
        yield rows, (d.clamp_(min=0).mul_(-gamma).exp_() @ groups).cpu().numpy()


def median_distance(a: np.ndarray, *, seed: int, rows: int = 2_000) -> float:
    """The median distance between different rows of a, over a seeded sample of at most `rows`."""
    if len(a) > rows:
        a = a[np.random.default_rng(seed).permutation(len(a))[:rows]]
    d = squared(a, a, (a * a).sum(axis=1))
    return float(np.sqrt(np.median(d[np.triu_indices(len(a), 1)]))) if len(a) > 1 else 0.0
