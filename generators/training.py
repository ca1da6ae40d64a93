"""The one torch loop: device, precision, EMA, clipping, early stopping and progress, shared by every network.

torch is imported by generator modules only, and global seeds are never touched: a network is built by `build` under a
seed of its own, and batches and noise come from the generator handed to the loss.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import torch
import torch._dynamo  # the first optimizer imports it: once here, not in every forked child
from torch import Tensor, nn

from generators.base import Log, StopFit, quiet

AT_ONCE = 16  # batches that rows are sorted among
Loss = Callable[[nn.Module, tuple[Tensor, ...], torch.Generator], Tensor]


def device(name: str = "auto") -> torch.device:
    """ "auto": the GPU where there is one, else the CPU."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def build(make: Callable[[], nn.Module], *, seed: int) -> nn.Module:
    """A network whose initial weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


@torch.random.fork_rng(devices=[])
def train(
    net: nn.Module,
    loss: Loss,
    data: tuple[Tensor, ...],
    *,
    seed: int,
    steps: int,
    batch: int = 256,
    lr: float = 1e-3,
    weights: Tensor | None = None,
    lengths: Tensor | None = None,
    weight_decay: float = 0.0,
    ema: float = 0.999,
    clip: float = 1.0,
    validation: float = 0.1,
    every: int = 200,
    patience: int = 10,
    slack: float = 0.0,
    warmup: int = 0,
    faster: bool = False,
    where: str = "auto",
    log: Log = quiet,
) -> nn.Module:
    """Train a network by AdamW and give back its averaged weights at their best validation loss, on the CPU.

    net is changed. loss(net, batch, generator) is the mean loss of a batch; the generator is on the batch's device.
    data: tensors of the same length n. weights (n,): how often a row is drawn, relative to others. lengths (n,): put
    rows of like length into one batch, so that little of it is padding. ema: decay of the weight average, warmed up; 0:
    none. clip: norm of the gradient. validation: share of rows held back (none under 20 rows). every: steps between two
    evaluations; patience: evaluations without gain before the end; slack: a later evaluation within this share of the
    best takes its place, since weights at a falling rate are less noisy. The rate rises over the first `warmup` steps
    and falls to zero by a cosine over `steps`. faster: let torch compile the network first. On a GPU the forward runs
    in bfloat16. log(step, loss=..., validation=...) may raise StopFit.
    """
    torch.manual_seed(seed)  # dropout draws from the global generator, which is forked and put back
    at = device(where)
    dice = torch.Generator().manual_seed(seed)
    noise = dice if at.type == "cpu" else torch.Generator(at).manual_seed(seed)
    n = len(data[0])
    held = int(n * validation) if n * validation >= 2 else 0
    order = torch.randperm(n, generator=dice)
    inner, outer = order[held:], order[:held]
    rows = [d.to(at) for d in data]
    chance = (weights if weights is not None else torch.ones(n))[inner].double()
    net.to(at).train()
    average = copy.deepcopy(net) if ema else net
    best, best_loss, stale = copy.deepcopy(net.state_dict()), math.inf, 0
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=weight_decay, fused=True)
    schedule: torch.optim.lr_scheduler.LRScheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    if warmup:
        rise = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warmup, total_iters=warmup)
        schedule = torch.optim.lr_scheduler.ChainedScheduler([schedule, rise])

    quick: nn.Module = torch.compile(net) if faster else net  # type: ignore[assignment]

    def value(model: nn.Module, picked: Tensor, noise: torch.Generator) -> Tensor:
        with torch.autocast(at.type, torch.bfloat16, enabled=at.type == "cuda"):
            return loss(model, tuple(r[picked.to(at)] for r in rows), noise)

    drawn = list[Tensor]()
    for step in range(1, steps + 1):
        if not drawn:
            at_once = 1 if lengths is None else AT_ONCE
            picks = inner[torch.multinomial(chance, at_once * batch, replacement=True, generator=dice)]
            if lengths is not None:
                picks = picks[lengths[picks].argsort()]
            drawn = list(picks.split(batch))
            if lengths is not None:
                drawn = [drawn[i] for i in torch.randperm(len(drawn), generator=dice).tolist()]
        picked = drawn.pop()
        now = value(quick, picked, noise)
        optimizer.zero_grad(set_to_none=True)
        now.backward()
        nn.utils.clip_grad_norm_(net.parameters(), clip)
        optimizer.step()
        schedule.step()
        if ema:
            follow(average, net, min(ema, (1 + step) / (10 + step)))
        if step % every and step < steps:
            continue
        if not math.isfinite(float(now.detach())):
            raise FloatingPointError(f"training diverged: the loss is {float(now.detach())} at step {step}")
        judged = _judge(value, average, outer, batch, seed) if held else float(now.detach())
        better = judged < best_loss or not held
        if better or judged < best_loss + slack * abs(best_loss):
            best = copy.deepcopy(average.state_dict())
        stale = 0 if better else stale + 1
        best_loss = judged if better else best_loss
        try:
            log(step, loss=float(now.detach()), validation=judged)
        except StopFit:
            break
        if stale >= patience:
            break
    average.load_state_dict(best)
    return average.to("cpu").eval()


def weights_of(net: nn.Module) -> dict[str, np.ndarray]:
    """A network's weights as arrays, to be saved."""
    return {name: value.detach().cpu().numpy() for name, value in net.state_dict().items()}


def with_weights(net: nn.Module, weights: dict[str, np.ndarray]) -> nn.Module:
    """The network with these weights, ready to evaluate."""
    net.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
    return net.eval()


@torch.no_grad()
def follow(average: nn.Module, net: nn.Module, decay: float) -> None:
    """Move averaged weights a step towards a network's; buffers are taken over."""
    mine: list[Tensor] = [*average.parameters()]
    theirs: list[Tensor] = [*net.parameters()]
    torch._foreach_lerp_(mine, theirs, 1 - decay)
    for mean, now in zip(average.buffers(), net.buffers(), strict=True):
        mean.copy_(now)


@torch.no_grad()
def _judge(
    value: Callable[[nn.Module, Tensor, torch.Generator], Tensor], net: nn.Module, rows: Tensor, batch: int, seed: int
) -> float:
    """Validation loss under noise that is the same at every evaluation; four passes where rows are few."""
    noise = torch.Generator(next(net.parameters()).device).manual_seed(seed + 1)
    net.eval()
    passes = 4 if len(rows) < 2_000 else 1
    total, count = 0.0, 0
    for _ in range(passes):
        for part in rows.split(4 * batch):
            total += float(value(net, part, noise)) * len(part)
            count += len(part)
    net.train()
    return total / count
