"""Ratings, ranks, paired differences and tests against published and hand-made answers; what is said of an order."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_boards import BASE, frame, scores, tuned

from leaderboards import board_pictures, elo, render
from leaderboards.choices import front, sensitivity
from leaderboards.intervals import holm, intervals, pooled
from leaderboards.rank import Board
from leaderboards.standing import Standing, letters, signed_rank
from leaderboards.standing_tables import section

# Stigler (1994), citations among journals as in the vignette of BradleyTerry2: row is cited, column cites
CITED = np.array([[714, 730, 498, 221], [33, 425, 68, 17], [320, 813, 1072, 142], [284, 276, 325, 188]])
# Demšar (2006), table 6: AUC of C4.5, C4.5+m, C4.5+cf, C4.5+m+cf on 14 datasets. In the last row but one he prints .975
# twice and ranks them 2 and 3, by digits that are not printed: .9751 here
AUC = """
.763 .768 .771 .798  .599 .591 .590 .569  .954 .971 .968 .967  .628 .661 .654 .657  .882 .888 .886 .898
.936 .931 .916 .931  .661 .668 .609 .685  .583 .583 .563 .625  .775 .838 .866 .875  1 1 1 1
.940 .962 .965 .962  .619 .666 .614 .669  .972 .981 .9751 .975  .957 .978 .946 .970"""
CLASSIFIERS = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")
ENDS = {"copycat": 1.0, "marginal": 0.0, "uniform": 0.0}  # so that a score whose floor is marginal is its own norm


def utility(values: dict[str, list], **more) -> pd.DataFrame:
    """A frame whose utility is what values say: generator -> by dataset a score, or one for each replicate."""
    k = max(len(v) for v in values.values())
    parts = []
    for i in range(k):
        here = {g: v[i] for g, v in values.items()}
        j = max(len(v) if isinstance(v, list) else 1 for v in here.values())
        cells = {g: {"recall_at_precision_score": [v] * j if np.isscalar(v) else v} for g, v in (ENDS | here).items()}
        parts.append(frame(cells, replicates=j, datasets=(f"d{i:02}",), **more))
    return pd.concat(parts, ignore_index=True)


def standing(values: dict[str, list], **more) -> Standing:
    return Standing(Board(utility(values, **more)), "utility")


def demsar() -> Standing:
    table = np.array(AUC.split(), float).reshape(-1, 4)
    return standing({name: list(column) for name, column in zip(CLASSIFIERS, table.T, strict=True)})


def noisy(seed: int = 0, k: int = 7, g: int = 4, j: int = 3) -> pd.DataFrame:
    """All three families, generators from bad to good."""
    rng = np.random.default_rng(seed)
    parts = []
    for d in range(k):
        cells = {name: {m: [v] * j for m, v in found.items()} for name, found in BASE.items()}
        for i in range(g):
            plain = scores(0.7 - 0.5 * i / g, 0.55 + 0.3 * i / g, 0.3 + 0.1 * i / g)
            cells[f"g{i}"] = {m: list(v + 0.04 * rng.normal(size=j)) for m, v in plain.items()}
        parts.append(frame(cells, replicates=j, datasets=(f"d{d}",)))
    return pd.concat(parts, ignore_index=True)


# --- wins and Elo ---


def test_strengths_of_the_citation_data() -> None:
    found = elo.bradley_terry(CITED, ties=0)
    assert found - found[0] == pytest.approx([0, -2.9491, -0.4796, 0.2690], abs=5e-5)
    assert found.mean() == pytest.approx(0)
    shrunk = elo.bradley_terry(CITED)  # half a tie beside hundreds of citations
    assert shrunk == pytest.approx(found, abs=0.02)
    assert elo.bradley_terry(np.stack([CITED, CITED.T]), ties=0) == pytest.approx(np.stack([found, -found]))


def test_without_ties_who_never_lost_has_no_strength() -> None:
    never = np.array([[0, 3, 2], [0, 0, 1], [0, 1, 0]])
    with pytest.raises(ValueError, match="never lost"):
        elo.bradley_terry(never, ties=0)
    assert np.isfinite(elo.bradley_terry(never)).all()
    two = elo.bradley_terry(np.array([[0, 4], [0, 0]]))
    assert two[0] - two[1] == pytest.approx(np.log((4 + elo.TIES / 2) / (elo.TIES / 2)))


def test_a_failure_loses_to_all_and_ties_with_another() -> None:
    x = np.array([[[0.1, 0.2], [np.nan, 0.3], [np.nan, np.nan]]])
    assert elo.wins(x)[0].tolist() == [[0.5, 0.5, 1.0], [0.5, 0.5, 0.75], [0.0, 0.25, 0.5]]
    assert (elo.wins(np.full((1, 2, 3), np.nan)) == 0.5).all()
    ratings = elo.elo(np.array([[[0.5], [np.nan], [np.nan]]] * 4))[:, 0]
    assert ratings[0] > ratings[1] == pytest.approx(ratings[2])


def test_a_dataset_of_sixteen_replicates_weighs_as_much_as_one_of_two() -> None:
    many, few = np.full((2, 16), np.nan), np.full((2, 16), np.nan)
    many[:] = np.array([[1.0], [0.0]])
    few[:, :2] = np.array([[0.0], [1.0]])
    x = np.stack([many, few])
    assert elo.wins(x).mean(axis=0).tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert elo.elo(x)[:, 0] == pytest.approx(1000)


def test_planted_strengths_are_recovered() -> None:
    rng = np.random.default_rng(0)
    planted = np.array([150.0, 50, -20, -180])
    x = planted[None, :, None] / elo.POINTS + rng.gumbel(size=(4000, 4, 1))  # differences of Gumbels are logistic
    found = elo.elo(x, draws=200)
    assert found[:, 0] - 1000 == pytest.approx(planted, abs=15)
    assert found[:, 0].mean() == pytest.approx(1000)
    assert (found[:, 1] < found[:, 0]).all()
    assert (found[:, 0] < found[:, 2]).all()


def test_ratings_are_the_same_in_any_order_and_again() -> None:
    x = np.random.default_rng(1).normal(size=(9, 5, 3)) + np.arange(5)[:, None] / 3
    found, order = elo.elo(x, draws=100), np.array([3, 0, 4, 1, 2])
    assert (found == elo.elo(x, draws=100)).all()
    assert found[order] == pytest.approx(elo.elo(x[:, order], draws=100))
    assert np.isnan(elo.elo(x[:1])[:, 1:]).all()


def rating_coverage(k: int, runs: int, g: int = 5) -> float:
    """How often the interval holds the rating of endless datasets, with as many ties added for each."""
    rng = np.random.default_rng(k)
    level = np.linspace(0, 1.5, g)
    share = stats.norm.cdf((level[:, None] - level) / np.sqrt(2 * (1 + 0.3**2)))
    truth = elo.MIDDLE + elo.POINTS * elo.bradley_terry(share * k)
    held = 0.0
    for seed in range(runs):
        x = level[:, None] + rng.normal(size=(k, g, 1)) + 0.3 * rng.normal(size=(k, g, 2))
        found = elo.elo(x, draws=300, seed=seed)
        held += ((found[:, 1] <= truth) & (truth <= found[:, 2])).mean() / runs
    return held


def test_the_interval_of_a_rating_covers_where_there_are_thirty_datasets() -> None:
    assert 0.9 <= rating_coverage(30, 200) <= 0.98  # .93 on average, with a standard error of .01


def test_the_interval_of_a_rating_is_too_narrow_with_six_datasets_as_is_said() -> None:
    assert 0.78 <= rating_coverage(6, 100) <= 0.90


# --- by replicates ---


def test_differences_are_those_of_intervals_and_pooled() -> None:
    board = Board(noisy())
    one = Standing(board, "fidelity")
    each = board.each[board.each["family"] == "fidelity"].set_index(["dataset", "generator", "replicate"]).sort_index()
    for first, second in one.pairs.index:
        a, b = (each.xs(g, level="generator") for g in (first, second))
        d = a.assign(score=a["score"] - b["score"], score_se=np.nan).reset_index()
        found = intervals(d, ["dataset"], "score", "score_se")
        whole = pooled(found["mean"], found["se"], found["replicates"])
        mine = one.pairs.loc[(first, second)]
        assert mine[["mean", "se", "low", "high"]].tolist() == pytest.approx([*whole.values()], abs=1e-8)
        assert (mine["p"] < 0.05) == (whole["low"] > 0 or whole["high"] < 0)
    assert one.pairs["holm"].to_numpy() == pytest.approx(holm(one.pairs["p"]))
    last = one.generators[-1]
    assert one.behind.loc[last].tolist() == pytest.approx(
        [-one.pairs.loc[(one.generators[0], last), c] for c in ("mean", "high", "low")]
    )


def fifths(runs: int, k: int, replicates: int, held: int = 100) -> np.ndarray:
    """Indices (runs · k, replicates, 100) of random fifths of 500 subjects."""
    rng = np.random.default_rng(replicates)
    keys = rng.random((runs * k, replicates, 5 * held), dtype=np.float32)
    return keys.argpartition(held, axis=-1)[..., :held]


def pooled_coverage(values: np.ndarray, k: int) -> float:
    """values (runs · k, J): scores of overlapping splits whose truth is 0. How often the pooled interval holds it."""
    n, j = values.shape
    rows = {
        "group": np.repeat(np.arange(n), j),
        "v": values.ravel(),
        "se": np.nan,
        "n_train": 400.0,
        "n_holdout": 100.0,
    }
    found = intervals(pd.DataFrame(rows), ["group"], "v", "se")
    mean, se, replicates = (found[c].to_numpy().reshape(-1, k) for c in ("mean", "se", "replicates"))
    whole = [pooled(*one) for one in zip(mean, se, replicates, strict=True)]
    return float(np.mean([w["low"] <= 0 <= w["high"] for w in whole]))


@pytest.mark.parametrize("replicates", [3, 5])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_means_over_datasets_cover(k: int, replicates: int) -> None:
    runs = 800
    population = np.random.default_rng(k).normal(size=(runs * k, 500))
    population *= np.tile(np.linspace(0.5, 1.5, k), runs)[:, None]  # datasets are not equally noisy
    at = fifths(runs, k, replicates)
    values = np.take_along_axis(population[:, None], at, axis=-1).mean(axis=-1)
    assert 0.92 <= pooled_coverage(values, k) <= 0.98


@pytest.mark.parametrize("replicates", [3, 5])
def test_paired_differences_cover(replicates: int) -> None:
    """Two generators judged by the same holdout subjects, whose scores go together."""
    runs, k = 800, 4
    rng = np.random.default_rng(9)
    common = 2 * rng.normal(size=(runs * k, 500))
    own = [common + rng.normal(size=common.shape) for _ in range(2)]
    at = fifths(runs, k, replicates)
    a, b = (np.take_along_axis(x[:, None], at, axis=-1).mean(axis=-1) for x in own)
    assert 0.92 <= pooled_coverage(a - b, k) <= 0.98


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.6]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


def test_letters_where_neighbours_differ_and_others_do_not() -> None:
    names = "abcd"
    apart = {("a", "b"), ("a", "d"), ("b", "d")}  # a and c are alike though b between them is not like a
    different = np.array([[(x, y) in apart or (y, x) in apart for y in names] for x in names])
    assert letters(different) == ["a", "b", "abc", "c"]
    assert letters(np.zeros((3, 3), bool)) == ["a", "a", "a"]
    assert letters(~np.eye(30, dtype=bool))[25:27] == ["z", "a'"]


@pytest.mark.parametrize("density", [0.2, 0.5, 0.8])
def test_two_share_a_letter_just_where_they_do_not_differ(density: float) -> None:
    rng = np.random.default_rng(3)
    different = np.triu(rng.random((9, 9)) < density, 1)
    different |= different.T
    found = letters(different)
    assert all(found)
    for i, j in combinations(range(9), 2):
        assert bool(set(found[i]) & set(found[j])) == (not different[i, j])


# --- by datasets ---


def test_demsar_by_his_own_figures() -> None:
    one = demsar()
    assert one.ranks["mean"][[*CLASSIFIERS]].tolist() == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert one.critical == pytest.approx(1.25, abs=0.01)  # 2.569 · sqrt(4 · 5 / (6 · 14))
    assert one.friedman is not None
    ranks, k, g = one.ranks["mean"].to_numpy(), 14, 4
    plain = 12 * k / (g * (g + 1)) * ((ranks**2).sum() - g * (g + 1) ** 2 / 4)
    assert plain == pytest.approx(9.28, abs=0.005)
    tied = sum((n**3 - n).sum() for row in one.filled for n in [np.unique(row, return_counts=True)[1]])
    assert one.friedman[0] == pytest.approx(plain / (1 - tied / (k * g * (g**2 - 1))))  # scipy corrects for ties
    assert one.nemenyi is not None
    apart = one.ranks["mean"].to_numpy()[:, None] - one.ranks["mean"].to_numpy()
    assert ((one.nemenyi.to_numpy() < 0.05) == (np.abs(apart) > one.critical)).all()


def test_signed_ranks_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    for k in (6, 9, 30):
        d = rng.normal(size=k) + 0.4
        assert signed_rank(d) == pytest.approx(stats.wilcoxon(d, method="exact").pvalue)
    tied = np.array([1, 1, -2, 3, 3, 3, -1, 0.0])  # with ties scipy goes through all signs
    assert signed_rank(tied) == pytest.approx(stats.wilcoxon(tied, method=stats.PermutationMethod()).pvalue)
    assert signed_rank(np.zeros(7)) == 1


def test_signed_ranks_need_six_datasets() -> None:
    six = {"a": [0.5 + i / 100 for i in range(6)], "b": [0.4] * 6}
    found = standing(six).wilcoxon
    assert found is not None
    assert found.loc["a", "b"] == 2 / 2**6
    assert standing({g: v[:5] for g, v in six.items()}).wilcoxon is None


def test_equal_scores_neither_warn_nor_differ() -> None:
    one = standing({g: [[0.5] * 3] * 7 for g in "abc"})
    assert one.generators == ["a", "b", "c"]
    assert one.friedman == (0.0, 1.0)
    assert one.nemenyi is not None
    assert one.wilcoxon is not None
    assert (one.nemenyi == 1).all(axis=None)
    assert (one.wilcoxon == 1).all(axis=None)
    assert one.ranks.to_numpy() == pytest.approx(2)
    assert one.elo.to_numpy() == pytest.approx(1000)
    assert one.letters == {"a": "a", "b": "a", "c": "a"}
    assert "-0.000" not in "".join(section(one.board))


def test_a_failure_ranks_last_and_has_neither_letter_nor_difference() -> None:
    values = {"a": [0.3, 0.9, 0.9], "b": [0.2, 0.8, 0.8], "c": [0.1, 0.7, 0.7], "best": [0.9, 0.9, 0.9]}
    values = {g: [[x, x + 0.01, x - 0.02] for x in v] for g, v in values.items()}
    one = standing(values, off=[("d00", g, 1, "failed", "x") for g in ("b", "best")])
    assert one.generators == ["a", "c", "b", "best"]  # gaps last, by name
    assert one.ranks.loc["best", "mean"] == pytest.approx((3.5 + 1.5 + 1.5) / 3)  # last two places are shared
    assert one.behind.loc["best"].isna().all()
    assert set(one.letters) == {"a", "c"}
    assert one.win_rates.loc["best", "b"] == pytest.approx((5 / 6 + 2) / 3)  # both failed in one replicate of three
    text = "\n".join(section(one.board))
    assert "A gap on some dataset, so neither group nor difference: `b`, `best`." in text
    assert "In these tests a gap counts as a score of −1." in text


def test_an_undefined_score_is_no_value_in_comparisons() -> None:
    """A cell that lacks one of a family's scores is not compared by the mean of the others."""
    cells = {g: {m: [v, v] for m, v in found.items()} for g, found in BASE.items()}
    cells["copycat"]["prevalence_holdout"] = [0.1, 0.1]
    cells |= {g: {"tstr_auroc": [0.7, 0.7], "tstr_auprc": [0.7, None if g == "a" else 0.6]} for g in "ab"}
    for name, value in (("copycat", 0.9), ("marginal", 0.5), ("uniform", 0.5)):
        cells[name]["tstr_auprc"] = [value, value]
    one = Standing(Board(frame(cells, replicates=2)), "utility")
    assert np.isnan(one.scores[0, one.generators.index("a")]).tolist() == [False, True]


