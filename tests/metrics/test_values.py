"""Values known by hand, and parity with scipy and scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import ks_2samp, pearsonr, spearmanr
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

import metrics
from metrics import Score, Undefined, attributes, boost, pairwise, privacy, resample
from metrics.tables import Tables


def flat(**columns) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    return pd.DataFrame(columns, index=pd.RangeIndex(n, name="subject"))


def codes(rows: list[str], y: str) -> pd.DataFrame:
    """Rows like "101" as code columns a, b, c, ...; y like "01"."""
    columns = {chr(97 + j): [row[j] == "1" for row in rows] for j in range(len(rows[0]))}
    return flat(**columns, y=[v == "1" for v in y])


def score(train, holdout, synth, name: str, **roles):
    found = metrics.score(Tables(train, holdout, synth, roles={"target": "y"} | roles), [name], seed=0)
    return found[name]


RNG = np.random.default_rng(0)
MANY = [f"{v:05b}" for v in RNG.integers(0, 32, 300)]
REAL = codes(MANY[:120], "01" * 60)
HELD = codes(MANY[120:200], "01" * 40)
DRAWN = codes(MANY[200:], "01" * 50)
NAMES = list("abcde")


# --- fidelity ---


def test_prevalence_against_scipy() -> None:
    p, q = HELD[NAMES].mean(), DRAWN[NAMES].mean()
    assert score(REAL, HELD, DRAWN, "prevalence_pearson_score", codes=NAMES).value == pytest.approx(
        pearsonr(p, q)[0], abs=1e-6
    )
    assert score(REAL, HELD, DRAWN, "prevalence_spearman_score", codes=NAMES).value == pytest.approx(spearmanr(p, q)[0])


def test_prevalence_ties_by_hand() -> None:
    held, synth = codes(["110", "100", "000", "001"], "0101"), codes(["100", "110", "010", "001"], "0101")
    # holdout .5 .25 .25, synth .5 .5 .25: ranks 3 1.5 1.5 and 2.5 2.5 1
    expected = pearsonr([3, 1.5, 1.5], [2.5, 2.5, 1])[0]
    assert score(held, held, synth, "prevalence_spearman_score", codes=list("abc")).value == pytest.approx(expected)


def test_mcad_by_hand() -> None:
    # codes per subject: holdout 0 1 2 3 (edges 0.15 apart), synth 3 3 3 3: shares 1/4 each against all in the last bin
    held = codes(["000", "100", "110", "111"], "0101")
    synth = codes(["111"] * 4, "0101")
    assert score(held, held, synth, "mcad_distance", codes=list("abc")).value == pytest.approx(0.75)
    assert score(held, held, held, "mcad_distance", codes=list("abc")).value == 0
    # what lies outside holdout's range goes to the end bins
    narrow = codes(["100", "110", "100", "110"], "0101")
    assert score(held, narrow, codes(["000", "111"], "01"), "mcad_distance", codes=list("abc")).value == pytest.approx(
        0
    )


def test_cmd_by_hand() -> None:
    held = flat(a=[0.0, 1, 2, 3], b=[0.0, 1, 2, 3], y=[True, False, False, True])
    synth = flat(a=[0.0, 1, 2, 3], b=[3.0, 2, 1, 0], y=[True, False, False, True])
    # pairs: (a, b) 1 against -1, (a, y) and (b, y) unchanged: (2 + 0 + 0) / 3
    assert score(held, held, synth, "cmd_distance").value == pytest.approx(2 / 3)
    frozen = synth.assign(b=1.0)  # constant in synth counts as correlation 0: |1 - 0| + |0 - 0| + |0 - 0|
    assert score(held, held, frozen, "cmd_distance").value == pytest.approx(1 / 3)
    assert score(held, held.assign(b=1.0), synth, "cmd_distance").value == pytest.approx(
        0
    )  # constant in holdout: left out


def test_cmd_against_numpy() -> None:
    expected = np.corrcoef(HELD.to_numpy(float).T) - np.corrcoef(DRAWN.to_numpy(float).T)
    off = ~np.eye(len(expected), dtype=bool)
    assert score(REAL, HELD, DRAWN, "cmd_distance").value == pytest.approx(np.abs(expected)[off].mean(), abs=1e-9)


def test_mmd_against_the_plain_sum() -> None:
    t = Tables(REAL, HELD, DRAWN, roles={"target": "y"})
    h, s = t.matrix("holdout").astype(float), t.matrix("synth").astype(float)
    sigma = pairwise.median_distance(t.matrix("train"), seed=0)

    def k(a, b):
        return np.exp(-cdist(a, b, "sqeuclidean") / (2 * sigma**2))

    def off(m):
        return (m.sum() - np.trace(m)) / (len(m) * (len(m) - 1))

    expected = off(k(s, s)) + off(k(h, h)) - 2 * k(h, s).mean()
    assert metrics.score(t, ["mmd_distance"], seed=0)["mmd_distance"].value == pytest.approx(expected, abs=1e-6)


def test_mmd_is_unbiased_and_its_error_is_right() -> None:
    """Two samples of one distribution: 0 on average; the jackknife error is the spread seen over samples."""
    values, errors = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        train, held, synth = (
            flat(x=rng.normal(size=n), z=rng.normal(size=n), y=rng.random(n) < 0.5) for n in (80, 60, 70)
        )
        found = score(train, held, synth, "mmd_distance")
        values.append(found.value)
        errors.append(found.se)
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(60)
    assert 0.5 * np.std(values) < np.mean(errors) < 2 * np.std(values)


@pytest.mark.parametrize("sizes", [(30, 17), (17, 30), (200, 200)])
@pytest.mark.parametrize("ties", [True, False])
def test_ks_against_scipy(sizes: tuple[int, int], ties: bool) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        a, b = (rng.normal(size=n) if not ties else rng.integers(0, 6, n).astype(float) for n in sizes)
        found = score(*(flat(x=v, y=np.arange(len(v)) % 2 == 0) for v in (a, a, b)), "ks_gap")
        assert found.value == pytest.approx(ks_2samp(a, b).statistic, abs=1e-9)


def test_ks_leaves_gaps_out() -> None:
    held = flat(x=[1.0, np.nan, 3.0, 4.0], y=[True, False, True, False])
    synth = flat(x=[np.nan, 4.0, 3.0, 1.0], y=[True, False, True, False])
    assert score(held, held, synth, "ks_gap").value == pytest.approx(0)


def test_tvd_by_hand() -> None:
    def table(levels: str, y: str) -> pd.DataFrame:
        return flat(c=pd.Categorical([v if v != "-" else None for v in levels], ["a", "b"]), y=[v == "1" for v in y])

    held, synth = table("aab-", "0011"), table("abbb", "0001")
    # c: (.5 .25 gap .25) against (.25 .75 0): half of .25 + .5 + .25; y: .5 against .25
    assert score(held, held, synth, "tvd_gap").value == pytest.approx((0.5 + 0.25) / 2)


def test_missing_rate_by_hand() -> None:
    held = flat(a=[1.0, np.nan], b=[1.0, 2.0], y=[True, False])
    synth = flat(a=[np.nan, np.nan], b=[1.0, np.nan], y=[True, False])
    assert score(held, held, synth, "missing_rate_gap").value == pytest.approx((0.5 + 0.5) / 2)
    plain = held.drop(columns="a")
    assert isinstance(score(plain, plain, plain, "missing_rate_gap"), Undefined)


def test_c2st_tells_what_differs_and_not_what_does_not() -> None:
    rng = np.random.default_rng(1)
    train, held, same = (flat(x=rng.normal(size=n), y=rng.random(n) < 0.5) for n in (300, 300, 400))
    null = score(train, held, same, "c2st_auroc_gap")
    assert abs(null.value) < 3 * null.se
    assert score(train, held, same.assign(x=same["x"] + 10), "c2st_auroc_gap").value > 0.99
    assert null.n == 300  # synth is cut to the holdout's size


# --- utility ---


def test_weighted_curves_against_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    y, s = rng.random(200) < 0.3, rng.integers(0, 20, 200) / 20
    w = resample.weights(200, seed=3, draws=5)
    auroc, auprc = resample.auroc(y, s, w), resample.auprc(y, s, w)
    for i in range(6):
        assert auroc[i] == pytest.approx(roc_auc_score(y, s, sample_weight=w[i]))
        assert auprc[i] == pytest.approx(average_precision_score(y, s, sample_weight=w[i]))


def test_bootstrap_errors_are_the_spread_over_samples() -> None:
    rng = np.random.default_rng(4)
    values, errors = [], []
    for _ in range(80):
        y = rng.random(150) < 0.3
        s = rng.normal(size=150) + y
        found = resample.auroc(y, s, resample.weights(150, seed=1))
        values.append(found[0])
        errors.append(resample.spread(found))
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.25)


def test_the_best_threshold_against_all_thresholds() -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        y, s = rng.random(40) < 0.3, rng.integers(0, 8, 40) / 8
        best = boost._best_threshold(y, s)
        every = [f1_score(y, s >= t, zero_division=0) for t in np.unique(s)]
        assert f1_score(y, s >= best, zero_division=0) == pytest.approx(max(every))


def test_boost_counts_against_scikit_learn() -> None:
    rng = np.random.default_rng(5)

    def table(n: int) -> pd.DataFrame:
        y = rng.random(n) < 0.2
        return flat(x=rng.normal(size=n) + 1.2 * y, z=rng.normal(size=n), y=y)

    train, held, synth = table(400), table(300), table(400)
    t = Tables(train, held, synth, minority=table(2_000).query("y"), roles={"target": "y"})
    found = metrics.score(t, ["boost_recall_score", "boost_precision_score", "boost_f1_score"], seed=0)
    prob, best = boost._fitted(t, "xgb", 100, 0)
    y = t.y("holdout")
    for threshold, name in ((0.5, "half"), (best, "best")):
        for metric, known in (("recall", recall_score), ("precision", precision_score), ("f1", f1_score)):
            key = f"boost_{metric}_score/xgb/100/{name}"
            assert found[key].value == pytest.approx(known(y, prob >= threshold))
    gain = found["boost_recall_score/xgb/100/half"].value - found["boost_recall_score/xgb/0/half"].value
    assert found["boost_recall_score/xgb/100/half/gain"].value == pytest.approx(gain)
    assert gain > 0


def test_boost_without_a_rare_class_or_minority_says_why() -> None:
    t = Tables(REAL, HELD, DRAWN, roles={"target": "y"}, no_minority="the generator cannot")
    assert metrics.score(t, ["boost_f1_score"], seed=0)["boost_f1_score"] == Undefined("the generator cannot")
    t = Tables(REAL, HELD, DRAWN, roles={"target": "y"}, minority=DRAWN)
    assert "not the rare one: 60 of 120" in metrics.score(t, ["boost_f1_score"], seed=0)["boost_f1_score"].reason


class Prior:
    """A judge that knows only how common the target is."""

    def fit(self, table, *, like, target, static, weight, seed):
        self.rate = table[target].mean()
        return self

    def predict(self, table):
        return np.full(len(table), self.rate)


class FirstColumn(Prior):
    """A judge that looks at one column alone."""

    def predict(self, table):
        return 1 / (1 + np.exp(-table["x"]))


def learnable(n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.3
    return flat(x=rng.normal(size=n) + 1.5 * y, z=rng.normal(size=n), y=y)


def test_judges_handed_in_are_heard_and_those_that_cannot_judge_are_not() -> None:
    """A judge whose AUROC with train itself is under 0.55 is left out of the mean by name."""
    tables = [learnable(300, seed) for seed in range(3)]
    t = Tables(*tables, roles={"target": "y"}, judges={"prior": Prior, "first": FirstColumn})
    found = metrics.score(t, ["tstr_auroc", "trtr_auroc"], seed=0)
    assert "no judge here: its TRTR AUROC is 0.50" in found["tstr_auroc/prior"].reason
    assert found["trtr_auroc/prior"].value == 0.5
    able = [found[f"tstr_auroc/{j}"].value for j in ("xgb", "rf", "lr", "first")]
    assert found["tstr_auroc"].value == pytest.approx(np.mean(able))
    assert found["tstr_auroc/first"].value == pytest.approx(roc_auc_score(t.y("holdout"), t["holdout"]["x"]))


def test_no_judge_at_all() -> None:
    found = metrics.score(Tables(REAL, HELD, DRAWN, roles={"target": "y"}, judges={}), ["tstr_auroc"], seed=4)
    able = [v for k, v in found.items() if "/" in k and isinstance(v, Score)]
    assert isinstance(found["tstr_auroc"], Score) == bool(able)  # the target is a coin: judges may all be unable


# --- neighbours ---


def test_nearest_against_cdist_and_copies_at_zero() -> None:
    rng = np.random.default_rng(6)
    a, b = rng.normal(size=(50, 7)) * 100, rng.normal(size=(80, 7)) * 100
    a[3] = b[11]
    d, i = pairwise.nearest(a, b)
    exact = cdist(a, b, "sqeuclidean")
    assert (i == exact.argmin(axis=1)).all()
    assert d == pytest.approx(exact.min(axis=1), rel=1e-4)
    assert d[3] == 0


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    a, b = (rng.random((n, 5)) < 0.3 for n in (40, 30))
    a, b = a.astype(np.float32), b.astype(np.float32)
    binary = np.array([True, True, True, False, False])

    def everything():
        city = np.concatenate([d for _, d in pairwise.manhattan(a, b, binary)])
        sums = pairwise.kernel_sums(a, b, 0.5, np.arange(40) % 3, 3)
        return pairwise.nearest(a, b)[0], city, sums

    whole = everything()
    assert whole[1] == pytest.approx(cdist(a, b, "cityblock"), abs=1e-5)
    assert whole[2].sum() == pytest.approx(np.exp(-0.5 * cdist(a, b, "sqeuclidean")).sum(), rel=1e-5)
    monkeypatch.setattr(pairwise, "BLOCK_BYTES", 700)
    for one, two in zip(whole, everything(), strict=True):
        assert two == pytest.approx(one, abs=1e-4)


# --- privacy ---


def test_mir_threshold_and_excess_by_hand() -> None:
    near = np.array([0.0, 0.0, 1.0, 5.0, 1.0, 2.0, 3.0, 4.0])
    member = np.arange(8) < 4
    # flags at 0: 2 of 2 members; excess 2 / (2 + 4). At 1: 3 - 1 over 4 + 4. The first is the larger
    assert privacy._threshold(near, member) == 0
    assert privacy._threshold(near, ~member) == 4  # 4 - 3 over 7 + 4 is the best a useless distance does
    assert privacy._threshold(-near, ~member) == -1 or privacy._threshold(np.ones(8), member) == -1


def test_membership_attacks_on_a_copy_and_on_strangers() -> None:
    rng = np.random.default_rng(8)

    def draw(n: int) -> pd.DataFrame:
        return flat(**{f"x{j}": rng.normal(size=n) for j in range(6)}, y=rng.random(n) < 0.5)

    train, held = draw(200), draw(200)
    assert score(train, held, train, "mia_distance_auroc_gap").value == 1
    assert score(train, held, train, "mir_f1").value == 1
    assert score(train, held, train, "mir_excess_risk").value == 0.5
    stranger = score(train, held, draw(200), "mia_distance_auroc_gap")
    assert abs(stranger.value) < 3 * stranger.se


def test_air_by_hand() -> None:
    """Known: the commoner half of four codes (a, b). Nearest synth over a, b; ties vote; even votes say no."""
    train = codes(["1010"] * 10 + ["0101"] * 10 + ["1100"] * 4, "01" * 12)
    synth = codes(["1010", "1011", "0101", "1100"], "0101")
    t = Tables(train, train, synth, roles={"target": "y", "codes": list("abcd"), "sensitive": list("abcd")})
    assert attributes._known(t) == (["a", "b"], ["c", "d", "y"])
    found = metrics.score(t, ["air_train", "air_holdout", "air_excess_risk"], seed=0)
    # "10??": two tied synths say c = 1 (both) and d = even: no; "01??": c = 0, d = 1; "11??": c = 0, d = 0
    # c: all right, F1 1. d: true for the ten "0101", said for them: F1 1.
    # y: the tied pair of "10??" votes 0 and 1: no; "01??" says 0; "11??" says 1
    said = np.r_[np.zeros(20), np.ones(4)]
    y = f1_score(train["y"], said)
    share = train[["c", "d", "y"]].mean().to_numpy()
    entropy = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    expected = (entropy * [1, 1, y]).sum() / entropy.sum()
    assert found["air_train"].value == pytest.approx(expected)
    assert found["air_excess_risk"].value == 0  # the holdout is the train table here


def test_air_on_numbers_and_categories_by_hand() -> None:
    place = pd.Categorical(["a", "b"] * 12)
    train = flat(k=np.arange(24.0), income=np.arange(24.0) * 10, place=place, y=[True, False] * 12)
    synth = train.assign(income=train["income"] + 11)  # train's IQR is 115: within a tenth of it
    roles = {"target": "y", "sensitive": ["income", "place"]}
    assert score(train, train, synth, "air_train", **roles).value == pytest.approx(1)
    far = train.assign(income=train["income"] + 12)
    t = Tables(train, train, far, roles=roles)
    weights = np.array([attributes._entropy(train[c]) for c in ("income", "place")])
    expected = weights[1] / weights.sum()  # no income is right, every place is
    assert metrics.score(t, ["air_train"], seed=0)["air_train"].value == pytest.approx(expected)


def test_few_subjects_are_undefined() -> None:
    tiny = REAL.iloc[:12]
    for name in ("mia_distance_auroc_gap", "mir_f1", "air_train"):
        found = score(tiny, tiny, tiny, name, codes=NAMES)
        assert isinstance(found, Undefined)
        assert "12 members" in found.reason


# --- tables ---


def test_scales_and_levels_come_from_train() -> None:
    train = flat(x=[0.0, 1, 2, 3, 4], c=pd.Categorical(["a", "b", "a", "b", "a"]), y=[True, False] * 2 + [True])
    other = flat(x=[100.0, np.nan, 2, 2, 2], c=pd.Categorical(["a", "a", "a", None, "b"]), y=[True] * 5)
    t = Tables(train, other, other, roles={"target": "y"})
    x = t.matrix("holdout")
    order = t["holdout"]
    assert x.shape == (5, 3 + 2 + 1)  # c one-hot with a gap, x with a flag, y
    number, level = (np.flatnonzero(np.array(t.columns) == name) for name in ("x", "c"))
    row = x[np.flatnonzero(order["x"] == 100)[0]]
    assert row[number] == pytest.approx([49, 0])  # less train's median 2, over its IQR of 2
    gap = x[np.flatnonzero(order["x"].isna())[0]]
    assert gap[number] == pytest.approx([0, 1])  # train's median, and the flag
    assert x[:, level].max() == pytest.approx(np.sqrt(0.5))


def test_flat_view_of_visits() -> None:
    index = pd.MultiIndex.from_tuples([(0, 0), (0, 1), (1, 0)], names=["subject", "time"])
    table = pd.DataFrame({"age": [40, 40, 50], "I10": [True, True, False], "y": [True, True, False]}, index)
    t = Tables(table, table, table, roles={"target": "y", "static": ["age", "y"], "codes": ["I10"]})
    flat_view = t.flat("train").sort_values("age")
    assert t.shape == "visits"
    assert flat_view["I10"].tolist() == [True, False]
    assert flat_view["I10 count"].tolist() == [2, 0]
    assert flat_view["n_steps"].tolist() == [2, 1]


def test_series_summaries_by_hand() -> None:
    index = pd.MultiIndex.from_product([[0], range(4)], names=["subject", "time"])
    table = pd.DataFrame({"hr": [1.0, np.nan, 5.0, 7.0], "y": True}, index)
    two = pd.concat([table, table.assign(y=False).rename(index={0: 1}, level=0)])
    t = Tables(two, two, two, roles={"target": "y", "static": ["y"]})
    found = t._summary("train").iloc[0]
    assert found["hr mean"] == pytest.approx(13 / 3 - 5)  # train's median is 5
    assert (found["hr min"], found["hr max"], found["hr first"], found["hr last"]) == (-4, 2, -4, 2)
    assert found["hr slope"] == pytest.approx(np.polyfit([0, 2, 3], [1, 5, 7], 1)[0])
    assert found["hr missing"] == 0.25


def test_tables_refuse_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="expected target and any of"):
        Tables(REAL, HELD, DRAWN, roles={"goal": "y"})
    with pytest.raises(ValueError, match="synth: column 'a' is not in both"):
        Tables(REAL, HELD, DRAWN.drop(columns="a"), roles={"target": "y"})


def test_scores_are_values() -> None:
    assert Score(0.5, None, 3) == Score(0.5, None, 3)
