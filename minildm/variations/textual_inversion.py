"""Textual inversion: a new word is learnt, its vector alone; everything that reads it stays as it
is (Gal et al. 2022). Chapter 16."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from minildm.files import card_entry, file_or_in, read_tensors, shown, write_tensors
from minildm.pipelines.stable_diffusion import StableDiffusionPipeline
from minildm.schedulers.base import Scheduler
from minildm.state_dicts import describe_nonfinite
from minildm.text.text_encoder import CLIPTextModel
from minildm.text.tokenizer import CLIPTokenizer
from minildm.training.objectives import DenoisingLoss, TextConditionedUNet

WEIGHTS_NAME = "learned_embeds.safetensors"  # diffusers' name for it


def word_vector(pipeline: StableDiffusionPipeline, word: str) -> Tensor:
    """A copy of the vector of a word that is one token, (D,)."""
    ids = pipeline.tokenizer.encode(word)[1:-1]
    if len(ids) != 1:
        raise ValueError(f"expected a word of one token, got {word!r}, of {len(ids)}")
    return pipeline.text_encoder.embeddings.token_embedding.weight[ids[0]].detach().clone()


def with_word(
    pipeline: StableDiffusionPipeline, word: str, vector: Tensor
) -> StableDiffusionPipeline:
    """The same pipeline knowing one more word, its token the last of the vocabulary; the one given
    stays without it.

    word: lower case, without spaces, "<orange>" say; vector: (D,). U-Net and autoencoder are
        shared, not copied.
    """
    old, encoder = pipeline.tokenizer, pipeline.text_encoder
    table = encoder.embeddings.token_embedding.weight
    if word in old.vocab or old.unknown_words(word) == [] and old.known_words:
        raise ValueError(f"expected a new word, got {word!r}, which the vocabulary has")
    if vector.shape != table.shape[1:]:
        raise ValueError(
            f"expected a vector of shape {tuple(table.shape[1:])}, got {tuple(vector.shape)}"
        )
    if len(table) != len(old):
        raise ValueError(
            f"expected a table of {len(old)} vectors, one for each token, got {len(table)}"
        )
    tokenizer = CLIPTokenizer(
        {**old.vocab, word: len(old)},
        old.merges,
        old.model_max_length,
        **old.special_tokens,
        known_words=old.known_words,
        added_tokens=[*old.added_tokens, word],
    )
    longer = CLIPTextModel.from_config(encoder.config, vocab_size=len(tokenizer)).to(
        encoder.device, encoder.dtype
    )
    state = encoder.state_dict()
    key = "embeddings.token_embedding.weight"
    longer.load_state_dict(state | {key: torch.cat([state[key], vector.to(table)[None]])})
    longer.train(encoder.training)
    return type(pipeline).from_pipe(pipeline, tokenizer=tokenizer, text_encoder=longer)


class TextualInversionLoss(DenoisingLoss):
    """The denoising loss, in which nothing can be trained but the vector of `word`.

    latents z, noise (B, C, h, w), timesteps (B,), input_ids (B, L) -> mean squared error of the
    prediction, (); Gal et al. 2022, eq. 2. While it exists, the text encoder reads `vector` in the
    word's place; `keep` writes it there.
    """

    def __init__(self, pipeline: StableDiffusionPipeline, word: str, scheduler: Scheduler):
        unet = pipeline.unet.requires_grad_(False)
        text_encoder = pipeline.text_encoder.requires_grad_(False)
        super().__init__(TextConditionedUNet(unet, text_encoder), scheduler)
        self.vector = nn.Parameter(word_vector(pipeline, word))
        self.token = pipeline.tokenizer.vocab[word]
        self.table = pipeline.text_encoder.embeddings.token_embedding
        self.handle = self.table.register_forward_hook(self.read)

    def read(self, table: nn.Embedding, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        """The forward hook of the table: output (B, L, D), with the vector at the word's places."""
        return torch.where((inputs[0] == self.token)[..., None], self.vector, output)

    @torch.no_grad()
    def keep(self) -> Tensor:
        """End the training: the table gets the vector, (D,), which is also returned."""
        self.handle.remove()
        self.table.weight[self.token] = self.vector
        return self.vector.detach().clone()


def save_word(
    folder: str | os.PathLike, word: str, vector: Tensor, card: Mapping[str, object] | None = None
) -> None:
    """Write the file that diffusers' `pipeline.load_textual_inversion(folder)` opens.

    folder: or the file itself, whose name ends in .safetensors; vector: (D,); card: what it keeps
        of how it came to be
    """
    file = Path(folder)
    file = file if file.suffix == ".safetensors" else file / WEIGHTS_NAME
    file.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(file, {word: vector}, {"format": "pt", **card_entry(card)})


def load_word(folder: str | os.PathLike) -> tuple[str, Tensor]:
    """The word and its vector (D,) in a file that ours or diffusers' training wrote."""
    file = file_or_in(folder, WEIGHTS_NAME)
    content = read_tensors(file, "a learnt word")
    shapes = [tuple(tensor.shape) for tensor in content.values()]
    if (
        len(content) != 1
        or len(shapes[0]) not in (1, 2)
        or (len(shapes[0]) == 2 and shapes[0][0] != 1)
    ):
        got = ", ".join(
            f"{shown(name)} {shape}" for name, shape in zip(content, shapes, strict=True)
        )
        if any(".lora_" in name for name in content):
            got = f"a LoRA of {len(content)} tensors"
        elif len(content) > 3:
            got = f"{len(content)} tensors"
        raise ValueError(f"{file}: expected one word with one vector, got {got}")
    [(word, vector)] = content.items()
    fault = describe_nonfinite(content) if vector.is_floating_point() else str(vector.dtype)
    if fault:
        raise ValueError(f"{file}: expected a vector of finite fractions, got {fault}")
    return word, vector.flatten()
