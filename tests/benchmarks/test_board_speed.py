"""The bootstrap of Elo ratings at the size of a large public board, against plain loops; a whole board and its page."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from conftest import chromium
from leaderboards import COLUMNS, elo, render
from leaderboards.rank import Board
from leaderboards.report import report
from leaderboards.scores import from_text, to_text
from metrics import METRICS

DATASETS, GENERATORS, REPLICATES, DRAWS = 51, 84, 16, 1000
LOOPED = 20  # draws of the plain loop, whose time is scaled up to all
MOST_S = 3.0
BOARD_S, OPENED_S = 10.0, 3.0
LEVELS = {"copycat": 1.0, "marginal": 0.2, "uniform": 0.1} | {f"g{i}": 0.3 + 0.05 * i for i in range(9)}


def drawn() -> np.ndarray:
    """Scores (k, g, r) of generators from bad to good, some of which failed."""
    rng = np.random.default_rng(0)
    level = np.linspace(0, 3, GENERATORS)[:, None]
    x = level + rng.normal(size=(DATASETS, GENERATORS, 1)) + rng.normal(size=(DATASETS, GENERATORS, REPLICATES))
    x[rng.random(x.shape) < 0.01] = np.nan
    return x


def plain(wins: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Ratings of one draw from the comparisons (k, g, g): MM steps (Hunter 2004) until strengths stand."""
    won = np.tensordot(weights, wins, axes=1) + elo.TIES / 2
    np.fill_diagonal(won, 0)
    games, total, p = won + won.T, won.sum(axis=1), np.ones(len(won))
    for _ in range(10_000):
        new = total / (games / (p[:, None] + p)).sum(axis=1)
        new /= np.exp(np.log(new).mean())
        done = np.abs(np.log(new / p)).max() < elo.CLOSE
        p = new
        if done:
            break
    return elo.MIDDLE + elo.POINTS * np.log(p)


def regression(wins: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The same by logistic regression on pairs, as public boards of models often do."""
    won = np.tensordot(weights, wins, axes=1) + elo.TIES / 2
    i, j = np.nonzero(~np.eye(len(won), dtype=bool))
    met = np.zeros((len(i), len(won)))
    met[np.arange(len(i)), i], met[np.arange(len(i)), j] = 1, -1
    rows, y = np.concatenate([met, met]), np.repeat([1, 0], len(i))
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-6)
    found = model.fit(rows, y, sample_weight=np.concatenate([won[i, j], won[j, i]]))
    return elo.MIDDLE + elo.POINTS * (found.coef_[0] - found.coef_[0].mean())


def test_elo_with_intervals_against_one_fit_a_draw(benchmark) -> None:
    """1,000 draws at 84 generators, 51 datasets and 16 replicates, comparisons included; the loop is given them."""
    x = drawn()
    found = benchmark.pedantic(lambda: elo.elo(x, draws=DRAWS), rounds=3)
    weights = np.random.default_rng(0).multinomial(DATASETS, np.full(DATASETS, 1 / DATASETS), size=LOOPED)
    wins = elo.wins(x)
    slow = {}
    for fit in (plain, regression):
        start = time.perf_counter()
        looped = [fit(wins, w) for w in weights]
        slow[fit.__name__] = (time.perf_counter() - start) / LOOPED * DRAWS
        wide = found[:, 2] - found[:, 1]
        assert (np.abs(np.array(looped) - found[:, 0]) < 2 * wide).all()  # draws of the same bootstrap
        assert np.abs(fit(wins, np.ones(DATASETS)) - found[:, 0]).max() < 0.5
    quick = benchmark.stats["min"]
    benchmark.extra_info |= {"seconds": round(quick, 2)}
    benchmark.extra_info |= {f"{name}, seconds": round(s, 1) for name, s in slow.items()}
    benchmark.extra_info |= {f"{name}, ratio": round(s / quick, 1) for name, s in slow.items()}
    assert quick < MOST_S
    assert slow["plain"] > 2 * quick
    assert slow["regression"] > 10 * quick


def whole() -> pd.DataFrame:
    """A frame of 12 generators, 12 datasets, 10 replicates and 45 scores that have resolution."""
    rng = np.random.default_rng(1)
    names = [f"{m}/{i}" if i else m for m in METRICS for i in range(2)][:45]
    upwards = {m: METRICS[m.split("/")[0]].up != (METRICS[m.split("/")[0]].family == "privacy") for m in names}
    keys = pd.MultiIndex.from_product([[f"d{i}" for i in range(12)], LEVELS, range(10), names])
    rows = keys.to_frame(index=False, name=["dataset", "generator", "replicate", "metric"])
    level = rows["generator"].map(LEVELS).to_numpy()
    value = np.where(rows["metric"].map(upwards), level, 1 - level) + rng.normal(0, 0.02, len(rows))
    return rows.assign(
        shape="table", subset="", arm_of=rows["generator"], untuned_of="", tuning=None, native=True, status="done",
        reference=rows["generator"].isin(["copycat", "marginal", "uniform"]), reason="", value=value, se=0.02,
        undefined="", n_train=800.0, n_holdout=200.0,
    )[COLUMNS]  # fmt: skip


def test_a_board_of_twelve_by_twelve(benchmark, tmp_path: Path) -> None:
    """From scores to the file of scores and back, to Markdown, CSV, JSON and the page, which opens in a browser."""
    frame = whole()

    def made() -> tuple[str, ...]:
        board = Board(from_text(to_text(frame))[0])
        page = report(board, pd.DataFrame(), {}, title="t", about="", foot="", mark="")
        return render.markdown(board, title="t"), render.csv(board), render.as_json(board, title="t"), page

    found = benchmark.pedantic(made, rounds=1)
    names = "md csv json html".split()
    benchmark.extra_info |= {name: len(text) for name, text in zip(names, found, strict=True)}
    assert benchmark.stats["min"] < BOARD_S
    (tmp_path / "report.html").write_text(found[-1], encoding="utf-8")
    browser = chromium()
    try:
        browser.get((tmp_path / "report.html").as_uri())
        opened = browser.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd") / 1_000
    finally:
        browser.quit()
    benchmark.extra_info |= {"opened, seconds": round(opened, 2)}
    assert 0 < opened < OPENED_S
