"""What is drawn of stored samples: who may be shown, what is suppressed, the same bytes twice; the two moons."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.draw import draw, embedded
from bench.errors import BenchError
from bench.mirror import runs
from bench.run import run_cell
from bench.store import Store
from bench.suite import Suite, cells, find_suite
from bench.whole import read_parquet
from conftest import write
from generators.diffusion.toy import ways
from leaderboards import pictures

SUITE = """
name = "drawn"
datasets = ["sim-fraud[rows=3000]"]
generators = ["copycat", "marginal", "gaussian"]
metrics = ["ks_gap"]
"""
PNG = b"\x89PNG"
NO_CHOICE = {"datasets": (), "labels": (), "embed": "pca", "replicate": 0}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Suite, Store]:
    folder = tmp_path_factory.mktemp("drawn")
    suite = find_suite(str(write(folder / "drawn.toml", SUITE)))
    store = Store.open(folder / "store")
    for cell, _, _ in cells(suite, None):
        if cell.generator != "marginal":  # which stays to be run
            store.add(cell)
            run_cell(cell, store, data_dir=None, metric_names=["ks_gap"], phase=lambda name: None)
    return suite, store


def test_pictures_of_a_suite(stored: tuple[Suite, Store]) -> None:
    suite, store = stored
    rows = {row[1]: row for row in draw(suite, store, None, **NO_CHOICE)}
    assert rows["copycat"][3:] == ("", "copycat's rows are train's: never drawn")
    assert rows["marginal"][3:] == ("", "not run yet")
    path = Path(rows["gaussian"][3])
    assert path.parent == store.board("drawn") / "pictures"
    first = path.read_bytes()
    assert first.startswith(PNG)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    draw(suite, store, None, **NO_CHOICE)
    assert path.read_bytes() == first
    parent = next(r for r in runs(suite, store, None, {}) if r.id.endswith("/gaussian"))
    assert list(parent.pictures) == [path.name]
    before = parent.digest
    path.write_bytes(first + b" ")  # a picture that has changed replaces its run
    assert next(r for r in runs(suite, store, None, {}) if r.id.endswith("/gaussian")).digest != before


def test_points_are_drawn_of_shareable_data_alone(stored: tuple[Suite, Store], monkeypatch: pytest.MonkeyPatch) -> None:
    suite, store = stored
    used = []
    for how in ("scatter", "density"):
        monkeypatch.setattr(pictures, how, lambda *a, how=how, **k: used.append(how) or PNG)
    chosen = {**NO_CHOICE, "labels": ["gaussian"]}
    draw(suite, store, None, **chosen)

    def private(*args):
        for cell, source, why in cells(*args):
            yield cell, replace(source, row=replace(source.row, access="yours")), why

    monkeypatch.setattr("bench.suite.cells", private)
    monkeypatch.setattr("bench.collect.cells", private)
    draw(suite, store, None, **chosen)
    assert used == ["scatter", "density"]


def test_the_drawn_minority_is_shown_and_the_samples_positives_where_none_was_asked_for(
    stored: tuple[Suite, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, plain = stored
    said = []
    monkeypatch.setattr(pictures, "scatter", lambda points, about, **k: said.append(about) or PNG)
    asked = Store.open(tmp_path / "store")
    (cell,) = (c for c, _, _ in cells(suite, None) if c.generator == "gaussian")
    asked.add(cell)
    run_cell(cell, asked, data_dir=None, metric_names=["condition_rate_score"], phase=lambda name: None)
    for store in (plain, asked):
        draw(suite, store, None, **{**NO_CHOICE, "labels": ["gaussian"]})
    drawn = [int(about.split("synth ")[1].split(" ")[0].replace(",", "").rstrip(".")) for about in said]
    y = read_parquet(plain.samples(cell.key) / "synth.parquet")["fraud"]
    assert drawn == [y.sum(), 2 * (len(y) - 2 * y.sum())]  # as many positives as train has; twice what balance lacks


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"embed": "pac"}, "unknown embedding 'pac': did you mean 'pca'?"),
        ({"replicate": 1}, "replicate 1: suite drawn has 0 to 0"),
        ({"labels": ["gausian"]}, "did you mean 'gaussian'?"),
    ],
)
def test_what_is_not_there_is_said(stored: tuple[Suite, Store], wrong: dict, says: str) -> None:
    with pytest.raises(BenchError, match=says.replace("?", r"\?")):
        draw(*stored, None, **{**NO_CHOICE, **wrong})


def test_pca_is_fitted_on_train_alone() -> None:
    rng = np.random.default_rng(0)
    train = rng.normal(size=(200, 5)) * [9, 3, 1, 1, 1]
    points, axes = embedded({"train": train, "synth": train[:, ::-1] * 50}, "pca")
    assert np.abs(np.corrcoef(points["train"][:, 0], train[:, 0])[0, 1]) > 0.99
    assert points["train"].mean(axis=0) == pytest.approx([0, 0], abs=1e-6)
    assert np.abs(points["synth"]).max() > 100  # what lies far outside is shown far outside
    assert axes[0].startswith("component 1 (8")


def test_umap_where_it_is_installed() -> None:
    groups = {"train": np.random.default_rng(0).normal(size=(60, 4))}
    try:
        import umap  # noqa: F401
    except ImportError:
        with pytest.raises(BenchError, match=r"needs umap-learn: pip install 'synth-health-bench\[umap\]'"):
            embedded(groups, "umap")
    else:
        assert embedded(groups, "umap")[0]["train"].shape == (60, 2)


# --- densities ---


def test_cells_of_fewer_than_ten_are_blank() -> None:
    edges = (np.array([0.0, 1, 2]), np.array([0.0, 1, 2]))
    x = np.repeat([[0.5, 0.5], [1.5, 0.5], [1.5, 1.5], [9.0, 9.0]], [10, 9, 30, 50], axis=0)
    found = pictures.shown(x, edges)
    assert found[0, 0] == 10
    assert found[1, 1] == 30
    assert np.isnan(found[1, 0])
    assert np.isnan(found[0, 1])


def test_the_cells_of_a_density_do_not_follow_an_extreme_subject() -> None:
    x = np.random.default_rng(0).normal(size=(2_000, 2))
    x[0] = [6.0, -6.0]
    across, up = pictures.grid(x)
    assert across[-1] < 4
    assert up[0] > -4
    assert np.diff(across) == pytest.approx(np.diff(up)[0])


def test_a_density_of_so_few_that_all_is_blank_is_a_picture() -> None:
    rng = np.random.default_rng(0)
    groups = {name: rng.normal(size=(12, 2)) for name in ("train", "synth", "holdout")}
    drawn = [pictures.density(groups, title="t", about="a", axes=("x", "y")) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert drawn[0].startswith(PNG)


# --- the two moons ---


def test_ways_start_and_end_where_they_should() -> None:
    from sklearn.datasets import make_moons

    x, _ = make_moons(1_000, noise=0.06, random_state=0)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    found, again = (ways(x, n=300, steps=600, visits=50, seed=0) for _ in range(2))
    assert found.forward.shape == found.reverse.shape == (len(found.times), 300, 2)
    assert found.forward[0].tolist() == x[:300].tolist()
    assert (found.reverse == again.reverse).all()
    assert np.abs(np.corrcoef(found.forward[-1].T, x[:300].T)[:2, 2:]).max() < 0.2  # at t = 4 all is forgotten
    assert found.forward[-1].std(axis=0) == pytest.approx([1, 1], abs=0.15)

    def away(points: np.ndarray) -> float:
        return float(np.median(np.sqrt(((points[:, None] - x) ** 2).sum(axis=2)).min(axis=1)))

    assert away(found.reverse[0]) < 0.1  # .04 to .06 over six seeds
    assert away(found.reverse[0]) < away(found.reverse[-1]) / 2
    shown = [pictures.paths(found.times, found.forward, found.reverse, at=(0, 1, 4), title="t", about="a")
             for _ in range(2)]  # fmt: skip
    assert shown[0] == shown[1]
