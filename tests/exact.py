"""Exact denoisers of known distributions, run through the generators' own sampling code with its default parameters."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from generators import make
from generators.diffusion.linear import Corrected
from generators.diffusion.multinomial import alpha_bar
from generators.diffusion.ou import OU
from generators.diffusion.places import Places, ancestral, times
from generators.diffusion.process import beta, gamma, ou_grid, signal
from generators.diffusion.sampling import ddpm_ancestral
from generators.diffusion.signals import Signals
from generators.diffusion.tardiff import TarDiff

DRAWS = 60_000  # the standard error of a standard deviation's ratio is .003
PAIR = np.array([[0.55, 0.1], [0.05, 0.3]])  # the joint distribution of two flags


class ExactEps(nn.Module):
    """eps(x, k, group) of N(0, sd²) at step k of a grid of times."""

    def __init__(self, grid: np.ndarray, sd: float) -> None:
        super().__init__()
        self.g, self.b = (torch.from_numpy(v.astype(np.float32)) for v in (gamma(grid), beta(grid)))
        self.sd = sd

    def forward(self, x: Tensor, k: Tensor, group: Tensor) -> Tensor:
        """x (b, d), k and group (b,); gives (b, d)."""
        g, b = self.g[k, None], self.b[k, None]
        return b * x / (g**2 * self.sd**2 + b**2)


class ExactOU(OU):
    """OU whose network is exact for N(0, sd²)."""

    def exactly(self, sd: float) -> np.ndarray:
        """Return draws (DRAWS, 1) of N(0, sd²)."""
        self.sd = sd
        far, centre = np.full(1, 10 * sd, np.float32), np.zeros(1, np.float32)
        learned = {"weights": {}, "groups": 1, "hides": False, "center": centre, "spread": centre + 1,
                   "low": -far, "high": far}  # fmt: skip
        return self._draw(learned, np.zeros(DRAWS, np.int64), torch.Generator().manual_seed(0))

    def _net(self, d: int, groups: int) -> nn.Module:
        return ExactEps(ou_grid(self.times, self.grid), self.sd)


def ou(sd: float, **params: Any) -> np.ndarray:
    """Draw N(0, sd²) by OU's sampler."""
    return ExactOU(**params).exactly(sd)


class Silent(nn.Module):
    """A network that adds nothing to the linear guess."""

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """x (b, 2 c, l); gives zeros (b, c, l)."""
        return torch.zeros_like(x[:, : x.shape[1] // 2])


class ExactTarDiff(TarDiff):
    """TarDiff whose linear guess is exact for independent N(0, sd²), and whose network adds nothing to it."""

    def exactly(self, sd: float) -> np.ndarray:
        """Return draws (DRAWS / 8, 1, 8) of N(0, sd²)."""
        shape = (1, 8)
        zero, one = np.zeros(shape, np.float32), np.ones(shape, np.float32)
        self.signals_ = Signals(None, ("number",) * 8, zero, one)  # type: ignore[arg-type]
        self.still_, self.levels_, self.odds_ = np.zeros((1, 1), bool), [], np.stack([zero, zero])
        self.low_, self.high_, self.weights_ = -10 * sd * one, 10 * sd * one, {}
        self.moments_ = {"means": np.stack([zero, zero]), "directions": np.eye(8, dtype=np.float32),
                         "variances": np.full((2, 8), sd**2), "rest": np.full(2, sd**2)}  # fmt: skip
        return self.draw(np.zeros(DRAWS // 8, np.int64), seed=0)

    def _net(self, c: int, length: int) -> nn.Module:
        times = self._times()
        return Corrected(Silent(), self.moments_, gamma(times), beta(times), np.ones((c, length), bool))


def tardiff(sd: float, **params: Any) -> np.ndarray:
    """Draw N(0, sd²) by TarDiff's chain."""
    return ExactTarDiff(**params).exactly(sd)


def healthforge(sd: float, **params: Any) -> np.ndarray:
    """Draw N(0, sd²) by the chain of HealthForge's latents."""
    made: Any = make("healthforge", **params)

    def clean(z: Tensor, lam: float) -> Tensor:
        alpha, sigma = (float(v) for v in signal(lam))
        return alpha * sd**2 / (alpha**2 * sd**2 + sigma**2) * z

    dice = torch.Generator().manual_seed(0)
    return ddpm_ancestral(clean, torch.randn((DRAWS, 1), generator=dice), made._lambdas(), v=made.v, dice=dice).numpy()


CHAINS = {"ou": ou, "tardiff": tardiff, "healthforge": healthforge}


def sd_kept(generator: str, sd: float, **params: Any) -> float:
    """Return the standard deviation of what is drawn over that of the distribution."""
    return float(CHAINS[generator](sd, **params).std()) / sd


def flag_sd_kept(share: float, **params: Any) -> float:
    """Return the standard deviation of a flag as EHR-D3PM draws it over sqrt(p (1 - p)), p = share of ones."""
    made: Any = make("ehr-d3pm", **params)
    places = Places(np.arange(8), np.zeros(0, int), np.full(8, share, "f"), np.zeros((0, 1), "f"), made.noise,
                    made.schedule)  # fmt: skip
    process = places.on(torch.device("cpu"))

    def beliefs(x2: Tensor, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return process.prior2.expand_as(x2), torch.zeros(len(x2), 0, 1)

    dice, visited = torch.Generator().manual_seed(0), times(made.sample_steps, made.total)
    x2, _ = ancestral(beliefs, process, DRAWS // 8, visited, dice=dice)
    return float(x2.double().std()) / (share * (1 - share)) ** 0.5


def correlation_kept(**params: Any) -> float:
    """Return the correlation of two flags with the joint distribution PAIR as EHR-D3PM draws them over the true one."""
    made: Any = make("ehr-d3pm", **params)
    share = np.array([PAIR[1].sum(), PAIR[:, 1].sum()], "f")
    places = Places(np.array([0, 1]), np.zeros(0, int), share, np.zeros((0, 1), "f"), made.noise, made.schedule)
    process, joint = places.on(torch.device("cpu")), torch.from_numpy(PAIR)

    def beliefs(x2: Tensor, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        left = float(alpha_bar(t.double(), made.schedule)[0])
        like = torch.stack([likelihood(x2, value, left, process.pi2, hides=places.hides) for value in (0, 1)], -1)
        both = torch.stack([like[:, 1] @ joint.T, like[:, 0] @ joint], 1)  # of each flag, from the other one
        return (both[..., 1].log() - both[..., 0].log()).float(), torch.zeros(len(x2), 0, 1)

    dice, visited = torch.Generator().manual_seed(0), times(made.sample_steps, made.total)
    x2, _ = ancestral(beliefs, process, DRAWS, visited, dice=dice)
    p, q = share.astype(float)
    true = (PAIR[1, 1] - p * q) / (p * (1 - p) * q * (1 - q)) ** 0.5
    return float(np.corrcoef(x2.numpy().T)[0, 1]) / true


def likelihood(x2: Tensor, value: int, left: float, pi2: Tensor, *, hides: bool) -> Tensor:
    """Return q(xt | x0 = value) (n, d) up to a factor that does not depend on the value."""
    if hides:
        return ((x2 == value) | (x2 == 2)).double()
    noise = torch.where(x2 > 0, pi2, 1 - pi2).double()
    return left * (x2 == value) + (1 - left) * noise
