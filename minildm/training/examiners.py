"""The classifiers that score: how they are trained, apart from all that they judge. Chapter 12."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from minildm.data.datasets import load_images
from minildm.files import write_json
from minildm.models.classifier import ImageClassifier, extract, jitter, shift_and_mirror
from minildm.training.batches import Augmentation, classifier_batches
from minildm.training.objectives import ClassifierLoss
from minildm.training.recipes import seeded
from minildm.training.trainer import Trainer


@dataclass(frozen=True)
class ExaminerRecipe:
    """How a classifier that scores is trained: for so many steps, on images that are changed a
    little so that they seem more."""

    steps: int
    augment: Augmentation
    block_out_channels: tuple[int, ...] = (16, 32, 64)


EXAMINERS = {
    "mnist": ExaminerRecipe(steps=4000, augment=jitter),
    "cifar10": ExaminerRecipe(
        steps=3900, augment=shift_and_mirror, block_out_channels=(32, 64, 128, 256)
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
    config = {
        "sample_size": images.shape[-1],
        "in_channels": images.shape[1],
        "num_classes": len(classes),
        "block_out_channels": recipe.block_out_channels,
    }
    examiner = seeded(seed, ImageClassifier, config)
    batches = classifier_batches(
        images, labels, stream="examiner", batch_size=128, seed=seed, augment=recipe.augment
    )
    trainer = Trainer("examiner", ClassifierLoss(examiner), batches, learning_rate=3e-3)
    trainer.train(steps, progress=progress)
    test = load_images(dataset, "test", full=True)
    accuracy = (extract(examiner, test.images)[1] == test.labels).float().mean().item()
    examiner.save_pretrained(out, torch.float16)
    write_json(
        Path(out) / "minildm.json",
        {"dataset": dataset, "steps": steps, "seed": seed, "accuracy": accuracy},
    )
    return examiner
