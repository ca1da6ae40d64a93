"""Fidelity of codes, one at a time and counted: is each as common in synth as in holdout?

`t.ever` (d codes) says whether a subject has a code. Standard errors are a bootstrap over holdout subjects.
"""

import numpy as np
from scipy.stats import rankdata

from metrics import Score, Undefined, resample
from metrics.tables import Tables

RARE = 0.01
FEWEST_RARE = 5
LEAST_RELIABILITY = 0.1
MCAD_BINS = 20
BANDS = {"over_5": (0.05, 1.0), "1_to_5": (0.01, 0.05), "under_1": (0.0, 0.01)}  # low < prevalence in train <= high


def prevalence_pearson(t: Tables, *, seed: int) -> Score | Undefined:
    """Pearson correlation over codes of column means in synth and holdout."""
    return _correlation(t, *_means(t, seed))


def prevalence_spearman(t: Tables, *, seed: int) -> Score | Undefined:
    """Spearman correlation over codes of column means in synth and holdout: the harder of the two."""
    return _correlation(t, *map(_ranks, _means(t, seed)))


def prevalence_rare_spearman(t: Tables, *, seed: int) -> Score | Undefined:
    """Spearman correlation over codes with 0 < prevalence in train <= 1 %."""
    rare = _rare(t)
    if rare.sum() < FEWEST_RARE:
        return _few(rare)
    held, synth = _means(t, seed)
    return _correlation(t, _ranks(held[:, rare]), _ranks(synth[rare]))


def prevalence_rare_denoised(t: Tables, *, seed: int) -> Score | Undefined:
    """cor(f_S, f_H) / √reliability over the same codes, f = (√k + √(k + 1)) / 2 of a code's count k.

    The sampling variance of f is 1/4 whatever the count (Freeman and Tukey 1950), so that holdout's reliability is
    1 − (1/4) / var(f_H): the share of the spread over codes that is not noise of its counts. Undefined where that is
    under 0.1.
    """
    rare = _rare(t)
    if rare.sum() < FEWEST_RARE:
        return _few(rare)
    held, synth = _means(t, seed)
    held, synth = (_stable(p[..., rare] * t.n(name)) for p, name in ((held, "holdout"), (synth, "synth")))
    reliability = 1 - 0.25 / np.maximum(held.var(axis=1), 1e-12)
    if reliability[0] < LEAST_RELIABILITY:
        return Undefined("the counts of rare codes in holdout are nearly all noise")
    return _correlation(t, held, synth, over=np.sqrt(np.maximum(reliability, LEAST_RELIABILITY)))


def prevalence_logodds(t: Tables, *, seed: int) -> dict[str, Score | Undefined]:
    """Mean over codes of |log odds in synth − in holdout|, log((k + ½) / (n − k + ½)); suffix: prevalence in train."""
    held, synth = _means(t, seed)
    m, n = t.n("holdout"), t.n("synth")
    gaps = np.abs(_log_odds(held * m, m) - _log_odds(synth * n, n))  # (1 + B, d)
    prevalence = t.flat("train")[t.ever].to_numpy(dtype=np.float32).mean(axis=0)
    out: dict[str, Score | Undefined] = {"": _score(gaps.mean(axis=1), m)}
    for name, (low, high) in BANDS.items():
        band = (prevalence > low) & (prevalence <= high)
        out[name] = _score(gaps[:, band].mean(axis=1), m) if band.any() else Undefined("no code in this band")
    return out


def code_coverage(t: Tables, *, seed: int) -> Score | Undefined:
    """Share of the codes seen in holdout that synth never has."""
    held, synth = _means(t, seed)
    seen = held > 0
    if not seen[0].any():
        return Undefined("holdout has no code")
    return _score((seen & (synth == 0)).sum(axis=1) / np.maximum(seen.sum(axis=1), 1), t.n("holdout"))


def mcad(t: Tables, *, seed: int) -> Score | Undefined:
    """Medical concept abundance: codes per subject in 20 equal-width bins over holdout's range, ½ Σ |share − share|."""
    held = t.flat("holdout")[t.ever].to_numpy().sum(axis=1)
    synth = t.flat("synth")[t.ever].to_numpy().sum(axis=1)
    if held.min() == held.max():
        return Undefined("every holdout subject has the same number of codes")
    edges = np.linspace(held.min(), held.max(), MCAD_BINS + 1)[1:-1]
    member = np.eye(MCAD_BINS, dtype=np.float32)[np.searchsorted(edges, held, side="right")]
    share = np.bincount(np.searchsorted(edges, synth, side="right"), minlength=MCAD_BINS) / len(synth)
    w = resample.weights(len(held), seed=seed)
    return _score(np.abs((w @ member).astype(float) / len(held) - share).sum(axis=1) / 2, len(held))


def _means(t: Tables, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Prevalence of each code in holdout under bootstrap weights (1 + B, d), and in synth (d,)."""

    def make() -> tuple[np.ndarray, np.ndarray]:
        w = resample.weights(t.n("holdout"), seed=seed)
        held = w @ t.flat("holdout")[t.ever].to_numpy(dtype=np.float32) / t.n("holdout")
        return held.astype(float), t.flat("synth")[t.ever].to_numpy(dtype=np.float32).mean(axis=0, dtype=float)

    return t.once(("prevalence", seed), make)


def _rare(t: Tables) -> np.ndarray:
    prevalence = t.flat("train")[t.ever].to_numpy(dtype=np.float32).mean(axis=0, dtype=float)
    return (prevalence > 0) & (prevalence <= RARE)


def _few(rare: np.ndarray) -> Undefined:
    return Undefined(f"{int(rare.sum())} codes with a prevalence up to 1 % in train, fewer than {FEWEST_RARE}")


def _ranks(p: np.ndarray) -> np.ndarray:
    """Ranks along the last axis; equal counts must tie, so float noise of the mean is rounded away first."""
    return rankdata(np.round(p, 9), axis=-1)


def _stable(count: np.ndarray) -> np.ndarray:
    """A count as a number of sampling variance 1/4."""
    return (np.sqrt(count) + np.sqrt(count + 1)) / 2


def _log_odds(count: np.ndarray, n: int) -> np.ndarray:
    return np.log((count + 0.5) / (n - count + 0.5))


def _correlation(t: Tables, held: np.ndarray, synth: np.ndarray, over: np.ndarray | float = 1.0) -> Score | Undefined:
    """Pearson correlation over codes of held (1 + B, d) and synth (d,), divided by `over`.

    0 where all codes are equally common in synth: leaving that out would reward dropping them all.
    """
    a, b = held - held.mean(axis=1, keepdims=True), synth - synth.mean()
    if not a[0].any():
        return Undefined("all codes have the same prevalence in holdout")
    size = np.sqrt((a**2).sum(axis=1) * (b**2).sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        return _score(np.where(size > 0, (a @ b) / size, 0) / over, t.n("holdout"))


def _score(values: np.ndarray, n: int) -> Score:
    return Score(float(values[0]), resample.spread(values), n)
