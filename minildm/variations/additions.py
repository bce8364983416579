"""Teach a trained pipeline something small from pictures with captions: a LoRA (Hu et al. 2021), a
word (Gal et al. 2022) or a ControlNet (Zhang et al. 2023). Chapters 16 and 18.

Whatever is taught, the loss is the denoising loss and the loop is the Trainer's; what may change is
the difference. In each of the three functions

    pipeline: stays as it is, but for what its layers are told of a LoRA
    data: its pictures at the size that the autoencoder reads
    steps: how many; or a function that says so of the trainer, which can measure how long one takes
    folder: where the training is kept, so that the same call goes on after Ctrl-C
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import log2
from pathlib import Path

import torch
from torch import Tensor

from minildm.data.captions import CAPTIONS, captions_for
from minildm.data.scene_captions import write_captions
from minildm.data.scenes import sample_attributes
from minildm.data.text_image import TextImageDataset
from minildm.pipelines.distilled import time_cond_proj_dim
from minildm.pipelines.stable_diffusion import StableDiffusionPipeline
from minildm.schedulers.lcm import LCMScheduler
from minildm.training.batches import (
    Batch,
    batch_indices,
    denoiser_batches,
    encode_dataset,
    spread_timesteps,
    step_generator,
)
from minildm.training.objectives import DenoisingLoss, TextConditionedUNet
from minildm.training.trainer import Trainer
from minildm.variations.concatenation import encode_maps
from minildm.variations.controlnet import ControlledUNet, ControlNetModel
from minildm.variations.lora import LoRA
from minildm.variations.textual_inversion import TextualInversionLoss, with_word, word_vector

Steps = int | Callable[[Trainer], int]


def train_lora(
    pipeline: StableDiffusionPipeline,
    data: TextImageDataset,
    steps: Steps,
    *,
    rank: int = 4,
    keep: Sequence[str] = (),
    learning_rate: float = 5e-3,
    batch_size: int = 32,
    prompt_dropout: float = 0.1,
    seed: int = 0,
    folder: Path | None = None,
    progress: bool = True,
) -> LoRA:
    """Low-rank terms beside the attention of U-Net and text encoder, trained on the data.

    keep: prompts that shall be drawn as before: the pipeline draws them now, and learns its own
        pictures along (prior preservation, Ruiz et al. 2023)
    """
    check_teachable(pipeline)
    if keep:
        data = with_own_pictures(pipeline, data, keep, seed, progress)
    lora = LoRA(
        pipeline.unet, pipeline.text_encoder, rank, generator=torch.Generator().manual_seed(seed)
    )
    predict = TextConditionedUNet(pipeline.unet, pipeline.text_encoder)
    loss = DenoisingLoss(predict, pipeline.scheduler)
    loss.add_module("lora", lora)  # where the trainer finds what there is to train
    batches = text_batches(pipeline, data, prompt_dropout, batch_size, seed, progress)
    run(Trainer("lora", loss, batches, learning_rate, weight_decay=0.0), steps, folder, progress)
    return lora


def train_word(
    pipeline: StableDiffusionPipeline,
    word: str,
    data: TextImageDataset,
    steps: Steps,
    *,
    like: str | None = None,
    learning_rate: float = 0.03,
    batch_size: int = 20,
    seed: int = 0,
    folder: Path | None = None,
    progress: bool = True,
) -> StableDiffusionPipeline:
    """The pipeline with one more word, whose vector (`word_vector`) is trained on the data, in
    every caption of which the word stands.

    like: a word of one token to begin from; None for the mean of all that training knew
    """
    taught = untaught_word(pipeline, word, like)
    token = taught.tokenizer.vocab[word]
    for text in (text for phrasings in data.captions for text in phrasings):
        if token not in taught.tokenizer.encode(text):
            raise ValueError(f"expected captions with the word {word!r}, got {text!r}")
    loss = TextualInversionLoss(taught, word, pipeline.scheduler)
    batches = text_batches(taught, data, 0.0, batch_size, seed, progress)
    run(Trainer("word", loss, batches, learning_rate, weight_decay=0.0), steps, folder, progress)
    loss.keep()
    return taught


def train_controlnet(
    pipeline: StableDiffusionPipeline,
    data: TextImageDataset,
    maps: Tensor,
    steps: Steps,
    *,
    classes: int | None = None,
    learning_rate: float = 1e-3,
    ema: float = 0.1,
    batch_size: int = 32,
    prompt_dropout: float = 0.3,
    seed: int = 0,
    stream: str = "controlnet",
    folder: Path | None = None,
    progress: bool = True,
) -> ControlNetModel:
    """A ControlNet that tells the frozen U-Net what a map says. Text is left out of some of the
    training, so that the map has to say by itself what it can (Zhang et al. 2023, §3.3).

    maps: (N, C, H, W) in [0, 1] at the pictures' size; or, with `classes`, class numbers (N, H, H)
    """
    check_teachable(pipeline)
    planes = maps.shape[1] if classes is None else classes
    halvings = int(log2(pipeline.vae.downscale_factor))
    widths = tuple(16 * 2**i for i in range(halvings + 1))  # down to the size of the latents
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        controlnet = ControlNetModel.from_unet(pipeline.unet, widths, planes)
    controlled = ControlledUNet(pipeline.unet.requires_grad_(False), controlnet)
    batches = map_batches(
        pipeline, data, maps, classes, prompt_dropout, batch_size, seed, stream, progress
    )
    loss = DenoisingLoss(controlled, pipeline.scheduler)
    run(Trainer(stream, loss, batches, learning_rate, ema=ema), steps, folder, progress)
    return controlnet


def run(trainer: Trainer, steps: Steps, folder: Path | None, progress: bool) -> None:
    """Train so many steps, or as many as the function says."""
    count = steps if isinstance(steps, int) else steps(trainer)
    trainer.train(count, folder, progress=progress)


def check_teachable(pipeline: StableDiffusionPipeline) -> None:
    """ValueError if the pipeline was distilled to few steps: the denoising loss would teach it to
    need many again."""
    if time_cond_proj_dim(pipeline.unet) or isinstance(pipeline.scheduler, LCMScheduler):
        expected = "a model that was trained to denoise"
        raise ValueError(f"expected {expected}, got one distilled to few steps: teach its teacher")


def with_own_pictures(
    pipeline: StableDiffusionPipeline,
    data: TextImageDataset,
    prompts: Sequence[str],
    seed: int,
    progress: bool = True,
) -> TextImageDataset:
    """The data and what the pipeline draws of the prompts, about as many of each: the fewer are
    repeated."""
    generator = torch.Generator().manual_seed(seed)
    own = pipeline(list(prompts), generator=generator, progress=progress).to(data.images.device)
    times = max(1, round(len(own) / len(data)))
    own_times = max(1, round(len(data) / len(own)))
    number = len(data.captions) + torch.arange(len(own))
    return replace(
        data,
        images=torch.cat([data.images[:]] * times + [own] * own_times),
        labels=torch.cat([data.labels] * times + [torch.zeros_like(number)] * own_times),
        captions=[*data.captions, *([prompt] for prompt in prompts)],
        caption_of=torch.cat([data.caption_of] * times + [number] * own_times),
        texts=[*data.texts, *prompts],
    )


def familiar_prompts(card: Mapping[str, object], number: int, seed: int = 0) -> list[str]:
    """Prompts for what a model knows already, by its card: captions of the data set that it was
    trained on, or of its own pictures' classes; [] where the card does not say."""
    dataset, own = card.get("dataset"), card.get("data")
    generator = torch.Generator().manual_seed(seed)
    if dataset == "scenes":
        return write_captions(sample_attributes(number, generator), generator)
    known: list[str] = []
    if isinstance(dataset, str) and dataset in CAPTIONS:
        known = [text for label in range(10) for text in captions_for(dataset, label)]
    elif isinstance(own, Mapping) and own.get("caption"):
        known = [str(own["caption"]).replace("{class}", str(name)) for name in own["classes"]]
    return [known[i % len(known)] for i in range(number)] if known else []


