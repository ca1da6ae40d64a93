"""A 1-D U-Net: the denoiser of signals x (b, c, l), told a time and a class.

Inside, a signal is a picture one place high, (b, c, 1, l), with its channels last in memory: on a CPU a training step
takes two thirds of what 1-D convolutions take.
"""

import math

import torch
from torch import Tensor, nn

from generators.diffusion.nets import TimeEmbedding

GROUPS = 8


class UNet(nn.Module):
    """eps(x, t, y) over a signal: x (b, c, l), t (b,) in [0, 1], class y (b,) int64; gives (b, c, l).

    width: channels of the first level; multiples: of each level, the length halving (rounded up) from one to the next,
    so that any length works. blocks: residual blocks of a level. attention: levels, counted from the coarsest, that
    have it. A place has an embedding of its own, since hours of a stay, or the columns of a flat table, are not alike.
    Time and class scale and shift every residual block. classes: 0 for no conditioning at all, not even on the time.
    fold: so many neighbouring places are one place with more channels (a flat table of hundreds of columns is long).
    beside: channels that x has beyond those it answers for.
    """

    def __init__(
        self, c: int, length: int, *, classes: int, width: int = 64, multiples: tuple[int, ...] = (1, 2, 4, 4),
        blocks: int = 2, attention: int = 2, heads: int = 8, dropout: float = 0.0, fold: int = 1, beside: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.c, self.fold, told = c, fold, 4 * width if classes else 0
        self.time = TimeEmbedding(told) if told else None
        self.label = nn.Embedding(classes, told) if told else None
        self.enter = _conv((c + beside) * fold, width)
        self.place = nn.Parameter(0.02 * torch.randn(width, 1, -(-length // fold)))
        sizes = [m * width for m in multiples]
        at, skips = width, [width]
        self.down = nn.ModuleList()
        for level, size in enumerate(sizes):
            coarse = len(sizes) - level <= attention
            for _ in range(blocks):
                self.down.append(Stage(at, size, told, heads if coarse else 0, dropout))
                at = size
                skips.append(at)
            if level + 1 < len(sizes):
                self.down.append(_conv(at, at, stride=2))
                skips.append(at)
        self.middle = nn.ModuleList([Stage(at, at, told, heads, dropout), Stage(at, at, told, 0, dropout)])
        self.up = nn.ModuleList()
        for level, size in reversed(list(enumerate(sizes))):
            coarse = len(sizes) - level <= attention
            for _ in range(blocks + 1):
                self.up.append(Stage(at + skips.pop(), size, told, heads if coarse else 0, dropout))
                at = size
        self.leave = nn.Sequential(nn.GroupNorm(_groups(at), at), nn.SiLU(), _silent(_conv(at, c * fold)))

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Predicted noise (b, c, l)."""
        told = nn.functional.silu(self.time(t) + self.label(y)) if self.time is not None and self.label else None
        b, c, length = x.shape
        x = nn.functional.pad(x, (0, -length % self.fold)).view(b, c, -1, self.fold)
        x = x.transpose(2, 3).reshape(b, c * self.fold, 1, -1).contiguous(memory_format=torch.channels_last)
        h = self.enter(x) + self.place
        kept = [h]
        for part in self.down:
            h = part(h, told) if isinstance(part, Stage) else part(h)
            kept.append(h)
        for part in self.middle:
            h = part(h, told)
        for part in self.up:
            skip = kept.pop()
            if h.shape[-1] != skip.shape[-1]:
                h = nn.functional.interpolate(h, size=(1, skip.shape[-1]))
            h = part(torch.cat([h, skip], dim=1), told)
        out = self.leave(h).reshape(b, self.c, self.fold, -1)  # (b, c, fold, l / fold)
        return out.transpose(2, 3).flatten(2)[:, :, :length]


class Stage(nn.Module):
    """A residual block, its second norm scaled and shifted by what is told (b, told), and attention where heads > 0."""

    def __init__(self, c: int, out: int, told: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(_groups(c), c), nn.SiLU(), _conv(c, out))
        self.norm = nn.GroupNorm(_groups(out), out)
        self.tell = nn.Linear(told, 2 * out) if told else None
        self.second = nn.Sequential(nn.SiLU(), nn.Dropout(dropout), _silent(_conv(out, out)))
        self.skip = _conv(c, out, 1) if c != out else nn.Identity()
        self.attention = Attention(out, heads) if heads else nn.Identity()

    def forward(self, x: Tensor, told: Tensor | None) -> Tensor:
        """x (b, c, 1, l); gives (b, out, 1, l)."""
        h = self.norm(self.first(x))
        if self.tell is not None and told is not None:
            scale, shift = self.tell(told)[..., None, None].chunk(2, dim=1)
            h = h * (1 + scale) + shift
        return self.attention(self.skip(x) + self.second(h))


class Attention(nn.Module):
    """x + attention over the length of x (b, c, 1, l)."""

    def __init__(self, c: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(_groups(c), c)
        self.qkv = _conv(c, 3 * c, 1)
        self.mix = _silent(_conv(c, c, 1))

    def forward(self, x: Tensor) -> Tensor:
        """x (b, c, 1, l)."""
        qkv = self.qkv(self.norm(x))[:, :, 0].transpose(1, 2)  # (b, l, 3 c)
        q, k, v = qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (b, heads, l, c / heads)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return x + self.mix(mixed.transpose(1, 2).flatten(2).transpose(1, 2)[:, :, None])


def _groups(c: int) -> int:
    """Groups of four channels or more, eight at most."""
    return math.gcd(min(GROUPS, max(c // 4, 1)), c)


def _conv(c: int, out: int, size: int = 3, *, stride: int = 1) -> nn.Conv2d:
    """A convolution along the length of (b, c, 1, l)."""
    return nn.Conv2d(c, out, (1, size), stride=(1, stride), padding=(0, size // 2))


def _silent(layer: nn.Conv2d) -> nn.Conv2d:
    """A layer that starts at zero, so that what it is added to starts as it is."""
    for p in layer.parameters():
        nn.init.zeros_(p)
    return layer
