"""The one torch loop: device, precision, EMA, clipping, early stopping and progress, shared by every network.

torch is imported by generator modules only, and global seeds are never touched: a network is built by `build` under a
seed of its own, and batches and noise come from the generator handed to the loss. On a GPU no step waits for the host:
what a step needs is there before, and nothing is read back but at evaluations.
"""

from __future__ import annotations

import copy
import logging
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import chain
from typing import TypeVar

import numpy as np
import torch
import torch._dynamo  # the first optimizer imports it: once here, not in every forked child
from torch import Tensor, nn

from generators.base import Log, StopFit, quiet

AT_ONCE = 16  # batches that are picked together: rows are sorted among them, a GPU is sent their places in one go
SHARE = 0.25  # of a GPU's free memory that data may take
WORTH = 5e15  # floating-point operations from which on a training on a GPU is compiled: a minute at 80 TFLOP/s
# Held-out rows choose the step and are not trained on afterwards. Measured on three splits, two draws each, of ou (by
# Heun's sampler, 25 steps) on breast-cancer and sim-fraud[rows=4000] and of ehr-d3pm on sim-ehr[codes=60,rows=3000],
# as mean difference ± one standard error over the nine splits. Training again, on all of train, for the chosen number
# of steps: c2st -.017 ± .011, TSTR AUROC +.002 ± .004, mia_density -.008 ± .006, no gain beyond noise. All rows for all
# steps: c2st -.029 ± .018, TSTR AUROC +.007 ± .007, mia_density +.009 ± .006.
HELD_OUT = 0.1
MIN_EFFECTIVE_ROWS = 50  # held-out rows, counted by their weights: with fewer, patience does not end a training
Loss = Callable[[nn.Module, tuple[Tensor, ...], torch.Generator], Tensor]
Watch = Callable[[nn.Module, Tensor], Log]
T = TypeVar("T")
_say = logging.getLogger(__name__).warning


def device(name: str = "auto") -> torch.device:
    """ "auto": the GPU where there is one, else the CPU."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def dice_on(at: torch.device, seed: int) -> torch.Generator:
    """A generator of random numbers on a device, so that noise is drawn where it is used."""
    return torch.Generator(at).manual_seed(seed)


def dice_pair(at: torch.device, seed: int) -> tuple[torch.Generator, torch.Generator]:
    """Generators of random numbers on the host and on a device; on a CPU they are one."""
    dice = torch.Generator().manual_seed(seed)
    return dice, dice if at.type == "cpu" else dice_on(at, seed)


def sent(x: Tensor, at: torch.device) -> Tensor:
    """A tensor of the host on a device; on its way to a GPU it is pinned, so that nothing waits for the copy."""
    return x.pin_memory().to(at, non_blocking=True) if at.type == "cuda" else x.to(at)


def quicker(at: torch.device) -> torch.autocast:
    """Matrix products in bfloat16 where a GPU has them (compute capability 8); else nothing changes."""
    can = at.type == "cuda" and torch.cuda.get_device_capability(at) >= (8, 0)
    return torch.autocast(at.type, torch.bfloat16, enabled=can)


def flops(run: Callable[[], T]) -> tuple[T, int]:
    """What `run` gives, and how many floating-point operations its matrix products, convolutions and attention took."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        return run(), counter.get_total_flops()


