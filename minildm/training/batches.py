"""Batches from the step's number: which examples a step sees, with which noise, at which timesteps
(Kingma et al. 2021; Rombach et al. 2022). Chapters 04, 07 and 10.

Everything random about a step is drawn from a generator seeded by (seed, stream, step). That one
habit makes a resumed run see what an uninterrupted one sees, and lets several processes each take
their share of the very same batch. A *stream* is the name of one sequence of random numbers: two
stages of one seed have two streams. It is part of the seed, so another name is another training.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor
from tqdm.auto import tqdm

from minildm.data.picture_cache import Pictures
from minildm.models.autoencoder import AutoencoderKL, DiagonalGaussianDistribution

Batch = tuple[Tensor, ...]
Augmentation = Callable[[Tensor, torch.Generator], Tensor]  # of images (B, C, H, W)


def step_generator(seed: int, stream: str, step: int) -> torch.Generator:
    """The source of everything random in one step of one stream."""
    return torch.Generator().manual_seed(zlib.crc32(f"{seed} {stream} {step}".encode()))


def batch_indices(num_examples: int, batch_size: int, seed: int, stream: str, step: int) -> Tensor:
    """Which examples the step sees, (batch_size,): epoch after epoch, each in an order of its
    own."""
    positions = torch.arange(step * batch_size, (step + 1) * batch_size)
    epochs = (positions // num_examples).unique().tolist()
    orders = torch.cat([_shuffled(num_examples, seed, stream, epoch) for epoch in epochs])
    return orders[positions - epochs[0] * num_examples]


@lru_cache(maxsize=2)
def _shuffled(num_examples: int, seed: int, stream: str, epoch: int) -> Tensor:
    return torch.randperm(num_examples, generator=step_generator(seed, f"{stream} epoch", epoch))


def spread_timesteps(
    batch_size: int, generator: torch.Generator, num_train_timesteps: int = 1000
) -> Tensor:
    """Timesteps spread evenly over all of them, (batch_size,), not drawn one by one: each is as
    likely as the others, and a batch's mean loss varies less (Kingma et al. 2021, appendix I.1)."""
    evenly = (torch.rand((), generator=generator) + torch.arange(batch_size) / batch_size) % 1
    return (evenly * num_train_timesteps).long()


def classifier_batches(
    images: Tensor | Pictures,
    labels: Tensor,
    *,
    stream: str,
    batch_size: int,
    seed: int,
    augment: Augmentation | None = None,
) -> Callable[[int], Batch]:
    """step -> images (B, C, H, W), changed a little at random by an `augment`, and labels (B,)."""
    if labels.shape != (len(images),):
        got = tuple(labels.shape)
        raise ValueError(f"expected a label for each of {len(images)} images, got {got}")

    def batch(step: int) -> Batch:
        index = batch_indices(len(images), batch_size, seed, stream, step)
        chosen = images[index]
        if augment is not None:
            chosen = augment(chosen, step_generator(seed, stream, step))
        return chosen, labels[index]

    return batch


def autoencoder_batches(
    images: Tensor | Pictures, latent_shape: tuple[int, int, int], *, batch_size: int, seed: int
) -> Callable[[int], Batch]:
    """step -> images (B, C, H, W) and the noise of their z, (B, *latent_shape)."""
    check_range(images)

    def batch(step: int) -> Batch:
        index = batch_indices(len(images), batch_size, seed, "autoencoder", step)
        generator = step_generator(seed, "autoencoder", step)
        return images[index], torch.randn(batch_size, *latent_shape, generator=generator)

    return batch


def pixel_batches(
    images: Tensor | Pictures, batch_size: int, seed: int, num_train_timesteps: int = 1000
) -> Callable[[int], Batch]:
    """step -> images (B, C, H, W), noise, and timesteps spread evenly over the batch (B,)."""

    def batch(step: int) -> Batch:
        generator = step_generator(seed, "pixels", step)
        chosen = images[batch_indices(len(images), batch_size, seed, "pixels", step)]
        noise = torch.randn(chosen.shape, generator=generator)
        return chosen, noise, spread_timesteps(batch_size, generator, num_train_timesteps)

    return batch


