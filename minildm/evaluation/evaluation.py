"""How well does a model draw what it is asked for? The one way in which every score of the course
is taken. Chapter 12.

Prompts are balanced over the classes and go through all phrasings; the pictures are scored as they
would be saved, in 8 bits at the data's own size; beside each score stands its floor, that of as
many real training images.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from minildm.data.datasets import LOADERS, captions_for
from minildm.evaluation.drawings import draw_as_saved, footer, provenance
from minildm.evaluation.metrics import Scores, balanced_subset, score
from minildm.evaluation.scene_evaluation import SceneEvaluation, evaluate_scenes
from minildm.models.classifier import ImageClassifier, extract
from minildm.pipelines.checkpoints import shipped
from minildm.pipelines.stable_diffusion import StableDiffusionPipeline

# What a table calls each score, how it is written, and whether it is one of a floor's multiples.
ROWS = {
    "accuracy": ("prompt accuracy", "{:.2%}"),
    "frechet": ("Fréchet distance", "{:.3f}"),
    "kernel": ("kernel distance", "{:.5f}"),
    "precision": ("precision", "{:.3f}"),
    "recall": ("recall", "{:.3f}"),
}


class Evaluation(NamedTuple):
    """The scores of `samples` pictures, and all that a reader needs in order to take them again."""

    scores: Scores
    floor: Scores
    """Those of as many real training images, balanced over the classes."""
    samples: int
    seed: int
    sampler: str
    num_inference_steps: int
    guidance_scale: float
    guidance_start: float
    seconds: float
    """What drawing took, text and decoder included."""
    device: str
    parameters: dict[str, int]
    """Of each network."""

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for a JSON file or a model's card."""
        return self._asdict() | {"scores": self.scores._asdict(), "floor": self.floor._asdict()}

    def __str__(self) -> str:
        lines = [f"{'':18}{'drawn':>12}{'real (floor)':>14}{'ratio':>9}"]
        for key, (name, form) in ROWS.items():
            drawn, real = getattr(self.scores, key), getattr(self.floor, key)
            ratio = f"{drawn / real:.2f} x" if key == "frechet" and real else ""
            lines.append(f"{name:18}{form.format(drawn):>12}{form.format(real):>14}{ratio:>9}")
        return "\n".join([*lines, *footer(self)])


def evaluate(
    pipeline: StableDiffusionPipeline,
    samples: int = 1000,
    seed: int = 0,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    guidance_start: float | None = None,
    examiner: ImageClassifier | None = None,
    progress: bool = True,
) -> Evaluation | SceneEvaluation:
    """Draw `samples` pictures, a multiple of the classes, and score them against the test images of
    the card's data.

    num_inference_steps, guidance_scale, guidance_start: as in a call of the pipeline. examiner: the
    shipped one if not given. Scenes are scored by what is in them (`evaluate_scenes`).
    """
    dataset = pipeline.card.get("dataset")
    if dataset not in (*LOADERS, "scenes"):
        raise ValueError(
            f"expected a model whose card (minildm.json) names a dataset of {', '.join((*LOADERS, 'scenes'))}, "
            f"got {dataset!r}"
        )
    steps = pipeline.default("num_inference_steps", num_inference_steps)
    scale, start = pipeline.guidance(guidance_scale, guidance_start)
    if dataset == "scenes":
        examiner = examiner or ImageClassifier.from_pretrained(shipped("mnist-examiner"))
        return evaluate_scenes(pipeline, samples, seed, steps, scale, examiner, progress, start)
    examiner = examiner or ImageClassifier.from_pretrained(shipped(f"{dataset}-examiner"))
    train, test = LOADERS[dataset]("train"), LOADERS[dataset]("test")
    chosen = balanced_subset(train.labels, samples, len(train.classes))
    prompts, labels = balanced_prompts(dataset, samples, len(train.classes))
    generator = torch.Generator().manual_seed(seed)
    size = train.images.shape[-1]
    images, seconds = draw_as_saved(
        pipeline, prompts, steps, scale, generator, progress, size, start
    )
    reference, _ = extract(examiner, test.images)
    return Evaluation(
        scores=score(examiner, images, labels, reference),
        floor=score(examiner, train.images[chosen], train.labels[chosen], reference),
        samples=samples,
        seed=seed,
        num_inference_steps=steps,
        guidance_scale=scale,
        guidance_start=start,
        seconds=seconds,
        **provenance(pipeline),
    )


def balanced_prompts(dataset: str, samples: int, num_classes: int = 10) -> tuple[list[str], Tensor]:
    """`samples` prompts, class by class in turn, the next phrasing each time round, and their
    labels (samples,)."""
    if samples < 1 or samples % num_classes:
        raise ValueError(
            f"expected a number of samples that is a multiple of the {num_classes} classes, got {samples}"
        )
    phrasings = [captions_for(dataset, label) for label in range(num_classes)]
    labels = torch.arange(samples) % num_classes
    prompts = [
        phrasings[c][i // num_classes % len(phrasings[c])] for i, c in enumerate(labels.tolist())
    ]
    return prompts, labels
