"""The class-conditional Gaussian: moments, marginals and correlations per class, tiny classes, gaps, many features."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf_shrinkage

from bench.datasets import open_dataset
from bench.doctor import TABLES
from generators import gaussian
from generators.base import Unsupported
from generators.gaussian import Gaussian, calibrate, ledoit_wolf, root, tetrachoric
from metrics import score
from metrics.tables import Tables

COVARIANCE = np.array([[[1.0, 0.8, 0.0], [0.8, 1.0, 0.0], [0.0, 0.0, 1.0]],
                       [[0.5, -0.4, 0.2], [-0.4, 1.0, 0.0], [0.2, 0.0, 2.0]]])  # fmt: skip
MEAN = np.array([[0.0, 0.0, 0.0], [0.7, -0.5, 0.5]])


def flat(**columns) -> pd.DataFrame:
    return pd.DataFrame(columns).rename_axis("subject")


def numbers(n: int, seed: int) -> pd.DataFrame:
    """Two Gaussian classes, 30 % in the second."""
    rng = np.random.default_rng(100 + seed)  # not the stream that breaks ties in a fit
    y = (rng.random(n) < 0.3).astype(int)
    x = MEAN[y] + np.einsum("nij,nj->ni", np.linalg.cholesky(COVARIANCE)[y], rng.normal(size=(n, 3)))
    return flat(**{f"x{j}": x[:, j] for j in range(3)}, y=y == 1)


def mixed(n: int, seed: int = 0) -> pd.DataFrame:
    """Flags, a category, a number with gaps: all follow one hidden severity, differently in the two classes."""
    rng = np.random.default_rng(100 + seed)
    y = rng.random(n) < 0.25
    s = rng.normal(size=n) + 0.8 * y
    kind = np.where(s + rng.normal(size=n) > 1, "a", np.where(rng.random(n) < np.where(y, 0.7, 0.2), "b", "c"))
    x = np.where(rng.random(n) < np.where(y, 0.6, 0.1), np.nan, np.exp(s + 0.5 * rng.normal(size=n)))
    return flat(
        common=s + rng.normal(size=n) > 0, rare=s + rng.normal(size=n) > 3, never=np.zeros(n, bool),
        kind=pd.Categorical(kind, ["a", "b", "c", "unseen"]), count=rng.poisson(np.exp(s / 2)), x=x, y=y,
    )  # fmt: skip


@pytest.mark.parametrize("given", [True, False])
def test_mean_and_covariance_of_a_known_gaussian(given: bool) -> None:
    drawn = Gaussian().fit(numbers(6_000, 0), target="y", seed=0).sample(20_000, given={"y": given}, seed=1)
    x = drawn[["x0", "x1", "x2"]].to_numpy()
    assert (drawn["y"] == given).all()
    assert x.mean(axis=0) == pytest.approx(MEAN[int(given)], abs=0.08)
    assert np.cov(x.T) == pytest.approx(COVARIANCE[int(given)], abs=0.12)


def test_without_a_target_it_is_one_gaussian() -> None:
    table = numbers(6_000, 0)
    one = table.loc[table["y"], ["x0", "x1", "x2"]].reset_index(drop=True).rename_axis("subject")
    drawn = Gaussian(shrinkage=0.0).fit(one, seed=0).sample(20_000, seed=1)
    assert np.cov(drawn.to_numpy().T) == pytest.approx(np.cov(one.to_numpy().T), abs=0.05)


@pytest.mark.parametrize("value", [True, False])
def test_marginals_are_those_of_the_class(value: bool) -> None:
    table = mixed(6_000)
    drawn = Gaussian().fit(table, target="y", seed=0).sample(20_000, given={"y": value}, seed=1)
    real = table[table["y"] == value]
    for flag in ("common", "rare", "never"):
        assert drawn[flag].mean() == pytest.approx(real[flag].mean(), abs=0.012)
    assert not drawn["never"].any()
    shares = (t["kind"].value_counts(normalize=True).reindex(["a", "b", "c", "unseen"]) for t in (drawn, real))
    assert next(shares).to_numpy() == pytest.approx(next(shares).to_numpy(), abs=0.02)
    assert drawn["x"].isna().mean() == pytest.approx(real["x"].isna().mean(), abs=0.02)
    for level in (0.25, 0.5, 0.75):
        assert np.log(drawn["x"].quantile(level) / real["x"].quantile(level)) == pytest.approx(0, abs=0.12)
    for k in range(3):
        assert (drawn["count"] == k).mean() == pytest.approx((real["count"] == k).mean(), abs=0.03)


def test_associations_are_those_of_train() -> None:
    """Between a flag and a number, two flags, a category and a flag: on the scale of what is seen."""
    table = mixed(8_000)
    drawn = Gaussian(shared=0.0, shrinkage=0.0).fit(table, target="y", seed=0).sample(40_000, seed=1)

    def seen(t: pd.DataFrame) -> list[float]:
        rows = pd.DataFrame({"x": np.log(t["x"]), "count": t["count"], "common": t["common"], "rare": t["rare"]})
        rows = rows.assign(a=t["kind"] == "a", b=t["kind"] == "b", gone=t["x"].isna()).astype(float)
        return rows.corr().to_numpy()[np.triu_indices(7, 1)].tolist()

    assert np.nan_to_num(seen(drawn)) == pytest.approx(np.nan_to_num(seen(table)), abs=0.05)


def test_a_judge_learns_from_it_what_it_learns_from_train() -> None:
    table = numbers(6_000, 0)
    train, holdout = table.iloc[:4_000], table.iloc[4_000:].reset_index(drop=True).rename_axis("subject")
    synth = Gaussian().fit(train, target="y", seed=0).sample(4_000, seed=1)
    names = ["tstr_auroc", "trtr_auroc", "c2st_auroc_gap", "ks_gap"]
    found = score(Tables(train, holdout, synth, roles={"target": "y"}), names, seed=0)
    assert found["tstr_auroc"].value > found["trtr_auroc"].value - 0.02
    assert found["c2st_auroc_gap"].value < 0.1
    assert found["ks_gap"].value < 0.05


def test_the_moments_weigh_what_was_measured() -> None:
    """A trend, and gaps that have nothing to do with it: means, gaps and correlations are the measured ones."""
    rng = np.random.default_rng(100)
    n, steps = 600, 4
    index = pd.MultiIndex.from_product([range(n), range(steps)], names=["subject", "time"])
    level = np.repeat(rng.normal(size=n), steps)
    x = level + 2.0 * index.get_level_values("time") + 0.3 * rng.normal(size=n * steps)
    gone = rng.random(n * steps) < np.tile([0.1, 0.5, 0.5, 0.8], n)
    table = pd.DataFrame({"x": np.where(gone, np.nan, x), "y": np.repeat(np.arange(n) % 2 == 0, steps)}, index=index)
    drawn = Gaussian().fit(table, target="y", static=["y"], seed=0).sample(4_000, seed=1)["x"].unstack()
    real = table["x"].unstack()
    assert drawn.isna().mean().to_numpy() == pytest.approx(real.isna().mean().to_numpy(), abs=0.03)
    assert drawn.mean().to_numpy() == pytest.approx(real.mean().to_numpy(), abs=0.25)
    assert drawn.corr().loc[0, 1] == pytest.approx(real.corr().loc[0, 1], abs=0.1)


@pytest.mark.parametrize("positives", [1, 2])
def test_a_class_of_one_or_two_has_the_spread_of_all(positives: int) -> None:
    table = mixed(400)
    table["y"] = np.arange(400) < positives
    made = Gaussian().fit(table, target="y", seed=0)
    drawn = made.sample(500, given={"y": True}, seed=1)
    assert drawn["y"].all()
    assert drawn["count"].nunique() > 2
    assert 0 < drawn["common"].mean() < 1
    assert made.sample(400, seed=1)["y"].sum() == positives


def test_columns_that_determine_each_other() -> None:
    """A singular covariance: a copy, a sum, more features than subjects."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2))
    table = flat(a=x[:, 0], copy=x[:, 0], b=x[:, 1], sum=x.sum(axis=1), still=np.ones(300), flag=x[:, 0] > 0)
    drawn = Gaussian(shrinkage=0.0).fit(table, seed=0).sample(4_000, seed=1)
    assert np.corrcoef(drawn["a"], drawn["copy"])[0, 1] > 0.97
    assert (drawn["still"] == 1).all()
    wide = flat(**{f"x{j}": v for j, v in enumerate(rng.normal(size=(60, 20)))}, y=np.arange(20) % 2 == 0)
    assert len(Gaussian().fit(wide, target="y", seed=0).sample(50, seed=1)) == 50


