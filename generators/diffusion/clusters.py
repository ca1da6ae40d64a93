"""Clusters of a few hundred rows: an embedding, then k-means (Le 2024 clusters the rare class by UMAP and k-means)."""

import numpy as np

from generators.base import Unsupported

COMPONENTS = 5
NEIGHBOURS = 25  # of UMAP, the paper's
EMBEDDINGS = ("pca", "umap")


def clusters(x: np.ndarray, k: int, *, embed: str = "pca", seed: int) -> np.ndarray:
    """The cluster 0 to at most k - 1 of every row of x (n, d); every cluster has a row.

    embed: "pca" (five components) or "umap" (two, needs the extra `umap`). Fewer different rows than k give fewer
    clusters. Unsupported where UMAP is not installed, ValueError where the embedding is not known.
    """
    if embed not in EMBEDDINGS:
        raise ValueError(f"unknown embedding '{embed}'; known: {', '.join(EMBEDDINGS)}")
    k = min(k, len(np.unique(x, axis=0)))
    if k < 2:
        return np.zeros(len(x), np.int64)
    from sklearn.cluster import KMeans

    place = _umap(x, seed) if embed == "umap" else _pca(x)
    k = min(k, len(np.unique(place, axis=0)))
    found = KMeans(k, n_init=10, random_state=seed).fit_predict(place)
    return np.unique(found, return_inverse=True)[1].astype(np.int64)


def _pca(x: np.ndarray) -> np.ndarray:
    from sklearn.decomposition import PCA

    return PCA(min(COMPONENTS, *x.shape), svd_solver="full").fit_transform(x)


def _umap(x: np.ndarray, seed: int) -> np.ndarray:
    try:
        import umap
    except ModuleNotFoundError as error:
        raise Unsupported('embed = "umap" needs umap-learn: pip install "synth-health-bench[umap]"') from error
    if len(x) < 5:  # too few for its spectral start
        return x
    return umap.UMAP(n_neighbors=min(NEIGHBOURS, len(x) - 1), random_state=seed, n_jobs=1).fit_transform(x)
