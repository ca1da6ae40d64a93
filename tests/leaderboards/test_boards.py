"""Intervals, scales, family means and ranks against known answers; boards that say what they should."""

import json
import re
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from bench.collect import texts
from generators import REGISTRY
from leaderboards import COLUMNS, render
from leaderboards.intervals import intervals
from leaderboards.rank import Board
from leaderboards.scores import to_text
from leaderboards.words import fixed
from metrics import METRICS

REFERENCES = ("copycat", "marginal", "uniform")


def frame(
    values: dict, *, replicates: int = 1, se: float = 0.01, datasets=("d",), off=(), native=True, arm_of=None,
    untuned_of=None, tuning=None,
) -> pd.DataFrame:  # fmt: skip
    """values: generator -> {metric: value}; off: (dataset, generator, replicate, status, reason) that are not done;
    arm_of: generator -> the first row of its generator, where that is another; untuned_of: generator -> the tuned row
    that it stands beside; tuning: generator -> how it was tuned."""
    lost = {o[:3]: o[3:] for o in off}
    rows = []
    for dataset in datasets:
        for generator, scores in values.items():
            for replicate in range(replicates):
                status, reason = lost.get((dataset, generator, replicate), ("done", ""))
                reference, first = generator in REFERENCES, (arm_of or {}).get(generator, generator)
                beside, how = (untuned_of or {}).get(generator, ""), (tuning or {}).get(generator)
                common = [dataset, "table", "", generator, first, beside, how, native or reference, reference,
                          replicate, status, reason]  # fmt: skip
                for metric, value in scores.items() if status == "done" else [("", None)]:
                    one = value[replicate] if isinstance(value, list) else value
                    undefined = "" if one is not None else "no reason to be here"
                    rows.append([*common, metric, one, se if one is not None else None, undefined, 800, 200])
    return pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(["value", "se", "n_train", "n_holdout"], float))


def scores(c2st: float, tstr: float, risk: float) -> dict[str, float]:
    return {"c2st_auroc_gap": c2st, "tstr_auroc": tstr, "mia_distance_auroc_gap": risk}


BASE = {
    "copycat": scores(0.0, 0.9, 1.0),
    "marginal": scores(0.8, 0.5, 0.0),
    "uniform": scores(1.0, 0.5, 0.0),
}


# --- intervals ---


def test_one_replicate_takes_its_own_error() -> None:
    found = intervals(frame({"a": {"tstr_auroc": 0.7}}, se=0.05), ["generator", "metric"], "value", "se").iloc[0]
    assert (found["mean"], found["se"]) == (0.7, 0.05)
    assert found["high"] - found["mean"] == pytest.approx(1.959964 * 0.05)


def test_more_replicates_take_their_spread_and_the_overlap() -> None:
    values = [0.7, 0.8, 0.9]
    found = intervals(frame({"a": {"tstr_auroc": values}}, replicates=3), ["metric"], "value", "se").iloc[0]
    se = np.std(values, ddof=1) * np.sqrt(1 / 3 + 200 / 800)
    assert found["se"] == pytest.approx(se)
    assert found["low"] == pytest.approx(0.8 - t.ppf(0.975, 2) * se)


def test_a_missing_value_or_error_gives_no_interval() -> None:
    gap = intervals(frame({"a": {"tstr_auroc": [0.7, None]}}, replicates=2), ["metric"], "value", "se").iloc[0]
    assert np.isnan([gap["mean"], gap["low"], gap["high"]]).all()
    alone = intervals(frame({"a": {"tstr_auroc": 0.7}}, se=np.nan), ["metric"], "value", "se").iloc[0]
    assert alone["mean"] == 0.7
    assert np.isnan(alone["low"])


# --- scales and families ---


def test_normalised_scores_by_hand() -> None:
    board = Board(frame(BASE | {"mine": scores(0.2, 0.8, 0.25)}))
    families = board.families
    assert families.loc["mine", ("fidelity", "mean")] == pytest.approx(0.75)
    assert families.loc["mine", ("utility", "mean")] == pytest.approx(0.75)
    assert families.loc["mine", ("privacy", "mean")] == pytest.approx(0.75)
    assert families.loc["copycat", ("privacy", "mean")] == 0
    assert families.loc["marginal", ("utility", "mean")] == 0
    assert families.loc["mine", ("fidelity", "se")] == pytest.approx(0.01 / 0.8)
    assert families.loc["mine", ("fidelity", "rank")] == 1
    assert np.isnan(families.loc["copycat", ("fidelity", "rank")])


