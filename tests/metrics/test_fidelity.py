"""Fidelity: values known by hand, parity with scipy and scikit-learn, and what the noise-aware forms promise."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wasserstein_distance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, r2_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors

import metrics
from metrics import Score, Undefined, dimension, near, pairwise
from metrics.tables import Tables


def flat(**columns) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    return pd.DataFrame(columns, index=pd.RangeIndex(n, name="subject"))


def score(train, holdout, synth, name: str, **roles):
    return metrics.score(Tables(train, holdout, synth, roles={"target": "y"} | roles), [name], seed=0)


def counts(n: int, *ones: int) -> pd.DataFrame:
    """n subjects; code j is had by the first ones[j] of them."""
    codes = {f"c{j:02d}": np.arange(n) < k for j, k in enumerate(ones)}
    return flat(**codes, y=np.arange(n) % 2 == 0)


# --- codes ---


def test_log_odds_error_by_hand_and_by_band() -> None:
    train = counts(1_000, 100, 20, 5)
    held, synth = counts(200, 20, 4, 1), counts(100, 20, 2, 0)
    found = score(train, held, synth, "prevalence_logodds_error", codes=["c00", "c01", "c02"])

    def gap(k: int, m: int) -> float:
        return abs(np.log((k + 0.5) / (200 - k + 0.5)) - np.log((m + 0.5) / (100 - m + 0.5)))

    each = [gap(20, 20), gap(4, 2), gap(1, 0)]
    assert found["prevalence_logodds_error"].value == pytest.approx(np.mean(each))
    for band, expected in zip(("over_5", "1_to_5", "under_1"), each, strict=True):
        assert found[f"prevalence_logodds_error/{band}"].value == pytest.approx(expected)


def test_coverage_by_hand() -> None:
    held, synth = counts(50, 10, 1, 3, 0), counts(50, 10, 0, 0, 9)
    found = score(held, held, synth, "code_coverage_gap", codes=[f"c{j:02d}" for j in range(4)])
    assert found["code_coverage_gap"].value == pytest.approx(2 / 3)


def test_rare_codes_only() -> None:
    """Common codes that are wrong change nothing; too few rare ones are said."""
    rng = np.random.default_rng(0)
    rates = np.r_[rng.uniform(0.001, 0.009, 40), [0.4, 0.5]]
    names = [f"c{j:02d}" for j in range(42)]

    def draw(n: int, p: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame(rng.random((n, 42)) < p, columns=names).assign(y=rng.random(n) < 0.5).rename_axis("subject")

    train, held, synth = draw(8_000, rates), draw(4_000, rates), draw(8_000, rates)
    wrong = synth.assign(c40=False, c41=True)
    for name in ("prevalence_rare_spearman_score", "prevalence_rare_denoised_score"):
        assert score(train, held, synth, name, codes=names) == score(train, held, wrong, name, codes=names)
    few = score(train, held, synth, "prevalence_rare_spearman_score", codes=names[-4:])
    assert "2 codes with a prevalence up to 1 %" in few["prevalence_rare_spearman_score"].reason


def test_denoised_rare_score_of_a_perfect_large_sample_is_one_where_the_plain_one_is_not() -> None:
    """Attenuation: with few holdout subjects the plain correlation falls, the corrected one stays at 1."""
    plain, corrected = [], []
    names = [f"c{j:02d}" for j in range(60)]
    for seed in range(12):
        rng = np.random.default_rng(seed)
        rates = rng.uniform(0.001, 0.009, 60)

        def draw(n: int, rng=rng, rates=rates) -> pd.DataFrame:
            table = pd.DataFrame(rng.random((n, 60)) < rates, columns=names)
            return table.assign(y=rng.random(n) < 0.5).rename_axis("subject")

        t = Tables(draw(20_000), draw(1_500), draw(200_000), roles={"target": "y", "codes": names})
        found = metrics.score(t, ["prevalence_rare_spearman_score", "prevalence_rare_denoised_score"], seed=0)
        plain.append(found["prevalence_rare_spearman_score"].value)
        corrected.append(found["prevalence_rare_denoised_score"].value)
    assert np.mean(plain) < 0.85
    assert abs(np.mean(corrected) - 1) < 4 * np.std(corrected, ddof=1) / np.sqrt(len(corrected))


def test_a_synth_without_rare_codes_scores_zero() -> None:
    rng = np.random.default_rng(1)
    names = [f"c{j:02d}" for j in range(20)]
    real = [pd.DataFrame(rng.random((3_000, 20)) < np.linspace(0.001, 0.009, 20), columns=names).assign(
        y=rng.random(3_000) < 0.5).rename_axis("subject") for _ in range(2)]  # fmt: skip
    none = real[0].assign(**dict.fromkeys(names, False))
    for name in ("prevalence_rare_spearman_score", "prevalence_rare_denoised_score", "prevalence_pearson_score"):
        assert score(*real, none, name, codes=names)[name].value == 0


# --- pairs ---


def test_frobenius_against_numpy() -> None:
    rng = np.random.default_rng(2)
    held, synth = (flat(a=rng.normal(size=90), b=rng.normal(size=90), c=rng.normal(size=90), y=rng.random(90) < 0.4)
                   for _ in range(2))  # fmt: skip
    gap = np.corrcoef(held.to_numpy(float).T) - np.corrcoef(synth.to_numpy(float).T)
    found = score(held, held, synth, "cmd_frobenius_distance")["cmd_frobenius_distance"]
    assert found.value == pytest.approx(np.linalg.norm(gap) / 4, abs=1e-6)


@pytest.mark.parametrize("flags", [True, False])
def test_denoised_cmd_is_unbiased_where_cmd_is_all_noise(flags: bool) -> None:
    """A fresh draw has mean 0 within two errors over seeds; the true squared gap is found for a wrong one."""
    rng = np.random.default_rng(3)
    mix = np.linalg.cholesky(0.5 * np.eye(6) + 0.5)

    def draw(n: int, joint: bool) -> pd.DataFrame:
        z = rng.normal(size=(n, 6)) @ (mix.T if joint else np.eye(6))
        x = z > 1.5 if flags else z
        return pd.DataFrame(x, columns=list("abcdef")).assign(y=rng.random(n) < 0.5).rename_axis("subject")

    values = {joint: [] for joint in (True, False)}
    for _ in range(40):
        train, held = draw(400, True), draw(150, True)
        for joint, kept in values.items():
            kept.append(score(train, held, draw(400, joint), "cmd_denoised_distance")["cmd_denoised_distance"].value)
    same, other = (np.array(values[joint]) for joint in (True, False))
    assert abs(same.mean()) < 2.5 * same.std(ddof=1) / np.sqrt(40)
    truth = np.corrcoef(draw(200_000, True).to_numpy(float).T)
    off = ~np.eye(7, dtype=bool)
    p = np.r_[np.full(6, draw(100_000, True)["a"].mean() if flags else 0.5), 0.5]
    weight = np.sqrt(np.outer(p, p))[off]
    assert other.mean() == pytest.approx((weight * truth[off] ** 2).sum() / weight.sum(), rel=0.12)


def test_pair_tvd_against_contingency_tables() -> None:
    """Flags, a category with a gap, a number of few values and one cut at train's deciles."""
    rng = np.random.default_rng(4)

    def draw(n: int) -> pd.DataFrame:
        return flat(a=rng.random(n) < 0.3, b=rng.random(n) < 0.6, k=rng.integers(0, 4, n),
                    g=pd.Categorical(rng.choice(["u", "v", None], n), categories=["u", "v"]), x=rng.normal(size=n),
                    y=rng.random(n) < 0.5)  # fmt: skip

    train, held, synth = draw(300), draw(120), draw(200)
    edges = np.unique(np.quantile(train["x"], np.linspace(0.1, 1, 10)))[:-1]

    def cut(table: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"a": table["a"], "b": table["b"], "y": table["y"], "k": table["k"],
                             "g": table["g"].astype(object).where(table["g"].notna(), "gap"),
                             "x": np.searchsorted(edges, table["x"])})  # fmt: skip

    held_cells, synth_cells = cut(held), cut(synth)
    found = []
    for i, one in enumerate(held_cells):
        for two in list(held_cells)[i + 1 :]:
            p, q = (c.groupby([one, two], observed=True).size() / len(c) for c in (held_cells, synth_cells))
            found.append(p.sub(q, fill_value=0).abs().sum() / 2)
    assert score(train, held, synth, "pair_tvd_gap")["pair_tvd_gap"].value == pytest.approx(np.mean(found), abs=1e-6)


