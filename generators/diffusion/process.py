"""Noise processes: time grids and exact kernels. Symbols as in the cited papers."""

import numpy as np

# --- Ornstein-Uhlenbeck: dX = -X dt + sqrt(2) dW, so X_t = gamma(t) X_0 + beta(t) Z (Le 2024) ---

OU_GRIDS = ("b1", "uniform", "logsnr")


def gamma(t: np.ndarray | float) -> np.ndarray:
    """gamma(t) = e^-t, what is left of x0 at time t."""
    return np.exp(-np.asarray(t, dtype=float))


def beta(t: np.ndarray | float) -> np.ndarray:
    """beta(t) = sqrt(1 - e^-2t), the noise's standard deviation at time t."""
    return np.sqrt(-np.expm1(-2 * np.asarray(t, dtype=float)))


def ou_times(n: int, low: float = 1e-4, high: float = 2e-2) -> np.ndarray:
    """The n times of Algorithm B.1, increasing: dt_k = -ln(1 - v_k) / 2 with v linear from low to high.

    The same grid as DDPM's linear betas: alpha_bar_k = e^(-2 t_k).

    >>> round(float(ou_times(800)[-1]), 3)
    4.047
    """
    return np.cumsum(-0.5 * np.log1p(-np.linspace(low, high, n)))


def ou_grid(name: str, n: int) -> np.ndarray:
    """n increasing times from the first to the last of Algorithm B.1's: "b1" (its own), "uniform" or "logsnr".

    "uniform": equal steps of t, the first from 0. "logsnr": equal steps of log(gamma² / beta²) = -log(e^(2t) - 1).
    ValueError where the name is not known.

    >>> [round(float(t), 3) for t in ou_grid("uniform", 800)[[0, -1]]]
    [0.005, 4.047]
    """
    times = ou_times(n)
    if name == "b1":
        return times
    if name == "uniform":
        return times[-1] * np.arange(1, n + 1) / n
    if name == "logsnr":
        first, last = -np.log(np.expm1(2 * times[[0, -1]]))
        return np.append(0.5 * np.log1p(np.exp(-np.linspace(first, last, n)[:-1])), times[-1])
    raise ValueError(f"unknown time grid '{name}'; known: {', '.join(OU_GRIDS)}")


def strided(times: np.ndarray, n: int) -> np.ndarray:
    """Choose about n of the times for a sampler to visit: indices, increasing, the first and the last included.

    A solver's error at a standard deviation s comes from the times where beta / gamma is near s, so that equal steps of
    log(gamma² / beta²) serve every s alike; but the network was trained on all times alike. So the steps are equal in
    the mean of both: a time's number, and its log(gamma² / beta²), each as a share of the whole. Where two steps share
    a nearest time fewer are returned; all are where n is their number or more.

    >>> strided(ou_times(800), 6).tolist()
    [0, 48, 220, 429, 625, 799]
    """
    if n >= len(times):
        return np.arange(len(times))
    logsnr = -np.log(np.expm1(2 * times))  # falls
    share = (np.arange(len(times)) / (len(times) - 1) + (logsnr - logsnr[0]) / (logsnr[-1] - logsnr[0])) / 2
    return np.unique(np.abs(share - np.linspace(0, 1, n)[:, None]).argmin(axis=1))


def ou_reverse(t_from: float, t_to: float) -> tuple[float, float, float]:
    """The exact reverse kernel X_to | X_from, eps: (scale, weight, sigma) of scale * (x - weight * eps) + sigma z.

    From t + dt to t: mu = (x - beta(dt)^2 / beta(t + dt) eps) / gamma(dt), sigma = beta(dt) beta(t) / beta(t + dt); at
    t = 0 sigma is 0. The paper's code mixes the two times; this is the form that Bayes' rule gives.
    """
    dt = t_from - t_to
    ends = float(beta(t_from))
    return float(1 / gamma(dt)), float(beta(dt)) ** 2 / ends, float(beta(dt) * beta(t_to)) / ends


# --- variance-preserving by its log signal-to-noise ratio: z = alpha x + sigma eps, alpha² = sigmoid(lambda) ---


def logsnr_cosine(u: np.ndarray, low: float = -20.0, high: float = 20.0) -> np.ndarray:
    """lambda(u) = -2 log tan(a u + b), falling from `high` at u = 0 to `low` at u = 1 (Ho & Salimans 2022, sec. 2).

    b = atan(e^(-high / 2)), a = atan(e^(-low / 2)) - b.

    >>> logsnr_cosine(np.array([0.0, 0.25, 1.0])).round(3).tolist()
    [20.0, 1.763, -20.0]
    """
    a, b = logsnr_line(low, high)
    return -2 * np.log(np.tan(a * np.asarray(u, dtype=float) + b))


def logsnr_line(low: float = -20.0, high: float = 20.0) -> tuple[float, float]:
    """a and b of `logsnr_cosine`."""
    b = float(np.arctan(np.exp(-high / 2)))
    return float(np.arctan(np.exp(-low / 2))) - b, b


def signal(lam: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """alpha and sigma of a log signal-to-noise ratio."""
    lam = np.asarray(lam, dtype=float)
    return np.sqrt(1 / (1 + np.exp(-lam))), np.sqrt(1 / (1 + np.exp(lam)))