def test_a_collapsed_score_is_clipped_in_means_only() -> None:
    board = Board(frame(BASE | {"awful": scores(40.0, 0.8, 0.25)}))
    assert board.families.loc["awful", ("fidelity", "mean")] == -1
    assert board.families.loc["awful", ("fidelity", "se")] == 0  # far outside, so is its interval
    assert render.rows(board).set_index(["generator", "metric"]).loc[("awful", "c2st_auroc_gap"), "normalised"] == -49


def test_resolution_decides_what_counts() -> None:
    board = Board(frame(BASE | {"mine": scores(0.2, 0.8, 0.25)}, se=0.2))
    assert board.scales.loc[("d", "tstr_auroc"), "resolution"] == pytest.approx(0.4 / 0.2)
    assert not board.scales.loc[("d", "tstr_auroc"), "usable"]
    assert board.families.loc["mine", ("utility", "gap")] == "no score with resolution"
    assert board.scales.loc[("d", "mia_distance_auroc_gap"), "usable"]
    text = render.markdown(board, title="T")
    assert "(TSTR AUROC ↑)" in text
    assert "Left out of the means for want of resolution: tstr_auroc (2.0)." in text


def test_the_floor_of_utility_is_chance_whatever_marginal_gets() -> None:
    low, high = (Board(frame(BASE | {"marginal": scores(0.8, auroc, 0.0), "mine": scores(0.2, 0.8, 0.25)}))
                 for auroc in (0.42, 0.61))  # fmt: skip
    for board in (low, high):
        assert board.scales.loc[("d", "tstr_auroc"), "floor"] == 0.5
        assert board.families.loc["mine", ("utility", "mean")] == pytest.approx(0.75)
    assert low.families.loc["marginal", ("utility", "mean")] < 0 < high.families.loc["marginal", ("utility", "mean")]


def test_the_floor_of_average_precision_is_the_prevalence() -> None:
    rows = {"copycat": (0.6, 0.1), "marginal": (0.2, 0.1), "mine": (0.35, 0.1)}
    board = Board(frame({g: {"tstr_auprc": v, "prevalence_holdout": p} for g, (v, p) in rows.items()}))
    assert board.scales.loc[("d", "tstr_auprc"), ["floor", "ceiling"]].tolist() == [0.1, 0.6]
    assert board.families.loc["mine", ("utility", "mean")] == pytest.approx(0.5)


def test_a_floor_that_beats_the_ceiling_has_no_resolution() -> None:
    upside = {**BASE, "marginal": scores(-0.1, 0.95, 0.0), "mine": scores(0.2, 0.8, 0.25)}
    board = Board(frame(upside))
    assert board.scales.loc[("d", "c2st_auroc_gap"), "resolution"] == 0
    assert board.families.loc["mine", ("fidelity", "gap")] == "no score with resolution"


def test_a_board_of_older_versions_says_so() -> None:
    made = frame(BASE | {"mine": scores(0.2, 0.8, 0.25)})
    now = {"metrics": {m: METRICS[m].version for m in BASE["copycat"]}, "generators": {"ou": REGISTRY["ou"].version}}
    assert "older versions" not in texts(to_text(made, title="T", versions=now))["board.md"]
    old = {"metrics": now["metrics"] | {"tstr_auroc": 0}, "generators": {"ou": 0}}
    text = texts(to_text(made, title="T", versions=old))["board.md"]
    assert "Made by older versions: 1 of 3 metrics and the generators `ou` have changed since;" in text


def test_without_references_nothing_is_normalised() -> None:
    board = Board(frame({"mine": scores(0.2, 0.8, 0.25), "yours": scores(0.1, 0.9, 0.5)}))
    assert board.scales.empty
    assert board.families[("fidelity", "mean")].isna().all()
    assert "(no reference)" in render.markdown(board, title="T")
    json.loads(render.as_json(board, title="T"))
    assert "mine" in render.csv(board)