def test_many_features_are_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    table = mixed(4_000).drop(columns="never")
    exact = Gaussian().fit(table, target="y", seed=0).sample(20_000, seed=1)
    monkeypatch.setattr(gaussian, "FULL", 2)
    made = Gaussian(rank=3).fit(table, target="y", seed=0)
    assert made.factors_["0"].shape[1] == 3
    drawn = made.sample(20_000, seed=1)
    for flag in ("common", "rare"):
        assert drawn[flag].mean() == pytest.approx(exact[flag].mean(), abs=0.012)
    for one, other in (("common", "count"), ("rare", "common")):  # three factors overshoot the first by .11 to .14
        assert drawn[one].corr(drawn[other]) == pytest.approx(exact[one].corr(exact[other]), abs=0.2)


def test_lengths_of_longitudinal_tables() -> None:
    data = open_dataset(TABLES["visits"], None).load()
    made = Gaussian().fit(data.table, target=data.roles.target, static=data.roles.static, seed=0)
    mine, real = (t.groupby(level="subject").size() for t in (made.sample(4_000, seed=1), data.table))
    for steps in range(1, 6):
        assert (mine == steps).mean() == pytest.approx((real == steps).mean(), abs=0.04)


def test_other_conditions_by_rejection_and_what_cannot_be_met() -> None:
    table = mixed(500)
    made = Gaussian().fit(table, target="y", seed=0)
    drawn = made.sample(40, given={"common": True, "y": True}, seed=0)
    assert drawn["common"].all()
    assert drawn["y"].all()
    with pytest.raises(Unsupported, match="found 0 of 5 subjects with never as asked"):
        made.sample(5, given={"never": True}, seed=0)
    with pytest.raises(Unsupported, match="no chance of y=True: train never has it"):
        Gaussian().fit(table.assign(y=False), target="y", seed=0).sample(5, given={"y": True}, seed=0)


