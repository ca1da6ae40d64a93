"""The committed boards: rendered from the scores beside them; the reference of the regression check is whole."""

import pytest

from bench.check import BOARDS
from bench.collect import texts
from bench.suite import cells, find_suite
from conftest import ROOT
from leaderboards.compare import MOST
from leaderboards.scores import read

SCORES = sorted(BOARDS.glob("*/scores.json"))
README = (ROOT / "README.md").read_text(encoding="utf-8")


def first_table(text: str) -> list[str]:
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    end = next(i for i, line in enumerate(lines[start:], start) if not line.startswith("|"))
    return lines[start:end]


@pytest.mark.pinned
@pytest.mark.parametrize("path", SCORES, ids=lambda p: p.parent.name)
def test_a_committed_board_is_rendered_from_its_scores(path) -> None:
    """Write it anew with `bench board leaderboards/boards/NAME/scores.json --out leaderboards/boards/NAME`."""
    made = texts(path.read_text(encoding="utf-8"))
    assert (path.parent / "board.md").read_text(encoding="utf-8") == made["board.md"]
    assert (path.parent / "board.png").read_bytes().startswith(b"\x89PNG")


def test_the_readme_shows_a_committed_board() -> None:
    board = (BOARDS / "survey" / "board.md").read_text(encoding="utf-8")
    assert first_table(README[README.index("<!-- board -->") :]) == first_table(board)
    assert "](leaderboards/boards/survey/board.png)" in README


def test_the_reference_of_ci_is_whole() -> None:
    """Every cell of the suite, ten replicates, done, and at most eight headline scores."""
    frame, facts = read(BOARDS / "ci.json")
    suite = find_suite("ci")
    found = frame.drop_duplicates(["dataset", "generator", "replicate"])
    assert (found["status"] == "done").all()
    assert set(found.groupby(["dataset", "generator"]).size()) == {10}
    asked = {(cell.dataset, cell.label) for cell, _, _ in cells(suite, None)}
    assert set(zip(found["dataset"], found["generator"], strict=True)) == asked
    assert [*facts["headline"], "prevalence_holdout"] == suite.metric_names  # the floor of TSTR AUPRC
    assert len(facts["headline"]) <= MOST
    assert facts["history"][-1]["reason"]
