"""The mixture of products: EM, its parts, exact conditions, gaps, the choice of classes."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from bench.datasets import open_dataset
from bench.doctor import TABLES
from generators.base import StopFit, Unsupported
from generators.classical import Classes, Design, Mixture
from generators.encode import Matrix


def flat(**columns) -> pd.DataFrame:
    return pd.DataFrame(columns).rename_axis("subject")


def clustered(n: int = 3_000, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Two classes, 30 % in the second, with six flags, a category and a number with gaps."""
    rng = np.random.default_rng(seed)
    z = (rng.random(n) < 0.3).astype(int)
    theta = np.array([[0.1, 0.8, 0.2, 0.9, 0.1, 0.7], [0.9, 0.2, 0.7, 0.1, 0.8, 0.2]])
    x = rng.random((n, 6)) < theta[z]
    kind = np.where(rng.random(n) < np.array([0.9, 0.1])[z], "a", np.where(rng.random(n) < 0.5, "b", "c"))
    number = np.where(rng.random(n) < np.array([0.1, 0.6])[z], np.nan, rng.normal(np.array([-2.0, 2.0])[z], 0.5))
    table = flat(**{f"f{j}": x[:, j] for j in range(6)}, kind=pd.Categorical(kind), number=number)
    return table, theta


def test_em_recovers_flags_of_two_classes() -> None:
    table, theta = clustered()
    made = Mixture(classes=2, prior=0.01, tolerance=1e-7).fit(table[[f"f{j}" for j in range(6)]], seed=0)
    order = np.argsort(-made.weights_)
    assert made.weights_[order] == pytest.approx([0.7, 0.3], abs=0.04)
    assert made.mean_[order] == pytest.approx(theta, abs=0.06)


def test_em_recovers_categories_numbers_and_gaps_of_two_classes() -> None:
    table, _ = clustered()
    made = Mixture(classes=2, prior=0.01).fit(table, seed=0)
    *_, group, _, flag = made.view_.features
    kind = made.mean_[np.argsort(-made.weights_), group.start : group.stop]
    assert kind == pytest.approx(np.array([[0.9, 0.05, 0.05], [0.1, 0.45, 0.45]]), abs=0.04)
    order = np.argsort(-made.weights_)
    assert made.mean_[order, flag.start] == pytest.approx([0.1, 0.6], abs=0.06)
    drawn = made.sample(8_000, seed=1)
    for level in "abc":
        mine, real = (t.loc[t["kind"] == level, "number"].isna().mean() for t in (drawn, table))
        assert mine == pytest.approx(real, abs=0.05)


def test_em_recovers_gaussians_of_two_classes() -> None:
    """On the scale of the scores, where the law is a mixture of Gaussians by itself.

    Which class a gap belongs to is not identified: the shares of classes among numbers are, and the share of gaps.
    """
    rng = np.random.default_rng(0)
    z = (rng.random(4_000) < 0.3).astype(int)
    scores = rng.normal(np.array([-1.0, 2.0])[z], np.array([0.5, 0.8])[z])
    gone = rng.random(4_000) < np.array([0.1, 0.6])[z]
    table = flat(number=np.where(gone, np.nan, scores))
    design = Design(Matrix.fit(table, scale="quantile"))
    v = np.where(gone, 0, scores)
    x = np.column_stack([np.ones(4_000), v, gone, v**2]).astype(np.float32)
    average = x.mean(axis=0, dtype=np.float64)
    start = [int(np.flatnonzero((z == k) & ~gone)[0]) for k in (0, 1)]  # a row of each class, else they stay equal
    now = design.maximise(x[start] + average, average, 0.01)
    for _ in range(200):
        now = design.maximise(design.expect(x, now)[1], average, 0.001)
    order = np.argsort(-now.weights)
    weights, mean = now.weights[order], now.mean[order]
    assert weights * (1 - mean[:, 1]) == pytest.approx([0.7 * 0.9, 0.3 * 0.4], abs=0.03)
    assert weights @ mean[:, 1] == pytest.approx(gone.mean(), abs=0.01)
    assert mean[:, 0] == pytest.approx([-1, 2], abs=0.1)
    assert np.sqrt(now.variance[order, 0]) == pytest.approx([0.5, 0.8], abs=0.06)


