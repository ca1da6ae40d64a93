"""BART (Lewis et al. 2020, arXiv:1910.13461) as a writer of records: its vocabulary, its network, how it writes.

Words of a Sentence view are tokens: of a word-level tokenizer made here, or added to a pretrained model's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor, nn
from transformers import AutoTokenizer, BartConfig, BartForConditionalGeneration, LogitsProcessor

from generators.language import hushed
from generators.sentence import CLOSE, DEMO, END, NONE, STRANGE, STRUCTURE, VISIT, Sentence

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")  # in BART's own order
BLOCK = 256  # sentences written at once
KEPT = 2**29  # numbers of keys and values that a GPU keeps of them: a GiB in half precision, two in single
ROUND = 16  # words that they are written by, and twice as many as there are
ROOM = 8  # positions beyond the longest sentence
UNTOLD = 0.5  # share of subjects of whom a training step tells the class alone


@dataclass(frozen=True)
class Vocabulary:
    """Which token every word of a view is.

    tokenizer: as JSON. ids (words,): tokens. special: of SPECIAL, by name. old: tokens that a pretrained model had.
    """

    tokenizer: str
    ids: np.ndarray
    special: dict[str, int]
    old: int

    @classmethod
    def of(cls, tokenizer: Tokenizer, view: Sentence, *, old: int = 0) -> Vocabulary:
        """Read a tokenizer. Raises ValueError where it cuts a word of the view, or lacks a special token."""
        ids = [tokenizer.encode(word, add_special_tokens=False).ids for word in view.words]
        cut = next((word for word, found in zip(view.words, ids, strict=True) if len(found) != 1), None)
        if cut is not None:
            raise ValueError(
                f"the tokenizer makes {len(tokenizer.encode(cut).ids)} tokens of the word '{cut}', not one"
            )
        special = {name: at for name in SPECIAL if (at := tokenizer.token_to_id(name)) is not None}
        lacking = [name for name in SPECIAL if name not in special]
        if lacking:
            raise ValueError(f"the tokenizer has no token {lacking[0]}: expected BART's own, {', '.join(SPECIAL)}")
        return cls(tokenizer.to_str(), np.array([found[0] for found in ids], np.int64), special, old)

    @property
    def size(self) -> int:
        """Tokens in all."""
        return Tokenizer.from_str(self.tokenizer).get_vocab_size()

    def words(self, size: int) -> np.ndarray:
        """The word of each of so many tokens (size,), STRANGE where it is none of the view's."""
        out = np.full(size, STRANGE, np.int64)
        out[self.ids] = np.arange(len(self.ids))
        return out


def tokenizer_of(view: Sentence) -> Tokenizer:
    """A word-level tokenizer: a token per word, structural words among the special ones; no word is ever cut."""
    order = [*SPECIAL, *STRUCTURE, *(w for w in view.words if w not in STRUCTURE)]
    made = Tokenizer(WordLevel({word: i for i, word in enumerate(order)}, unk_token="<unk>"))
    made.pre_tokenizer = WhitespaceSplit()
    made.add_special_tokens([*SPECIAL, *STRUCTURE])
    return made


