"""Simulated card payments (`sim-fraud`): 28 correlated features, amount, channel; 1 % fraud in three clusters.

Honest rows are a Gaussian with six shared factors whose sizes fall like those of principal components. Each kind of
fraud shifts its own handful of features, with its own spread, prefers a channel and has its own amounts.
"""

import numpy as np
import pandas as pd

from bench.datasets.law import Roles

TARGET = "fraud"
POSITIVE = 0.01
D = 28
CHANNELS = ["chip", "contactless", "online", "phone", "atm"]
FEATURES = tuple(f"F{j:02d}" for j in range(1, D + 1))


def draw(n: int, *, seed: int) -> pd.DataFrame:
    """n payments, one row each: F01..F28, amount (currency units), channel, the target."""
    rng = np.random.default_rng(seed)
    load, sizes, shift, spread = _parameters()
    fraud = rng.random(n) < POSITIVE
    cluster = np.where(fraud, rng.choice(3, n, p=[0.58, 0.22, 0.20]), 3)  # 3 = honest
    x = (rng.normal(size=(n, load.shape[1])) @ load.T + 0.7 * rng.normal(size=(n, D))) * sizes
    x = x * spread[cluster][:, None] + shift[cluster]
    # the amount goes with the first factor's features, so that it is correlated with them
    log_amount = rng.normal(np.array([3.6, 1.2, 5.6, 3.1])[cluster], np.array([1.2, 0.8, 0.7, 1.5])[cluster])
    log_amount += 0.25 * x[:, 1] / sizes[1]
    channel = np.empty(n, int)
    shares = np.array([[0.05, 0.05, 0.75, 0.10, 0.05], [0.05, 0.60, 0.30, 0.02, 0.03], [0.10, 0.02, 0.20, 0.13, 0.55],
                       [0.38, 0.30, 0.22, 0.03, 0.07]])  # fmt: skip
    for kind in range(4):
        rows = cluster == kind
        channel[rows] = rng.choice(5, rows.sum(), p=shares[kind])
    columns = {name: np.round(x[:, j], 6) for j, name in enumerate(FEATURES)}
    columns["amount"] = np.round(np.exp(np.clip(log_amount, -4, 10)), 2)
    table = pd.DataFrame(columns)
    table["channel"] = pd.Categorical.from_codes(channel, CHANNELS)
    table[TARGET] = fraud
    table.index = pd.RangeIndex(n, name="subject")
    return table


def roles() -> Roles:
    """Roles of `sim-fraud`."""
    describe = {"amount": "amount in currency units", "channel": "how the payment was made", TARGET: "fraudulent"}
    return Roles(TARGET, sensitive=(TARGET,), quasi=("amount", "channel"), describe=describe)


def _parameters() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Fixed: loadings (D, 6), sizes (D,), and for the four kinds of row shift (4, D) and spread (4,)."""
    rng = np.random.default_rng(28)
    load = rng.normal(size=(D, 6)) * 0.45
    sizes = 1.9 * np.exp(-np.arange(D) / 16)
    shift = np.zeros((4, D))
    for kind, (features, far) in enumerate([(8, 1.7), (6, 1.4), (5, 2.0)]):
        picked = rng.permutation(D)[:features]
        shift[kind, picked] = rng.choice([-1, 1], features) * rng.uniform(0.6, 1.0, features) * far * sizes[picked]
    return load, sizes, shift, np.array([1.5, 0.8, 1.2, 1.0])