# --- columns ---


def test_wasserstein_against_scipy() -> None:
    rng = np.random.default_rng(5)
    train, held, synth = (flat(x=rng.gamma(2, size=n), k=rng.integers(0, 9, n).astype(float), y=rng.random(n) < 0.5)
                          for n in (200, 80, 130))  # fmt: skip
    held.loc[3, "x"] = np.nan
    each = []
    for c in ("x", "k"):
        size = np.subtract(*np.quantile(train[c], [0.75, 0.25]))
        each.append(wasserstein_distance(held[c].dropna(), synth[c]) / size)
    assert score(train, held, synth, "wasserstein_distance")["wasserstein_distance"].value == pytest.approx(
        np.mean(each)
    )


# --- whole subjects ---


def test_alpha_precision_by_hand() -> None:
    """Five holdout subjects on a line; synth all at their centre, then all far outside."""
    held = flat(x=[-4.0, -2.0, 1.0, 3.0, 2.0], y=[True, False, True, False, True])
    inside, outside = (flat(x=np.full(5, v), y=held["y"].to_numpy()) for v in (0.0, 1e4))
    # P is 1 at every radius: 1 - 2 mean(1 - a) over a = .2 .. 1; and 0: 1 - 2 mean(a)
    share = np.arange(1, 6) / 5
    t = {name: metrics.score(Tables(held, held, s, roles={"target": "y"}), ["alpha_precision_score"], seed=0)
         for name, s in (("inside", inside), ("outside", outside))}  # fmt: skip
    assert t["outside"]["alpha_precision_score"].value == pytest.approx(max(0, 1 - 2 * share.mean()))
    assert t["inside"]["alpha_precision_score"].value == pytest.approx(1 - 2 * (1 - share).mean(), abs=0.25)


