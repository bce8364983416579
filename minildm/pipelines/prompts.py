"""What a pipeline is told in words: prompts, and what to steer away from (Ho & Salimans 2021).
Chapter 11."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from minildm.text.text_encoder import CLIPTextModel
from minildm.text.tokenizer import CLIPTokenizer


def pair_prompts(
    prompt: str | Sequence[str], negative_prompt: str | Sequence[str] | None, guidance: bool
) -> list[list[str]]:
    """The negative prompts, one for each prompt, and the prompts; without guidance only these."""
    for given in (prompt, negative_prompt or ""):
        if not isinstance(given, (str, list, tuple)):
            raise ValueError(f"expected a text or a list of texts, got {type(given).__name__}")
        if strange := [text for text in given if not isinstance(text, str)]:
            raise ValueError(
                f"expected a text or a list of texts, got a {type(strange[0]).__name__} in it"
            )
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    if negative_prompt is None or isinstance(negative_prompt, str):
        negatives = [negative_prompt or ""] * len(prompts)
    else:
        negatives = list(negative_prompt)
    texts = [negatives, prompts] if guidance else [prompts]
    if not prompts or len(texts[0]) != len(prompts):
        got = f"{len(prompts)} and {len(texts[0])}"
        raise ValueError(f"expected prompts, and as many negative ones, got {got}")
    return texts


def encode_texts(
    tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel,
    texts: Sequence[Sequence[str]],
    times: int,
) -> Tensor:
    """(K, N, L, D) of K lists of texts, each text `times` times, those of one text together.
    Different ones are encoded once; a word that training never saw is a warning."""
    distinct = list(dict.fromkeys(text for line in texts for text in line))
    unknown = dict.fromkeys(word for text in distinct for word in tokenizer.unknown_words(text))
    if unknown:
        words = ", ".join(map(repr, unknown))
        warnings.warn(f"training never saw {words}: the picture may show anything", stacklevel=5)
    vectors = text_encoder(tokenizer(distinct).to(text_encoder.device))
    row = {text: i for i, text in enumerate(distinct)}
    rows = [[row[text] for text in line for _ in range(times)] for line in texts]
    return vectors[torch.tensor(rows).to(vectors.device)]