def untaught_word(
    pipeline: StableDiffusionPipeline, word: str, like: str | None = None
) -> StableDiffusionPipeline:
    """The pipeline with the word as its training finds it; ValueError if it cannot be taught it."""
    check_teachable(pipeline)
    start = mean_vector(pipeline) if like is None else word_vector(pipeline, like)
    return with_word(pipeline, word, start)


def captioned_with(data: TextImageDataset, word: str, instead_of: str) -> TextImageDataset:
    """The data with `word` in every caption, where it stands already or `instead_of` does."""
    pattern = re.compile(rf"(?<!\w){re.escape(instead_of)}(?!\w)", re.IGNORECASE)

    def changed(text: str) -> str:
        if word in text:
            return text
        text, times = pattern.subn(lambda _: word, text)
        if not times:
            raise ValueError(f"expected captions with {word} or {instead_of}, got {text!r}")
        return text

    captions = [[changed(text) for text in texts] for texts in data.captions]
    return replace(data, captions=captions, texts=sum(captions, []))


def mean_vector(pipeline: StableDiffusionPipeline) -> Tensor:
    """The mean of the vectors of the words that training knew, (D,); of the whole table if the
    tokenizer has kept no words."""
    table = pipeline.text_encoder.embeddings.token_embedding.weight.detach()
    spelt = map(pipeline.tokenizer.encode, sorted(pipeline.tokenizer.known_words))
    rows = [ids[1] for ids in spelt if len(ids) == 3]  # one token between start and end
    return (table[rows] if rows else table).mean(0)


