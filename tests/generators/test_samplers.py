"""Samplers with exact denoisers: what is drawn has the distribution's spread, at the generators' default parameters."""

import numpy as np
import pytest

from exact import CHAINS, correlation_kept, flag_sd_kept, sd_kept
from generators import make
from generators.diffusion.multinomial import NOISES
from generators.diffusion.process import OU_GRIDS, ou_grid, signal, strided

SCALES = (1.0, 0.5, 0.2, 0.1)
KEPT = 0.03


@pytest.mark.parametrize("generator", CHAINS)
@pytest.mark.parametrize("sd", SCALES)
def test_a_gaussians_standard_deviation_is_kept(generator: str, sd: float) -> None:
    """Of a Gaussian of any scale; the standard error of 60,000 draws is .003."""
    assert sd_kept(generator, sd) == pytest.approx(1, abs=KEPT)


def test_ous_default_sampler_keeps_it_on_the_time_grid_by_log_snr() -> None:
    """The grid "uniform" cannot: its first time has noise of .1, as wide as the narrowest mode here."""
    assert [sd_kept("ou", sd, times="logsnr") for sd in SCALES] == pytest.approx([1] * 4, abs=KEPT)


def test_healthforge_keeps_it_as_published_in_eps() -> None:
    assert [sd_kept("healthforge", sd, objective="eps") for sd in SCALES] == pytest.approx([1] * 4, abs=KEPT)


@pytest.mark.parametrize(
    ("generator", "params"),
    [("ou", {"sampler": "ancestral"}), ("tardiff", {"variance": "none"}), ("healthforge", {"v": 0.1})],
)
def test_the_published_chains_narrow_a_mode(generator: str, params: dict) -> None:
    """Of a mode with a tenth of the column's standard deviation they keep .70 to .89: why they are not the default."""
    assert sd_kept(generator, 0.1, **params) < 0.92


@pytest.mark.parametrize("noise", NOISES)
def test_flags_and_their_correlation_are_kept(noise: str) -> None:
    """By EHR-D3PM at its default number of steps."""
    assert [flag_sd_kept(p, noise=noise) for p in (0.5, 0.2, 0.05)] == pytest.approx([1] * 3, abs=KEPT)
    assert correlation_kept(noise=noise) == pytest.approx(1, abs=KEPT)


@pytest.mark.parametrize("objective", ["eps", "v"])
@pytest.mark.parametrize("steps", [10, 100, 1_000])
def test_no_step_of_healthforge_amplifies_an_error_of_its_network(objective: str, steps: int) -> None:
    """An error of 1 in the network's output moves the next mean by (1 - e) alpha' |dx / d output|, which is under 2."""
    lams = make("healthforge", objective=objective, sample_steps=steps)._lambdas()
    assert len(lams) == steps
    assert (np.diff(lams) > 0).all()
    (alpha, sigma), (later, _) = signal(lams[:-1]), signal(lams[1:])
    error = sigma / alpha if objective == "eps" else sigma  # of the denoised
    assert ((1 - np.exp(-np.diff(lams))) * later * error).max() < 2


@pytest.mark.parametrize("grid", OU_GRIDS)
def test_visited_times_are_evenly_spaced_in_number_and_log_snr(grid: str) -> None:
    times = ou_grid(grid, 800)
    visited = strided(times, 25)
    assert visited[[0, -1]].tolist() == [0, 799]
    assert (np.diff(visited) > 0).all()
    assert strided(times, 900).tolist() == list(range(800))
    logsnr = np.log(np.expm1(2 * times[visited]))
    share = visited / 799 + (logsnr - logsnr[0]) / (logsnr[-1] - logsnr[0])
    if grid == "logsnr":
        assert np.diff(visited) == pytest.approx(799 / 24, abs=1)
    if grid == "b1":  # whose first times lie farther apart in log-SNR than others
        assert np.diff(share)[5:] == pytest.approx(2 / 24, rel=0.1)
