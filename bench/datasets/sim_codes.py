"""Simulated patients with diagnosis codes, flat (`sim-ehr`) and over visits (`sim-visits`): a process that is known.

A person has age, sex and frailty u; latent disease clusters z (one per ICD chapter) that depend on them and on each
other; codes x that depend on age, sex, their own cluster, and for some on another code; and a target that depends on
age, clusters and a few codes. With logit written l():

    l(z_k) = a_k + b_k age + c_k sex + u / 2 + sum over l < k of w_kl z_l
    l(x_j) = beta_j + s_j z_c(j) + g_j age + h_j sex + v_j x_parent(j)
    l(y)   = tau + 0.5 age + sum_k r_k z_k + sum_j q_j x_j

Intercepts are solved so that clusters, codes (30 % down to 0.1 %, log-linear in rank) and target have the prevalence
they should. All parameters are fixed: they depend on the number of codes only, never on the size or seed of a draw.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from bench.datasets.icd_names import category_names
from bench.datasets.law import Roles

TARGET = "died"
TARGET_PREVALENCE = 0.08
MAX_VISITS = 8

# Everyday categories first, so that the common codes of the simulation are common in life; then the rest of ICD-10.
COMMON = (
    "I10 E78 M54 K21 E11 F41 E66 N39 F32 I25 M17 E03 J45 R07 G47 D64 M25 R10 J44 I48 N18 K59 E55 L30 H52 I50 M19 K57 "
    "R51 F17 B37 E87 H25 N40 J18 I63 F10 M81 G43 N92 K76 L03 I73 C50 G62 D50 N17 A41 I21 J96 C61 F03 G20 K70 I26 D69"
).split()
MEN, WOMEN = {"N40", "C61"}, {"N92", "C50"}
CHAPTERS = "A C D E F G H I J K L M N R".split()  # first letters; B counts as A
CHRONIC = set("C E F G I M".split()) | {"D", "N"}


@dataclass(frozen=True)
class Process:
    """The parameters of one simulated population; K clusters, d codes."""

    codes: tuple[str, ...]
    cluster: np.ndarray  # (d,) index into CHAPTERS
    parent: np.ndarray  # (d,) index of a commoner code, -1 for none
    a: np.ndarray  # (K,)
    b: np.ndarray  # (K,)
    c: np.ndarray  # (K,)
    w: np.ndarray  # (K, K), strictly lower triangular
    beta: np.ndarray  # (d,)
    s: np.ndarray  # (d,)
    g: np.ndarray  # (d,)
    h: np.ndarray  # (d,)
    v: np.ndarray  # (d,)
    tau: float
    r: np.ndarray  # (K,)
    q: np.ndarray  # (d,)


def draw(n: int, *, seed: int, codes: int) -> pd.DataFrame:
    """n people, one row each: age (years), sex, the target, then `codes` bool columns."""
    people, x, y = _people(n, np.random.default_rng(seed), process(codes))
    return _flat(people, x, y, process(codes))


def draw_visits(n: int, *, seed: int, codes: int) -> pd.DataFrame:
    """The same n people over 1 to 8 visits; a person's ever-flags are that person's codes in `draw`.

    Each code begins at some visit, a child's not before its parent's. Chronic codes stay on at later visits with
    probability 0.85 each, others with 0.1.
    """
    p = process(codes)
    rng = np.random.default_rng(seed)
    people, x, y = _people(n, rng, p)
    visits = 1 + rng.binomial(MAX_VISITS - 1, _sigmoid(-1.6 + 0.6 * people["frailty"] + 0.25 * people["age_z"]))
    onset = np.floor(rng.random(x.shape) * visits[:, None]).astype(int)  # (n, d)
    child = np.flatnonzero(p.parent >= 0)
    for j in child:
        both = x[:, j] & x[:, p.parent[j]]
        onset[:, j] = np.where(both, np.maximum(onset[:, j], onset[:, p.parent[j]]), onset[:, j])
    stays = np.where([c[0] in CHRONIC for c in p.codes], 0.85, 0.1)

    subject = np.repeat(np.arange(n), visits)
    time = np.arange(len(subject)) - np.repeat(np.cumsum(visits) - visits, visits)
    on = x[subject] & (rng.random((len(subject), codes)) < stays) & (time[:, None] > onset[subject])
    on |= x[subject] & (time[:, None] == onset[subject])
    flat = _flat(people, x, y, p)
    table = flat[["age", "sex", TARGET]].iloc[subject].reset_index(drop=True)
    table = pd.concat([table, pd.DataFrame(on, columns=list(p.codes))], axis=1)
    table.index = pd.MultiIndex.from_arrays([subject, time], names=["subject", "time"])
    return table


def roles(*, codes: int) -> Roles:
    """Roles of `sim-ehr`."""
    names = process(codes).codes
    text = category_names(10)
    describe = {c: text[c] for c in names}
    describe |= {"age": "age in years", "sex": "sex", TARGET: "died within a year"}
    return Roles(TARGET, codes=names, sensitive=(*names, TARGET), quasi=("age", "sex"), describe=describe)


def roles_visits(*, codes: int) -> Roles:
    """Roles of `sim-visits`."""
    flat = roles(codes=codes)
    static = ("age", "sex", TARGET)
    return Roles(TARGET, static, flat.codes, flat.sensitive, flat.quasi, describe=flat.describe, time_unit="visit")


@cache
def process(codes: int) -> Process:
    """The fixed parameters of a population with so many codes, its intercepts solved on 8,000 fixed people."""
    rng = np.random.default_rng(1812)
    names = _names(codes)
    d, k = len(names), len(CHAPTERS)
    cluster = np.array([CHAPTERS.index("A" if c[0] == "B" else c[0]) for c in names])
    b = np.array([0.0, 0.8, 0.4, 0.5, -0.2, 0.3, 0.5, 0.9, 0.2, 0.2, 0.0, 0.5, 0.5, 0.1])
    w = np.tril(np.where(rng.random((k, k)) < 0.25, rng.uniform(0.4, 1.4, (k, k)), 0.0), -1)
    h = rng.normal(0, 0.25, d)
    h[[i for i, c in enumerate(names) if c in WOMEN]] = 5.0
    h[[i for i, c in enumerate(names) if c in MEN]] = -5.0
    parent = np.full(d, -1)
    for j in range(4, d, 4):  # every fourth code follows a commoner one
        parent[j] = rng.integers(max(0, j - 40), j)
    r = np.zeros(k)
    r[[CHAPTERS.index(c) for c in "CIJNG"]] = [1.4, 0.8, 0.7, 0.9, 0.5]
    q = np.zeros(d)
    q[rng.permutation(min(d, 60))[:6]] = rng.uniform(0.5, 1.2, min(d, 6))
    p = Process(
        names, cluster, parent, np.zeros(k), b, rng.normal(0, 0.3, k), w, np.zeros(d), rng.uniform(1.5, 3.5, d),
        rng.normal(0.1, 0.3, d), h, np.where(parent >= 0, rng.uniform(1.0, 2.5, d), 0.0), 0.0, r, q,
    )  # fmt: skip
    prevalence = 0.30 * (0.001 / 0.30) ** (np.arange(d) / max(d - 1, 1))
    tau: list[float] = []
    _people(8_000, rng, p, _solver(p, rng.uniform(0.10, 0.30, k), prevalence, tau))
    return Process(**{**vars(p), "tau": tau[0]})


def _names(codes: int) -> tuple[str, ...]:
    known = [c for c in category_names(10) if (c[0] in CHAPTERS or c[0] == "B") and c[1:].isdigit()]
    rest = sorted((c for c in known if c not in COMMON), key=lambda c: (c[1:], c[0]))  # spread over the chapters
    order = [*COMMON, *rest]
    if codes > len(order):
        raise ValueError(f"codes={codes}: ICD-10 has {len(order)} categories to name them by")
    return tuple(order[:codes])


Solve = Callable[[str, int, np.ndarray], float]


def _people(
    n: int, rng: np.random.Generator, p: Process, solve: Solve | None = None
) -> tuple[dict, np.ndarray, np.ndarray]:
    """n people by ancestral sampling: their traits, codes x (n, d) and target y (n,).

    `solve(what, index, logits)` gives the intercept to add; without it the process's own are taken.
    """
    mine: Solve = solve or (lambda what, i, logits: float(getattr(p, what)[i] if what != "tau" else p.tau))
    young = rng.random(n) < 0.3
    age = np.clip(np.round(np.where(young, rng.normal(33, 10, n), rng.normal(62, 14, n))), 18, 95)
    age_z = (age - 55) / 18
    female = rng.random(n) < 0.53
    sex = female - 0.5
    frailty = rng.normal(size=n)
    k, d = len(p.b), len(p.s)

    z = np.zeros((n, k), bool)
    for i in range(k):
        logits = p.b[i] * age_z + p.c[i] * sex + 0.5 * frailty + z[:, :i] @ p.w[i, :i]
        z[:, i] = rng.random(n) < _sigmoid(logits + mine("a", i, logits))
    x = np.zeros((n, d), bool)
    for j in range(d):
        logits = p.s[j] * z[:, p.cluster[j]] + p.g[j] * age_z + p.h[j] * sex
        if p.parent[j] >= 0:
            logits = logits + p.v[j] * x[:, p.parent[j]]
        x[:, j] = rng.random(n) < _sigmoid(logits + mine("beta", j, logits))
    logits = 0.5 * age_z + z @ p.r + x @ p.q
    y = rng.random(n) < _sigmoid(logits + mine("tau", 0, logits))
    return {"age": age.astype("int64"), "age_z": age_z, "female": female, "frailty": frailty}, x, y


def _solver(p: Process, clusters: np.ndarray, prevalence: np.ndarray, tau: list[float]) -> Solve:
    """A `solve` that finds each intercept by bisection and stores it in the process."""

    def solve(what: str, i: int, logits: np.ndarray) -> float:
        wanted = {"a": clusters, "beta": prevalence, "tau": np.array([TARGET_PREVALENCE])}[what][i]
        low, high = -30.0, 30.0
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (middle, high) if _sigmoid(logits + middle).mean() < wanted else (low, middle)
        if what == "tau":
            tau.append(low)
        else:
            getattr(p, what)[i] = low
        return low

    return solve


def _flat(people: dict, x: np.ndarray, y: np.ndarray, p: Process) -> pd.DataFrame:
    n = len(y)
    sex = pd.Categorical.from_codes(people["female"].astype(int), ["male", "female"])
    front = pd.DataFrame({"age": people["age"], "sex": sex, TARGET: y})
    table = pd.concat([front, pd.DataFrame(x, columns=list(p.codes))], axis=1)
    table.index = pd.RangeIndex(n, name="subject")
    return table


def _sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))
