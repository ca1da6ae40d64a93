"""The first BART generator of health records (pehr, report of 2025-10-09), fault by fault, each of which can be mended.

A subject is the text "age sex <demo> <v> codes <\\v> ... <END>", read by a pretrained BART's own sub-word tokenizer.
As reported, the encoder is shown the whole text that the decoder has to say, generation begins after "<s> ... <demo>
</s> <v>", and `<demo>` is no token. FIXES are the report's five; "prompted" and "placed" are what it did not mend: the
encoder reads the demographics alone, and what is generated begins where training did.
`tests/benchmarks/bart_report.py` measures every fix alone and together.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from tokenizers import ByteLevelBPETokenizer
from tokenizers.processors import RobertaProcessing
from transformers import AutoTokenizer, BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

from bench.datasets.icd_names import category_names
from generators.language import hushed

FIXES = ("demo", "mean", "fewer", "cooler", "barred")
BEYOND = ("prompted", "placed")
DRAWING = {"cooler", "barred", "placed"}  # fixes of how subjects are drawn; the others are of training
LONGEST, BATCH, DRAWN, HELD = 256, 16, 50, 0.2
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def pretrain(folder: Path, *, seed: int = 0, steps: int = 900, width: int = 128) -> Path:
    """Write a tiny BART to a folder: text infilling (spans of about 3 words, 30 %) over the names of ICD categories.

    With 0 steps the tokenizer is trained and the network is not.
    """
    names = category_names(10) | category_names(9)
    texts = [f"{code} {name}" for code, name in names.items()] + [f"{a} {s}" for a in range(18, 96) for s in ("M", "F")]
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, vocab_size=2_000, special_tokens=SPECIAL, show_progress=False)
    bpe.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0))
    named = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), SPECIAL, strict=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, **named)
    torch.manual_seed(seed)
    net = BartForConditionalGeneration(
        BartConfig(
            vocab_size=len(tokenizer), max_position_embeddings=1_026, d_model=width, encoder_layers=2,
            decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=4 * width,
            decoder_ffn_dim=4 * width, pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2,
            forced_eos_token_id=None,
        )
    )  # fmt: skip
    if steps:
        _denoise(net, [tokenizer(t, truncation=True, max_length=32)["input_ids"] for t in texts], steps, seed)
    with hushed():
        net.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def _denoise(net: BartForConditionalGeneration, ids: list[list[int]], steps: int, seed: int) -> None:
    """Train a network to restore infilled texts."""
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        picked = [ids[i] for i in rng.integers(len(ids), size=2 * BATCH)]
        holed, whole = _padded([_infilled(p, rng) for p in picked]), _padded(picked)
        loss = net(input_ids=holed, attention_mask=(holed != 1).long(), labels=whole.masked_fill(whole == 1, -100)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()


class Trained(NamedTuple):
    """A network trained as reported, but for some fixes.

    validation: a loss an epoch. shuffled: the last loss when encoders read other subjects.
    """

    net: BartForConditionalGeneration
    tokenizer: PreTrainedTokenizerFast
    people: list[str]
    pairs: list[tuple[list[int], list[int]]]
    validation: list[float]
    shuffled: float


def train(model: Path, table: pd.DataFrame, fixes: set[str], *, epochs: int, lr: float, seed: int = 0) -> Trained:
    """Train as reported, but for some fixes; those that concern drawing alone change nothing."""
    strange = fixes - {*FIXES, *BEYOND}
    if strange:
        raise ValueError(f"no such fix: {strange}")
    tokenizer = extended(model, fixes)
    with hushed():
        net = BartForConditionalGeneration.from_pretrained(model, local_files_only=True)
    torch.manual_seed(seed)
    known = net.config.vocab_size
    with hushed():
        net.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        rows = net.get_input_embeddings().weight
        rows[known:] = rows[:known].mean(dim=0) if "mean" in fixes else torch.randn_like(rows[known:]) * 0.02
    people = texts_of(table)
    held = int(HELD * len(people))
    rng = np.random.default_rng(seed)
    pairs = [encoded(tokenizer, p, fixes) for p in people]
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr)
    losses = []
    for _ in range(max(1, epochs // 2) if "fewer" in fixes else epochs):
        net.train()
        order = held + rng.permutation(len(pairs) - held)
        for start in range(0, len(order), BATCH):
            loss = _loss(net, [pairs[i] for i in order[start : start + BATCH]])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        net.eval()
        losses.append(_mean_loss(net, pairs[:held]))
    others = [(pairs[(i + 1) % held][0], pairs[i][1]) for i in range(held)]
    return Trained(net, tokenizer, people, pairs, losses, _mean_loss(net, others))


def measure(trained: Trained, codes: list[str], fixes: set[str], *, seed: int = 0) -> dict[str, object]:
    """Draw subjects from a trained network, and return what is measured of it.

    p_visit: mean probability of `<v>` after the prompt, where training has it. p_reported: the same where the report
    looked. p_end: that of the model's own end token right after the prompt. with_codes: share of drawn subjects with a
    known code. validation and shuffled: as in `Trained`.
    """
    net, tokenizer, people = trained.net, trained.tokenizer, trained.people[:DRAWN]
    opens = tokenizer.convert_tokens_to_ids("<v>")
    read = [prompt(tokenizer, p) for p in people]
    begun = [[2, *whole[: whole.index(opens)]] for _, whole in trained.pairs[:DRAWN]]  # as training has it
    bare = [[2, *row[:-1]] for row in read]  # the prompt alone, without the end its tokenizer adds
    texts = _generated(net, tokenizer, read, [begin(tokenizer, p, fixes) for p in people], fixes, seed)
    return {
        "p_visit": float(_next(net, read, begun)[:, opens].mean()),
        "p_end": float(_next(net, read, bare)[:, 2].mean()),
        "p_reported": float(_next(net, read, read)[:, opens].mean()),
        "with_codes": float(np.mean([bool(set(codes) & set(t.split("<demo>")[-1].split())) for t in texts])),
        "validation": trained.validation,
        "shuffled": trained.shuffled,
    }


def _text(rows: pd.DataFrame, codes: list[str]) -> str:
    """A subject as the report writes it."""
    held = rows[codes].to_numpy()
    visits = " ".join(f"<v> {' '.join(np.array(codes)[h])} <\\v>" for h in held)
    return f"{rows['age'].iloc[0]} {'M' if rows['sex'].iloc[0] == 'male' else 'F'} <demo> {visits} <END>"


def codes_of(table: pd.DataFrame) -> list[str]:
    """Return the columns of a table that are codes."""
    return [c for c in table.columns if c not in ("age", "sex", "died")]


def texts_of(table: pd.DataFrame) -> list[str]:
    """Return the text of each subject of a table."""
    return [_text(rows, codes_of(table)) for _, rows in table.groupby(level="subject")]


def extended(model: Path, fixes: set[str]) -> PreTrainedTokenizerFast:
    """Load a model's tokenizer and add the report's structural tokens to it."""
    with hushed():
        tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
    structure = [*(["<demo>"] if "demo" in fixes else []), "<v>", "<\\v>", "<END>"]
    tokenizer.add_special_tokens({"additional_special_tokens": structure})
    return tokenizer


def encoded(tokenizer: PreTrainedTokenizerFast, text: str, fixes: set[str]) -> tuple[list[int], list[int]]:
    """Return the tokens that the encoder reads in training, and the labels of the decoder."""
    whole = tokenizer(text, truncation=True, max_length=LONGEST)["input_ids"]
    return (prompt(tokenizer, text) if "prompted" in fixes else whole), whole


def prompt(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Return the tokens that the encoder reads when subjects are drawn: the demographics alone."""
    return tokenizer(text.split(" <v>")[0])["input_ids"]


