"""Reports and rows from fitted cells: what stands on the page, what of real people never does, the card."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import views
from bench.collect import records, render_file, write_boards
from bench.errors import BenchError
from bench.export import export
from bench.mirror import runs
from bench.report import write_report
from bench.run import run_cell
from bench.store import Store
from bench.suite import Suite, cells, find_suite
from conftest import write

SUITE = """
name = "shown"
about = "To be <b>shown</b>."
datasets = ["sim-ehr[codes=12,rows=300]", "sim-icu[rows=120]", "people.toml"]
generators = ["copycat", "marginal", "gaussian", "smote"]
metrics = ["c2st_auroc_gap", "cmd_distance", "tstr_auroc", "mia_distance_auroc_gap", "condition_rate_score"]
replicates = 2
"""
NETWORKS = """
name = "networks"
about = "Not run."
datasets = ["sim-fraud[rows=200]"]
generators = ["copycat", "ou", "tardiff", "bart"]
metrics = ["c2st_auroc_gap"]
"""
ROLES = """
file = "people.csv"
target = "ill"
"""
N = 240


def people() -> pd.DataFrame:
    """A table of a hospital's own: rare towns, a rare flag, a value that one person has."""
    rng = np.random.default_rng(0)
    age = rng.normal(50, 10, N).round(1)
    age[7] = 98.7654321
    town = np.where(np.arange(N) % 40 == 0, [f"canary-{i}" for i in range(N)], rng.choice(["north", "south"], N))
    ill = rng.random(N) < 0.3
    return pd.DataFrame({"age": age, "dose": rng.gamma(2, 3, N) + 4 * ill, "town": town, "scar": np.arange(N) % 60 == 0,
                         "smokes": rng.random(N) < 0.4, "ill": ill})  # fmt: skip


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Suite, Store, Path]:
    """A suite that has been run, and its page."""
    folder = tmp_path_factory.mktemp("shown")
    people().to_csv(folder / "people.csv", index=False)
    write(folder / "people.toml", ROLES)
    path = write(folder / "shown.toml", SUITE.replace("people.toml", str(folder / "people.toml")))
    suite, store = find_suite(str(path)), Store.open(folder / "store")
    for cell, _, _ in cells(suite, None):
        store.add(cell)
        record = run_cell(cell, store, data_dir=None, metric_names=suite.metric_names, phase=lambda name: None)
        assert record.status == "done", record.reason
    return suite, store, write_report(suite, store, None, to=None, replicate=0, tell=lambda line: None)


