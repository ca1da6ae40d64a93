"""Beyond the contract: references, state on disk, the torch loop."""

import inspect
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from bench.datasets import open_dataset
from bench.doctor import TABLES
from generators import REGISTRY, gan, make, state
from generators.base import NotFitted, StopFit, Unsupported
from generators.training import build, train, weights_of, with_weights


def fitted(name: str, shape: str, **params):
    data = open_dataset(TABLES[shape], None).load()
    made = make(name, **params).fit(data.table, target=data.roles.target, static=data.roles.static, seed=0)
    return made, data.table, data.roles


# --- references ---


@pytest.mark.parametrize("shape", TABLES)
def test_copycat_is_whole_passes_without_replacement(shape: str) -> None:
    copycat, table, _ = fitted("copycat", shape)
    who = table.index.get_level_values("subject").unique()

    def content(t: pd.DataFrame) -> list[str]:
        hashes = pd.util.hash_pandas_object(t.reset_index(drop=True), index=False)
        return sorted(hashes.groupby(t.index.get_level_values("subject")).sum().astype(str))

    assert content(copycat.sample(len(who), seed=3)) == content(table)
    twice = copycat.sample(2 * len(who) + 5, seed=3)
    assert pd.Series(content(twice)).value_counts().min() >= 2
    first = [copycat.sample(len(who), seed=s).iloc[0].tolist() for s in (1, 2)]
    assert first[0] != first[1]


def test_marginal_keeps_columns_and_breaks_what_joins_them() -> None:
    data = open_dataset("sim-ehr[codes=20,rows=4000]", None).load()
    marginal = make("marginal").fit(data.table, target="died", seed=0)
    drawn = marginal.sample(20_000, seed=1)
    for code in data.roles.codes:
        assert drawn[code].mean() == pytest.approx(data.table[code].mean(), abs=0.02)
    assert drawn["age"].mean() == pytest.approx(data.table["age"].mean(), abs=1)
    real, made = (np.corrcoef(t[list(data.roles.codes)].to_numpy().T.astype(float)) for t in (data.table, drawn))
    off = ~np.eye(len(real), dtype=bool)
    assert np.abs(made[off]).mean() < 0.01 < np.abs(real[off]).mean()


def test_marginal_keeps_lengths_and_statics_of_longitudinal_tables() -> None:
    marginal, table, _ = fitted("marginal", "visits")
    drawn = marginal.sample(5_000, seed=1)
    lengths = [t.groupby(level="subject").size() for t in (table, drawn)]
    assert lengths[1].mean() == pytest.approx(lengths[0].mean(), rel=0.05)
    assert (drawn.groupby(level="subject")["sex"].nunique() == 1).all()


def test_uniform_is_uniform_over_levels_and_range() -> None:
    uniform, table, _ = fitted("uniform", "table")
    drawn = uniform.sample(20_000, seed=1)
    assert drawn["fraud"].mean() == pytest.approx(0.5, abs=0.02)
    shares = drawn["channel"].value_counts(normalize=True)
    assert shares.max() - shares.min() < 0.03
    assert drawn["F01"].mean() == pytest.approx((table["F01"].min() + table["F01"].max()) / 2, abs=0.1)
    gaps, table, _ = fitted("uniform", "series")
    assert gaps.sample(500, seed=1)["Temp"].isna().mean() == pytest.approx(0.5, abs=0.02)


def test_the_oracle_needs_a_known_process() -> None:
    with pytest.raises(Unsupported, match="process behind this dataset is not known"):
        make("oracle").fit(pd.DataFrame({"y": [True]}), seed=0)


def test_rejection_is_bounded() -> None:
    marginal, _, _ = fitted("marginal", "codes")
    found = marginal.reject(40, {"died": True, "I10": True}, seed=0)
    assert len(found) == 40
    assert found["died"].all()
    assert found["I10"].all()
    assert list(found.index) == list(range(40))
    with pytest.raises(Unsupported, match=r"found 0 of 10 subjects with age as asked in \d+ draws"):
        marginal.reject(10, {"age": -1}, seed=0, draws=3)


# --- state ---


def test_state_survives_and_is_never_pickle(tmp_path: Path) -> None:
    value = {"a": np.arange(6.0).reshape(2, 3), "t": pd.DataFrame({"x": [True]}), "n": None, "l": [1, "two", (3.0,)],
             "d": {"deep": np.zeros(0, bool)}}  # fmt: skip
    state.write(tmp_path, value)
    back = state.read(tmp_path)
    assert (back["a"] == value["a"]).all()
    assert back["t"].equals(value["t"])
    assert back["l"] == [1, "two", (3.0,)]
    assert back["d"]["deep"].dtype == bool
    assert {p.suffix for p in tmp_path.iterdir()} == {".json", ".safetensors", ".parquet"}
    assert state.count({"a": np.zeros(3), "b": {"c": pd.DataFrame(np.zeros((2, 2)))}}) == 7
    with pytest.raises(TypeError, match="learned state of type set cannot be saved"):
        state.write(tmp_path, {"s": {1}})
    (tmp_path / "state.json").write_text(json.dumps({"dataclass": "os:system", "fields": {}}))
    with pytest.raises(ValueError, match="not a module of generators"):
        state.read(tmp_path)