def begin(tokenizer: PreTrainedTokenizerFast, text: str, fixes: set[str]) -> list[int]:
    """Return the decoder's tokens that generation starts from; as reported "<s> ... <demo> </s> <v>"."""
    opens = tokenizer.convert_tokens_to_ids("<v>")
    whole = encoded(tokenizer, text, fixes)[1]
    return [2, *whole[: whole.index(opens)]] if "placed" in fixes else [*prompt(tokenizer, text), opens]


def _loss(net: BartForConditionalGeneration, pairs: list[tuple[list[int], list[int]]]) -> torch.Tensor:
    read, labels = _padded([p[0] for p in pairs]), _padded([p[1] for p in pairs])
    return net(input_ids=read, attention_mask=(read != 1).long(), labels=labels.masked_fill(labels == 1, -100)).loss


@torch.no_grad()
def _mean_loss(net: BartForConditionalGeneration, pairs: list[tuple[list[int], list[int]]]) -> float:
    return float(np.mean([float(_loss(net, pairs[i : i + BATCH])) for i in range(0, len(pairs), BATCH)]))


@torch.no_grad()
def _next(net: BartForConditionalGeneration, read: list[list[int]], said: list[list[int]]) -> torch.Tensor:
    """Chances (b, vocabulary) of what comes after the decoder's tokens."""
    seen, tokens = _padded(read), _padded(said)
    logits = net(input_ids=seen, attention_mask=(seen != 1).long(), decoder_input_ids=tokens).logits
    return logits[torch.arange(len(said)), torch.tensor([len(s) - 1 for s in said])].softmax(dim=1)


@torch.no_grad()
def _generated(
    net: BartForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, read: list[list[int]],
    begun: list[list[int]], fixes: set[str], seed: int,
) -> list[str]:  # fmt: skip
    """Draw one text for each prompt that the encoder reads, from the decoder's tokens in `begun`, one by one."""
    ours, out = tokenizer.convert_tokens_to_ids("<END>"), []
    torch.manual_seed(seed)
    for row, start in zip(read, begun, strict=True):
        with hushed():
            ids = net.generate(
                input_ids=torch.tensor([row]), decoder_input_ids=torch.tensor([start]), do_sample=True, top_k=50,
                temperature=1.0 if "cooler" in fixes else 1.3, max_length=LONGEST // 2, eos_token_id=[ours, 2],
                pad_token_id=1, bad_words_ids=[[2]] if "barred" in fixes else None, forced_eos_token_id=None,
            )[0].tolist()  # fmt: skip
        out.append(tokenizer.decode(ids[len(start) :]).replace("<", " <").replace(">", "> "))
    return out


def _infilled(ids: list[int], rng: np.random.Generator) -> list[int]:
    """BART's noise: spans of about three tokens, 30 % in all, one mask for each."""
    inside, out, at = ids[1:-1], [ids[0]], 0
    while at < len(inside):
        if rng.random() < 0.1:
            out.append(4)
            at += int(rng.poisson(3))
            continue
        out.append(inside[at])
        at += 1
    return [*out, ids[-1]]


def _padded(rows: list[list[int]]) -> torch.Tensor:
    out = torch.full((len(rows), max(map(len, rows))), 1)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.tensor(row)
    return out