def test_beta_recall_against_scikit_learn() -> None:
    rng = np.random.default_rng(6)
    train, held, synth = (flat(x=rng.normal(size=n), z=rng.normal(size=n), y=rng.random(n) < 0.5) for n in (90, 60, 80))
    t = Tables(train, held, synth, roles={"target": "y"})
    h, s = (t.matrix(n).astype(float) for n in ("holdout", "synth"))
    fellow = NearestNeighbors(n_neighbors=2).fit(h).kneighbors(h)[0][:, 1]
    gap, index = (v[:, 0] for v in NearestNeighbors(n_neighbors=1).fit(s).kneighbors(h))
    radius = np.linalg.norm(s - s.mean(axis=0), axis=1)
    rank = (radius[None, :] < radius[index][:, None] - 1e-9).mean(axis=1)
    share = [((gap <= fellow) & (rank <= b)).mean() for b in np.linspace(0, 1, 101)]
    expected = 1 - 2 * np.abs(np.array(share) - np.linspace(0, 1, 101)).mean()
    found = metrics.score(t, ["beta_recall_score"], seed=0)["beta_recall_score"]
    assert found.value == pytest.approx(expected, abs=1e-6)


# --- dimension-wise prediction ---


def test_regressions_solved_together_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(7)
    x = (rng.random((600, 20)) < 0.2).astype(np.float32)
    x[:, 1] = np.where(rng.random(600) < 0.8, x[:, 0], x[:, 1])
    without = np.eye(20, dtype=bool)[:, :5]
    together = dimension.probability(x, dimension.logistic(x, x[:, :5] > 0, without=without))
    for j in range(5):
        alone = LogisticRegression(C=0.1, tol=1e-8, max_iter=2_000).fit(np.delete(x, j, axis=1), x[:, j])
        assert np.abs(together[:, j] - alone.predict_proba(np.delete(x, j, axis=1))[:, 1]).max() < 0.01