def build(make: Callable[[], nn.Module], *, seed: int) -> nn.Module:
    """A network whose initial weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the host's: that of a GPU stays as it is
        return make()


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
    validation: float = HELD_OUT,
    every: int = 200,
    patience: int = 10,
    slack: float = 0.0,
    warmup: int = 0,
    faster: bool = False,
    resident: bool | None = None,
    where: str = "auto",
    log: Log = quiet,
    watch: Watch | None = None,
) -> nn.Module:
    """Train a network by AdamW and give back its averaged weights at their best validation loss, on the CPU.

    net is changed. loss(net, batch, generator) is the mean loss of a batch; the generator is on the batch's device.
    data: tensors of the same length n. weights (n,): how often a row is drawn, relative to others. lengths (n,): put
    rows of like length into one batch, so that little of it is padding, and cut its first tensor to the longest. ema:
    decay of the weight average, warmed up; 0: none. clip: norm of the gradient. validation: share of rows held back
    (none under 20 rows). every: steps between two evaluations; patience: evaluations without gain before the end;
    slack: a later evaluation within this share of the best takes its place, since weights at a falling rate are less
    noisy. The rate rises over the first `warmup` steps and falls to zero by a cosine over `steps`. log(step, loss=...,
    validation=...) may raise StopFit. watch(average, rows), called once before the first step, returns the log to use
    instead: average is the network whose weights are averaged in place and returned, rows (m,) the indices of the rows
    that are trained on.

    The validation loss weighs rows as training does. Where the rows held back count for fewer than
    MIN_EFFECTIVE_ROWS, patience is not applied. The rows held back are never trained on: see HELD_OUT.

    On a GPU the forward runs in bfloat16 where it can, and a network is compiled by itself where the whole training is
    worth it (WORTH). faster: let torch compile the network in any case. Where that fails, the log says so, and the
    network runs as it is. resident: keep data on the device, or send every batch; None: where they fit (SHARE).
    """
    at = device(where)
    with torch.random.fork_rng(devices=[at] if at.type == "cuda" else []):
        torch.manual_seed(seed)  # dropout draws from the global generator, which is forked and put back
        dice, noise = dice_pair(at, seed)
        n = len(data[0])
        held = int(n * validation) if n * validation >= 2 else 0
        order = torch.randperm(n, generator=dice)
        inner, outer = order[held:], order[:held]
        rows = Rows(data, at, lengths=lengths, resident=resident)
        weights = (weights if weights is not None else torch.ones(n)).double()
        judges = outer[_systematic(weights[outer], passes=4 if held < 2_000 else 1)] if held else outer
        few = _effective_rows(weights[outer]) < MIN_EFFECTIVE_ROWS
        net.to(at).train()
        average = copy.deepcopy(net) if ema else net
        best, best_loss, stale = copy.deepcopy(net.state_dict()), math.inf, 0
        optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=weight_decay, fused=True)
        schedule: torch.optim.lr_scheduler.LRScheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        if warmup:
            rise = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warmup, total_iters=warmup)
            schedule = torch.optim.lr_scheduler.ChainedScheduler([schedule, rise])
        precision = quicker(at)
        if watch is not None:
            log = watch(average, inner)

        def value(model: nn.Module, some: tuple[Tensor, ...], noise: torch.Generator) -> Tensor:
            with precision:
                return loss(model, some, noise)

        def descend(model: nn.Module, some: tuple[Tensor, ...]) -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            now = value(model, some, noise)
            now.backward()
            return now.detach()

        quick = _Quick(net, descend, noise)
        if faster:
            quick.compile()
        # on a CPU noise and batches come from one generator, in turn: none can be picked ahead
        at_once = 1 if lengths is None and at.type == "cpu" else AT_ONCE
        picked = _rounds(inner, weights[inner], batch, at_once, lengths, dice)
        feed = chain.from_iterable(map(rows.batches, picked))
        for step in range(1, steps + 1):
            some = next(feed)
            if step == 1 and not faster and lengths is None and can_compile(at):
                now, work = flops(partial(descend, net, some))
                if work * steps >= WORTH:
                    quick.compile()
            else:
                now = quick(some)
            nn.utils.clip_grad_norm_(net.parameters(), clip)
            optimizer.step()
            schedule.step()
            if ema:
                follow(average, net, min(ema, (1 + step) / (10 + step)))
            if step % every and step < steps:
                continue
            seen = float(now)
            if not math.isfinite(seen):
                raise FloatingPointError(f"training diverged: the loss is {seen} at step {step}")
            judged = _judge(value, average, rows, judges, batch, dice_on(at, seed + 1)) if held else seen
            better = judged < best_loss or not held
            if better or judged < best_loss + slack * abs(best_loss):
                best = copy.deepcopy(average.state_dict())
            stale = 0 if better else stale + 1
            best_loss = judged if better else best_loss
            try:
                log(step, loss=seen, validation=judged)
            except StopFit:
                break
            if stale >= patience and not few:
                break
        average.load_state_dict(best)
        return average.to("cpu").eval()


class Rows:
    """Rows of tensors (n, ...) as batches on a device: kept there, or sent from pinned memory one batch ahead.

    lengths (n,): batches are cut, in their first tensor, to the longest of their rows. resident: None keeps them on a
    GPU where they take no more than SHARE of the memory that is free.
    """

    def __init__(
        self, data: tuple[Tensor, ...], at: torch.device, *, lengths: Tensor | None = None, resident: bool | None = None
    ) -> None:
        if resident is None:
            size = sum(d.nbytes for d in data)
            resident = at.type == "cpu" or size <= SHARE * torch.cuda.mem_get_info(at)[0]
        self.at, self.lengths, self.resident = at, lengths, resident
        self.data = tuple(d.to(at) for d in data) if resident else data
        self.lane = torch.cuda.Stream(at) if at.type == "cuda" and not resident else None

    def batches(self, places: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
        """The rows at each of several places (b,), which are the host's."""
        if self.resident:
            for place, here in zip(places, self._there(places), strict=True):
                yield self._cut(tuple(d[here] for d in self.data), place)
            return
        for some, ready, place in _ahead(map(self._sending, places)):
            if ready is not None:
                now = torch.cuda.current_stream(self.at)
                now.wait_event(ready)
                for x in some:
                    x.record_stream(now)
            yield self._cut(some, place)

    def _there(self, places: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The places on the device, sent in one go."""
        return sent(torch.cat(list(places)), self.at).split([len(p) for p in places])

    def _sending(self, place: Tensor) -> tuple[tuple[Tensor, ...], torch.cuda.Event | None, Tensor]:
        """Rows under way, what tells that they have come, and their place."""
        pinned = self.lane is not None
        some = tuple(
            torch.index_select(
                d, 0, place, out=torch.empty((len(place), *d.shape[1:]), dtype=d.dtype, pin_memory=pinned)
            )
            for d in self.data
        )
        if self.lane is None:
            return some, None, place
        with torch.cuda.stream(self.lane):
            some = tuple(x.to(self.at, non_blocking=True) for x in some)
        return some, self.lane.record_event(), place

    def _cut(self, some: tuple[Tensor, ...], place: Tensor) -> tuple[Tensor, ...]:
        if self.lengths is None:
            return some
        return some[0][:, : int(self.lengths[place].max())], *some[1:]


def can_compile(at: torch.device) -> bool:
    """Whether torch.compile has what it needs on a GPU: the GPU, Triton and a C compiler."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    return at.type == "cuda" and find_spec("triton") is not None and compiler is not None


class _Quick:
    """A step of descent by a network as it is or, once `compile` was called, compiled; where that fails, as it is."""

    def __init__(
        self, net: nn.Module, descend: Callable[[nn.Module, tuple[Tensor, ...]], Tensor], noise: torch.Generator
    ) -> None:
        self.net, self.descend, self.noise = net, descend, noise
        self.quick: nn.Module | None = net

    def compile(self) -> None:
        """Compile at the next step."""
        self.quick = None

    def __call__(self, some: tuple[Tensor, ...]) -> Tensor:
        if self.quick is not None:
            return self.descend(self.quick, some)
        state = self.noise.get_state()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of torch's own code, and advice on settings that are left alone
                compiled: nn.Module = torch.compile(self.net)  # type: ignore[assignment]
                now = self.descend(compiled, some)
        except torch._dynamo.exc.TorchDynamoException as error:
            _say("not compiled, the network runs as it is: %s", str(error).strip().split("\n")[0])
            self.noise.set_state(state)
            self.quick = self.net
            return self.descend(self.net, some)
        self.quick = compiled
        return now


def _rounds(
    inner: Tensor, chance: Tensor, batch: int, at_once: int, lengths: Tensor | None, dice: torch.Generator
) -> Iterator[list[Tensor]]:
    """Places of rows, as many batches at once, for ever; batches of like length where there are lengths."""
    while True:
        picks = inner[torch.multinomial(chance, at_once * batch, replacement=True, generator=dice)]
        if lengths is None:
            yield list(picks.split(batch))
            continue
        parts = picks[lengths[picks].argsort()].split(batch)
        yield [parts[i] for i in reversed(torch.randperm(len(parts), generator=dice).tolist())]


def _ahead(made: Iterator[T]) -> Iterator[T]:
    """The same, each after the next has been made."""
    before = list[T]()
    for one in made:
        yield from before
        before = [one]
    yield from before


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


def _effective_rows(weights: Tensor) -> float:
    """Return the number of equally weighted rows whose mean is as uncertain (Kish's effective sample size)."""
    return float(weights.sum() ** 2 / weights.square().sum()) if len(weights) else 0.0


def _systematic(weights: Tensor, *, passes: int) -> Tensor:
    """Draw indices (passes, n) of n rows in proportion to their weights (n,), by systematic sampling.

    Row i comes passes * n * weights[i] / sum(weights) times, rounded up or down. Rows of equal weight come once a pass.
    """
    n, edges = len(weights), weights.double().cumsum(0)
    offsets = (torch.arange(passes, dtype=torch.float64)[:, None] + 0.5) / passes
    return torch.searchsorted(edges / edges[-1], (torch.arange(n) + offsets) / n)


@torch.no_grad()
def _judge(
    value: Callable[[nn.Module, tuple[Tensor, ...], torch.Generator], Tensor], net: nn.Module, rows: Rows,
    picked: Tensor, batch: int, noise: torch.Generator,
) -> float:  # fmt: skip
    """Return the mean loss of the rows picked (passes, n), under noise that is the same at every evaluation."""
    net.eval()
    parts = [part for one in picked for part in one.split(4 * batch)]
    values = torch.stack([value(net, some, noise) for some in rows.batches(parts)]).tolist()  # read back in one go
    net.train()
    return sum(v * len(part) for v, part in zip(values, parts, strict=True)) / sum(map(len, parts))