class Page(HTMLParser):
    """Sections, headings, tables and figures of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.specs: list[dict] = []
        self.rows = 0
        self.outside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [found["id"]] if found.get("id") else []
        self.rows += tag == "tr"
        self.outside += [v for k, v in attrs if k in ("src", "href") and v and not v.startswith(("#", "data:"))]
        self.open.append("json" if found.get("type") == "application/json" else tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "json" and data.strip():
            self.specs.append(json.loads(data))
            self.open.append("done")


def test_the_page_is_whole_and_needs_no_network(shown) -> None:
    _, _, path = shown
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.outside == []
    assert not re.search(r"@import|url\(http", text)
    for section in ("findings", "board", "trade-offs", "how-sure-is-this-order", "sim-icu-rows-120"):
        assert section in page.ids
    for figure in (
        "trade-offs-pareto-privacy-utility", "sim-ehr-codes-12-rows-300-prevalence", "sim-icu-rows-120-series",
        "people-roc", "people-marginals", "people-correlation", "people-embedding", "people-precision-recall",
    ):  # fmt: skip
        assert figure in page.ids
    assert "&lt;b&gt;shown&lt;/b&gt;" in text
    assert text.count('<tr class="reference"') == 2


def test_every_figure_is_one_that_plotly_knows_and_a_table(shown) -> None:
    from plotly.graph_objects import Figure

    text = shown[2].read_text(encoding="utf-8")
    specs = Page(text).specs
    assert len(specs) > 15
    for spec in specs:
        Figure(data=spec["data"], layout=spec["layout"])  # raises on an unknown property
        assert {t.get("meta") for t in spec["data"]} & {"gaussian", ""}
    assert text.count("<summary>As a table</summary>") == len(specs)


def test_copycats_curves_are_always_shown(shown) -> None:
    text = shown[2].read_text(encoding="utf-8")
    spec = next(s for s in Page(text[text.index('id="people-roc"') :]).specs)
    metas = {t["name"]: t["meta"] for t in spec["data"]}
    assert (metas["copycat, distance"], metas["gaussian, distance"]) == ("", "gaussian")
    assert '<option value="copycat">' not in text


def test_findings_have_intervals_and_say_what_cannot_be_told(shown) -> None:
    text = shown[2].read_text(encoding="utf-8")
    found = re.findall(r"<li>(.*?)</li>", text[: text.index('id="ranking"')], re.S)
    said = "\n".join(found)
    assert re.search(r"<strong>Fidelity:</strong> .* has the highest mean, -?\d\.\d\d \(.* to .*\), over", said)
    assert "<strong>Ended:</strong> 3 datasets × 4 generators × 2 replicates = 24 cells: 24 done." in said
    assert "<strong>Without resolution</strong>" in said


def test_of_a_users_own_people_nothing_but_aggregates_of_ten_is_shown(shown) -> None:
    suite, store, path = shown
    text = path.read_text(encoding="utf-8")
    assert "canary" not in text
    kept = {c.label: views.view(c, s, store, suite.name) for c, s, r in records(suite, store, None)
            if c.dataset == "people" and c.replicate == 0}  # fmt: skip
    assert "98.7" not in json.dumps(kept)
    one = kept["gaussian"]
    assert "points" not in one["embedding"]
    assert "cells" in one["embedding"]
    n = one["n"]["holdout"]
    cells_ = [x for row in one["embedding"]["cells"]["holdout"] for x in row if x is not None]
    shares = [x for m in one["marginals"] for x in m["holdout"] if x is not None] + cells_
    assert shares
    assert min(shares) >= views.FEWEST / n - 1e-3
    towns = next(m for m in one["marginals"] if m["name"] == "town")
    assert set(towns["at"]) <= {"north", "south"}
    assert "scar" not in one["correlation"]["names"]
    assert "smokes" in one["correlation"]["names"]


def test_a_few_who_are_left_over_cannot_be_told_from_the_rest() -> None:
    index = pd.RangeIndex(100)
    lots, few, none = np.zeros(60, int), np.full(37, 1), np.full(3, 2)
    places = np.concatenate([lots, few, none])
    assert views._shares(places, index, 3, 10) == [0.6, None, None]  # 0.37 beside it would tell of three
    assert views._shares(places, index, 3, 0) == [0.6, 0.37, 0.03]
    assert views._shares(np.concatenate([lots, few, few[:3]]), index, 3, 10) == [0.6, 0.4, None]


def test_points_and_single_series_are_of_shareable_data_alone(shown, monkeypatch: pytest.MonkeyPatch) -> None:
    suite, store, _ = shown
    cell, source, _ = next(
        x for x in records(suite, store, None) if x[0].key.startswith("sim-icu") and x[0].label == "gaussian"
    )
    folder = store.samples(cell.key)
    open_ = views._made(cell, source, store, folder)
    assert open_["embedding"]["points"]["synth"]
    assert open_["series"][0]["drawn"]
    monkeypatch.setattr(type(source), "shareable", False)
    monkeypatch.setattr(type(source), "simulated", False)
    closed = views._made(cell, source, store, folder)
    assert "points" not in closed["embedding"]
    assert all("drawn" not in channel for channel in closed["series"])
    assert {share for m in closed["marginals"] for share in m["holdout"]} >= {None}


def test_of_copycat_there_are_only_curves(shown) -> None:
    suite, store, _ = shown
    for cell, source, _ in records(suite, store, None):
        if cell.label == "copycat" and cell.replicate == 0:
            assert set(views.view(cell, source, store, suite.name)) == {"n", "precision_recall", "roc", "training"}


def test_a_view_is_made_once_and_again_when_samples_change(shown, monkeypatch: pytest.MonkeyPatch) -> None:
    suite, store, _ = shown
    cell, source, _ = records(suite, store, None)[-1]
    first = views.view(cell, source, store, suite.name)
    made = []
    monkeypatch.setattr(views, "_made", lambda *args: made.append(args) or {"n": {}})
    assert views.view(cell, source, store, suite.name) == first
    assert not made
    mark = store.samples(cell.key) / "stage.json"
    text = mark.read_text()
    try:
        mark.write_text(text + " ")
        assert views.view(cell, source, store, suite.name) == {"n": {}}
    finally:
        mark.write_text(text)


def test_an_attack_at_chance_lies_in_its_band_and_a_copy_does_not(shown) -> None:
    suite, store, _ = shown
    found = {c.label: views.view(c, s, store, suite.name)["roc"] for c, s, _ in records(suite, store, None)
             if c.dataset == "people" and c.replicate == 0}  # fmt: skip
    low, high = (np.array(found["marginal"][k]) for k in ("low", "high"))
    distance = {name: np.array(roc["distance"]) for name, roc in found.items()}
    assert (distance["copycat"] > high + 0.1).mean() > 0.5
    assert ((distance["marginal"] >= low - 0.1) & (distance["marginal"] <= high + 0.1)).all()


def test_training_curves_come_from_the_log(tmp_path: Path) -> None:
    log = write(
        tmp_path / "x.log", "[12:00:00] fit\n  step 10 loss=0.5 validation=nan\n  step 20 loss=0.25\n  tstr 3 s\n"
    )
    assert views.plain(views.training(log)) == {"loss": [[10.0, 20.0], [0.5, 0.25]], "validation": [[10.0], [None]]}
    assert views.training(tmp_path / "none.log") == {}


def test_the_boards_run_has_the_report_of_these_scores_alone(shown) -> None:
    suite, store, path = shown
    boards = write_boards(suite, store, None)
    board = runs(suite, store, None, boards)[-1]
    assert board.texts["report.html"] == path.read_text(encoding="utf-8")
    assert list(board.pictures) == ["board.png"]
    assert set(board.metrics) >= {"fidelity/gaussian", "privacy/copycat"}
    ranking = json.loads(board.texts["ranking.json"])
    assert ranking["columns"][:3] == ["generator", "unranked", "fidelity mean"]
    assert {row[0] for row in ranking["data"]} == {"copycat", "marginal", "gaussian", "smote"}
    old = path.read_text(encoding="utf-8")
    path.write_text(old.replace('name="made-from" content="', 'name="made-from" content="0'), encoding="utf-8")
    assert "report.html" not in runs(suite, store, None, boards)[-1].texts
    path.write_text(old, encoding="utf-8")


def test_boards_are_the_same_bytes_from_their_scores(shown, tmp_path: Path) -> None:
    suite, store, _ = shown
    boards = write_boards(suite, store, None)
    made = render_file(boards["scores.json"], tmp_path / "out")
    assert made["board.md"] == boards["board.md"].read_text(encoding="utf-8")
    for name in ("board.md", "board.csv", "board.json", "scores.json"):
        assert (tmp_path / "out" / name).read_bytes() == boards[name].read_bytes()
    assert (tmp_path / "out" / "board.png").read_bytes().startswith(b"\x89PNG")


def test_boards_say_which_generators_do_not_train_on_all_of_train(shown, tmp_path: Path) -> None:
    suite, store, page = shown
    plain = write_boards(suite, store, None)["board.md"].read_text()
    networks = find_suite(str(write(tmp_path / "networks.toml", NETWORKS)))
    boards = write_boards(networks, Store.open(tmp_path / "store"), None)
    note = (
        "Networks choose their training step on a share of train that they do not train on: 5 % tardiff; 10 % ou, bart."
    )
    assert note in boards["board.md"].read_text()
    assert note in json.loads(boards["board.json"].read_text())["about"]
    assert render_file(boards["scores.json"], None)["board.md"] == boards["board.md"].read_text()
    assert "Networks choose" not in plain + page.read_text()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not a file of scores"), ("[]", "no 'cells' in it"), ('{"cells": [], "format": 99}', "format 99"),
        ('{"cells": [{}], "format": 1}', "not a file of scores"), (None, "No such file"),
    ],
)  # fmt: skip
def test_scores_that_cannot_be_read_are_one_clear_line(content: str | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BenchError, match=says):
        render_file(path, None)


def test_reports_that_cannot_be_made(shown, tmp_path: Path) -> None:
    suite, store, _ = shown
    quiet = {"tell": lambda line: None}
    with pytest.raises(BenchError, match="replicate 2: suite shown has 0 to 1"):
        write_report(suite, store, None, to=None, replicate=2, **quiet)
    with pytest.raises(BenchError, match="no cell is done: `bench run --suite shown` runs them"):
        write_report(suite, Store(tmp_path / "empty"), None, to=None, replicate=0, **quiet)
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match=r"--out .*cannot be written"):
        write_report(suite, store, None, to=tmp_path / "file" / "r.html", replicate=0, **quiet)


# --- rows from a fitted cell ---


def test_rows_come_with_a_card(shown, tmp_path: Path) -> None:
    _, store, _ = shown
    out, card = export("people.gaussian.r1", store, None, tmp_path / "a" / "rows.csv", n=50, seed=0)
    table = pd.read_csv(out, index_col="subject")
    assert list(table.columns) == list(people().columns)
    assert len(table) == 50
    text = card.read_text(encoding="utf-8")
    assert text.startswith("# Card of a synthetic table\n\n50 synthetic subjects")
    for said in ("`gaussian`, version", "`people`, table, 192 train subjects", "a dataset of yours",
                 "mia_distance_auroc_gap", "no certificate of privacy", "replicate 1"):  # fmt: skip
        assert said in text
    again, _ = export("people.gaussian.r1", store, None, tmp_path / "again.parquet", n=50, seed=0)
    other, _ = export("people.gaussian.r1", store, None, tmp_path / "other.csv", n=50, seed=1)
    np.testing.assert_allclose(pd.read_parquet(again)["age"], table["age"])
    assert other.read_bytes() != out.read_bytes()
    own = pd.read_parquet(store.samples(next(k for k in store.keys("people.gaussian.r1"))) / "synth.parquet")
    assert not np.allclose(own["age"].iloc[:50], table["age"])  # another draw than the one that was scored
    whole, _ = export("people.gaussian.r1", store, None, tmp_path / "whole.csv", n=0, seed=0)
    assert len(pd.read_csv(whole)) == 192


@pytest.mark.parametrize(
    ("key", "out", "says"),
    [
        ("people.copycat.r0", "x.csv", "copycat hands out the rows of train: they are never exported"),
        ("people", "x.csv", "'people' begins the keys of 8 cells: people.copycat"),
        ("nobody", "x.csv", "no cell in .* has a key that begins with 'nobody'"),
        ("people.gaussian.r0", "x.xlsx", "ends in '.xlsx', expected .csv or .parquet"),
    ],
)
def test_rows_that_are_not_given(shown, key: str, out: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=says):
        export(key, shown[1], None, tmp_path / out, n=0, seed=0)
    assert not list(tmp_path.iterdir())
