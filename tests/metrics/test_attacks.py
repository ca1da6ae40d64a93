"""Privacy, utility and guidance: values known by hand, parity, and the pitfalls of published implementations.

A pitfall's test computes the faulty definition beside ours where the truth is known: it must fail, ours must hold.
Their numbers are those of the surveys of public benchmarks (4.x) and published systems (2.x) this was built from.
"""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss, f1_score, precision_recall_curve, roc_auc_score, roc_curve
from sklearn.neighbors import NearestNeighbors

import metrics
from metrics import Score, Undefined, judges, near, pairwise, privacy, resample, utility
from metrics.tables import Condition, Prompt, Tables


def flat(**columns) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    return pd.DataFrame(columns, index=pd.RangeIndex(n, name="subject"))


def normal(n: int, seed: int, d: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return flat(**{f"x{j}": rng.normal(size=n) for j in range(d)}, y=rng.random(n) < 0.4)


def sparse(n: int, seed: int, d: int = 20, rate: float = 0.03) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    codes = {f"c{j:02d}": rng.random(n) < rate for j in range(d)}
    return flat(**codes, y=rng.random(n) < 0.3)


def learnable(n: int, seed: int, rate: float = 0.3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    y = rng.random(n) < rate
    return flat(x=rng.normal(size=n) + 1.5 * y, z=rng.normal(size=n), y=y)


def scores(*tables: pd.DataFrame, names: list[str], seed: int = 0, **more) -> dict:
    return metrics.score(Tables(*tables, roles={"target": "y"}, **more), names, seed=seed)


# --- attacks ---


def test_density_attack_against_scikit_learn() -> None:
    t = Tables(normal(200, 0), normal(150, 1), normal(180, 2), roles={"target": "y"})
    kept = near.kept(t, 0)
    people = near.rows(t, "attacked", 0)[kept]
    logs = []
    for part in ("reference", "synth"):
        distance = NearestNeighbors(n_neighbors=5).fit(near.rows(t, part, 0)).kneighbors(people)[0]
        logs.append(np.log(distance).mean(axis=1))
    member = np.arange(len(people)) < len(people) // 2
    expected = 2 * roc_auc_score(member, logs[0] - logs[1]) - 1
    assert metrics.score(t, ["mia_density_auroc_gap"], seed=0)["mia_density_auroc_gap"].value == pytest.approx(expected)
    # the reference and the attacked are disjoint, the reference half as large
    assert len(people) == 2 * (near.count(t) - len(near.rows(t, "reference", 0)))


def test_tpr_at_one_percent_against_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    for decimals in (6, 1):  # without and with ties
        member = np.arange(1_200) < 600
        score = np.round(rng.normal(size=1_200) + member, decimals)
        fpr, tpr, _ = roc_curve(member, score, drop_intermediate=False)
        above = np.searchsorted(fpr, 0.01, side="right")
        share = (0.01 - fpr[above - 1]) / (fpr[above] - fpr[above - 1])
        expected = tpr[above - 1] + share * (tpr[above] - tpr[above - 1])
        found = privacy._tpr(score, member[None, :], ~member[None, :])[0]
        assert found == pytest.approx(expected, abs=1e-9)


def test_tpr_is_undefined_on_few_others() -> None:
    found = scores(normal(700, 0), normal(600, 1), normal(700, 2), names=["mia_tpr_at_1fpr_risk"])
    assert found["mia_tpr_at_1fpr_risk"].reason.startswith("400 attacked subjects who are no members, fewer than 500")


def test_nnaa_against_scikit_learn() -> None:
    train, held, synth = normal(90, 3), normal(60, 4), normal(90, 5)
    t = Tables(train, held, synth, roles={"target": "y"})

    def gap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        k = 2 if a is b else 1
        return NearestNeighbors(n_neighbors=k).fit(b).kneighbors(a)[0][:, -1]

    def accuracy(name: str, size: int) -> float:
        real, drawn = (near.rows(t, (part, size), 0) for part in (name, "synth"))
        assert len(real) == len(drawn) == size
        one = (gap(real, drawn) > gap(real, real)).mean()
        both = (one + (gap(drawn, real) > gap(drawn, drawn)).mean()) / 2
        return both - (size - 1) / (2 * size - 1)

    found = metrics.score(t, ["nnaa_risk"], seed=0)["nnaa_risk"]
    assert found.value == pytest.approx(accuracy("holdout", 60) - accuracy("train", 90))


def test_nnaa_sees_a_copy_a_noisy_copy_and_half_a_copy() -> None:
    """½ for a copy, with noise or without; about ¼ for half of one; 0 for fresh rows. Holdout is a quarter of train."""
    found: dict[str, list[float]] = {"copy": [], "noisy": [], "half": [], "fresh": []}
    for seed in range(8):
        train, held, fresh = (normal(n, 10 * seed + i) for i, n in enumerate((800, 200, 800)))
        noise = np.random.default_rng(seed).normal(size=(800, 4)) * 1e-6
        columns = [f"x{j}" for j in range(4)]
        noisy = train.assign(**dict(zip(columns, (train[columns].to_numpy() + noise).T, strict=True)))
        half = pd.concat([train[:400], fresh[:400]], ignore_index=True).rename_axis("subject")
        for name, synth in (("copy", train), ("noisy", noisy), ("half", half), ("fresh", fresh)):
            found[name].append(scores(train, held, synth, names=["nnaa_risk"], seed=seed)["nnaa_risk"].value)
    means = {name: float(np.mean(values)) for name, values in found.items()}
    error = np.std(found["fresh"], ddof=1) / np.sqrt(8)  # about 0.01
    assert means["copy"] > 0.5 - 4 * error
    assert means["noisy"] == pytest.approx(means["copy"], abs=4 * error)
    assert means["half"] == pytest.approx(0.25, abs=4 * error + 0.01)
    assert abs(means["fresh"]) < 4 * error


def test_samples_of_two_tables_have_places_of_their_own() -> None:
    """The same row numbers of tables in the order of their content would be nearly the same subjects."""
    train, held = normal(400, 0), normal(100, 1)
    t = Tables(train, held, train, roles={"target": "y"})
    rows = [set(near.picked(t, name, 100, 0)) for name in ("train", "synth")]
    assert len(rows[0] & rows[1]) < 50  # 25 by chance, with a standard error of 4


def test_copies_by_hand() -> None:
    train = flat(x=[1.0, 2, 3, 4], y=[True, False, True, False])
    held = flat(x=[1.0, 9], y=[True, False])  # the first is in train too
    synth = flat(x=[1.0, 2, 2, 7], y=[True, False, True, True])  # two of four are
    assert scores(train, held, synth, names=["copy_risk"])["copy_risk"].value == pytest.approx(2 / 4 - 1 / 2)


def test_the_shuffled_attack_is_at_chance() -> None:
    train, held = normal(200, 6), normal(200, 7)
    names = ["mia_distance_auroc_gap", "mia_density_auroc_gap", "mir_excess_risk", "air_excess_risk"]
    found = scores(train, held, train, names=names)
    for name in names:
        null = found[f"{name}/null"]
        assert abs(null.value) < 4 * null.se / np.sqrt(privacy.SHUFFLES)
        assert found[name].value > 5 * null.se


# --- pitfalls ---


def test_ties_at_distance_zero_do_not_hide_a_copy() -> None:
    """4.15: on sparse codes a strict `<` gives ties to the holdout and calls a copy of train perfectly private."""
    train, held = sparse(400, 0), sparse(400, 1)
    to_train, to_held = (pairwise_nearest(train, part) for part in (train, held))
    assert (to_train < to_held).mean() < 0.5  # the faulty share: no risk
    names = ["dcr_share_risk", "mia_distance_auroc_gap"]
    tables = [(sparse(400, seed), sparse(400, seed + 1)) for seed in range(0, 10, 2)]
    drawn = [scores(train, held, train, names=names) for train, held in tables]
    for name in names:
        values = [found[name].value for found in drawn]
        assert np.mean(values) > 5 * np.std(values, ddof=1) / np.sqrt(len(values))


def mixed(n: int, rng: np.random.Generator, d: int = 6, rate: float = 0.05) -> pd.DataFrame:
    """Codes, a category and a number of few values: most nearest subjects are tied."""
    codes = {f"c{j}": rng.random(n) < rate for j in range(d)}
    level = pd.Categorical.from_codes(rng.integers(0, 5, n), list("abcde"))
    return flat(**codes, level=level, days=rng.integers(1, 15, n).astype(float), y=rng.random(n) < 0.2)


def test_equal_distances_tie_whatever_table_they_are_measured_in() -> None:
    rng = np.random.default_rng(5)
    t = Tables(mixed(300, rng), mixed(90, rng), mixed(200, rng), roles={"target": "y"})
    synth = t.matrix("synth").astype(float)
    for name in ("train", "holdout"):
        table = t.matrix(name)
        found = np.sqrt(pairwise.nearest(t.matrix("synth"), table)[0])
        exact = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(table.astype(float)).kneighbors(synth)[0][:, 0]
        assert np.abs(found - exact).max() < 1e-5
    several = pairwise.neighbours(t.matrix("synth"), t.matrix("train"), 5)[0]
    gaps = np.diff(np.unique(several))
    assert gaps.min() > 1e-7  # nothing that differs by float noise alone


def test_an_ideal_generator_is_as_close_to_train_as_to_holdout() -> None:
    """Ties broken by float noise fall to one table or the other: the share is then off by many standard errors."""
    off = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        train, held, synth = (mixed(n, rng, 30, 0.1).drop(columns="days") for n in (600, 300, 600))
        found = scores(train, held, synth, names=["dcr_share_risk"])["dcr_share_risk"]
        off.append(found.value / found.se)
    assert np.mean(np.abs(off) > 1.96) < 0.2  # 0.05 by chance; eight of 40 would have a chance of 1 in 1,500
    assert abs(np.mean(off)) < 4 / np.sqrt(len(off))


def test_the_order_of_tied_subjects_changes_no_coverage() -> None:
    rng = np.random.default_rng(6)
    train, held, synth = (mixed(n, rng) for n in (300, 150, 300))
    values = []
    plain = [c for c in train if c != "y"]
    for names in ("pqrstuvwx", "xwvutsrqp"):  # names of columns decide their order as they arrive
        renamed = dict(zip(plain, names, strict=False))
        tables = [x.rename(columns=renamed).sample(frac=1, random_state=1) for x in (train, held, synth)]
        values.append(scores(*tables, names=["beta_recall_score"])["beta_recall_score"].value)
    h, s = (Tables(train, held, synth, roles={"target": "y"}).matrix(n).astype(float) for n in ("holdout", "synth"))
    distance = np.linalg.norm(h[:, None] - s[None], axis=2)
    fellow = NearestNeighbors(n_neighbors=2).fit(h).kneighbors(h)[0][:, 1]
    tied = distance <= distance.min(axis=1, keepdims=True) + 1e-4
    radius = np.linalg.norm(s - s.mean(axis=0), axis=1)
    rank = (radius[None, :] < radius[:, None] - 1e-5).mean(axis=1)
    grid = np.linspace(0, 1, 101)
    reached = (tied[:, :, None] * (rank[:, None] <= grid)).sum(axis=1) / tied.sum(axis=1, keepdims=True)
    share = ((distance.min(axis=1) <= fellow + 1e-4)[:, None] * reached).mean(axis=0)
    assert values == pytest.approx([1 - 2 * np.abs(share - grid).mean()] * 2, abs=1e-6)


def pairwise_nearest(a: pd.DataFrame, b: pd.DataFrame) -> np.ndarray:
    return NearestNeighbors(n_neighbors=1).fit(b.to_numpy(float)).kneighbors(a.to_numpy(float))[0][:, 0]


def test_a_small_holdout_does_not_look_like_a_leak() -> None:
    """4.15: with a holdout of half train's size, ideal synth is "closer to train" two times in three."""
    train, held, synth = normal(600, 0), normal(300, 1), normal(600, 2)
    faulty = (pairwise_nearest(synth, train) < pairwise_nearest(synth, held)).mean()
    assert faulty > 0.6
    found = scores(train, held, synth, names=["dcr_share_risk"])["dcr_share_risk"]
    assert abs(found.value) < 3 * found.se


def test_membership_f1_has_its_null_taken_off() -> None:
    """4.16: at a fixed threshold F1 is anything between 0 and 2/3 for an ideal generator; the excess is 0."""
    train, held, synth = normal(500, 3), normal(500, 4), normal(500, 5)
    d_train, d_held = (pairwise_nearest(x, synth) ** 2 for x in (train, held))
    raw = [f1_score(np.arange(1_000) < 500, np.r_[d_train, d_held] <= theta) for theta in (0.01, 0.5, 50)]
    assert min(raw) < 0.1
    assert max(raw) > 0.6
    found = scores(train, held, synth, names=["mir_excess_risk"])["mir_excess_risk"]
    assert abs(found.value) < 3 * found.se


def test_attribute_inference_has_a_control() -> None:
    """4.19: good synth predicts attributes of strangers as well as of members: utility, not leakage."""
    rng = np.random.default_rng(6)

    def linked(n: int) -> pd.DataFrame:
        a = rng.random(n) < 0.5
        return flat(a=a, b=np.where(rng.random(n) < 0.9, a, ~a).astype(bool), y=rng.random(n) < 0.5)

    tables = [linked(n) for n in (600, 600, 600)]
    t = Tables(*tables, roles={"target": "y", "codes": ["a", "b"], "sensitive": ["b"]})
    found = metrics.score(t, ["air_train", "air_excess_risk"], seed=0)
    assert found["air_train"].value > 0.4
    assert abs(found["air_excess_risk"].value) < 3 * found["air_excess_risk"].se


def test_one_outlier_in_synth_does_not_rescale_the_real_tables() -> None:
    """4.10: encoders fitted on synth too, or on it alone, let one row decide what is near."""
    train, held, synth = normal(300, 7), normal(300, 8), normal(300, 9)
    wild = synth.copy()
    wild.loc[0, "x0"] = 1e6
    both = np.concatenate([x.to_numpy(float)[:, :4] for x in (train, wild)])
    low, high = both.min(axis=0), both.max(axis=0)
    faulty = (train.to_numpy(float)[:, :4] - low) / (high - low)
    assert faulty[:, 0].std() < 1e-5  # the column is gone
    plain, disturbed = (Tables(train, held, s, roles={"target": "y"}).matrix("train") for s in (synth, wild))
    assert (plain == disturbed).all()
    names = ["mia_distance_auroc_gap"]
    change = (
        scores(train, held, wild, names=names)[names[0]].value - scores(train, held, synth, names=names)[names[0]].value
    )
    assert abs(change) < 0.02


def test_dropping_rare_codes_does_not_improve_cmd() -> None:
    """2.8, 4.4: leaving out columns that are constant in synth rewards a generator that never emits them."""
    rng = np.random.default_rng(10)
    a = rng.random(2_000) < 0.05
    names = ["a", "b", "c", "d"]

    def real(n: int) -> pd.DataFrame:
        a = rng.random(n) < 0.1
        return flat(a=a, b=np.where(rng.random(n) < 0.9, a, ~a).astype(bool), c=rng.random(n) < 0.4,
                    d=rng.random(n) < 0.4, y=rng.random(n) < 0.5)  # fmt: skip

    train, held, synth = (real(2_000) for _ in range(3))
    worse = synth.assign(b=a)  # the link of a and b is lost
    dropped = synth.assign(b=False)
    lost, gone = (scores(train, held, s, names=["cmd_distance"])["cmd_distance"].value for s in (worse, dropped))
    assert gone == pytest.approx(lost, rel=0.2)
    kept = [n for n in (*names, "y") if n != "b"]
    faulty = np.abs(np.corrcoef(held[kept].to_numpy(float).T) - np.corrcoef(dropped[kept].to_numpy(float).T)).mean()
    assert faulty < 0.5 * gone


def test_units_of_synth_alone_are_seen() -> None:
    """2.8 d: age divided in the real tables and not in synth swamps every pooled score; ours names the column's gap."""
    train, held, synth = normal(300, 11), normal(300, 12), normal(300, 13)
    found = scores(train, held, synth.assign(x0=synth["x0"] * 91), names=["ks_gap", "c2st_auroc_gap"])
    assert found["c2st_auroc_gap"].value > 0.8
    assert found["ks_gap"].value > scores(train, held, synth, names=["ks_gap"])["ks_gap"].value + 0.1


def test_nothing_is_random_twice() -> None:
    """4.13, SDMetrics 790: hidden subsampling. The same tables give the same scores."""
    tables = normal(300, 14), normal(200, 15), normal(300, 16)
    names = ["mmd_distance", "c2st_auroc_gap", "nnaa_risk", "mia_tpr_at_1fpr_risk"]
    assert scores(*tables, names=names) == scores(*tables, names=names)


def test_a_copy_is_no_more_faithful_than_a_fresh_draw() -> None:
    """4.1: scored against the rows it was fitted on, a memoriser is perfect; against a holdout it earns no more."""
    train, held, fresh = normal(500, 20), normal(500, 21), normal(500, 22)
    assert pairwise_nearest(train, train).max() == 0  # the faulty view of the copy
    assert pairwise_nearest(fresh, train).min() > 0
    names = ["c2st_auroc_gap", "mmd_distance", "ks_gap"]
    copy, drawn = (scores(train, held, s, names=names) for s in (train, fresh))
    for name in names:
        assert copy[name].value > drawn[name].value - 3 * np.hypot(copy[name].se, drawn[name].se)


def test_a_downstream_model_is_not_tested_on_rows_the_generator_saw() -> None:
    """4.2, 4.7: on train's own rows a copy looks far better than train itself on new people; on holdout it is equal."""
    train, held = learnable(300, 23), learnable(300, 24)
    t = Tables(train, held, train, roles={"target": "y"})
    found = metrics.score(t, ["tstr_auroc", "trtr_auroc"], seed=0)
    x, y = t.features("synth"), t.y("synth")
    faulty = roc_auc_score(t.y("train"), judges.xgboost(x, y, seed=0).predict_proba(t.features("train"))[:, 1])
    assert faulty > found["tstr_auroc/xgb"].value + 0.1
    assert found["tstr_auroc"] == found["trtr_auroc"]


def test_distances_between_unrelated_series_do_not_reward_the_mean() -> None:
    """4.12: paired by index, a constant at the mean is nearer to every real series than another real series is."""
    rng = np.random.default_rng(25)

    def walks(n: int) -> np.ndarray:
        return np.cumsum(rng.normal(size=(n, 12)), axis=1)

    real, fresh, mean = walks(300), walks(300), np.zeros((300, 12))
    paired = [np.linalg.norm(real - x, axis=1).mean() for x in (fresh, mean)]
    assert paired[1] < paired[0]

    def table(x: np.ndarray) -> pd.DataFrame:
        index = pd.MultiIndex.from_product([range(300), range(12)], names=["subject", "time"])
        return pd.DataFrame({"a": x.ravel(), "y": np.repeat(np.arange(300) % 2 == 0, 12)}, index=index)

    for name in ("autocorrelation_gap", "c2st_auroc_gap", "ks_gap"):
        good, collapsed = (
            metrics.score(
                Tables(table(walks(300)), table(real), table(x), roles={"target": "y", "static": ("y",)}),
                [name],
                seed=0,
            )[name].value
            for x in (fresh, mean)
        )
        assert collapsed > good + 0.2, name


def test_distance_to_the_closest_record_passes_what_the_attacks_find() -> None:
    """4.14: a fifth of synth are copies, the rest lies far out: its mean distance to train looks safe."""
    train, held = normal(1_000, 26), normal(1_000, 27)
    far = normal(1_000, 28)
    far[[c for c in far if c != "y"]] *= 2
    synth = pd.concat([train.iloc[:200], far.iloc[200:]], ignore_index=True).rename_axis("subject")
    assert pairwise_nearest(synth, train).mean() > pairwise_nearest(held, train).mean()  # "private"
    found = scores(train, held, synth, names=["mia_tpr_at_1fpr_risk", "copy_risk", "mia_distance_auroc_gap"])
    for name, least in (("mia_tpr_at_1fpr_risk", 0.1), ("copy_risk", 0.15), ("mia_distance_auroc_gap", 0.1)):
        assert found[name].value > least, name


def test_pearson_of_prevalences_says_nothing_of_rare_codes() -> None:
    """4.21: with the rare codes' prevalences dealt anew Pearson stays above 0.99."""
    rng = np.random.default_rng(29)
    rates = np.r_[np.linspace(0.05, 0.5, 20), np.geomspace(0.0005, 0.0095, 60)]
    names = [f"c{j:02d}" for j in range(80)]

    def draw(n: int, p: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame(rng.random((n, 80)) < p, columns=names).assign(y=rng.random(n) < 0.5).rename_axis("subject")

    dealt = np.r_[rates[:20], rng.permutation(rates[20:])]
    train, held = draw(8_000, rates), draw(4_000, rates)
    good, bad = (
        metrics.score(Tables(train, held, draw(8_000, p), roles={"target": "y", "codes": names}), ["fidelity"], seed=0)
        for p in (rates, dealt)
    )
    assert bad["prevalence_pearson_score"].value > 0.99
    for name in ("prevalence_spearman_score", "prevalence_rare_spearman_score", "prevalence_rare_denoised_score"):
        assert bad[name].value < good[name].value - 0.2
    assert bad["prevalence_logodds_error/under_1"].value > good["prevalence_logodds_error/under_1"].value + 0.3


def test_augmentation_is_tested_on_an_untouched_holdout() -> None:
    """4.24: oversampled before the split, the same positives stand on both sides and anything finds them."""
    train, held = normal(1_500, 30).assign(y=np.arange(1_500) < 30), normal(1_500, 31).assign(y=np.arange(1_500) < 30)
    both = pd.concat([train, *[train[train["y"]]] * 20])
    x, y = both[[f"x{j}" for j in range(4)]].to_numpy(), both["y"].to_numpy()
    half = np.random.default_rng(0).random(len(both)) < 0.5
    faulty = roc_auc_score(y[~half], judges.xgboost(x[half], y[half], seed=0).predict_proba(x[~half])[:, 1])
    assert faulty > 0.95  # on pure noise
    found = scores(train, held, train, names=["boost_auprc"], minority=train[train["y"]])
    for step in ("100", "oversampled"):
        assert found[f"boost_auprc/xgb/{step}"].value < 0.1


# --- utility ---


def test_recall_at_precision_and_brier_against_scikit_learn() -> None:
    train, held, synth = (learnable(400, s) for s in range(3))
    t = Tables(train, held, synth, roles={"target": "y"})
    names = ["recall_at_precision_score", "tstr_brier_error"]
    found = metrics.score(t, names, seed=0)
    for judge in ("xgb", "rf", "lr"):
        p, y = utility.predicted(t, "synth", judge, 0), t.y("holdout")
        precision, recall, _ = precision_recall_curve(y, p)
        assert found[f"recall_at_precision_score/{judge}"].value == pytest.approx(recall[precision >= 0.9].max())
        assert found[f"tstr_brier_error/{judge}"].value == pytest.approx(brier_score_loss(y, p))


def test_calibration_error_by_hand() -> None:
    y = np.arange(100) % 4 == 0
    one = np.ones((1, 100))
    assert utility._calibration(y, np.where(y, 1.0, 0.0), one)[0] == pytest.approx(0)
    assert utility._calibration(y, np.full(100, 0.75), one)[0] == pytest.approx(0.5, abs=0.08)
    # all wrong: but the third bin of ten holds five of either kind, whose errors cancel
    assert utility._calibration(y, 1.0 - y, one)[0] == pytest.approx(0.9)


def test_weights_are_those_of_balanced_classes() -> None:
    y = np.array([True, False, False, False])
    w = judges.alike(y)
    assert w[y].sum() == pytest.approx(w[~y].sum())
    assert w.mean() == pytest.approx(1)


def test_tsrtr_joins_train_and_the_first_of_synth() -> None:
    train, held, synth = learnable(100, 0), learnable(400, 1), learnable(100, 2)
    t = Tables(train, held, synth, roles={"target": "y"})
    found = metrics.score(t, ["tsrtr_auroc", "trtr_auroc"], seed=0)
    x = np.concatenate([t.features("train"), t.features("synth")[:40]])
    y = np.concatenate([t.y("train"), t.y("synth")[:40]])
    p = judges.xgboost(x, y, seed=0).predict_proba(t.features("holdout"))[:, 1]
    assert found["tsrtr_auroc/0.4"].value == pytest.approx(roc_auc_score(t.y("holdout"), p))
    gain = found["tsrtr_auroc/0.4"].value - found["trtr_auroc/xgb"].value
    assert found["tsrtr_auroc/0.4/gain"].value == pytest.approx(gain)


def test_boost_stands_beside_controls_that_need_no_generator() -> None:
    train, held = learnable(600, 3, rate=0.04), learnable(2_000, 4, rate=0.04)
    minority = learnable(8_000, 5, rate=0.5).query("y").iloc[:560]
    found = scores(train, held, train, names=["boost_recall_score", "boost_auprc"], minority=minority)
    for judge in ("xgb", "rf"):
        assert found[f"boost_recall_score/{judge}/0/half"].value < 0.3
        for control in ("weighted", "oversampled"):  # each does what the synthetic positives do
            assert found[f"boost_recall_score/{judge}/{control}/half/gain"].value > 0.05
        assert {f"boost_auprc/{judge}/{step}" for step in (0, 5, 50, 100, 200)} <= set(found)


def test_balancing_synth_beside_plain_synth_and_class_weights() -> None:
    train, held, synth = (learnable(n, s, rate=0.04) for n, s in ((800, 3), (2_000, 4), (800, 5)))
    minority = learnable(8_000, 6, rate=0.5).query("y").iloc[:1_400]
    names = ["balanced_tstr_auroc", "balanced_tstr_auprc", "tstr_auroc", "boost_auroc", "trtr_auroc"]
    found = scores(train, held, synth, names=names, minority=minority)
    for judge in ("xgb", "rf"):  # as drawn, and with nothing added to train, they are the scores of their own name
        assert found[f"balanced_tstr_auroc/{judge}/plain"].value == found[f"tstr_auroc/{judge}"].value
        assert found[f"boost_auroc/{judge}/0"].value == found[f"trtr_auroc/{judge}"].value
        for curve in ("auroc", "auprc"):
            plain, gain = (found[f"balanced_tstr_{curve}/{judge}/{w}"].value for w in ("plain", "balanced/gain"))
            assert found[f"balanced_tstr_{curve}/{judge}/balanced"].value == pytest.approx(plain + gain)
    assert found["balanced_tstr_auroc/xgb/balanced/gain"].value > 0.02  # 736 true positives more than 32
    copies = scores(train, held, synth, names=names[:1], minority=synth[synth["y"]])
    assert abs(copies["balanced_tstr_auroc/xgb/balanced/gain"].value) < 0.1  # no more than rebalancing
    absent = scores(train, held, synth, names=names[:1])
    assert isinstance(absent["balanced_tstr_auroc"], Undefined)


def test_expectations_of_prompts_met_by_hand() -> None:
    table = flat(
        sex=pd.Categorical(["f", "f", "m", "m"]), age=[70.0, 30.0, 80.0, np.nan], I50=[True, False, False, False],
        I51=[False, False, True, False], y=[True, False, True, False],
    )  # fmt: skip
    one = Prompt({"sex": "f", "age": (65, 120), "heart": frozenset({"I50", "I51"}), "y": True}, table)
    two = Prompt({"sex": frozenset({"m"}), "y": False}, table.iloc[2:])
    t = Tables(table, table, table, roles={"target": "y", "codes": ("I50", "I51")}, prompts=[one, two])
    found = metrics.score(t, ["prompt_accuracy_score", "prompt_gain_score"], seed=0)
    own = [(0.5 + 0.5 + 0.5 + 0.5) / 4, (1 + 0.5) / 2]
    others = [(0 + 0.5 + 0.5 + 0.5) / 4, (0.5 + 0.5) / 2]
    assert found["prompt_accuracy_score"].value == pytest.approx(np.mean(own))
    assert found["prompt_gain_score"].value == pytest.approx(np.mean(own) - np.mean(others))


def test_only_what_is_asked_for_is_computed() -> None:
    t = Tables(*(learnable(120, s) for s in range(3)), roles={"target": "y"})
    metrics.score(t, ["ks_gap", "cmd_distance"], seed=0)
    assert not {"predicted", "near", "air", "boost"} & {key[0] for key in t._memory}
    metrics.score(t, ["privacy"], seed=0)
    assert "predicted" not in {key[0] for key in t._memory}


def test_shared_work_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = []
    plain = judges.xgboost
    monkeypatch.setitem(judges.JUDGES, "xgb", (lambda *a, **k: fitted.append(1) or plain(*a, **k), False))
    t = Tables(*(learnable(120, s) for s in range(3)), roles={"target": "y"})
    metrics.score(t, ["trtr_auroc", "trtr_auprc", "tstr_auroc", "tstr_auprc", "tstr_brier_error"], seed=0)
    assert len(fitted) == 2  # once on train, once on synth


# --- guidance ---


def test_conditions_by_hand() -> None:
    train = flat(a=[True] * 30 + [False] * 30, b=[True] * 15 + [False] * 45, y=[True, False] * 30)
    drawn = flat(a=[True, True, True, False], b=[True, False, False, False], y=[True] * 4)
    t = Tables(train, train, train, roles={"target": "y"}, conditions={"a": Condition({"a": True}, drawn)})
    found = metrics.score(t, ["guidance"], seed=0)
    assert found["condition_rate_score/a"].value == 3 / 4
    # compared with the 60 of train and holdout who have a: b 30 of 60, y 30 of 60; drawn: b 1 of 4, y 4 of 4
    gaps = [abs(np.log(1.5 / 3.5) - 0), abs(np.log(4.5 / 0.5) - 0)]
    assert found["condition_prevalence_error/a"].value == pytest.approx(np.mean(gaps))
    assert "4 subjects to compare" in found["condition_cmd_distance/a"].reason


def test_conditions_are_compared_with_the_known_process_where_there_is_one() -> None:
    train, truth = normal(100, 0), normal(600, 1).assign(y=True)
    drawn = normal(600, 2).assign(y=True)
    t = Tables(train, train, train, roles={"target": "y"}, conditions={"y": Condition({"y": True}, drawn, truth)})
    found = metrics.score(t, ["condition_cmd_distance"], seed=0)["condition_cmd_distance/y"]
    names = [f"x{j}" for j in range(4)]
    gap = np.abs(np.corrcoef(truth[names].to_numpy().T) - np.corrcoef(drawn[names].to_numpy().T))
    assert found.value == pytest.approx(gap[~np.eye(4, dtype=bool)].mean(), abs=1e-5)
    assert found.n == 600


def test_prompts_by_hand() -> None:
    """Sex and status exactly, age in a range, a diagnosis by its codes: "male" is not found in "female" (2.8 f)."""

    def people(sex: list[str], age: list[float], i10: list[bool]) -> pd.DataFrame:
        return flat(sex=pd.Categorical(sex, ["female", "male"]), age=age, I10=i10, E11=[False] * len(sex),
                    y=[True] * len(sex))  # fmt: skip

    women = people(["female", "male"], [70, 50], [True, False])
    men = people(["male", "male"], [30, 80], [False, False])
    prompts = [Prompt({"sex": "female", "age": (60, 80), "hypertension": {"I10", "I11"}}, women),
               Prompt({"sex": "male", "age": (20, 40)}, men)]  # fmt: skip
    train = people(["male", "female"] * 2, [30, 40, 50, 60], [True, False] * 2)
    t = Tables(train, train, train, roles={"target": "y"}, prompts=prompts)
    found = metrics.score(t, ["prompt_accuracy_score", "prompt_gain_score"], seed=0)
    own = [np.mean([1 / 2, 1 / 2, 1 / 2]), np.mean([1, 1 / 2])]
    others = [np.mean([0, 1 / 2, 0]), np.mean([1 / 2, 0])]  # men against the first prompt, women against the second
    assert found["prompt_accuracy_score"].value == pytest.approx(np.mean(own))
    assert found["prompt_gain_score"].value == pytest.approx(np.mean(own) - np.mean(others))


# --- as published ---


def test_published_membership_by_hand() -> None:
    train, held, synth = (flat(x=x, y=[True] * 4) for x in ([0.0, 0.5, 9, 9], [0.5, 9, 9, 9], [0.0, 0, 0, 0]))
    t = Tables(train, held, synth, roles={"target": "y"})
    size = np.subtract(*np.quantile(train["x"], [0.75, 0.25]))
    near_train, near_held = ((v["x"] / size) ** 2 <= 5 for v in (t["train"], t["holdout"]))
    expected = f1_score([True] * 4 + [False] * 4, [*near_train, *near_held])
    assert metrics.score(t, ["mir_yan_f1"], seed=0)["mir_yan_f1"].value == pytest.approx(expected)


def test_micro_f1_is_accuracy() -> None:
    """2.8 b, c: HealthForge's MIR is 0.05 r + 0.95 (1 - r) whatever synth is, r the share of members."""
    train, held = normal(800, 0), normal(200, 1)
    for synth in (normal(800, 2), normal(800, 3) * 1.0, train):
        synth = synth.assign(y=synth["y"].astype(bool))
        found = scores(train, held, synth, names=["mir_healthforge_accuracy"])["mir_healthforge_accuracy"]
        assert found.value == pytest.approx(0.05 * 0.8 + 0.95 * 0.2, abs=0.03)


def test_bootstrap_errors_are_the_spread_over_fresh_holdouts() -> None:
    """The stored error of an attack agrees with the spread over redrawn people."""
    found = [scores(normal(300, 2 * i), normal(300, 2 * i + 1), normal(300, 99), names=["mia_distance_auroc_gap"])
             ["mia_distance_auroc_gap"] for i in range(30)]  # fmt: skip
    spread = np.std([f.value for f in found], ddof=1)
    assert np.mean([f.se for f in found]) == pytest.approx(spread, rel=0.35)
    assert isinstance(found[0], Score)
    assert not isinstance(found[0], Undefined)
    assert resample.DRAWS == 200
