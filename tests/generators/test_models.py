"""Beyond the contract: references, SMOTE, state on disk, the torch loop, the mathematics of OU."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from bench.datasets import open_dataset
from bench.doctor import TABLES
from generators import make, state
from generators.base import NotFitted, StopFit, Unsupported
from generators.diffusion.process import beta, gamma, ou_reverse, ou_times
from generators.diffusion.sampling import ou_ancestral
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


# --- SMOTE ---


def test_smote_interpolates_inside_the_class() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": np.r_[rng.uniform(0, 1, 80), rng.uniform(5, 6, 20)], "y": np.arange(100) >= 80})
    table.index = pd.RangeIndex(100, name="subject")
    made = make("smote").fit(table, target="y", seed=0)
    new = made.sample(500, seed=1)
    assert new["y"].mean() == 0.2
    assert new.loc[new["y"], "a"].between(5, 6).all()
    assert new.loc[~new["y"], "a"].between(0, 1).all()
    rare = made.sample(50, given={"y": True}, seed=1)
    assert rare["y"].all()


@pytest.mark.parametrize(("shape", "used"), [("codes", "SMOTENC"), ("table", "SMOTENC"), ("series", "SMOTENC")])
def test_smote_takes_the_variant_of_its_columns(shape: str, used: str) -> None:
    made, _, _ = fitted("smote", shape)
    assert made.categorical_.any() == (used != "SMOTE")
    assert made.categorical_.all() == (used == "SMOTEN")


def test_smote_on_categories_alone_and_without_a_target() -> None:
    table = pd.DataFrame(np.random.default_rng(1).random((60, 5)) < 0.4, columns=list("abcde")).rename_axis("subject")
    for target in ("e", None):
        made = make("smote").fit(table, target=target, seed=0)
        assert made.categorical_.all()
        new = made.sample(100, seed=2)
        assert list(new.dtypes) == [np.dtype(bool)] * 5
        assert len(new) == 100


def test_smote_lowers_k_and_refuses_a_lone_row() -> None:
    table = pd.DataFrame({"x": np.arange(20.0), "y": np.arange(20) < 3}).rename_axis("subject")
    assert make("smote").fit(table, target="y", seed=0).sample(10, given={"y": True}, seed=0)["y"].all()
    lone = table.assign(y=np.arange(20) == 3)
    with pytest.raises(Unsupported, match="class True has 1 subjects in train; SMOTE needs two"):
        make("smote").fit(lone, target="y", seed=0).sample(5, given={"y": True}, seed=0)


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
    noise = torch.randn(200, 1, generator=torch.Generator().manual_seed(1))
    train(build(lambda: nn.Linear(1, 1), seed=1), line, (x, noise), seed=0, steps=50_000, every=20, patience=2, lr=1e-2,
          log=lambda step, **values: steps.append(step), where="cpu")  # fmt: skip
    assert steps[-1] < 50_000
    with pytest.raises(FloatingPointError, match="training diverged"):
        train(build(lambda: nn.Linear(1, 1), seed=1), line, (x * 1e30, x), seed=0, steps=100, every=10, where="cpu")


# --- Ornstein-Uhlenbeck ---


def test_the_time_grid_is_ddpms_linear_betas() -> None:
    """alpha_bar of DDPM's linear betas equals e^(-2 t): N = 800 ends at T = 4.047, e^-T = .0175."""
    times = ou_times(800)
    assert np.exp(-2 * times) == pytest.approx(np.cumprod(1 - np.linspace(1e-4, 2e-2, 800)))
    assert np.diff(times).min() > 0
    assert times[-1] == pytest.approx(4.047, abs=5e-4)
    assert gamma(times[-1]) == pytest.approx(0.0175, abs=5e-5)


def test_marginals_and_one_step_kernels_compose() -> None:
    """X_{s+t} from X_s is gamma(t) X_s + beta(t) Z: two steps equal one, and the variance of a unit Gaussian stays."""
    s, t = 0.3, 1.1
    assert gamma(s) * gamma(t) == pytest.approx(gamma(s + t))
    assert gamma(t) ** 2 * beta(s) ** 2 + beta(t) ** 2 == pytest.approx(beta(s + t) ** 2)
    assert gamma(t) ** 2 + beta(t) ** 2 == pytest.approx(1)