def label_batches(
    mean: Tensor,
    std: Tensor,
    labels: Tensor,
    batch_size: int,
    seed: int,
    num_train_timesteps: int = 1000,
) -> Callable[[int], Batch]:
    """step -> latents drawn from their normal distributions, noise, spread timesteps, labels.

    mean, std: of every picture's scaled z, (N, C, h, w): `encode_dataset`'s times scaling_factor
    labels: (N,)
    """
    if mean.shape != std.shape or labels.shape != (len(mean),):
        got = f"{tuple(mean.shape)}, {tuple(std.shape)} and {tuple(labels.shape)}"
        raise ValueError(f"expected a mean, a std and a label of each image, got {got}")

    def batch(step: int) -> Batch:
        generator = step_generator(seed, "labels", step)
        index = batch_indices(len(mean), batch_size, seed, "labels", step)
        noise, own = torch.randn(2, batch_size, *mean.shape[1:], generator=generator)
        timesteps = spread_timesteps(batch_size, generator, num_train_timesteps)
        return mean[index] + std[index] * own, noise, timesteps, labels[index]

    return batch


def denoiser_batches(
    mean: Tensor,
    std: Tensor,
    *,
    caption_of: Tensor,
    caption_ids: list[Tensor],
    empty_ids: Tensor,
    prompt_dropout: float,
    batch_size: int,
    seed: int,
    num_train_timesteps: int = 1000,
) -> Callable[[int], Batch]:
    """step -> latents drawn from their normal distributions, noise, timesteps, input_ids (B, L).

    mean, std: of every image's scaled z, (N, C, h, w)
    caption_ids: sets of phrasings, each (P, L); caption_of: (N,), which of them is each image's
    empty_ids: the prompt "", (L,), which takes the caption's place in a `prompt_dropout` of the
        cases
    """
    deviation = (mean.var() + std.square().mean()).sqrt().item()
    if not 0.5 < deviation < 2:
        raise ValueError(
            f"expected scaled latents, of deviation about 1, got {deviation:.3g}; "
            "multiply mean and std by the autoencoder's scaling_factor"
        )
    if mean.shape != std.shape or caption_of.shape != (len(mean),):
        got = f"{tuple(mean.shape)}, {tuple(std.shape)} and {tuple(caption_of.shape)}"
        raise ValueError(f"expected a mean, a std and a caption of each image, got {got}")
    if {tuple(ids.shape[1:]) for ids in caption_ids} != {tuple(empty_ids.shape)}:
        got = f"{[tuple(ids.shape) for ids in caption_ids]} and {tuple(empty_ids.shape)}"
        raise ValueError(f"expected caption_ids (P, L) and empty_ids (L,) of one length, got {got}")

    def batch(step: int) -> Batch:
        generator = step_generator(seed, "denoiser", step)
        index = batch_indices(len(mean), batch_size, seed, "denoiser", step)
        noise, own = torch.randn(2, batch_size, *mean.shape[1:], generator=generator)
        timesteps = spread_timesteps(batch_size, generator, num_train_timesteps)
        phrasing, dropped = torch.rand(2, batch_size, generator=generator)
        chosen = []
        for caption, place in zip(caption_of[index].tolist(), phrasing, strict=True):
            phrasings = caption_ids[caption]
            chosen.append(phrasings[int(place * len(phrasings))])
        input_ids = torch.stack(chosen)
        input_ids[dropped < prompt_dropout] = empty_ids
        return mean[index] + std[index] * own, noise, timesteps, input_ids

    return batch


class Encodes(Protocol):
    """What `encode_dataset` asks of an autoencoder, or of what stands in its place."""

    @property
    def device(self) -> torch.device: ...

    def encode(self, x: Tensor, /) -> DiagonalGaussianDistribution: ...


@torch.no_grad()
def encode_dataset(
    vae: Encodes, images: Tensor | Pictures, progress: bool = True
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every image's z, once for the whole training.

    Two of (N, C, h, w).
    """
    if isinstance(vae, AutoencoderKL):
        check_range(images)
    means, stds = [], []
    batches = images.split(50)  # 50 fit into the cache
    for batch in tqdm(batches, "latents", -(-len(images) // 50), disable=not progress):
        posterior = vae.encode(batch.to(vae.device, memory_format=torch.channels_last))
        means.append(posterior.mean.to(images.device))
        stds.append(posterior.std.to(images.device))
    return torch.cat(means), torch.cat(stds)


def check_range(images: Tensor | Pictures) -> None:
    """ValueError if a whole data set of pictures is not in [-1, 1], or shows nothing darker than
    middle grey."""
    low, high = images.min().item(), images.max().item()
    if low >= 0 or low < -1.01 or high > 1.01:
        raise ValueError(
            f"expected images in [-1, 1], got them from {low:g} to {high:g}; "
            "from [0, 1]: 2 * images - 1"
        )