def test_saving_before_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFitted, match="Smote has not been fitted"):
        make("smote").save(tmp_path)


# --- the torch loop ---


def line(net: nn.Module, rows: tuple[torch.Tensor, ...], dice: torch.Generator) -> torch.Tensor:
    return ((net(rows[0]) - rows[1]) ** 2).mean()


def test_the_loop_learns_repeats_and_leaves_global_seeds_alone() -> None:
    x = torch.randn(400, 1, generator=torch.Generator().manual_seed(0))
    data = (x, 3 * x + 1)
    before = torch.random.get_rng_state()

    def run() -> dict[str, np.ndarray]:
        net = build(lambda: nn.Linear(1, 1), seed=1)
        return weights_of(train(net, line, data, seed=2, steps=600, batch=64, lr=0.05, where="cpu"))

    one, two = run(), run()
    assert one["weight"][0, 0] == pytest.approx(3, abs=0.05)
    assert one["bias"][0] == pytest.approx(1, abs=0.05)
    assert all((one[k] == two[k]).all() for k in one)
    assert (torch.random.get_rng_state() == before).all()
    copy = with_weights(nn.Linear(1, 1), one)
    assert weights_of(copy)["weight"] == one["weight"]


def test_the_loop_stops_early_on_request_and_on_divergence() -> None:
    x = torch.randn(200, 1, generator=torch.Generator().manual_seed(0))
    steps = []

    def log(step: int, **values: float) -> None:
        steps.append(step)
        assert set(values) == {"loss", "validation"}
        if step >= 100:
            raise StopFit

    train(build(lambda: nn.Linear(1, 1), seed=1), line, (x, x), seed=0, steps=1_000, every=50, log=log, where="cpu")
    assert steps == [50, 100]
    steps.clear()
    x, noise = torch.randn(2, 600, 1, generator=torch.Generator().manual_seed(1))
    train(build(lambda: nn.Linear(1, 1), seed=1), line, (x, noise), seed=0, steps=50_000, every=20, patience=2, lr=1e-2,
          log=lambda step, **values: steps.append(step), where="cpu")  # fmt: skip
    assert steps[-1] < 50_000
    with pytest.raises(FloatingPointError, match="training diverged"):
        train(build(lambda: nn.Linear(1, 1), seed=1), line, (x * 1e30, x), seed=0, steps=100, every=10, where="cpu")


class Walk(nn.Module):
    """One parameter w that gradient steps of any size move up by the learning rate: AdamW divides by the gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(()))


def walked(weights: torch.Tensor | None, n: int = 400, rare: int = 40) -> float:
    """The w that a training returns which passes 0, .5, 1, ..., 10 at its evaluations.

    Of n rows, `rare` have their least loss at w = 8 and the others at w = 2; gradients do not depend on the rows.
    """
    best = torch.full((n,), 2.0)
    best[:rare] = 8.0

    def loss(net: nn.Module, rows: tuple[torch.Tensor, ...], dice: torch.Generator) -> torch.Tensor:
        return -net.w if net.training else (net.w - rows[0]).abs().mean()

    net = train(Walk(), loss, (best,), seed=0, steps=10_000, every=50, batch=4, lr=0.01, ema=0.0, patience=10_000,
                weights=weights, where="cpu", log=stop_at(1_000))  # fmt: skip
    return net.w.item()


def stop_at(last: int):
    def log(step: int, **values: float) -> None:
        if step >= last:
            raise StopFit

    return log


def test_rare_rows_that_training_weighs_up_choose_the_step_as_well() -> None:
    """The weighted median of the rows' own best values is known: 2 by head count, 8 where the rare weigh more."""
    weights = torch.ones(400)
    assert walked(None) == pytest.approx(2.0, abs=0.3)
    assert walked(weights) == walked(None)
    weights[:40] = 20.0
    assert walked(weights) == pytest.approx(8.0, abs=0.3)