def test_a_generator_tuned_once_for_all_replicates_has_no_paired_interval() -> None:
    values = {g: [[x, x + 0.02, x + 0.03 * (g == "b")]] * 3 for g, x in (("a", 0.5), ("b", 0.6), ("c", 0.7))}
    one = standing(values, tuning={"a": tuned(0.5, 0.7, per="dataset")})
    assert set(one.letters) == {"b", "c"}
    assert one.behind.loc["a", "mean"] == pytest.approx(-0.2, abs=0.05)
    assert np.isnan(one.behind.loc["a", "low"])
    assert "without a paired interval: `a`." in "\n".join(section(one.board))


# --- front and sensitivity ---


def test_front_by_hand() -> None:
    values = np.array([[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.4], [0.5, 0.5, 0.5], [9, 9, np.nan]])
    assert front(values).tolist() == [True, True, True, False, True, False]


def test_sensitivity_by_hand() -> None:
    cells = BASE | {"mid": scores(0.4, 0.7, 0.5), "safe": scores(0.8, 0.5, 0.0), "none": scores(0.8, 0.5, 1.0)}
    found = sensitivity(Board(frame(cells)))  # means: mid (.5, .5, .5), safe (0, 0, 1)
    # safe is ahead where privacy weighs over a half (.6 to 1: 5+4+3+2+1 weightings), they tie at .5 (6 weightings)
    assert found.weightings == pytest.approx({"mid": (66 - 15 - 6 + 3) / 66, "safe": (15 + 3) / 66})
    assert found.left_out == {}
    board = Board(utility({"a": [0.9, 0.2, 0.5], "b": [0.5, 0.4, 0.5], "lost": [0.9, 0.9, 0.9]},
                          off=[("d01", "lost", 0, "failed", "x")]))  # fmt: skip
    assert sensitivity(board).left_out == {"utility": {"d00": "b", "d01": "lost"}}  # a .533, b .467
    assert sensitivity(board).weightings == {}


