"""Denoisers."""

import math

import torch
from torch import Tensor, nn


class TimeEmbedding(nn.Module):
    """Sinusoids of a time in [0, 1] (b,), then two layers: (b, width)."""

    rates: Tensor

    def __init__(self, width: int, frequencies: int = 32) -> None:
        super().__init__()
        rates = torch.exp(torch.linspace(0, math.log(1_000), frequencies)) * math.pi / 2
        self.register_buffer("rates", rates)
        self.layers = nn.Sequential(nn.Linear(2 * frequencies, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        """t (b,) in [0, 1]."""
        angles = t[:, None] * self.rates  # (b, frequencies)
        return self.layers(torch.cat([angles.sin(), angles.cos()], dim=1))


class Block(nn.Module):
    """x + MLP(LN(x) scaled and shifted by the condition); the last layer starts at zero: a block starts as identity."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.condition = nn.Linear(width, 2 * width)
        last = nn.Linear(width, width)
        self.layers = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Dropout(dropout), last)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """x, c (b, width)."""
        scale, shift = self.condition(c).chunk(2, dim=1)
        return x + self.layers(self.norm(x) * (1 + scale) + shift)


class ResidualMLP(nn.Module):
    """eps(x, t, y) over a whole vector: x (b, d), t (b,) in [0, 1], class y (b,) int64; gives (b, d)."""

    def __init__(self, d: int, *, classes: int, width: int = 256, depth: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        self.time = TimeEmbedding(width)
        self.label = nn.Embedding(classes, width)
        self.enter = nn.Linear(d, width)
        self.blocks = nn.ModuleList([Block(width, dropout) for _ in range(depth)])
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, d))

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Predicted noise (b, d)."""
        c = self.time(t) + self.label(y)
        h = self.enter(x) + c
        for block in self.blocks:
            h = block(h, c)
        return self.leave(h)


# --- denoisers of tokens: what is seen at time t -> corrections of the log-belief in each level of each place ---
# Places with two levels come as x2 (b, d2), floats 0 and 1, or 2 where hidden; the others as x (b, d) int64, k hidden.
# A time t is (b,), or (1,) for all rows. `latent` is the last layer before the output, in which guidance moves; `head`
# is linear.


class VectorDenoiser(nn.Module):
    """A residual MLP over the whole vector. classes > 0: takes a condition (b, classes) of -1, 0 and 1 as well."""

    def __init__(
        self, d2: int, d: int, k: int, *, hides: bool, width: int, depth: int, dropout: float, classes: int = 0
    ) -> None:
        super().__init__()
        self.d, self.k, self.hides = d, k, hides
        self.time = TimeEmbedding(width)
        self.enter = nn.Linear(d2 * (1 + hides) + d * (k + hides), width)
        self.condition = nn.Linear(classes, width, bias=False) if classes else None
        self.blocks = nn.ModuleList([Block(width, dropout) for _ in range(depth)])
        self.leave = nn.LayerNorm(width)
        self.head = Head(width, d2, d, k)

    def latent(self, x2: Tensor, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """The last layer (b, width)."""
        parts = [(x2 == 1).float(), (x2 == 2).float()] if self.hides else [x2]
        if self.d:
            parts.append(nn.functional.one_hot(x, self.k + self.hides).flatten(1).float())
        c = self.time(t)
        if self.condition is not None and condition is not None:
            c = c + self.condition(condition)
        h = self.enter(torch.cat(parts, dim=1)) + c
        for block in self.blocks:
            h = block(h, c)
        return self.leave(h)

    def forward(self, x2: Tensor, x: Tensor, t: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Corrections (b, d2) and (b, d, k)."""
        return self.head(self.latent(x2, x, t, condition))

    @staticmethod
    def pooled(latent: Tensor) -> Tensor:
        """One vector a subject."""
        return latent


class Head(nn.Module):
    """A latent (b, width) as corrections (b, d2) and (b, d, k); starts at zero."""

    def __init__(self, width: int, d2: int, d: int, k: int) -> None:
        super().__init__()
        self.d2, self.d, self.k = d2, d, k
        self.out = nn.Linear(width, d2 + d * k)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """latent (b, width)."""
        out = self.out(latent)
        return out[:, : self.d2], out[:, self.d2 :].reshape(len(out), self.d, self.k)


class CodeTransformer(nn.Module):
    """EHR-D3PM's denoiser: pre-norm attention over places, with state, place and time embeddings added (sec. 4.2).

    together: two-level places that share one token (1 in the paper). rank > 0: keys and values are projected from all
    tokens to so many (Linformer, Wang et al. 2020, arXiv:2006.04768), so that the cost is linear in the number of
    places; 0: full attention. A place with more levels is a token of its own.
    """

    def __init__(
        self, d2: int, d: int, k: int, *, hides: bool, width: int, depth: int, dropout: float, heads: int, rank: int,
        together: int, classes: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.d2, self.d, self.together = d2, d, together
        self.groups = -(-d2 // together)
        self.states2 = nn.Parameter(torch.randn(self.groups * together, 2 + hides, width) * together**-0.5)
        self.states = nn.Parameter(torch.randn(d, k + hides, width))
        self.place = nn.Parameter(torch.randn(self.groups + d, width) * 0.02)
        self.time = TimeEmbedding(width)
        self.condition = nn.Linear(classes, width, bias=False) if classes else None
        tokens = self.groups + d
        self.blocks = nn.ModuleList([AttentionBlock(width, tokens, heads, rank, dropout) for _ in range(depth)])
        self.leave = nn.LayerNorm(width)
        self.head = TokenHead(width, d2, d, k, together)

    def latent(self, x2: Tensor, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """The last layer (b, tokens, width)."""
        b, spare = len(x2), self.groups * self.together - self.d2
        state = nn.functional.pad(x2, (0, spare)).view(b, self.groups, self.together)
        # (b, g, together) x (g, together, width): a sum of state embeddings without an embedding per place in memory
        table = self.states2.view(self.groups, self.together, -1, self.states2.shape[-1])
        h = table[:, :, 0].sum(1).expand(b, -1, -1)
        for level in range(1, table.shape[2]):
            step = table[:, :, level] - table[:, :, 0]
            h = h + self._spread((state == level).to(step), step)
        if self.d:
            own = self.states[torch.arange(self.d, device=x.device), x]  # (b, d, width)
            h = torch.cat([h, own], dim=1)
        c = self.time(t)
        if self.condition is not None and condition is not None:
            c = c + self.condition(condition)
        h = h + self.place + c[:, None]
        for block in self.blocks:
            h = block(h)
        return self.leave(h)

    def _spread(self, has: Tensor, step: Tensor) -> Tensor:
        """has (b, g, together), of 0 and 1, times step (g, together, width): (b, g, width)."""
        if has.is_cuda and self.together == 1:
            return spread_alone(has, step)
        return torch.einsum("bgo,gow->bgw", has, step)

    def forward(self, x2: Tensor, x: Tensor, t: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Corrections (b, d2) and (b, d, k)."""
        return self.head(self.latent(x2, x, t, condition))

    @staticmethod
    def pooled(latent: Tensor) -> Tensor:
        """One vector a subject (b, width): the mean token."""
        return latent.mean(dim=1)


# Where a group is one place its product is an outer or inner product of vectors, read and written by itself. Here it is
# elementwise work, which a compiler fuses with what stands beside it. A CPU keeps the other sums, bit for bit.


def spread_alone(has: Tensor, step: Tensor) -> Tensor:
    """has (b, g, 1) times step (g, 1, width): (b, g, width)."""
    return has * step[:, 0]


def read_alone(latent: Tensor, out: Tensor) -> Tensor:
    """latent (b, g, width) times out (g, 1, width), summed over the width: (b, g, 1)."""
    return (latent * out[:, 0]).sum(dim=-1, keepdim=True)


class TokenHead(nn.Module):
    """Latents (b, tokens, width) as corrections (b, d2) and (b, d, k): every level has a vector of its own."""

    def __init__(self, width: int, d2: int, d: int, k: int, together: int) -> None:
        super().__init__()
        self.d2, self.groups = d2, -(-d2 // together)
        self.out2 = nn.Parameter(torch.zeros(self.groups, together, width))
        self.bias2 = nn.Parameter(torch.zeros(self.groups, together))
        self.out = nn.Parameter(torch.zeros(d, k, width))
        self.bias = nn.Parameter(torch.zeros(d, k))

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """latent (b, tokens, width)."""
        flags, alone = latent[:, : self.groups], latent.is_cuda and self.out2.shape[1] == 1
        two = read_alone(flags, self.out2) if alone else torch.einsum("bgw,gow->bgo", flags, self.out2)
        two = two + self.bias2
        more = torch.einsum("bdw,dkw->bdk", latent[:, self.groups :], self.out) + self.bias
        return two.flatten(1)[:, : self.d2], more


class AttentionBlock(nn.Module):
    """h + MSA(LN(h)), then h + MLP(LN(h)), over tokens (b, m, width)."""

    def __init__(self, width: int, tokens: int, heads: int, rank: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Parameter(torch.randn(2, rank, tokens) * tokens**-0.5) if 0 < rank < tokens else None
        self.mix = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )

    def forward(self, h: Tensor) -> Tensor:
        """h (b, m, width)."""
        b, m, width = h.shape
        if self.project is not None and h.is_cuda:
            q, k, v = self.projected(self.norm1(h), self.project)
        else:
            q, k, v = self.qkv(self.norm1(h)).chunk(3, dim=-1)
            if self.project is not None:
                k, v = self.project[0] @ k, self.project[1] @ v  # (b, rank, width)
        q, k, v = (a.reshape(b, -1, self.heads, width // self.heads).transpose(1, 2) for a in (q, k, v))
        rate = self.dropout if self.training else 0.0
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, dropout_p=rate)
        h = h + self.mix(mixed.transpose(1, 2).reshape(b, m, width))
        return h + self.mlp(self.norm2(h))

    def projected(self, x: Tensor, project: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of all tokens x (b, m, width), keys and values of those they are projected to (b, rank, width).

        project: P (2, rank, m), of keys and of values. P (x W + c) = (P x) W + (P 1) c: keys and values of all tokens
        are never made. A CPU keeps the other order, bit for bit.
        """
        w, c = self.qkv.weight.chunk(3), self.qkv.bias.chunk(3)
        queries = nn.functional.linear(x, w[0], c[0])
        few = torch.bmm(project.flatten(0, 1).to(queries.dtype).expand(len(x), -1, -1), x.to(queries.dtype))
        keys, values = few.chunk(2, dim=1)
        ones = project.sum(dim=2)[..., None]  # (2, rank, 1)
        keys = nn.functional.linear(keys, w[1]) + ones[0] * c[1]
        return queries, keys, nn.functional.linear(values, w[2]) + ones[1] * c[2]


class LatentDenoiser(nn.Module):
    """A transformer over pieces of a latent z (b, d), told the log-SNR, a text and a class.

    The latent is cut into `tokens` pieces of one size; the text (b, words) is one more token beside them and shifts
    every block, as do noise level and class. HealthForge's published network has one piece and no token of text: its
    attention over a sequence of length one is a linear map.
    """

    def __init__(
        self, d: int, *, tokens: int, words: int, classes: int, width: int, depth: int, dropout: float, heads: int = 4
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self.level = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, width))
        self.waves = TimeEmbedding(width)
        self.label = nn.Embedding(classes, width)
        self.text = nn.Linear(words, width)
        self.untold = nn.Parameter(torch.randn(width) * 0.02)
        self.enter = nn.Linear(d // tokens, width)
        self.place = nn.Parameter(torch.randn(tokens + 1, width) * 0.02)
        self.shift = nn.ModuleList([nn.Linear(width, 2 * width) for _ in range(depth)])
        self.blocks = nn.ModuleList([AttentionBlock(width, tokens + 1, heads, 0, dropout) for _ in range(depth)])
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, d // tokens))

    def forward(self, z: Tensor, lam: Tensor, words: Tensor, told: Tensor, y: Tensor) -> Tensor:
        """z (b, d) at log-SNR lam (b,); words (b, w), used where told (b,) is 1; class y (b,). Gives (b, d)."""
        b = len(z)
        share = torch.tanh(lam / 40)
        note = torch.where(told[:, None] > 0, self.text(words), self.untold)
        c = self.level(share[:, None]) + self.waves(torch.sigmoid(lam / 4)) + self.label(y) + note
        h = torch.cat([self.enter(z.view(b, self.tokens, -1)), note[:, None]], dim=1) + self.place
        for shift, block in zip(self.shift, self.blocks, strict=True):
            scale, move = shift(c)[:, None].chunk(2, dim=2)
            h = block(h * (1 + scale) + move)
        return self.leave(h[:, : self.tokens]).reshape(b, -1)