@pytest.mark.parametrize("name", ["copycat", "marginal"])
def test_a_row_with_the_name_of_a_reference_is_no_reference(name: str) -> None:
    """Scales follow from generators that are references, not from what a row is called."""
    rows = frame(BASE | {"mine": scores(0.2, 0.8, 0.25)})
    assert ("d", "c2st_auroc_gap") in Board(rows).scales.index
    called = Board(rows.assign(reference=rows["reference"] & (rows["generator"] != name)))
    assert ("d", "c2st_auroc_gap") not in called.scales.index
    assert called.families[("fidelity", "mean")].isna().all()


def test_datasets_count_equally_and_gaps_are_refused() -> None:
    two = frame(BASE | {"mine": scores(0.2, 0.8, 0.25)}, datasets=("d", "e"))
    two.loc[(two["dataset"] == "e") & (two["generator"] == "mine") & (two["metric"] == "tstr_auroc"), "value"] = 0.6
    board = Board(two)
    assert board.families.loc["mine", ("utility", "mean")] == pytest.approx((0.75 + 0.25) / 2)
    lost = frame(BASE | {"mine": scores(0.2, 0.8, 0.25), "bad": scores(0.1, 0.85, 0.1)}, datasets=("d", "e"),
                 off=[("e", "bad", 0, "failed", "in fit: ValueError: no")])  # fmt: skip
    board = Board(lost)
    assert board.families.loc["bad", ("fidelity", "gap")] == "failed on e"
    assert board.families.loc["bad", ("fidelity", "rank")] == 2  # a failure ranks last
    assert "– no mean: `bad`: failed on e." in render.markdown(board, title="T")
    assert board.order[:2] == ["bad", "mine"]
    text = render.markdown(board, title="T")
    assert "| e         | bad         | 0            | failed   | in fit: ValueError: no |" in text
    assert "8 cells" not in text
    assert "2 datasets × 5 generators × 1 replicate = 10 cells: 9 done, 1 failed." in text


def test_an_undefined_score_is_a_gap_named() -> None:
    board = Board(frame(BASE | {"mine": scores(0.2, None, 0.25)}))
    assert board.families.loc["mine", ("utility", "gap")] == "tstr_auroc undefined on d"
    assert "undefined" in render.markdown(board, title="T")


def test_a_dataset_nobody_could_run_is_left_out_and_said() -> None:
    off = [("e", g, 0, "skipped", "absent: put it there") for g in [*BASE, "mine"]]
    board = Board(frame(BASE | {"mine": scores(0.2, 0.8, 0.25)}, datasets=("d", "e"), off=off))
    assert board.families.loc["mine", ("fidelity", "mean")] == pytest.approx(0.75)
    assert "## e\n\nNo cell is done: absent: put it there." in render.markdown(board, title="T")


def test_ranks_do_not_depend_on_the_order_of_rows() -> None:
    whole = frame(BASE | {"b": scores(0.2, 0.8, 0.25), "a": scores(0.3, 0.7, 0.5), "c": scores(0.2, 0.8, 0.25)})
    board, mixed = Board(whole), Board(whole.sample(frac=1, random_state=0))
    ranks = [b.families[("fidelity", "rank")].loc[["a", "b", "c"]].tolist() for b in (board, mixed)]
    assert ranks[0] == ranks[1] == [3, 1, 1]
    assert board.order[:3] == mixed.order[:3] == ["a", "b", "c"]


def test_no_place_over_all_families_is_given() -> None:
    """A mean of ranks that cannot be told apart put a copier of 5 % of train first: rows go by name."""
    board = Board(frame(BASE | {"worst": scores(0.9, 0.5, 0.9), "zbest": scores(0.1, 0.9, 0.1)}))
    assert board.order[:2] == ["worst", "zbest"]
    text = render.markdown(board, title="T")
    header = next(line for line in text.splitlines() if line.startswith("|"))
    assert [cell.strip() for cell in header.split("|")[1:-1]] == [
        "generator", "fidelity ↑", "utility ↑", "privacy ↑", "cells done",
    ]  # fmt: skip
    assert "no order over all families is given" in text.replace("\n", " ")