def test_log_likelihood_never_falls() -> None:
    table, _ = clustered(1_000)
    view = Matrix.fit(table, scale="quantile")
    design, rng = Design(view), np.random.default_rng(0)
    x = design.statistics(view.transform(table), rng)
    average = x.mean(axis=0, dtype=np.float64)
    now = design.maximise(x[:4] + 10 * average, average, 1e-9)
    found = []
    for _ in range(60):
        value, sums = design.expect(x, now)
        found.append(value)
        now = design.maximise(sums, average, 1e-9)
    assert np.diff(found).min() > -1e-5
    assert found[-1] > found[0] + 0.5
    assert sums[:, 0].sum() == pytest.approx(len(x), rel=1e-5)


def test_the_exponential_family_is_the_product() -> None:
    """log p(x) by hand, number and missing number alike."""
    table, _ = clustered(300)
    made = Mixture(classes=3, iterations=5).fit(table, seed=0)
    design = Design(made.view_)
    x = design.statistics(made.view_.transform(table), np.random.default_rng(0))
    theta, var = made.mean_, made.variance_[:, 0]
    by_hand = []
    for row in x:
        v = row[1:]
        p = made.weights_ * np.prod(np.where(v[:6] > 0.5, theta[:, :6], 1 - theta[:, :6]), axis=1)
        p *= theta[:, 6:9] @ v[6:9]
        gone, mu = v[10] > 0.5, theta[:, 9]
        p *= (
            theta[:, 10]
            if gone
            else (1 - theta[:, 10]) * np.exp(-((v[9] - mu) ** 2) / 2 / var) / np.sqrt(2 * np.pi * var)
        )
        by_hand.append(np.log(p.sum()))
    classes = Classes(made.weights_, made.survival_, made.mean_, made.variance_)
    assert design.expect(x, classes)[0] == pytest.approx(np.mean(by_hand), abs=1e-4)


def test_conditions_are_exact() -> None:
    """P(others | given) of samples against the posterior of the fitted model, summed over every pattern."""
    table = clustered()[0][["f0", "f1", "f2", "kind"]]
    made = Mixture(classes=3).fit(table, seed=0)
    w, theta = made.weights_, made.mean_
    for given in ({"f0": True}, {"f0": False, "kind": "c"}):
        chance = {}
        for f0, f1, f2, k in product([False, True], [False, True], [False, True], "abc"):
            row = {"f0": f0, "f1": f1, "f2": f2, "kind": k}
            if all(row[c] == v for c, v in given.items()):
                flags = np.prod([theta[:, j] if on else 1 - theta[:, j] for j, on in enumerate((f0, f1, f2))], axis=0)
                chance[tuple(row.values())] = float((w * flags * theta[:, 3 + "abc".index(k)]).sum())
        drawn = made.sample(40_000, given=given, seed=1)
        shares = drawn.value_counts(normalize=True)
        assert set(shares[shares > 0].index) <= set(chance)
        for row, p in chance.items():
            assert shares.get(row, 0.0) == pytest.approx(p / sum(chance.values()), abs=0.012)


def test_one_class_is_independent_columns() -> None:
    table, _ = clustered()
    made = Mixture(classes=1).fit(table, seed=0)
    assert made.mean_[0, :6] == pytest.approx(table[[f"f{j}" for j in range(6)]].mean().to_numpy(), abs=1e-4)
    drawn = made.sample(20_000, seed=1)
    flags = drawn[[f"f{j}" for j in range(6)]].to_numpy(dtype=float)
    assert np.abs(np.corrcoef(flags.T) - np.eye(6)).max() < 0.03
    assert drawn["kind"].value_counts(normalize=True)["a"] == pytest.approx((table["kind"] == "a").mean(), abs=0.02)
    assert drawn["number"].isna().mean() == pytest.approx(table["number"].isna().mean(), abs=0.02)
    assert np.nanquantile(drawn["number"], [0.1, 0.5, 0.9]) == pytest.approx(
        np.nanquantile(table["number"], [0.1, 0.5, 0.9]), abs=0.2
    )


