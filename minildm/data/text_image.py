"""What a recipe trains on: pictures, what is in them, and the captions under them. Chapters 10 and
11."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from minildm.data.captions import captions_for
from minildm.data.datasets import LOADERS, mnist
from minildm.data.images import pad
from minildm.data.scene_captions import INKS, caption_words, write_captions
from minildm.data.scenes import DigitScenes

# as many are painted, always the same ones, so that their latents can be encoded once and kept
SCENES = 50_000
PHRASINGS = 3  # of each scene's caption


class Corpus(NamedTuple):
    """images: (N, C, H, W) in [-1, 1]. labels: (N,), what the critic learns to tell them by.

    captions: sets of phrasings. caption_of: (N,), the number of each image's set: its class, where
    a class is all that a caption speaks of. texts: what the tokenizer learns its words from.
    """

    images: Tensor
    labels: Tensor
    captions: list[list[str]]
    caption_of: Tensor
    texts: list[str]


def load_corpus(
    dataset: str,
    num_images: int | None = None,
    size: int = 32,
    progress: bool = False,
    full: bool = False,
) -> Corpus:
    """The first `num_images` training pictures of a data set (all if None), padded to `size`, and
    their captions.

    full: all of CIFAR-10, which is not bundled.
    """
    if dataset == "scenes":
        return paint_scenes(num_images or SCENES, progress=progress)
    images, labels, classes = LOADERS[dataset]("train", **({"full": True} if full else {}))
    images, labels = pad(images[:num_images], size), labels[:num_images]
    captions = [captions_for(dataset, label) for label in range(len(classes))]
    return Corpus(images, labels, captions, caption_of=labels, texts=sum(captions, []))


def paint_scenes(number: int, seed: int = 0, chunk: int = 2000, progress: bool = False) -> Corpus:
    """`number` DigitScenes without held-out combinations.

    The critic tells them by the first digit and its colour, 60 classes: what it does not look at,
    the autoencoder that it teaches would lose, and a critic of digits alone does not look at
    colours.
    """
    scenes, generator = DigitScenes(mnist("train")), torch.Generator().manual_seed(seed)
    chunks = tqdm(range(0, number, chunk), "painting scenes", disable=not progress)
    painted = [scenes.sample(min(chunk, number - i), generator) for i in chunks]
    attributes = [part.attributes for part in painted]
    captions: list[list[str]] = []
    for part in painted:
        again = (write_captions(part.attributes, generator) for _ in range(PHRASINGS - 1))
        captions += map(list, zip(part.captions, *again, strict=True))
    return Corpus(
        images=torch.cat([part.images for part in painted]),
        labels=torch.cat(
            [digits[:, 0] * len(INKS) + colours[:, 0] for digits, colours, *_ in attributes]
        ),
        captions=captions,
        caption_of=torch.arange(number),
        texts=caption_words(),
    )