class Writer(BartForConditionalGeneration):
    """BART whose decoder is told which visit a token stands in, with dropout on the embeddings of new tokens.

    config.visits: visits that are told apart. config.opens: the token that opens one. config.first_new: tokens from
    here on are new. config.new_dropout: of their embeddings.
    """

    def __init__(self, config: BartConfig) -> None:
        super().__init__(config)
        self.visit = nn.Embedding(config.visits + 1, config.d_model)
        nn.init.zeros_(self.visit.weight)

    def embedded(self, ids: Tensor) -> Tensor:
        """Tokens (b, l) as vectors (b, l, d), those of new tokens under dropout."""
        x = self.model.decoder.embed_tokens(ids)
        if not self.training or not self.config.new_dropout:
            return x
        new = (ids >= self.config.first_new)[:, :, None]
        return torch.where(new, nn.functional.dropout(x, self.config.new_dropout), x)

    def placed(self, ids: Tensor) -> Tensor:
        """Decoder tokens (b, l), from the first on, as vectors: each with its visit's."""
        visit = (ids == self.config.opens).cumsum(dim=1).clamp(max=self.config.visits)
        return self.embedded(ids) + self.visit(visit)

    def logits(self, prompt: Tensor, ids: Tensor) -> Tensor:
        """What may come after each of the decoder's tokens ids (b, l), told a prompt (b, p): (b, l, vocabulary)."""
        return self(
            inputs_embeds=self.embedded(prompt), decoder_inputs_embeds=self.placed(ids), use_cache=False,
            decoder_attention_mask=before(ids) if ids.is_cuda else None,
        ).logits  # fmt: skip

    def prepare_inputs_for_generation(self, input_ids: Tensor, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As in transformers, with vectors in the place of tokens."""
        inputs = super().prepare_inputs_for_generation(input_ids, *args, **kwargs)
        ids = inputs.pop("decoder_input_ids")
        inputs["decoder_inputs_embeds"] = self.placed(input_ids)[:, -ids.shape[1] :]
        return inputs


def before(ids: Tensor) -> Tensor:
    """What each of a decoder's tokens ids (b, l) sees, itself and those before it (b, 1, l, l): what transformers makes
    of no mask, but that it reads back from the device whether a mask of ones hides anything."""
    length = ids.shape[1]
    return torch.ones(length, length, dtype=torch.bool, device=ids.device).tril().expand(len(ids), 1, -1, -1)


class Grammar(LogitsProcessor):
    """Leaves to a sentence only the words that may come next: no code outside a visit, none twice in one, an end only
    after a closed visit, and always room to come to it.

    fixed (b, demographics): the word that must stand at each place, NONE where any may. begun: tokens before the first
    word. free: hold to nothing but `fixed`.
    """

    def __init__(self, view: Sentence, words: Tensor, fixed: Tensor, *, begun: int, free: bool = False) -> None:
        at = words.device
        self.view, self.words, self.fixed, self.begun, self.free = view, words, fixed, begun, free
        self.rank, self.barrier, self.owed = (
            torch.cat([torch.from_numpy(v), torch.tensor([-1])]).to(at)  # the last one: what is no word
            for v in (view.rank, view.barrier, view.owed)
        )
        self.opens, self.closes, self.ends = (view.marks[w] for w in (VISIT, CLOSE, END))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (b, vocabulary) of the next token, -inf where it may not come; input_ids (b, l)."""
        said = self.words[input_ids[:, self.begun :]]  # (b, t)
        t, s = said.shape[1], self.fixed.shape[1]
        low, high = self.view.visits
        visits = (said == self.opens).sum(dim=1, keepdim=True)  # (b, 1)
        last = said[:, -1:].clamp(min=-1) if t else torch.full_like(visits, -1)
        floor, barrier = (self.rank[last], self.barrier[last]) if t else (last, torch.zeros_like(last))
        word = self.words.clamp(min=-1)[None]  # (1, vocabulary)
        if self.free:
            told = self.fixed[:, t : t + 1] if t < s else visits.new_full(visits.shape, NONE)
            return scores.masked_fill((told != NONE) & (word != told), -torch.inf)
        rank = self.rank[word]
        may = (rank > floor) & (rank <= barrier)
        if t:
            closed = last == self.closes
            may = torch.where(closed, (word == self.opens) & (visits < high), may)
            may |= closed & (word == self.ends) & (visits >= low)
            over = (last == self.ends) | (last < 0)
            may = torch.where(over, word == self.ends, may)
        if t < s:
            told = self.fixed[:, t : t + 1]
            may = torch.where(told != NONE, word == told, may)
        due = (low - visits - (word == self.opens).long()).clamp(min=0) * self.view.visit + self.owed[word]
        inside = (rank > s) & (word != self.ends)
        may &= ~inside | (t + 2 + due <= self.view.longest)
        return scores.masked_fill(~may, -torch.inf)


def scratch(
    view: Sentence, vocabulary: Vocabulary, *, width: int, depth: int, heads: int, dropout: float, new_dropout: float
) -> Writer:
    """A small BART for a view's sentences; `depth` layers each of encoder and decoder."""
    special = vocabulary.special
    config = BartConfig(
        vocab_size=vocabulary.size, max_position_embeddings=view.longest + ROOM, d_model=width, encoder_layers=depth,
        decoder_layers=depth, encoder_attention_heads=heads, decoder_attention_heads=heads, encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width, dropout=dropout, attention_dropout=0.0, activation_dropout=0.0,
        bos_token_id=special["<s>"], pad_token_id=special["<pad>"], eos_token_id=special["</s>"],
        decoder_start_token_id=special["</s>"], forced_eos_token_id=None, tie_word_embeddings=True,
        **_ours(view, vocabulary, new_dropout=new_dropout),
    )  # fmt: skip
    return Writer(config)


def learned(model: str, view: Sentence) -> Vocabulary:
    """The vocabulary of a pretrained BART, from a folder or by a name on the hub, with a view's words added.

    Raises ValueError where there is none, or where it cuts a word.
    """
    if model.startswith(("/", ".", "~")) and not (Path(model) / "config.json").is_file():
        raise ValueError(f"folder '{model}' holds no BART: expected config.json, a tokenizer and weights in it")
    with _loading(model):
        found = AutoTokenizer.from_pretrained(model, local_files_only=Path(model).exists())
        tokenizer = Tokenizer.from_str(found.backend_tokenizer.to_str())
    old = tokenizer.get_vocab_size()
    tokenizer.add_special_tokens([AddedToken(w, special=True, normalized=False) for w in STRUCTURE])
    others = [w for w in view.words if w not in STRUCTURE]
    tokenizer.add_tokens([AddedToken(w, single_word=True, normalized=False) for w in others])
    return Vocabulary.of(tokenizer, view, old=old)


def pretrained(model: str, view: Sentence, vocabulary: Vocabulary, *, dropout: float, new_dropout: float) -> Writer:
    """A pretrained BART, new tokens' embeddings at the mean of the old ones.

    Raises ValueError where there is none, or where it has too few positions for a view's sentences.
    """
    local = Path(model).exists()
    with _loading(model):
        config = BartConfig.from_pretrained(model, local_files_only=local)
        config.update({"dropout": dropout, **_ours(view, vocabulary, new_dropout=new_dropout)})
        net = Writer.from_pretrained(model, config=config, local_files_only=local)
    if config.max_position_embeddings < view.longest + 2:
        raise ValueError(
            f"'{model}' has {config.max_position_embeddings} positions; the longest sentence takes {view.longest + 2}"
        )
    nn.init.zeros_(net.visit.weight)
    with hushed(), torch.no_grad():
        net.resize_token_embeddings(max(vocabulary.size, net.config.vocab_size), mean_resizing=False)
        table = net.get_input_embeddings().weight
        table[vocabulary.old :] = table[: vocabulary.old].mean(dim=0)
    return net


def _ours(view: Sentence, vocabulary: Vocabulary, *, new_dropout: float) -> dict[str, Any]:
    """What Writer reads of a configuration beside BART's own."""
    opens = int(vocabulary.ids[view.marks[VISIT]])
    return {"visits": view.visits[1], "opens": opens, "first_new": vocabulary.old, "new_dropout": new_dropout}


@contextmanager
def _loading(model: str) -> Iterator[None]:
    """Whatever transformers says of a model that is not there, as one line."""
    with hushed():
        try:
            yield
        except (OSError, ValueError) as error:
            raise ValueError(f"'{model}' holds no BART that can be loaded: {str(error).split(chr(10))[0]}") from error


def prompts(view: Sentence, vocabulary: Vocabulary, told: np.ndarray) -> np.ndarray:
    """What the encoder reads (n, p): demographics told (n, demographics), masks where NONE, never more of a record."""
    special, n = vocabulary.special, len(told)
    words = np.where(told == NONE, special["<mask>"], vocabulary.ids[told])
    edge = [np.full((n, 1), i) for i in _edges(view, vocabulary)]
    return np.concatenate([edge[0], words, *edge[1:]], axis=1).astype(np.int64)


def _edges(view: Sentence, vocabulary: Vocabulary) -> list[int]:
    """The tokens around the demographics of a prompt: one before, two after."""
    special = vocabulary.special
    return [special["<s>"], int(vocabulary.ids[view.marks[DEMO]]), special["</s>"]]


class Loss:
    """Cross-entropy of a sentence's words after a prompt that tells a random part of its demographics.

    What the prompt tells is not scored: the encoder never sees a label. classed: the class is always told.
    words: of a sentence, on the mean; a batch of short sentences must not weigh as much as one of long ones.
    """

    def __init__(self, view: Sentence, vocabulary: Vocabulary, *, classed: bool, words: float) -> None:
        self.view, self.vocabulary, self.classed, self.mean = view, vocabulary, classed, words
        self.ids = torch.from_numpy(vocabulary.ids)
        self.start = torch.tensor([vocabulary.special["</s>"], vocabulary.special["<s>"]])
        self.edges = torch.tensor(_edges(view, vocabulary))

    def __call__(self, net: nn.Module, rows: tuple[Tensor, ...], dice: torch.Generator) -> Tensor:
        """Nats a sentence over the mean number of words, of sentences (b, l) of words; cut to the longest of their
        lengths (b,), where these come with them."""
        words = rows[0][:, : int(rows[1].max())] if len(rows) > 1 else rows[0]
        told = self.told(words, dice)
        logits = net.logits(*self.read(words, told))  # type: ignore[operator]
        labels = self.labels(words, told)
        total = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")
        return total / (len(words) * self.mean)

    @torch.no_grad()
    def counts(self, net: nn.Module, sentences: np.ndarray, dice: torch.Generator) -> tuple[Tensor, Tensor]:
        """How often each token comes in sentences (n, l), and how often it is expected: two of (vocabulary,)."""
        at = next(net.parameters()).device
        order = np.argsort((sentences != NONE).sum(axis=1), kind="stable")
        seen = expected = torch.zeros(1, device=at)
        for part in np.array_split(order, range(BLOCK, len(order), BLOCK)):
            words = torch.from_numpy(sentences[part]).to(at)
            words = words[:, : int((words != NONE).sum(dim=1).max())]
            told = self.told(words, dice)
            labels = self.labels(words, told)
            chances = net.logits(*self.read(words, told))[labels >= 0].softmax(dim=1)  # type: ignore[operator]
            expected = expected + chances.sum(dim=0)
            seen = seen + torch.bincount(labels[labels >= 0], minlength=chances.shape[1])
        return seen, expected

    def told(self, words: Tensor, dice: torch.Generator) -> Tensor:
        """The demographics that prompts tell (b, demographics), NONE for the others."""
        s = len(self.view.static)
        chance = torch.rand(len(words), 2, generator=dice, device=words.device)
        share = torch.where(chance[:, :1] < UNTOLD, 0.0, chance[:, 1:])
        tell = torch.rand(len(words), s, generator=dice, device=words.device) < share
        tell[:, :1] |= self.classed
        return torch.where(tell, words[:, :s], NONE)

    def read(self, words: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        """What the encoder reads (b, p), and what the decoder does (b, l + 1): its start, then what it has said."""
        self._to(words.device)
        special, n = self.vocabulary.special, len(words)
        first, *last = self.edges[:, None].expand(-1, n)[:, :, None]
        prompt = torch.cat([first, torch.where(told == NONE, special["<mask>"], self.ids[told]), *last], dim=1)
        said = torch.where(words[:, :-1] == NONE, special["<pad>"], self.ids[words[:, :-1]])
        return prompt, torch.cat([self.start.expand(n, -1), said], dim=1)

    def _to(self, at: torch.device) -> None:
        """Have what is looked up where it is looked up, once for all batches."""
        if self.ids.device != at:
            self.ids, self.start, self.edges = self.ids.to(at), self.start.to(at), self.edges.to(at)

    def labels(self, words: Tensor, told: Tensor) -> Tensor:
        """The token after each of what the decoder reads (b, l + 1), -100 where it is not scored."""
        self._to(words.device)
        ids = torch.where(words == NONE, -100, self.ids[words])
        s = told.shape[1]
        ids[:, :s] = torch.where(told == NONE, ids[:, :s], -100)
        return torch.cat([torch.full_like(ids[:, :1], -100), ids], dim=1)


def write(
    net: Writer, view: Sentence, vocabulary: Vocabulary, told: np.ndarray, *, seed: int, temperature: float = 1.0,
    top_k: int = 0, top_p: float = 1.0, free: bool = False,
) -> np.ndarray:  # fmt: skip
    """Sentences (n, l) of word numbers for subjects of whom some demographics are told (n, demographics), else NONE.

    Drawn at a temperature among the top_k likeliest words (0: all), and of these the likeliest that make up top_p.
    free: without the grammar, but for what is told; a sentence may hold STRANGE words and may not end.
    """
    at, special, end = next(net.parameters()).device, vocabulary.special, view.marks[END]
    words = torch.from_numpy(vocabulary.words(net.config.vocab_size)).to(at)
    whole, block = 2 + view.longest, BLOCK
    if at.type == "cuda":  # the more at once, the fewer rounds, each of which waits for the GPU
        block = max(BLOCK, KEPT // (2 * net.config.decoder_layers * net.config.d_model * whole))
    ids = np.full((len(told), whole), special["<pad>"], np.int64)
    ids[:, :2] = special["</s>"], special["<s>"]
    going, so_far, calls = np.arange(len(told)), 2, 0
    while len(going):  # those that have not ended go on together: most are short, and a block takes its longest's time
        most = min(2 * so_far + ROUND, whole)
        for part in np.array_split(going, range(block, len(going), block)):
            grammar = Grammar(view, words, torch.from_numpy(told[part]).to(at), begun=2, free=free)
            prompt = torch.from_numpy(prompts(view, vocabulary, told[part])).to(at)
            with hushed(), torch.inference_mode(), torch.random.fork_rng(devices=[at] if at.type == "cuda" else []):
                torch.manual_seed(int(np.random.SeedSequence([seed, calls]).generate_state(1)[0]))
                said = net.generate(
                    input_ids=prompt, attention_mask=torch.ones_like(prompt), do_sample=True, temperature=temperature,
                    decoder_input_ids=torch.from_numpy(ids[part, :so_far]).to(at), top_k=top_k, top_p=top_p,
                    logits_processor=[grammar], max_length=most, eos_token_id=int(vocabulary.ids[end]),
                    pad_token_id=special["<pad>"], num_beams=1, forced_eos_token_id=None, min_length=0,
                    no_repeat_ngram_size=0,
                )  # fmt: skip
            ids[part, : said.shape[1]] = said.cpu().numpy()
            calls += 1
        ended = (ids[going] == vocabulary.ids[end]).any(axis=1)
        going, so_far = going[~ended & (most < whole)], most
    sentences = words.cpu().numpy()[ids[:, 2:]]
    after = np.cumsum(sentences == end, axis=1) - (sentences == end)
    return np.where(after > 0, NONE, sentences)