def text_batches(
    pipeline: StableDiffusionPipeline,
    data: TextImageDataset,
    prompt_dropout: float,
    batch_size: int,
    seed: int,
    progress: bool = True,
) -> Callable[[int], Batch]:
    """step -> latents, noise, timesteps, input_ids: as the denoiser itself is trained."""
    mean, std = encode_dataset(pipeline.vae, data.images, progress)
    factor = pipeline.vae.config.scaling_factor
    return denoiser_batches(
        mean * factor,
        std * factor,
        caption_of=data.caption_of,
        caption_ids=[pipeline.tokenizer(texts) for texts in data.captions],
        empty_ids=pipeline.tokenizer("")[0],
        prompt_dropout=prompt_dropout,
        batch_size=batch_size,
        seed=seed,
    )


@torch.no_grad()
def map_batches(
    pipeline: StableDiffusionPipeline,
    data: TextImageDataset,
    maps: Tensor,
    classes: int | None,
    prompt_dropout: float,
    batch_size: int,
    seed: int,
    stream: str,
    progress: bool = True,
) -> Callable[[int], Batch]:
    """step -> latents, noise, timesteps, contexts, maps. Texts are encoded once, for their encoder
    stays as it is."""
    if len(maps) != len(data):
        raise ValueError(f"expected a map for each of {len(data)} pictures, got {len(maps)}")
    means = encode_dataset(pipeline.vae, data.images, progress)[0]
    z = means * pipeline.vae.config.scaling_factor
    ids = pipeline.tokenizer(["", *(text for texts in data.captions for text in texts)])
    encoder = pipeline.text_encoder
    contexts = torch.cat([encoder(part.to(encoder.device)).to(z.device) for part in ids.split(500)])
    phrasings = torch.tensor([len(texts) for texts in data.captions])
    first = 1 + phrasings.cumsum(0) - phrasings  # where each set begins, behind the empty text

    def batch(step: int) -> Batch:
        generator = step_generator(seed, stream, step)
        rows = batch_indices(len(z), batch_size, seed, stream, step)
        noise = torch.randn(z[rows].shape, generator=generator)
        told = torch.rand(batch_size, generator=generator) >= prompt_dropout
        timesteps = spread_timesteps(batch_size, generator)
        caption = data.caption_of[rows]
        which = (torch.rand(batch_size, generator=generator) * phrasings[caption]).long()
        context = contexts[torch.where(told, first[caption] + which, 0)]
        shown = maps[rows]
        if classes is not None:
            shown = encode_maps(shown, shown.shape[1], classes=classes)
        return z[rows], noise, timesteps, context, shown

    return batch