def test_the_validation_loss_is_the_weighted_mean_of_rows_that_are_not_trained_on() -> None:
    """Rows are numbers, the loss is their mean: what the log says is sum(w x) / sum(w) over the rows held back."""
    n = 300
    x = torch.arange(n, dtype=torch.float32)
    w = torch.where(torch.arange(n) % 10 == 0, 7.0, 0.5)
    trained: list[torch.Tensor] = []
    told: dict[str, float] = {}

    def loss(net: nn.Module, rows: tuple[torch.Tensor, ...], dice: torch.Generator) -> torch.Tensor:
        return rows[0].mean() + 0 * net.w

    def watch(net: nn.Module, rows: torch.Tensor):
        trained.append(rows)
        return lambda step, **values: told.update(values)

    train(Walk(), loss, (x,), seed=0, steps=1, weights=w, where="cpu", watch=watch)
    outer = torch.from_numpy(np.setdiff1d(np.arange(n), trained[0].numpy()))
    assert len(outer) == 30
    assert told["validation"] == pytest.approx(float((w * x)[outer].sum() / w[outer].sum()), abs=n / (4 * 30))


def test_few_rows_held_back_do_not_end_a_training() -> None:
    """The validation loss rises from the first evaluation on: 2 more end it, but where 49 rows or fewer count."""

    def steps(n: int, weights: torch.Tensor | None = None) -> int:
        seen: list[int] = []
        rising = lambda net, rows, dice: rows[0].mean() + (-net.w if net.training else net.w)  # noqa: E731
        train(Walk(), rising, (torch.ones(n),), seed=0, steps=200, every=10, patience=2, ema=0.0, weights=weights,
              log=lambda step, **values: seen.append(step), where="cpu")  # fmt: skip
        return seen[-1]

    assert steps(500) == 30
    assert steps(490) == 200
    rare = torch.full((1_000,), 1.0)
    rare[:20] = 100.0  # about 2 of the 100 rows held back weigh twice as much as all others together
    assert steps(1_000) == 30
    assert steps(1_000, rare) == 200


def test_a_watch_sees_the_network_that_is_returned_and_the_rows_that_are_trained_on() -> None:
    """Its weights at the last evaluation are those given back; the raw network's, far ahead, are not."""
    n, seen, states = 200, set[int](), list[tuple[float, float]]()
    raw = Walk()

    def loss(net: nn.Module, rows: tuple[torch.Tensor, ...], dice: torch.Generator) -> torch.Tensor:
        if net.training:
            seen.update(rows[0].int().tolist())
        return -net.w

    given: list[set[int]] = []

    def watch(average: nn.Module, rows: torch.Tensor):
        given.append(set(rows.tolist()))
        return lambda step, **values: states.append((average.w.item(), raw.w.item()))

    made = train(raw, loss, (torch.arange(n).float(),), seed=0, steps=100, every=50, ema=0.99, lr=0.01,
                 where="cpu", watch=watch)  # fmt: skip
    assert made.w.item() == states[-1][0]
    assert states[0][1] > 1.05 * states[0][0]
    assert seen == given[0]
    assert len(given[0]) == 180


class Asked(Exception):
    """A training that was about to begin, with the share of rows it would hold out."""


@pytest.mark.parametrize("name", [row.name for row in REGISTRY.values() if row.held_out and row.name != "gan"])
def test_the_registry_says_what_share_a_network_does_not_train_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = REGISTRY[name]
    usual = inspect.signature(train).parameters["validation"].default

    def ask(*args: object, validation: float = usual, **settings: object) -> None:
        raise Asked(validation)

    monkeypatch.setattr(f"{row.load.split(':')[0]}.train", ask)
    with pytest.raises(Asked) as asked:
        fitted(name, row.native[0])
    assert asked.value.args == (row.held_out,)


def test_the_registry_says_what_share_the_gan_does_not_train_on() -> None:
    assert REGISTRY["gan"].held_out == gan.HELD


def test_slack_keeps_the_later_of_two_fits_that_are_as_good() -> None:
    """On noise the validation loss is flat: without slack an early evaluation wins, with it the last one."""
    dice = torch.Generator().manual_seed(0)
    x = torch.randn(400, 1, generator=dice)

    def fitted(slack: float, stop_at: int) -> dict[str, np.ndarray]:
        def stop(step: int, **values: float) -> None:
            if step == stop_at:
                raise StopFit

        def loss(net, rows, dice) -> torch.Tensor:
            return ((rows[0] - net.bias) ** 2).mean()

        net = build(lambda: nn.Linear(1, 1), seed=1)
        return weights_of(train(net, loss, (x,), seed=0, steps=1_000, every=100, lr=0.1, ema=0.0, batch=16, slack=slack,
                                patience=100, log=stop))  # fmt: skip

    last = [fitted(10.0, s)["bias"] for s in (500, 600)]
    assert last[0] != last[1]
    best = {float(fitted(0.0, s)["bias"][0]) for s in (100, 200, 300, 400, 500, 600)}
    assert len(best) < 6