# --- rendering ---


def test_the_same_frame_gives_the_same_bytes() -> None:
    one, two = (Board(frame(BASE | {"mine": scores(0.2, 0.8, 0.25)}, native=False)) for _ in range(2))
    for made in (render.markdown, render.as_json):
        assert made(one, title="T", about="A") == made(two, title="T", about="A")
    assert render.csv(one) == render.csv(two)


def test_a_board_marks_what_must_be_marked() -> None:
    rows = frame(BASE | {"mine": scores(0.2, 0.8, 0.25)}, native=False)
    rows["subset"] = "10 of 20 rows"
    text = render.markdown(Board(rows), title="T")
    assert "| mine °" in text
    assert "*copycat*" in text
    assert "**a subset: 10 of 20 rows**" in text
    assert "One replicate: intervals are a resampling of the holdout alone." in text
    assert "table; 800 train and 200 holdout subjects" in text


def test_shapes_have_boards_of_their_own() -> None:
    rows = frame(BASE | {"a": scores(0.2, 0.8, 0.25), "b": scores(0.4, 0.6, 0.1)}, datasets=("d", "e"), native=False)
    assert "## By shape" not in render.markdown(Board(rows), title="T")
    rows.loc[rows["dataset"] == "e", "shape"] = "codes"
    rows.loc[(rows["dataset"] == "e") & (rows["generator"] == "a"), "native"] = True
    swap = (rows["dataset"] == "e") & (rows["metric"] == "c2st_auroc_gap")
    rows.loc[swap & (rows["generator"] == "a"), "value"] = 0.6
    text = render.markdown(Board(rows), title="T")
    table, codes = text[text.index("### table") :].split("### codes")
    assert "Over d." in table
    assert "Over e." in codes
    assert re.search(r"\| a ° +\| 0.75 ±0.02 #1", table)
    assert re.search(r"\| a +\| 0.25 ±0.02 #2", codes)
    assert re.search(r"\| b ° +\| 0.50 ±0.02 #1", codes)


def test_who_cannot_be_told_apart_shares_a_letter_in_the_ranking() -> None:
    steady = {k: [v] * 3 for k, v in scores(0.2, 0.8, 0.25).items()}
    wild = {k: [v - 0.05, v, v + 0.06] for k, v in scores(0.2, 0.8, 0.25).items()}
    poor = {k: [v - 0.01, v, v + 0.01] for k, v in scores(0.6, 0.55, 0.6).items()}
    base = {name: {k: [v - 0.001, v, v + 0.001] for k, v in found.items()} for name, found in BASE.items()}
    rows = frame(base | {"steady": steady, "wild": wild, "poor": poor}, replicates=3, datasets=("d", "e", "f"))
    text = render.markdown(Board(rows), title="T").split("## How sure")[0]
    assert re.search(r"\| steady +\| 0.75 ±\S+ #1 a ", text)
    assert re.search(r"\| wild +\| 0.75 ±\S+ #2 a ", text)
    assert re.search(r"\| poor +\| 0.25 ±\S+ #3 b ", text)
    assert "3 replicates are few" in text


def test_key_metrics_exist() -> None:
    assert {m.split("/")[0] for m in (*render.KEY, *render.CONTROLS, *render.CONDITION)} <= set(METRICS)


def test_what_rounds_to_zero_has_no_sign() -> None:
    assert fixed(-0.0004, 3) == "0.000"
    assert fixed(-0.0006, 3) == "-0.001"