def test_a_number_of_few_values_keeps_their_shares() -> None:
    values = np.random.default_rng(0).choice([0, 1, 7], size=2_000, p=[0.7, 0.2, 0.1])
    drawn = Mixture(classes=1).fit(flat(x=values, y=values > 3), seed=0).sample(20_000, seed=1)["x"]
    for value, share in ((0, 0.7), (1, 0.2), (7, 0.1)):
        assert (drawn == value).mean() == pytest.approx(share, abs=0.03)


def test_the_choice_of_classes() -> None:
    table, _ = clustered(1_500)
    rng = np.random.default_rng(1)
    alone = pd.DataFrame({c: table[c].array[rng.permutation(len(table))] for c in table.columns}).rename_axis("subject")
    one, more = (Mixture().fit(t, seed=0) for t in (alone, table))
    assert one.choice_ == len(one.weights_) == 1
    assert list(one.held_out_) == ["1", "2", "5"]  # ends after two candidates without gain
    assert more.choice_ == len(more.weights_) > 1
    assert max(more.held_out_, key=lambda k: more.held_out_[k]) == str(more.choice_)


@pytest.mark.parametrize("after", [1, 4])
def test_a_stopped_fit_keeps_what_it_has(after: int) -> None:
    table, _ = clustered(600)
    steps = []

    def log(step: int, **values: float) -> None:
        steps.append(step)
        assert set(values) == {"loss", "validation"}
        if len(steps) == after:
            raise StopFit

    made = Mixture().fit(table, seed=0, log=log)
    assert steps == list(range(1, after + 1))
    assert str(made.choice_) in made.held_out_
    assert len(made.sample(10, seed=0)) == 10
    assert len(Mixture(classes=5).fit(table, seed=0, log=log).weights_) == 5


def test_what_cannot_be_met_is_unsupported() -> None:
    table, _ = clustered(300)
    table = table.assign(never=False, always=True, kind=table["kind"].cat.add_categories("z"))
    made = Mixture(classes=3).fit(table, seed=0)
    drawn = made.sample(2_000, seed=0)
    assert not drawn["never"].any()
    assert drawn["always"].all()
    for given, says in [
        ({"never": True}, "no chance of never as asked: train never has it"),
        ({"always": False, "f0": True}, "no chance of always, f0"),
        ({"kind": "z"}, "no chance of kind"),
        ({"kind": "q"}, "a condition on 'kind': train knows no value 'q'"),
        ({"f0": "yes"}, "a condition on 'f0': train knows no value 'yes'"),
        ({"f9": True}, "a condition on 'f9', which train does not have"),
    ]:
        with pytest.raises(Unsupported, match=says):
            made.sample(5, given=given, seed=0)


def test_numbers_are_met_by_rejection_beside_exact_columns() -> None:
    x = np.random.default_rng(0).integers(0, 4, 500)
    made = Mixture(classes=2).fit(flat(x=x, y=x > 1), seed=0)
    drawn = made.sample(30, given={"x": 3, "y": True}, seed=0)
    assert (drawn["x"] == 3).all()
    assert drawn["y"].all()
    with pytest.raises(Unsupported, match="found 0 of 5 subjects with x as asked"):
        made.sample(5, given={"x": 99}, seed=0)


def test_lengths_and_statics_of_longitudinal_tables() -> None:
    data = open_dataset(TABLES["visits"], None).load()
    made = Mixture(classes=1).fit(data.table, target=data.roles.target, static=data.roles.static, seed=0)
    drawn = made.sample(4_000, seed=1)
    mine, real = (
        t.groupby(level="subject").size().clip(upper=made.view_.series.layout.steps) for t in (drawn, data.table)
    )
    for steps in range(1, 6):
        assert (mine == steps).mean() == pytest.approx((real == steps).mean(), abs=0.03)
    women = made.sample(50, given={"sex": "female"}, seed=1)
    assert (women["sex"] == "female").all()
    code = data.roles.codes[0]
    assert drawn[code].mean() == pytest.approx(data.table[code].mean(), abs=0.06)


def test_the_seed_fixes_fit_and_sample() -> None:
    table, _ = clustered(400)
    one, same, other = (Mixture(classes=4).fit(table, seed=s).sample(50, seed=s) for s in (1, 1, 2))
    pd.testing.assert_frame_equal(one, same)
    assert not one.equals(other)
