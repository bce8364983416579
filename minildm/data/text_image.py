"""What a recipe trains on: pictures, what is in them, and the captions under them.
Chapters 10, 11 and 18."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from minildm.data.captions import captions_for
from minildm.data.clusters import k_means, nearest
from minildm.data.datasets import load_images, mnist
from minildm.data.duplicates import thumbnails
from minildm.data.folder import CAPTION, Entry, list_skipped, read_folder
from minildm.data.images import pad
from minildm.data.picture_cache import Pictures, decode
from minildm.data.scene_captions import INKS, caption_words, write_captions
from minildm.data.scenes import DigitScenes

# as many are painted, always the same ones, so that their latents can be encoded once and kept
NUM_SCENES = 50_000
LOOK = 8  # pixels a side, by which pictures without classes are told apart
NUM_PHRASINGS = 3  # of each scene's caption


@dataclass(frozen=True)
class TextImageDataset:
    """Pictures and the texts that go with them.

    images: (N, C, H, W) in [-1, 1]
    labels: (N,), what the perceptual net learns to tell them by
    captions: sets of phrasings
    caption_of: (N,), the number of each image's set; its class, where a caption tells no more
    texts: what the tokenizer learns its words from
    classes: the names of the labels, where they are classes of a folder
    about: where they come from and what was done to them, for the record of a training: a folder's
        name, how its pictures were made square, …
    files: (N), where each picture lies, if it was read from a folder
    """

    images: Tensor | Pictures
    labels: Tensor
    captions: list[list[str]]
    caption_of: Tensor
    texts: list[str]
    classes: tuple[str, ...] = ()
    about: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def from_folder(
        cls,
        folder: str | os.PathLike,
        split: str = "train",
        *,
        size: int = 32,
        caption: str = CAPTION,
        fit: str = "crop",
        background: str = "white",
        cache: str | os.PathLike | None = None,
        strict: bool = False,
        progress: bool = False,
    ) -> TextImageDataset:
        """One's own pictures: a folder as `read_folder` describes it, made `size` x `size` as
        `square` does.

        caption: what the pictures of a class folder are called
        cache: a folder for the decoded pictures, which are then read from there, outside of the
            pictures' own; None: all in memory
        strict: a file that is no picture, or a damaged one, is a ValueError, else a warning
        labels: the classes; where there are not two, up to ten kinds of pictures that look alike
        Colour or grey is chosen for both splits, and the words are those of the training split.
        """
        if split not in ("train", "test"):
            raise ValueError(f'expected a split of "train" or "test", got {split!r}')
        found = read_folder(folder, caption, strict, progress)
        decoded = decode(found, size, fit, background, cache, progress)
        if decoded.skipped and strict:
            got = list_skipped(found.root, decoded.skipped)
            raise ValueError(f"{found.root}: expected pictures alone, got {got}")
        for note in found.notes:
            warnings.warn(f"{found.root}: {note}", stacklevel=2)
        if skipped := [*found.skipped, *decoded.skipped]:
            warnings.warn(
                f"{found.root}: skipped {list_skipped(found.root, skipped)}", stacklevel=2
            )
        images, entries = decoded.split(split)
        trained_on = [entry for entry in decoded.entries if entry.split == "train"]
        for name, some in (("train", trained_on), (split, entries)):
            if not some:
                raise ValueError(f"{found.root}: expected pictures in the split {name}, got none")
        classes = found.classes if len(found.classes) > 1 else ()
        if classes:
            labels = torch.tensor([entry.label for entry in entries])
        else:
            train = images if split == "train" else decoded.split("train")[0]
            labels = nearest(thumbnails(images, LOOK), k_means(thumbnails(train, LOOK)))
        captions, caption_of = _captions(classes, found.entries, entries)
        return cls(
            images=images,
            labels=labels,
            captions=captions,
            caption_of=caption_of,
            texts=list(dict.fromkeys(text for entry in trained_on for text in entry.texts)),
            classes=classes,
            files=tuple(entry.file for entry in entries),
            about={
                "name": found.root.resolve().name,
                "fit": fit,
                "background": background,
                **({"caption": caption} if found.classes else {}),
            },
        )


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


def _captions(
    classes: tuple[str, ...], everything: tuple[Entry, ...], entries: tuple[Entry, ...]
) -> tuple[list[list[str]], Tensor]:
    """Sets of phrasings, and the number of each entry's: its class, where there are several."""
    if classes:
        of_class = {entry.label: list(entry.texts) for entry in everything}
        numbers = torch.tensor([entry.label for entry in entries])
        return [of_class[label] for label in range(len(classes))], numbers
    number: dict[tuple[str, ...], int] = {}
    caption_of = [number.setdefault(entry.texts, len(number)) for entry in entries]
    return [list(texts) for texts in number], torch.tensor(caption_of)