def test_conditions_and_prompts_stand_apart_where_a_suite_asks_for_them() -> None:
    asked = {
        "condition_rate_score/I50": [0.5, 0.7], "condition_prevalence_error/I50": [0.3, 0.3],
        "condition_cmd_distance/I50": [None, None], "prompt_accuracy_score": [0.6, 0.8],
        "prompt_gain_score": [0.2, 0.4],
    }  # fmt: skip
    plain = {k: [v, v] for k, v in scores(0.4, 0.7, 0.1).items()}
    values = {name: {m: [v, v] for m, v in found.items()} for name, found in BASE.items()}
    target = {"condition_rate_score/target": [1.0, 1.0]}
    text = render.markdown(Board(frame(values | {"a": plain | target}, replicates=2)), title="t")
    assert "Drawn for a condition" not in text
    text = render.markdown(Board(frame(values | {"a": plain | target | asked}, replicates=2)), title="t")
    assert re.search(r"\| I50 +\| a +\| 0.600 ±\d", text)
    assert re.search(r"\| I50 +\| a .*\| – +\|", text)
    assert re.search(r"`a` meets 0.700 ±\S+ of what prompts say, 0.300 ±\S+ more than with shuffled prompts.", text)
    assert "| I50         | target" not in text


def test_what_drawn_positives_gain_stands_beside_what_needs_no_generator() -> None:
    plain = {k: [v, v] for k, v in scores(0.4, 0.7, 0.1).items()}
    values = {name: {m: [v, v] for m, v in found.items()} for name, found in BASE.items()}
    gains = {
        "boost_auprc/xgb/100/gain": [0.1, 0.3], "boost_auprc/xgb/oversampled/gain": [0.2, 0.6],
        "boost_auprc/xgb/weighted/gain": [0.0, 0.2], "balanced_tstr_auprc/xgb/balanced/gain": [0.0, 0.1],
    }  # fmt: skip
    text = render.markdown(Board(frame(values | {"a": plain | gains, "b": plain}, replicates=2)), title="t")
    assert "gain of" not in render.markdown(Board(frame(values | {"b": plain}, replicates=2)), title="t")
    part = text[text.index("| gain of") :]
    assert re.search(r"\| a +\| 0.200 ±\S+ +\| 0.050 ±", part)
    assert re.search(r"\| \*train's positives repeated\* +\| 0.400 ±\S+ +\| – ", part)
    assert re.search(r"\| \*classes weighted alike\* +\| 0.100 ±", part)
    assert "| b " not in part[: part.index("classes weighted")]


def rare(base: list[float], gain: float) -> dict[str, list[float]]:
    """Scores of a suite on rare events: every added positive moves them by the same, a moved threshold by .1."""
    out = {}
    for metric in ("recall", "precision", "f1"):
        for judge, step, (threshold, more) in product(("xgb", "rf"), (0, 5, 50, 100, 200, "weighted", "oversampled"),
                                                      (("half", 0.0), ("best", 0.1))):  # fmt: skip
            out[f"boost_{metric}_score/{judge}/{step}/{threshold}"] = [b + more + gain * (step != 0) for b in base]
    for judge, step in product(("xgb", "rf"), (0, 5, 50, 100, 200, "weighted", "oversampled")):
        out[f"boost_auprc/{judge}/{step}"] = [b + gain * i * (step != 0) for i, b in enumerate(base)]
    return out


def test_rare_events_have_one_table_a_judge_with_paired_gains() -> None:
    base = [0.3, 0.5, 0.7]
    board = Board(frame({"copycat": rare(base, 0.0), "a": rare(base, 0.05)}, replicates=3))
    text = render.markdown(board, title="t")
    tables = text[text.index("Rare events") :].split("XGBoost: gain of")[1].split("random forest: gain of")
    assert len(tables) == 2
    for table in tables:
        cells = {
            r[1].strip(): [c.strip() for c in r[2:-1]]
            for r in map(lambda x: x.split("|"), table.splitlines())
            if len(r) > 6
        }
        half = t.ppf(0.975, 2) * 0.2 * np.sqrt(1 / 3 + 200 / 800)
        assert cells["*train alone*"][0] == f"0.500 ±{half:.3f}"
        assert cells["*train alone*"][3] == f"0.600 ±{half:.3f}"
        assert cells["*threshold moved*"] == ["+0.100 ±0.000"] * 3 + ["–"] * 2
        assert cells["*classes weighted alike*"][0] == cells["a, 5 %"][0] == "+0.050 ±0.000"  # from the first shown, a
        assert cells["a, 200 %"][3] == "+0.050 ±0.000"
        half = t.ppf(0.975, 2) * 0.05 * np.sqrt(1 / 3 + 200 / 800)
        assert cells["a, 100 %"][4] == f"+0.050 ±{half:.3f}"
        assert cells["copycat, 50 %"] == ["+0.000 ±0.000"] * 5
        assert len([c for c in cells if c.endswith("%")]) == 8
    lost = frame({"copycat": rare(base, 0.0), "a": rare(base, 0.05)}, replicates=3, off=[("d", "a", 1, "failed", "x")])
    assert "a, 5 %" not in render.markdown(Board(lost), title="t")