def test_dimension_prediction_uses_the_positive_class() -> None:
    """Micro-F1 would be accuracy: high for a model that never says yes. The gap here is that of binary F1."""
    rng = np.random.default_rng(8)

    def draw(n: int, joint: bool) -> pd.DataFrame:
        a = rng.random(n) < 0.1
        b = np.where(rng.random(n) < 0.95, a, ~a) if joint else rng.random(n) < 0.14
        return flat(a=a, b=b.astype(bool), y=rng.random(n) < 0.5)

    train, held, synth = draw(2_000, True), draw(4_000, True), draw(2_000, False)
    t = Tables(train, held, synth, roles={"target": "y", "codes": ["a", "b"]})
    found = metrics.score(t, ["dimension_prediction_f1_gap", "dimension_prediction_auroc_gap"], seed=0)
    order = np.random.default_rng([0, 4]).permutation(4_000)
    halves = [t["holdout"].iloc[np.sort(order[i::2])] for i in range(2)]
    f1, auroc = [], []
    for i, (half, other) in enumerate((halves, halves[::-1])):
        drawn = t["synth"].iloc[near.picked(t, "synth", 2_000, i)]
        for own, seen in (("a", "b"), ("b", "a")):
            p = [
                LogisticRegression(C=0.1, tol=1e-8)
                .fit(table[[seen, "y"]], table[own])
                .predict_proba(half[[seen, "y"]])[:, 1]
                for table in (other, drawn)
            ]
            f1.append(np.subtract(*(f1_score(half[own], x >= 0.5, zero_division=0) for x in p)))
            auroc.append(np.subtract(*(roc_auc_score(half[own], x) for x in p)))
    assert found["dimension_prediction_f1_gap"].value == pytest.approx(np.mean(f1), abs=0.01)
    assert found["dimension_prediction_auroc_gap"].value == pytest.approx(np.mean(auroc), abs=0.02)
    assert found["dimension_prediction_f1_gap"].value > 0.5


def test_dimension_prediction_is_zero_on_average_for_fresh_rows_and_no_less_for_a_copy() -> None:
    """Compared with a model of train, a copy of train would be perfect by construction and fresh rows would not."""
    found: dict[str, list[float]] = {"copy": [], "fresh": []}
    for seed in range(12):
        rng = np.random.default_rng(seed)

        def draw(n: int, rng=rng) -> pd.DataFrame:
            a = rng.random((n, 1)) < 0.3
            codes = np.where(rng.random((n, 8)) < 0.8, a, rng.random((n, 8)) < 0.3)
            return flat(**{f"c{j}": codes[:, j].astype(bool) for j in range(8)}, y=rng.random(n) < 0.5)

        train, held, fresh = draw(400), draw(200), draw(400)
        for name, synth in (("copy", train), ("fresh", fresh)):
            roles = {"target": "y", "codes": [f"c{j}" for j in range(8)]}
            scores = metrics.score(Tables(train, held, synth, roles=roles), ["dimension_prediction_auroc_gap"], seed=0)
            found[name].append(scores["dimension_prediction_auroc_gap"].value)
    for values in found.values():
        assert len(set(values)) > 1
        assert abs(np.mean(values)) < 4 * np.std(values, ddof=1) / np.sqrt(len(values))


# --- time ---


def grid(x: np.ndarray, **statics) -> pd.DataFrame:
    """Subjects (n, l, c) as a longitudinal table with channels a, b, ..."""
    n, steps, c = x.shape
    index = pd.MultiIndex.from_product([range(n), range(steps)], names=["subject", "time"])
    columns = {chr(97 + j): x[:, :, j].ravel() for j in range(c)}
    return pd.DataFrame(columns | {k: np.repeat(v, steps) for k, v in statics.items()}, index=index)


def test_autocorrelation_and_cross_correlation_against_numpy() -> None:
    rng = np.random.default_rng(9)

    def draw(n: int, rho: float) -> np.ndarray:
        z = rng.normal(size=(n, 8, 2))
        for step in range(1, 8):
            z[:, step] = rho * z[:, step - 1] + np.sqrt(1 - rho**2) * z[:, step]
        z[:, :, 1] += 0.8 * z[:, :, 0]
        z[rng.random(z.shape) < 0.1] = np.nan
        return z

    held, synth = draw(150, 0.9), draw(200, 0.2)
    tables = [grid(x, y=np.arange(len(x)) % 2 == 0) for x in (held, held, synth)]
    t = Tables(*tables, roles={"target": "y", "static": ("y",)})
    found = metrics.score(t, ["autocorrelation_gap", "cross_correlation_gap"], seed=0)

    def pooled(x: np.ndarray, y: np.ndarray) -> float:
        both = ~(np.isnan(x) | np.isnan(y))
        return np.corrcoef(x[both], y[both])[0, 1]

    acf = [abs(pooled(held[:, :-k, j], held[:, k:, j]) - pooled(synth[:, :-k, j], synth[:, k:, j]))
           for k in (1, 2) for j in (0, 1)]  # fmt: skip
    assert found["autocorrelation_gap"].value == pytest.approx(np.mean(acf), abs=1e-6)
    ccf = abs(pooled(held[:, :, 0], held[:, :, 1]) - pooled(synth[:, :, 0], synth[:, :, 1]))
    assert found["cross_correlation_gap"].value == pytest.approx(ccf, abs=1e-6)


