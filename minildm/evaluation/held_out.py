"""A model of one's own pictures beside those that were held out of its training: are its drawings
like them, are they what was asked for, and are they its own? (Heusel et al. 2017; Kynkäänniemi et
al. 2019; Meehan et al. 2020)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from minildm.data.text_image import TextImageDataset
from minildm.evaluation.evaluation import Sampling, describe_sampling, sample_as_saved
from minildm.evaluation.metrics import Scores, nearest_images, score
from minildm.models.classifier import ImageClassifier, extract
from minildm.pipelines.stable_diffusion import StableDiffusionPipeline

FEWEST = 4  # pictures: each has three neighbours, whose distances precision and recall are made of
FEW = 100  # held-out pictures, under which their features' covariance is guesswork
CHUNK = 2000  # training pictures in memory at a time
PAIRS = 16  # drawings shown beside their nearest training picture


@dataclass(frozen=True)
class Nearness:
    """How far pictures are from the nearest training picture, root mean square a pixel, of 2 at
    most: the median of the drawings and that of the held-out pictures."""

    drawn: float
    held_out: float
    near: float
    """The part of the drawings nearer to one than 95 of 100 held-out pictures are: about 0.05 if
    nothing is copied."""

    def __str__(self) -> str:
        return (
            f"nearest training picture: drawings {self.drawn:.3f} away, held-out pictures "
            f"{self.held_out:.3f} (medians); {self.near:.1%} of the drawings are nearer than 95 % "
            f"of the held-out pictures"
        )


@dataclass(frozen=True)
class PictureEvaluation:
    """The scores of drawn pictures beside those of training pictures, both against the held-out
    ones; None where these are too few."""

    scores: Scores | None
    floor: Scores | None
    examiner_accuracy: float | None
    """On the held-out pictures; None without classes."""
    nearness: Nearness
    notes: tuple[str, ...]
    """What was not measured, and what cannot be trusted, a sentence each."""
    sampling: Sampling
    pairs: Tensor = field(repr=False, compare=False)
    """The drawings that are nearest to a training picture, and that picture, (N, 2, C, H, W)."""

    def as_dict(self) -> dict[str, object]:
        """Plain numbers and strings, for a JSON file."""
        parts = {
            name: None if part is None else asdict(part)
            for name, part in (
                ("scores", self.scores),
                ("floor", self.floor),
                ("nearness", self.nearness),
            )
        }
        told = {"examiner_accuracy": self.examiner_accuracy, "notes": list(self.notes)}
        return parts | told | self.sampling.as_dict()

    def __str__(self) -> str:
        table = self.scores.rows(self.floor) if self.scores and self.floor else []
        accuracy = []
        if self.examiner_accuracy is not None:
            right = f"{self.examiner_accuracy:.1%} of those"
            accuracy = [
                f"examiner: trained on training pictures alone, right about {right} held out"
            ]
        return "\n".join(
            [
                *table,
                *accuracy,
                str(self.nearness),
                *self.notes,
                *self.sampling.rows(Scores.UNIT),
            ]
        )


def evaluate_pictures(
    pipeline: StableDiffusionPipeline,
    train: TextImageDataset,
    test: TextImageDataset,
    examiner: ImageClassifier,
    samples: int = 1000,
    seed: int = 0,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    guidance_start: float | None = None,
    progress: bool = True,
) -> PictureEvaluation:
    """Draw the held-out pictures' captions and score the drawings against those pictures.

    samples: at most as many as there are training pictures, for the floor is of as many
    examiner: of `training.examiner_for(train)`; with other settings as in `evaluate`
    """
    for data in (train, test):
        check_pictures(pipeline, data)
    if samples < 1:
        raise ValueError(f"expected 1 sample or more, got {samples}")
    generator = torch.Generator().manual_seed(seed)
    notes = []
    if samples > len(train):
        samples = len(train)
        notes.append(f"Only {samples:,} are drawn: the floor is of as many training pictures.")
    prompts, asked = held_out_prompts(test, samples, generator)
    chosen = torch.randperm(len(train), generator=generator)[:samples]
    steps = pipeline.default("num_inference_steps", num_inference_steps)
    scale, start = pipeline.guidance(guidance_scale, guidance_start)
    images, seconds = sample_as_saved(
        pipeline,
        prompts,
        num_inference_steps=steps,
        guidance_scale=scale,
        guidance_start=start,
        generator=generator,
        progress=progress,
    )
    features, predicted = extract(examiner, test.images)
    scores = floor = accuracy = None
    if train.classes:
        accuracy = (predicted == test.labels).float().mean().item()
    else:
        notes.append(
            "Without classes nothing can say whether a drawing is what its caption asks for: "
            "prompt accuracy is not measured. Distances are in the features of a classifier that "
            "tells pictures by their looks."
        )
    if min(len(test), samples) < FEWEST:
        notes.append(
            f"Distance, precision and recall want {FEWEST} pictures or more on each side: they are "
            f"not measured with {len(test)} held out and {samples} drawn."
        )
    else:
        scores, floor = (
            score(examiner, pictures, labels if train.classes else None, features)
            for pictures, labels in (
                (images, test.labels[asked]),
                (train.images[chosen], train.labels[chosen]),
            )
        )
        if len(test) < FEW:
            notes.append(
                f"Only {len(test)} pictures are held out: with fewer than {FEW} distance, "
                "precision and recall are rough, to be read beside their floor alone."
            )
    nearness, pairs = compare_with_training(images, train, test)
    return PictureEvaluation(
        scores=scores,
        floor=floor,
        examiner_accuracy=accuracy,
        nearness=nearness,
        notes=tuple(notes),
        sampling=describe_sampling(pipeline, samples, seed, steps, scale, start, seconds),
        pairs=pairs,
    )


def check_pictures(pipeline: StableDiffusionPipeline, data: TextImageDataset) -> None:
    """ValueError if the model draws other pictures than these, by their size or colour."""
    config = pipeline.vae.config
    expected = (config.out_channels, config.sample_size, config.sample_size)
    if not len(data) or tuple(data.images.shape[1:]) != expected:
        raise ValueError(
            f"expected pictures (N, {', '.join(map(str, expected))}) as the model draws, "
            f"got {tuple(data.images.shape)}"
        )


def held_out_prompts(
    test: TextImageDataset, samples: int, generator: torch.Generator
) -> tuple[list[str], Tensor]:
    """`samples` captions of held-out pictures, each picture's in turn, its next phrasing each time
    round; and the pictures' numbers, (samples,)."""
    order = torch.randperm(len(test), generator=generator)
    index = order[torch.arange(samples) % len(test)]
    prompts = []
    for i, caption in enumerate(test.caption_of[index].tolist()):
        phrasings = test.captions[caption]
        prompts.append(phrasings[i // len(test) % len(phrasings)])
    return prompts, index


def compare_with_training(
    images: Tensor, train: TextImageDataset, test: TextImageDataset
) -> tuple[Nearness, Tensor]:
    """How near drawings (N, C, H, W) are to the training pictures, beside the held-out pictures;
    and the nearest pairs, (M, 2, C, H, W)."""
    drawn, which = nearest_training(images, train)
    parts = [nearest_training(part, train)[0] for part in test.images.split(CHUNK)]
    held_out = torch.cat(parts)
    nearness = Nearness(
        drawn=drawn.median().item(),
        held_out=held_out.median().item(),
        near=(drawn < held_out.quantile(0.05)).float().mean().item(),
    )
    first = drawn.argsort()[:PAIRS]
    return nearness, torch.stack([images[first], train.images[which[first]]], 1)


def nearest_training(images: Tensor, train: TextImageDataset) -> tuple[Tensor, Tensor]:
    """`nearest_images` among all training pictures, of which only a part is in memory at a time."""
    distances = torch.full((len(images),), torch.inf)
    indices = torch.zeros(len(images), dtype=torch.long)
    for begin in range(0, len(train), CHUNK):
        found, index = nearest_images(images, train.images[begin : begin + CHUNK])
        nearer = found < distances
        distances = torch.where(nearer, found, distances)
        indices = torch.where(nearer, index + begin, indices)
    return distances, indices