def test_without_all_four_scores_there_is_no_table_of_rare_events() -> None:
    found = {m: v for m, v in rare([0.3, 0.5], 0.1).items() if "recall" not in m}
    assert "Rare events" not in render.markdown(Board(frame({"a": found}, replicates=2)), title="t")


def judged(base: list[float], gain: list[float], train: float) -> dict[str, list[float]]:
    """TSTR of two judges, xgb .1 above their mean and rf .1 below it, and TRTR."""
    tstr = [b + g for b, g in zip(base, gain, strict=True)]
    out = {}
    for metric in ("auroc", "auprc"):
        for judge, more in (("", 0.0), ("/xgb", 0.1), ("/rf", -0.1)):
            out[f"tstr_{metric}{judge}"] = [v + more for v in tstr]
            out[f"trtr_{metric}{judge}"] = [b + more + train for b in base]
    return out


def test_arms_stand_beside_their_first_and_train_paired_by_replicate() -> None:
    base, gain = [0.3, 0.5, 0.7], [0.0, 0.1, 0.2]
    gains = {"a": [0.0] * 3, "a moved": gain, "b": [0.01] * 3, "copycat": [0.05] * 3}
    values = {name: judged(base, more, 0.05) for name, more in gains.items()}
    board = Board(frame(values, replicates=3, arm_of={"a moved": "a"}))
    parts = render.markdown(board, title="t").split("| TSTR, ")[1:]
    assert [p.partition("|")[0].strip() for p in parts] == ["mean over judges", "judged by rf", "judged by xgb"]
    wide, narrow = (t.ppf(0.975, 2) * sd * np.sqrt(1 / 3 + 200 / 800) for sd in (0.2, 0.1))
    for part, more in zip(parts, (0.0, -0.1, 0.1), strict=True):
        lines = [[c.strip() for c in line.split("|")[1:-1]] for line in ("| " + part).splitlines() if line[:1] == "|"]
        assert lines[0][1:] == ["AUROC ↑", "less TRTR", "less a", "AUPRC ↑", "less TRTR", "less a"]
        cells = {row[0]: row[1:4] for row in lines}
        assert cells["a"] == [f"{0.5 + more:.3f} ±{wide:.3f}", "-0.050 ±0.000", "–"]
        assert cells["a moved"][1:] == [f"+0.050 ±{narrow:.3f}", f"+0.100 ±{narrow:.3f}"]
        assert cells["b"][1:] == ["-0.040 ±0.000", "–"]
        assert cells["*copycat*"][1:] == ["+0.000 ±0.000", "–"]


def test_arms_refuse_gaps_and_need_a_second_row() -> None:
    base, none = [0.3, 0.5, 0.7], [0.0] * 3
    values = {"a": judged(base, none, 0.0), "a moved": judged(base, [0.1] * 3, 0.0)}
    assert "Arms" not in render.markdown(Board(frame(values, replicates=3)), title="t")
    lost = frame(values, replicates=3, arm_of={"a moved": "a"}, off=[("d", "a moved", 1, "failed", "x")])
    assert "Arms" not in render.markdown(Board(lost), title="t")
    values["a"]["tstr_auroc"] = [0.3, None, 0.7]
    text = render.markdown(Board(frame(values, replicates=3, arm_of={"a moved": "a"})), title="t")
    assert re.search(r"\n\| a moved +\| 0.600 ±\S+ +\| \+0.100 ±0.000 +\| – ", text)


# --- tuning ---