def visits(subjects: list[list[str]]) -> pd.DataFrame:
    """Subjects as lists of visits like "101" over codes a, b, c."""
    rows = [(i, k, *(v == "1" for v in visit), i % 2 == 0) for i, s in enumerate(subjects) for k, visit in enumerate(s)]
    table = pd.DataFrame(rows, columns=["subject", "time", *"abc", "y"])
    return table.set_index(["subject", "time"])


def test_visits_by_hand() -> None:
    held = visits([["110", "001"], ["111", "110", "001"], ["001"]])
    synth = visits([["110"], ["110"], ["000"], ["111", "110"]])
    t = Tables(held, held, synth, roles={"target": "y", "static": ("y",), "codes": list("abc")})
    asked = ["visits_ks_gap", "codes_per_visit_ks_gap", "cooccurrence_r2_score", "transition_r2_score"]
    found = metrics.score(t, asked, seed=0)
    assert found["visits_ks_gap"].value == pytest.approx(3 / 4 - 1 / 3)  # at one visit
    # codes a visit: holdout 2 1 3 2 1 1, synth 2 2 0 3 2: at one code 3/6 against 1/5
    assert found["codes_per_visit_ks_gap"].value == pytest.approx(3 / 6 - 1 / 5)
    pairs_held, pairs_synth = np.array([3, 1, 1]) / 6, np.array([4, 1, 1]) / 5  # ab ac bc, of 6 and 5 visits
    assert found["cooccurrence_r2_score"].value == pytest.approx(r2_score(pairs_held, pairs_synth))
    follows = np.zeros((3, 3))
    for before, after in (("110", "001"), ("111", "110"), ("110", "001")):
        follows += np.outer([v == "1" for v in before], [v == "1" for v in after])
    drawn = np.outer([1, 1, 1], [1, 1, 0])
    assert found["transition_r2_score"].value == pytest.approx(r2_score(follows.ravel() / 3, drawn.ravel() / 1))


def test_visits_that_cannot_be_compared_say_why() -> None:
    one = visits([["110"], ["001"], ["111"]])
    t = Tables(one, one, one, roles={"target": "y", "static": ("y",), "codes": list("abc")})
    assert metrics.score(t, ["transition_r2_score"], seed=0)["transition_r2_score"] == Undefined(
        "no subject has two visits"
    )


# --- neighbours ---


@pytest.mark.parametrize("same", [True, False])
def test_neighbours_against_scikit_learn(same: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairwise, "BLOCK_BYTES", 40_000)  # several blocks
    rng = np.random.default_rng(10)
    b = rng.normal(size=(120, 5))
    a = b if same else rng.normal(size=(70, 5))
    distance, index = pairwise.neighbours(a, b, 4, same=same)
    known = NearestNeighbors(n_neighbors=5).fit(b).kneighbors(a)
    expected = known[0][:, 1:] if same else known[0][:, :4]
    assert np.sqrt(distance) == pytest.approx(expected, abs=1e-5)
    assert (index == (known[1][:, 1:] if same else known[1][:, :4])).all()


def test_more_neighbours_than_rows_are_all_of_them() -> None:
    distance, _ = pairwise.neighbours(np.zeros((2, 1)), np.array([[1.0], [2.0]]), 5)
    assert distance.tolist() == [[1, 4], [1, 4]]
    with pytest.raises(ValueError, match="1 rows hold no neighbour"):
        pairwise.neighbours(np.zeros((1, 1)), np.zeros((1, 1)), 1, same=True)


@pytest.mark.parametrize("density", [0.02, 0.5])
def test_cross_products_are_the_same_thin_and_dense(density: float) -> None:
    x = (np.random.default_rng(11).random((200, 30)) < density).astype(np.float32)
    assert pairwise.cross(x) == pytest.approx(x.T.astype(float) @ x)


def test_every_score_is_of_the_declared_kind() -> None:
    t = Tables(
        counts(60, 30, 20), counts(40, 20, 9), counts(60, 30, 15), roles={"target": "y", "codes": ["c00", "c01"]}
    )
    assert all(isinstance(v, Score | Undefined) for v in metrics.score(t, metrics.METRICS, seed=0).values())