# --- what is said ---


def test_the_section_says_what_it_must_in_any_order_of_rows() -> None:
    rows = noisy()
    text = "\n\n".join(section(Board(rows)))
    assert text == "\n\n".join(section(Board(rows.sample(frac=1, random_state=1))))
    assert "## How sure is this order\n\nGenerators that share a letter" in render.markdown(Board(rows), title="t")
    assert "Not dominated over fidelity, utility and privacy" in text
    for said in ("### Fidelity", "### Privacy", "Over 7 datasets: Friedman χ²", "share of all 66: "):
        assert said in text
    assert [line.split("|")[3].strip() for line in text.splitlines() if line.startswith("| g3")][:2] == ["best"] * 2
    assert "copycat" not in text


def test_shuffled_rows_give_the_same_standing() -> None:
    rows = noisy(2)
    for family in ("fidelity", "utility", "privacy"):
        one, two = (Standing(Board(f), family) for f in (rows, rows.sample(frac=1, random_state=5)))
        assert one.generators == two.generators
        assert one.letters == two.letters
        pd.testing.assert_frame_equal(one.ranks, two.ranks, check_exact=True)
        pd.testing.assert_frame_equal(one.elo, two.elo, check_exact=True)


def test_few_datasets_and_one_replicate_are_said() -> None:
    two = Board(utility({"a": [0.9, 0.8], "b": [0.5, 0.4], "c": [0.6, 0.6]}))
    text = "\n".join(section(two))
    assert "One replicate: no paired interval, so no groups." in text
    assert "2 datasets, 3 generators: too few for tests over datasets" in text
    row = [c.strip() for c in next(x for x in text.splitlines() if x.startswith("| b")).split("|")[1:-1]]
    assert row[:4] == ["b", "–", "-0.400", "3.00"]  # nothing invented to either side
    assert "Fidelity" not in text
    assert section(Board(utility({"a": [0.9, 0.8]}))) == []
    assert section(Board(frame({"a": scores(0.1, 0.9, 0.5), "b": scores(0.2, 0.8, 0.5)}))) == []


def test_a_signed_rank_test_that_cannot_reach_is_said() -> None:
    text = "\n".join(section(Board(noisy())))  # 7 datasets: 2/2^7 over 6 pairs is .094
    assert "can tell none of 6 pairs apart: 7 datasets allow no p under 0.016" in text
    text = "\n".join(section(demsar().board))
    assert "Signed-rank tests with Holm: " in text


# --- pictures ---


def test_pictures_are_the_same_bytes_and_need_enough() -> None:
    board = Board(noisy(k=4))
    for made in (
        lambda: board_pictures.ranking(board, title="T", about="A"),
        lambda: board_pictures.critical(Standing(board, "utility"), title="T"),
    ):
        assert made() == made()
        assert made()[:8] == b"\x89PNG\r\n\x1a\n"
    assert board_pictures.ranking(Board(frame({"a": scores(0.1, 0.9, 0.5)})), title="no means", about="A")
    with pytest.raises(ValueError, match="got 1 datasets and 4 generators; a critical difference needs 3 of each"):
        board_pictures.critical(Standing(Board(noisy(k=1)), "utility"), title="T")
