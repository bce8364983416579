"""What a recipe trains on: pictures, what is in them, and the captions under them.
Chapters 10 and 11."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm.auto import tqdm

from minildm.data.captions import captions_for
from minildm.data.datasets import load_images, mnist
from minildm.data.images import pad
from minildm.data.scene_captions import INKS, caption_words, write_captions
from minildm.data.scenes import DigitScenes

# as many are painted, always the same ones, so that their latents can be encoded once and kept
NUM_SCENES = 50_000
NUM_PHRASINGS = 3  # of each scene's caption


@dataclass(frozen=True)
class TextImageDataset:
    """Pictures and the texts that go with them.

    images: (N, C, H, W) in [-1, 1]
    labels: (N,), what the perceptual net learns to tell them by
    captions: sets of phrasings
    caption_of: (N,), the number of each image's set; its class, where a caption tells no more
    texts: what the tokenizer learns its words from
    """

    images: Tensor
    labels: Tensor
    captions: list[list[str]]
    caption_of: Tensor
    texts: list[str]

    def __len__(self) -> int:
        return len(self.images)


def load_text_image(
    dataset: str,
    num_images: int | None = None,
    *,
    size: int = 32,
    full: bool = False,
    progress: bool = False,
) -> TextImageDataset:
    """The first `num_images` training pictures of a data set (all if None), padded to `size`, and
    their captions.

    full: all of CIFAR-10, which is not bundled.
    """
    if dataset == "scenes":
        return paint_scenes(num_images or NUM_SCENES, progress=progress)
    images, labels, classes = load_images(dataset, "train", full)
    labels = labels[:num_images]
    captions = [captions_for(dataset, label) for label in range(len(classes))]
    return TextImageDataset(
        images=pad(images[:num_images], size),
        labels=labels,
        captions=captions,
        caption_of=labels,
        texts=[text for phrasings in captions for text in phrasings],
    )


def paint_scenes(
    number: int, seed: int = 0, chunk: int = 2000, progress: bool = False
) -> TextImageDataset:
    """`number` DigitScenes without held-out combinations.

    The perceptual net tells them by the first digit and its colour, 60 classes: what it does not
    look at, the autoencoder that it teaches would lose, and a net of digits alone does not look at
    colours.
    """
    scenes = DigitScenes(mnist("train"))
    generator = torch.Generator().manual_seed(seed)
    images, labels = [], []
    captions: list[list[str]] = []
    parts = []
    for begin in tqdm(range(0, number, chunk), "painting scenes", disable=not progress):
        parts.append(scenes.sample(min(chunk, number - begin), generator))
    for part in parts:  # after all of the painting, so that more phrasings paint the same scenes
        digits, colours = part.attributes.digits, part.attributes.colours
        images.append(part.images)
        labels.append(digits[:, 0] * len(INKS) + colours[:, 0])
        more = (write_captions(part.attributes, generator) for _ in range(NUM_PHRASINGS - 1))
        captions += [list(phrasings) for phrasings in zip(part.captions, *more, strict=True)]
    return TextImageDataset(
        images=torch.cat(images),
        labels=torch.cat(labels),
        captions=captions,
        caption_of=torch.arange(number),
        texts=caption_words(),
    )
