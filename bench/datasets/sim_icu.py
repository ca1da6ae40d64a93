"""Simulated ICU stays (`sim-icu`): seven vitals over 24 hours, driven by a severity that drifts, with missing values.

Severity of stay i at hour t is theta_i + drift_i t / 24. Each vital is its mean plus its response to severity plus
noise, autocorrelated in time (AR(1), 0.8) and correlated across vitals; mean pressure follows systolic and diastolic.
Sicker stays are measured more often, so that the gaps tell something, as they do in life. Mortality is about 10 %.
"""

import numpy as np
import pandas as pd

from bench.datasets.law import Roles

HOURS = 24
TARGET = "died"
# vital: mean, response to one unit of severity, noise, share missing, lowest, highest, description
VITALS = {
    "HR": (86.0, 9.0, 9.0, 0.05, 20, 220, "heart rate, 1/min"),
    "SBP": (121.0, -9.0, 12.0, 0.10, 30, 260, "systolic blood pressure, mmHg"),
    "DBP": (64.0, -5.0, 8.0, 0.10, 15, 160, "diastolic blood pressure, mmHg"),
    "MBP": (0.0, 0.0, 3.0, 0.10, 20, 200, "mean blood pressure, mmHg"),
    "RR": (19.0, 2.5, 3.0, 0.15, 4, 60, "respiratory rate, 1/min"),
    "Temp": (37.0, 0.2, 0.4, 0.65, 32, 42, "temperature, degrees Celsius"),
    "SpO2": (97.0, -1.2, 1.3, 0.10, 50, 100, "oxygen saturation, %"),
}
UNITS = ["medical", "surgical", "trauma"]
STATIC = ("age", "sex", "unit", TARGET)


def draw(n: int, *, seed: int) -> pd.DataFrame:
    """n stays of 24 hourly rows: age (years), sex, unit, the target, and seven vitals with missing values."""
    rng = np.random.default_rng(seed)
    unit = rng.choice(3, n, p=[0.55, 0.30, 0.15])
    age = np.clip(np.round(rng.normal(np.array([66, 62, 45])[unit], 15)), 18, 95)
    female = rng.random(n) < 0.45
    theta = rng.normal(np.array([0.15, -0.15, 0.0])[unit], 1.0)  # (n,)
    drift = rng.normal(0.15 * theta, 0.7)
    severity = theta[:, None] + drift[:, None] * np.arange(HOURS) / HOURS  # (n, l)
    logit = -3.0 + 0.95 * theta + 1.0 * drift + 0.45 * (age - 62) / 15 + 0.3 * (unit == 0)
    died = rng.random(n) < 1 / (1 + np.exp(-logit))

    values = _vitals(rng, severity, age)  # (n, l, c)
    share = np.array([v[3] for v in VITALS.values()])
    often = np.clip(share * np.exp(-0.3 * theta)[:, None], 0.01, 0.95)  # (n, c)
    values[rng.random(values.shape) < often[:, None, :]] = np.nan

    index = pd.MultiIndex.from_product([range(n), range(HOURS)], names=["subject", "time"])
    static = {
        "age": age.astype("int64"),
        "sex": pd.Categorical.from_codes(female.astype(int), ["male", "female"]),
        "unit": pd.Categorical.from_codes(unit, UNITS),
        TARGET: died,
    }
    columns = {name: pd.Series(v).repeat(HOURS).array for name, v in static.items()}
    columns |= {name: values[:, :, c].ravel() for c, name in enumerate(VITALS)}
    return pd.DataFrame(columns, index=index)


def roles() -> Roles:
    """Roles of `sim-icu`."""
    describe = {name: v[-1] for name, v in VITALS.items()}
    describe |= {"age": "age in years", "sex": "sex", "unit": "kind of intensive care unit", TARGET: "died in hospital"}
    return Roles(TARGET, STATIC, sensitive=(TARGET,), quasi=("age", "sex", "unit"), describe=describe, time_unit="hour")


def _vitals(rng: np.random.Generator, severity: np.ndarray, age: np.ndarray) -> np.ndarray:
    """Complete vitals (n, l, c) given severity (n, l)."""
    n, hours = severity.shape
    names = list(VITALS)
    mean, response, noise, _, low, high = (np.array([v[i] for v in VITALS.values()]) for i in range(6))
    mixing = np.eye(len(names))
    mixing[1, 0], mixing[2, 1], mixing[4, 0], mixing[6, 4] = -0.3, 0.6, 0.4, -0.4  # across vitals
    mixing /= np.linalg.norm(mixing, axis=1, keepdims=True)
    level = rng.normal(size=(n, len(names))) * 0.6  # a stay's own level
    eps = rng.normal(size=(n, hours, len(names))) @ mixing.T
    walk = np.empty_like(eps)
    walk[:, 0] = eps[:, 0]
    for t in range(1, hours):
        walk[:, t] = 0.8 * walk[:, t - 1] + 0.6 * eps[:, t]  # stationary: 0.8^2 + 0.6^2 = 1
    values = mean + response * severity[:, :, None] + noise * (level[:, None, :] + walk)
    values[:, :, 0] -= 0.12 * (age - 62)[:, None]
    sbp, dbp, mbp = (names.index(v) for v in ("SBP", "DBP", "MBP"))
    values[:, :, mbp] += (values[:, :, sbp] + 2 * values[:, :, dbp]) / 3
    return np.round(np.clip(values, low, high), 1)