# --- parts ---


@pytest.mark.parametrize("rho", [-0.7, -0.2, 0.0, 0.3, 0.9])
@pytest.mark.parametrize(("p", "q"), [(0.5, 0.5), (0.02, 0.1), (0.9, 0.3)])
def test_tetrachoric_inverts_the_bivariate_normal(rho: float, p: float, q: float) -> None:
    from scipy.special import ndtri

    both = multivariate_normal.cdf(ndtri([p, q]), cov=[[1, rho], [rho, 1]])
    found = tetrachoric(np.array([[0.0, both - p * q], [both - p * q, 0.0]]), ndtri(1 - np.array([p, q])))
    assert found[0, 1] == found[1, 0]
    assert multivariate_normal.cdf(ndtri([p, q]), cov=[[1, found[0, 1]], [found[0, 1], 1]]) == pytest.approx(
        both, abs=3e-4
    )
    if min(both, p - both, q - both, 1 - p - q + both) > 1e-3:  # elsewhere the chance hardly depends on it
        assert found[0, 1] == pytest.approx(rho, abs=0.01)


def test_shrinkage_is_scikit_learns() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 30)) @ np.random.default_rng(1).normal(size=(30, 30))
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    mine = ledoit_wolf(rows, rows.T @ rows / 40)
    assert mine == pytest.approx(ledoit_wolf_shrinkage(rows, assume_centered=True), rel=1e-6)
    assert 0.05 < mine < 0.95


def test_root_of_what_is_no_correlation_matrix_is_the_nearest_such() -> None:
    assert root(np.eye(2)) @ root(np.eye(2)).T == pytest.approx(np.eye(2))
    bad = np.array([[1, -0.9, -0.9], [-0.9, 1, -0.9], [-0.9, -0.9, 1]])
    found = root(bad) @ root(bad).T
    assert np.diag(found) == pytest.approx(np.ones(3))
    assert found[0, 1] == pytest.approx(-0.5, abs=0.01)


def test_root_hangs_on_no_sign_or_order_of_eigenvectors() -> None:
    """Two of its eigenvalues are equal, so that any noise turns their eigenvectors."""
    bad = np.array([[1, -0.9, -0.9], [-0.9, 1, -0.9], [-0.9, -0.9, 1]])
    noise = np.random.default_rng(0).normal(size=(3, 3))
    assert root(bad + 1e-9 * (noise + noise.T)) == pytest.approx(root(bad), abs=1e-6)


def test_a_category_is_calibrated() -> None:
    share = np.array([0.6, 0.05, 0.35, 0.0])
    u = np.random.default_rng(0).multivariate_normal(np.zeros(4), 0.5 * np.eye(4) + 0.5, 20_000)
    won = np.bincount((u + calibrate(share, u)).argmax(axis=1), minlength=4) / len(u)
    assert won == pytest.approx(share, abs=0.003)