@pytest.mark.parametrize(("t_from", "t_to"), [(4.0, 3.0), (1.0, 0.9), (0.02, 0.01), (0.5, 0.0)])
def test_the_reverse_kernel_is_bayes_rule(t_from: float, t_to: float) -> None:
    """p(x_t | x_{t+dt}, x0) from the joint Gaussian, its x0 written through eps."""
    x0, x = 0.7, -1.3
    eps = (x - gamma(t_from) * x0) / beta(t_from)
    dt = t_from - t_to
    # prior N(gamma x0, beta^2) at t, likelihood x = gamma(dt) x_t + beta(dt) z
    if t_to > 0:
        precision = 1 / beta(t_to) ** 2 + gamma(dt) ** 2 / beta(dt) ** 2
        mean = (gamma(t_to) * x0 / beta(t_to) ** 2 + gamma(dt) * x / beta(dt) ** 2) / precision
        sd = precision**-0.5
    else:
        mean, sd = x0, 0.0
    scale, weight, sigma = ou_reverse(t_from, t_to)
    assert scale * (x - weight * eps) == pytest.approx(mean, abs=1e-9)
    assert sigma == pytest.approx(sd, abs=1e-9)


def exact_eps(means: np.ndarray, sd: float):
    """The noise a perfect denoiser predicts for an even mixture of Gaussians in one dimension."""

    def eps(x: torch.Tensor, t: float) -> torch.Tensor:
        g, var = float(gamma(t)), float(gamma(t)) ** 2 * sd**2 + float(beta(t)) ** 2
        gap = x - torch.from_numpy(means * g)  # (b, k)
        chance = torch.softmax(-(gap**2) / (2 * var), dim=1)
        return float(beta(t)) / var * (chance * gap).sum(dim=1, keepdim=True)

    return eps


@pytest.mark.parametrize("visited", [800, 100])
def test_the_sampler_recovers_a_mixture_from_the_true_noise(visited: int) -> None:
    times = ou_times(800)[np.linspace(0, 799, visited).round().astype(int)]
    dice = torch.Generator().manual_seed(0)
    x = torch.randn((20_000, 1), generator=dice, dtype=torch.float64)
    out = ou_ancestral(exact_eps(np.array([-1.2, 1.2]), 0.3), x, times, bounds=None, dice=dice)[:, 0].numpy()
    assert (out > 0).mean() == pytest.approx(0.5, abs=0.02)
    assert out[out > 0].mean() == pytest.approx(1.2, abs=0.02)
    assert out[out > 0].std() == pytest.approx(0.3, abs=0.02)


def test_no_noise_is_added_at_the_last_step() -> None:
    scale, weight, sigma = ou_reverse(1e-4, 0.0)
    assert sigma == 0
    x0, noise = 0.4, 2.0
    x = gamma(1e-4) * x0 + beta(1e-4) * noise
    assert scale * (x - weight * noise) == pytest.approx(x0)


def test_predictions_beyond_the_data_are_clipped() -> None:
    def wild(x: torch.Tensor, t: float) -> torch.Tensor:
        return -100 * torch.ones_like(x)

    dice = torch.Generator().manual_seed(0)
    bounds = (torch.tensor([-1.0]), torch.tensor([1.0]))
    out = ou_ancestral(wild, torch.zeros((50, 1)), ou_times(50), bounds=bounds, dice=dice)
    assert out.abs().max() <= 1 + 1e-5


def test_ou_learns_a_table_and_its_rare_class() -> None:
    rng = np.random.default_rng(0)
    y = rng.random(1_500) < 0.1
    a = np.where(y, 3.0, rng.choice([-1.0, 1.0], 1_500)) + 0.2 * rng.normal(size=1_500)
    table = pd.DataFrame({"a": a, "b": a + 0.1 * rng.normal(size=1_500), "y": y}).rename_axis("subject")
    made = make("ou", steps=600, width=48, sample_steps=50).fit(table, target="y", seed=0)
    drawn = made.sample(1_000, seed=1)
    assert drawn["y"].mean() == pytest.approx(table["y"].mean(), abs=0.002)
    assert drawn.loc[drawn["y"], "a"].mean() == pytest.approx(3, abs=0.3)
    assert np.corrcoef(drawn["a"], drawn["b"])[0, 1] > 0.95
    common = drawn.loc[~drawn["y"], "a"]
    assert (common > 0).mean() == pytest.approx(0.5, abs=0.1)
    assert (common.abs() > 0.5).mean() > 0.9  # two modes, not a blur between them
    rare = made.sample(300, given={"y": True}, seed=2)
    assert rare["y"].all()
    assert rare["a"].mean() == pytest.approx(3, abs=0.3)


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
