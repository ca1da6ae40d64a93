"""The sentences of a report, from boards whose findings are known."""

import re

import pandas as pd
from test_boards import BASE, frame, scores

from leaderboards.findings import GAIN, WEIGHTS, sentences
from leaderboards.rank import Board
from leaderboards.report import report


def spread(value: float, step: float = 0.01) -> list[float]:
    return [value - step, value, value + step]


def over_replicates(c2st: float, tstr: float, risk: float, **more: float) -> dict[str, list[float]]:
    return {k: spread(v) for k, v in (scores(c2st, tstr, risk) | more).items()}


def board(**generators: dict[str, list[float]]) -> Board:
    base = {name: {k: spread(v, 0.001) for k, v in found.items()} for name, found in BASE.items()}
    return Board(frame(base | generators, replicates=3, datasets=("d", "e")))


def said(found: Board) -> dict[str, str]:
    """What follows each bold beginning."""
    parts = [sentence.removeprefix("**").split("**", 1) for sentence in sentences(found)]
    return {head.strip(": "): rest for head, rest in parts}


def test_who_leads_and_who_cannot_be_told_from_it() -> None:
    near = {k: values[::-1] for k, values in over_replicates(0.201, 0.799, 0.001).items()}
    found = said(board(good=over_replicates(0.2, 0.8, 0.0), near=near, poor=over_replicates(0.7, 0.55, 0.1)))
    text = found["Fidelity"]
    assert text.startswith(" `good` has the highest mean, 0.75 (0.7")
    assert "over 2 datasets; not to be told apart from it: `near`; below it: `poor`, the nearest by 0.62." in text
    assert found["Trade-off"].startswith(" `good`")
    assert "`good` wins under every weighting" in found["The weights do not decide"]


def test_one_replicate_tells_nothing_apart() -> None:
    one = Board(frame(BASE | {"good": scores(0.2, 0.8, 0.0), "poor": scores(0.7, 0.55, 0.0)}))
    assert "one replicate a dataset has no paired interval, so that nothing is told apart" in said(one)["Fidelity"]


def test_members_that_are_found_are_an_alarm() -> None:
    found = said(board(leak=over_replicates(0.2, 0.8, 0.6), safe=over_replicates(0.2, 0.8, 0.0)))
    text = found["Members are found"]
    assert "in samples of `leak` on 2 of 2 datasets, at most 0.60 (0.5" in text
    assert "by the distance attack on" in text
    assert "by chance about 0 of 4 such intervals would" in text
    assert ": `safe`. That is no certificate." in found["Members are not found"]
    assert "leak" not in found["Members are not found"]


def test_weights_and_datasets_that_decide_are_said() -> None:
    found = said(board(faithful=over_replicates(0.1, 0.6, 0.3), safe=over_replicates(0.5, 0.8, 0.0)))
    assert "`faithful`" in found["The weights decide"]
    assert "`safe`" in found["The weights decide"]
    assert sorted(re.findall("`(.*?)`", found["Trade-off"])) == ["faithful", "safe"]


def test_gains_stand_beside_what_costs_nothing() -> None:
    plain = over_replicates(0.2, 0.8, 0.0) | {WEIGHTS: spread(0.1)}
    found = said(board(helps=plain | {GAIN: spread(0.2)}, idle=plain | {GAIN: spread(0.0, 0.1)}))
    text = found["Drawn positives"]
    assert "beyond its interval in 2 of 4 cases: `helps` on d (+0.200" in text
    assert "above that of class weights, which need no generator, in 2." in text


def test_without_references_or_with_gaps_it_is_said() -> None:
    bare = said(Board(frame({"a": scores(0.2, 0.8, 0.0), "b": scores(0.3, 0.7, 0.0)})))
    assert "no generator has a mean" in bare["Fidelity"]
    assert "are not in this suite" in bare["Nothing is normalised"]
    lost = Board(frame(BASE | {"a": scores(0.2, 0.8, 0.0)}, off=[("d", "a", 0, "failed", "in fit: no")]))
    assert "no generator has a mean" in said(lost)["Fidelity"]
    assert "4 cells: 3 done, 1 failed" in said(lost)["Ended"]


def test_what_cannot_tell_good_from_bad_is_counted() -> None:
    noisy = Board(frame(BASE | {"a": scores(0.2, 0.8, 0.0)}, se=0.2))
    assert "1 of 3 pairs of a ranked score and a dataset" in said(noisy)["Without resolution"]
    assert "TSTR AUROC on 1 of 1" in said(noisy)["Without resolution"]


def test_a_page_of_scores_that_cannot_be_normalised_is_made() -> None:
    bare = Board(frame({"a": scores(0.2, 0.8, 0.0), "b": scores(0.3, 0.7, 0.0)}, replicates=2))
    page = report(bare, pd.DataFrame(), {}, title="T", about="", foot="", mark="")
    assert "Nothing is normalised" in page
    assert 'id="d"' in page
    assert "Trade-offs" not in page
