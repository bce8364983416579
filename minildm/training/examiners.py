"""The classifiers that score: how they are trained, apart from all that they judge. Chapter 12."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from minildm.data.datasets import load_images
from minildm.data.picture_cache import Pictures
from minildm.data.text_image import TextImageDataset
from minildm.files import read_json, write_json
from minildm.models.classifier import ImageClassifier, extract, jitter, shift_and_mirror
from minildm.training.batches import Augmentation, classifier_batches
from minildm.training.objectives import ClassifierLoss
from minildm.training.own_pictures import describe_data
from minildm.training.recipes import seeded
from minildm.training.trainer import Trainer


@dataclass(frozen=True)
class ExaminerRecipe:
    """How a classifier that scores is trained: for so many steps, on images that are changed a
    little so that they seem more."""

    steps: int
    augment: Augmentation
    block_out_channels: tuple[int, ...] = (16, 32, 64)
    batch_size: int = 128


EXAMINERS = {
    "mnist": ExaminerRecipe(steps=4000, augment=jitter),
    "fashion_mnist": ExaminerRecipe(steps=4000, augment=partial(shift_and_mirror, most=2)),
    "cifar10": ExaminerRecipe(
        steps=3900, augment=shift_and_mirror, block_out_channels=(32, 64, 128, 256)
    ),
}

# Of one's own pictures, by their width: a minute or two. Nothing is mirrored: they may be letters.
EXAMINER_SEED = 2**31  # no model's seed is as large
OWN_EXAMINERS = {
    32: ExaminerRecipe(1000, partial(shift_and_mirror, most=2, mirrored=0), batch_size=64),
    64: ExaminerRecipe(
        1000,
        partial(shift_and_mirror, mirrored=0),
        block_out_channels=(8, 16, 32, 64),
        batch_size=64,
    ),
}


def train_examiner(
    out: Path | str,
    dataset: str = "mnist",
    steps: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> ImageClassifier:
    """Train the classifier that `evaluate` scores with, on changed training images; it is in no
    other training.

    dataset: one of EXAMINERS, whose number of steps is the default; all of CIFAR-10, which is not
    bundled. Beside the weights, in minildm.json, goes the accuracy on the test images.
    """
    recipe = EXAMINERS[dataset]
    steps = steps or recipe.steps
    images, labels, classes = load_images(dataset, "train", full=True)
    examiner = fit_examiner(recipe, images, labels, len(classes), steps, seed, progress)
    test = load_images(dataset, "test", full=True)
    accuracy = (extract(examiner, test.images)[1] == test.labels).float().mean().item()
    examiner.save_pretrained(out, torch.float16)
    write_json(
        Path(out) / "minildm.json",
        {"dataset": dataset, "steps": steps, "seed": seed, "accuracy": accuracy},
    )
    return examiner


def examiner_for(
    train: TextImageDataset,
    folder: Path | None = None,
    steps: int | None = None,
    progress: bool = True,
) -> ImageClassifier:
    """The classifier that scores drawings of one's own pictures, trained on the training split
    alone, and from a seed that no training of a model has.

    folder: where it is kept; one that is there, for the same pictures and as many steps, is read
    """
    recipe = OWN_EXAMINERS[train.images.shape[-1]]
    steps = steps or recipe.steps
    described = {"data": describe_data(train), "steps": steps}
    card = None if folder is None else folder / "minildm.json"
    if folder is not None and card is not None and card.is_file():
        if read_json(card, "an examiner's card") == described:
            return ImageClassifier.from_pretrained(folder)
    kinds = max(len(train.classes), int(train.labels.max()) + 1)
    examiner = fit_examiner(
        recipe, train.images, train.labels, kinds, steps, EXAMINER_SEED, progress
    )
    if folder is not None and card is not None:
        card.unlink(missing_ok=True)  # until the weights are those that it describes
        examiner.save_pretrained(folder)
        write_json(card, described)
    return examiner


def fit_examiner(
    recipe: ExaminerRecipe,
    images: Tensor | Pictures,
    labels: Tensor,
    num_classes: int,
    steps: int,
    seed: int,
    progress: bool,
) -> ImageClassifier:
    """A classifier of images (N, C, S, S) by labels (N,), from random weights."""
    config = {
        "sample_size": images.shape[-1],
        "in_channels": images.shape[1],
        "num_classes": num_classes,
        "block_out_channels": recipe.block_out_channels,
    }
    examiner = seeded(seed, ImageClassifier, config)
    batches = classifier_batches(
        images,
        labels,
        stream="examiner",
        batch_size=recipe.batch_size,
        seed=seed,
        augment=recipe.augment,
    )
    trainer = Trainer("examiner", ClassifierLoss(examiner), batches, learning_rate=3e-3)
    trainer.train(steps, progress=progress)
    return examiner
