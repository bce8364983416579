"""Recipes for pictures of one's own: what fits a data set, what does not, and how a record names it
(Rombach et al. 2022). Chapter 18."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from minildm.data.clusters import CLUSTERS, k_means, nearest
from minildm.data.images import to_pixels
from minildm.data.text_image import TextImageDataset
from minildm.text.bpe import normalize, split_words
from minildm.text.tokenizer import CLIPTokenizer
from minildm.training.recipes import OWN_32, OWN_64, OWN_PICTURES, Recipe

RECIPES = {32: OWN_32, 64: OWN_64}  # by the pictures' width
CHUNK = 1000  # pictures in memory at a time
LENGTHS = (16, 32, 77)  # of captions, in tokens; the last is Stable Diffusion's


def recipe_for(data: TextImageDataset) -> Recipe:
    """The recipe for pictures of this size, with the channels, the labels and the length of
    captions that the data have."""
    channels, width = data.images.shape[1], data.images.shape[-1]
    if width not in RECIPES or channels not in (1, 3):
        raise ValueError(
            f"expected pictures (N, 1 or 3, S, S) with S of {', '.join(map(str, RECIPES))}, "
            f"got {tuple(data.images.shape)}"
        )
    recipe = RECIPES[width]
    longest = max(caption_lengths(data.captions), default=0)
    fitting = [length for length in LENGTHS if longest <= length]
    kinds = max(len(data.classes), int(data.labels.max()) + 1)
    return replace(
        recipe,
        classifier={**recipe.classifier, "in_channels": channels, "num_classes": kinds + CLUSTERS},
        vae={**recipe.vae, "in_channels": channels, "out_channels": channels},
        text_encoder={
            **recipe.text_encoder,
            "max_position_embeddings": fitting[0] if fitting else LENGTHS[-1],
        },
    )


def check_data(recipe: Recipe, data: TextImageDataset | None) -> None:
    """ValueError if these are no pictures for the recipe, or there are none and it names none."""
    if data is None:
        if recipe.dataset == OWN_PICTURES:
            raise ValueError("expected data to train on for a recipe of own pictures, got none")
        return
    side, channels = recipe.vae["sample_size"], recipe.vae["in_channels"]
    if data.images.shape[1:] != (channels, side, side) or not len(data):
        raise ValueError(
            f"expected pictures (N, {channels}, {side}, {side}) for this recipe, "
            f"got {tuple(data.images.shape)}; recipe_for(data) makes one that fits"
        )
    kinds = recipe.classifier.get("num_classes", 10)
    kinds -= CLUSTERS if recipe.dataset == OWN_PICTURES else 0
    if not 0 <= int(data.labels.min()) <= int(data.labels.max()) < kinds:
        raise ValueError(
            f"expected labels from 0 to {kinds - 1} for this recipe, got {int(data.labels.min())} "
            f"to {int(data.labels.max())}; recipe_for(data) makes one that fits"
        )


def perceptual_labels(recipe: Recipe, data: TextImageDataset) -> Tensor:
    """What the perceptual net learns to tell the pictures by, (N,): of pictures of one's own, every
    second one by its label and the others by their colours. What the net does not look at, the
    autoencoder that it teaches would lose, and a net of letters alone does not look at colours."""
    if recipe.dataset != OWN_PICTURES:
        return data.labels
    colours = torch.cat([mean_and_deviation(part) for part in data.images.split(CHUNK)])
    kinds = recipe.classifier["num_classes"] - CLUSTERS
    labels = data.labels.clone()
    labels[1::2] = kinds + nearest(colours, k_means(colours, CLUSTERS))[1::2]
    return labels


def mean_and_deviation(images: Tensor) -> Tensor:
    """Of each channel, (N, C, H, W) -> (N, 2·C)."""
    return torch.cat([images.mean((2, 3)), images.std((2, 3))], 1)


def warn_of_long_captions(recipe: Recipe, data: TextImageDataset) -> None:
    """Say once how many captions the text encoder has no room for."""
    room = recipe.text_encoder["max_position_embeddings"]
    lengths = list(caption_lengths(data.captions))
    if too_long := sum(length > room for length in lengths):
        warnings.warn(
            f"{too_long} of {len(lengths)} captions are longer than the {room} tokens that fit "
            f"(the longest: {max(lengths)}); their ends are cut off",
            stacklevel=3,
        )


def caption_lengths(captions: Iterable[Iterable[str]]) -> Iterator[int]:
    """In tokens: a word is one, to a tokenizer trained on these texts, and start and end are
    two."""
    return (len(split_words(normalize(text))) + 2 for texts in captions for text in texts)


def tokenize_captions(tokenizer: CLIPTokenizer, captions: Iterable[list[str]]) -> list[Tensor]:
    """The ids of each set of phrasings, (P, L). What is cut off `warn_of_long_captions` has
    said, once for all of them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the prompt takes")
        return [tokenizer(texts) for texts in captions]


def describe_data(data: TextImageDataset) -> dict[str, str | int | list[str]]:
    """What a training's record and a model's card say of the pictures, as JSON has it: no path,
    and a fingerprint that other pictures, captions or labels do not have."""
    count, channels, width = len(data), data.images.shape[1], data.images.shape[-1]
    return {
        **data.about,
        "pictures": count,
        "size": width,
        "channels": channels,
        "classes": list(data.classes),
        "fingerprint": fingerprint(data),
    }


def fingerprint(data: TextImageDataset) -> str:
    """The first half of the SHA-256 of all pixels, in 8 bits, and of all captions and labels."""
    digest = hashlib.sha256()
    for part in data.images.split(CHUNK):
        digest.update(to_pixels(part).tobytes())
    words = [data.captions, data.caption_of.tolist(), data.labels.tolist(), data.texts]
    digest.update(json.dumps(words).encode())
    return digest.hexdigest()[:32]