def tuned(default: float | None, value: float | None, **more) -> dict:
    """How a cell was tuned, as a record says it."""
    said = {"per": "replicate", "objective": ["balanced"], "privacy": {"copy_risk": 0.05}, "time_s": None,
            "trial_s": 40.0, "trials_asked": 4, "trials": {"done": 3, "failed": 1}, "mark": "", "best": 1,
            "default": [default] if default is not None else None, "value": [value] if value is not None else None,
            "default_state": "done", "left_out": [], "unchecked": []}  # fmt: skip
    return said | more


def beside(tuning: dict) -> Board:
    """A tuned row, its untuned one, and references."""
    values = {
        "copycat": {"c2st_auroc_gap": 0.0}, "marginal": {"c2st_auroc_gap": 1.0},
        "other": {"c2st_auroc_gap": 0.5}, "a": {"c2st_auroc_gap": [0.2, 0.1, 0.3]},
        "a untuned": {"c2st_auroc_gap": [0.3, 0.3, 0.3]},
    }  # fmt: skip
    return Board(frame(values, replicates=3, untuned_of={"a untuned": "a"}, tuning={"a": tuning}))


def test_untuned_rows_stand_beside_tuned_ones_and_have_no_rank() -> None:
    board = beside(tuned(0.5, 0.7))
    assert board.order == ["a", "other", "a untuned", "copycat", "marginal"]
    ranks = board.families[("fidelity", "rank")]
    assert (ranks["a"], ranks["other"]) == (1, 2)
    assert np.isnan(ranks["a untuned"])
    text = render.markdown(board, title="t")
    assert "| a untuned" in text
    assert "| a           | 12 (3 failed) | 0.500 ±0.000" in text


def test_what_tuning_gained_is_paired_by_replicate() -> None:
    text = render.markdown(beside(tuned(0.5, 0.7)), title="t")
    row = next(line for line in text.splitlines() if line.startswith("| a ") and "failed" in line)
    cells = [c.strip() for c in row.split("|")[1:-1]]
    half = 4.302653 * np.std([-0.1, -0.2, 0.0], ddof=1) * np.sqrt(1 / 3 + 200 / 800)
    assert cells[2:] == ["0.500 ±0.000", "0.700 ±0.000", "+0.200 ±0.000", f"-0.100 ±{half:.3f}"]
    assert "Tuning: 4 trials a replicate, at most 40 s a trial, the same for every generator" in text
    assert "A trial may not exceed copy_risk 0.05." in text


def test_a_study_of_one_replicate_for_all_has_no_paired_interval() -> None:
    text = render.markdown(beside(tuned(0.5, 0.7, per="dataset")), title="t")
    row = next(line for line in text.splitlines() if line.startswith("| a ") and "failed" in line)
    cells = [c.strip() for c in row.split("|")[1:-1]]
    assert cells[1:] == ["4 (1 failed)", "0.500", "0.700", "+0.200"]
    assert "`a`: tuned on replicate 0 alone" in text
    assert "Tuning: 4 trials a dataset, on replicate 0" in text


def test_what_must_be_known_of_a_study_is_said() -> None:
    text = render.markdown(
        beside(tuned(None, None, mark="no trial was finished", left_out=["tstr_auprc"], unchecked=["copy_risk"])),
        title="t",
    )
    assert "`a` keeps its defaults: no trial was finished" in text
    assert "not in the objective, for want of resolution on the inner split: tstr_auprc" in text
    assert "no bound, for it is not defined on the inner split: copy_risk" in text
    over = render.markdown(beside(tuned(0.9, 0.5, default_state="infeasible")), title="t")
    assert "`a`: its defaults exceed the bounds on privacy, in 3 of 3" in over
    reused = {"from": "mine", "params": {}, "mark": "", "per": "replicate", "default": [0.1], "value": [0.2],
              "objective": ["utility"]}  # fmt: skip
    assert "Tuning: parameters of `mine`" in render.markdown(beside(reused), title="t")


def test_tuning_in_json() -> None:
    found = json.loads(render.as_json(beside(tuned(1 / 3, 0.7)), title="t"))["tuning"]
    assert [t["replicate"] for t in found] == [0, 1, 2]
    assert found[0]["default"] == [0.333333]
